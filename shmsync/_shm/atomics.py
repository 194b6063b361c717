"""Atomic words in shared memory: the only importer of the package `atomics`.

The package's public views cost 2 to 9 us per call. Its C functions do the same work in about 0.25 us when they are
bound once: their addresses come from the package, and cffi calls them (`FastWord`). If a release of the package moves
these functions, the public views are used instead (`ViewWord`); both pass the same tests.

Relaxed loads go through a memoryview, 0.03 us. So do sequentially consistent loads on x86-64: an aligned 8-byte read is
one MOV there, and the stores and read-modify-writes carry the fence. Elsewhere `load` is the package's.
"""

from __future__ import annotations

import ctypes
import platform
from functools import partial
from typing import TYPE_CHECKING, Any

import atomics

from shmsync._shm.ffi import ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from shmsync._core.ports import Word

_WORD = 8
_CELL = ffi.typeof("uint64_t *")
_WORDS = ffi.typeof("uint64_t[]")
_SEQ_CST = 5
_MODULUS = 1 << 64
IS_TSO = platform.machine() in {"x86_64", "AMD64"}
"""Whether plain loads, of any size, are executed in program order (total store order)."""


class _Functions:
    """The C functions of `atomics` for 8-byte unsigned words."""

    def __init__(self) -> None:
        from atomics._impl.patomic import Patomic  # noqa: PLC0415 - internal: may be missing, see `bind`

        ops = Patomic.ops(_WORD)
        read = "void(*)(void *, int, void *)"
        write = "void(*)(void *, void *, int)"
        modify = "void(*)(void *, void *, int, void *)"
        exchange = "int(*)(void *, void *, void *, int, int)"
        self.load = _bound(read, ops.fp_load)
        self.store = _bound(write, ops.fp_store)
        self.add = _bound(write, ops.unsigned_ops.fp_add)
        self.fetch_or = _bound(modify, ops.binary_ops.fp_fetch_or)
        self.compare_exchange = _bound(exchange, ops.xchg_ops.fp_cmpxchg_strong)


def _bound(signature: str, function: Any) -> Any:
    address = ctypes.cast(function, ctypes.c_void_p).value
    if not address:
        raise NotImplementedError("this build of atomics lacks an 8-byte operation")
    return ffi.cast(signature, address)


def _functions() -> _Functions | None:
    try:
        return _Functions()
    except (ImportError, AttributeError, TypeError, NotImplementedError, OSError):
        return None


_FUNCTIONS = _functions()


def _cell(value: int) -> Any:
    # A fresh cell for each call: cffi lets other threads run during a call, so a shared one could be overwritten.
    return ffi.new(_CELL, value % _MODULUS)


_ZERO = _cell(0)  # never written


class FastWord:
    """A word through the package's C functions. Keeps its mapping alive."""

    __slots__ = ("_base", "_functions", "_plain", "_word")

    def __init__(self, mapping: mmap, offset: int) -> None:
        if _FUNCTIONS is None:
            raise NotImplementedError("the C functions of this release of atomics were not found")
        self._functions = _FUNCTIONS
        self._plain = memoryview(mapping)[offset : offset + _WORD].cast("Q")
        # Not from a memoryview: CPython before 3.13 crashes when its collector clears an exported one.
        self._base = ffi.from_buffer(_WORDS, mapping)
        self._word = self._base + offset // _WORD

    def load_relaxed(self) -> int:
        return self._plain[0]

    if IS_TSO:
        load = load_relaxed
    else:

        def load(self) -> int:
            cell = _cell(0)
            self._functions.load(self._word, _SEQ_CST, cell)
            return int(cell[0])

    def store(self, value: int) -> None:
        self._functions.store(self._word, _cell(value) if value else _ZERO, _SEQ_CST)

    def bind_add(self, delta: int) -> Callable[[], None]:
        return partial(self._functions.add, self._word, _cell(delta), _SEQ_CST)

    def fetch_or(self, bits: int) -> int:
        old = _cell(0)
        self._functions.fetch_or(self._word, _cell(bits), _SEQ_CST, old)
        return int(old[0])

    def compare_exchange(self, expected: int, desired: int) -> bool:
        return bool(self._functions.compare_exchange(self._word, _cell(expected), _cell(desired), _SEQ_CST, _SEQ_CST))


class ViewWord:
    """A word through the package's public views. Keeps its mapping alive."""

    __slots__ = ("_plain", "_window")

    def __init__(self, mapping: mmap, offset: int) -> None:
        self._window = memoryview(mapping)[offset : offset + _WORD]
        self._plain = self._window.cast("Q")

    def _view(self) -> Any:
        # One context per operation: an open one raises when it is dropped.
        return atomics.atomicview(buffer=self._window, atype=atomics.UINT)

    def load_relaxed(self) -> int:
        return self._plain[0]

    def load(self) -> int:
        with self._view() as view:
            return int(view.load())

    def store(self, value: int) -> None:
        with self._view() as view:
            view.store(value)

    def bind_add(self, delta: int) -> Callable[[], None]:
        def add() -> None:
            with self._view() as view:
                view.add(delta % _MODULUS)

        return add

    def fetch_or(self, bits: int) -> int:
        with self._view() as view:
            return int(view.bin_fetch_or(bits))

    def compare_exchange(self, expected: int, desired: int) -> bool:
        with self._view() as view:
            return bool(view.cmpxchg_strong(expected=expected, desired=desired).success)


def are_fast() -> bool:
    """Return whether the C functions of this release of `atomics` were found."""
    return _FUNCTIONS is not None


def bind(mapping: mmap, offset: int) -> Word:
    """Return the word at `offset` bytes of a mapping."""
    return FastWord(mapping, offset) if _FUNCTIONS is not None else ViewWord(mapping, offset)
