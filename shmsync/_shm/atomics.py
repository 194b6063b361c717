"""Atomic words in shared memory: the only importer of the package `atomics`.

The package's public views cost 2 to 9 us per call. Its C functions do the same work in about 0.25 us when they are
called directly: the C library that the package installs is loaded, without the package itself, whose import takes
longer than that of shmsync (`FastWord`). If it is not found, or is not the version whose layout is known, the public
views are used instead (`ViewWord`); both pass the same tests.

Relaxed loads go through a memoryview, 0.03 us and no Python frame. So do sequentially consistent loads on x86-64: an
aligned 8-byte read is one MOV there, and the stores and read-modify-writes carry the fence. So do the stores that need
no fence (`store_release`), and the loads of many words at once (`bind_loads`): the processor executes loads in program
order there. Elsewhere these operations are the package's.

**Interface.** The rest of shmsync uses `bind`, `bind_loads`, `are_fast` and `IS_TSO` only, so another package can take
the place of `atomics` here. The words that its `bind` returns have to meet these requirements. Those that a test can
check are checked by `tests/shm/test_atomics.py`, for the words of this module and for those of another library.

- A word is an unsigned 64-bit integer in native byte order, at an offset that is a multiple of 8. It has the methods of
  `shmsync._core.ports.Word`, and keeps its mapping alive.
- Each method is one atomic step for all processes that map the memory, at whatever address, writable or read-only. A
  lock cannot take its place, because a process may be killed at any instruction, and readers only map the state.
- All methods but `load_relaxed` and `store_release` are sequentially consistent, in one order with the words of other
  processes, which may use another implementation (`memory_order_seq_cst` of C11, with the same instructions as C
  compilers choose).
- They also order plain loads and stores: those before an operation that writes a word take place before those that
  another process executes after it has loaded the result (release and acquire). docs/architecture.md lists which
  accesses rely on that. `load_relaxed` may return an older value, but never half of one.
- No method blocks, imports, or takes a lock: signal handlers call them, and so do children forked while another thread
  was in one of them.
"""

from __future__ import annotations

import importlib.util
import operator
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from shmsync._shm.ffi import ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from shmsync._core.ports import Word

_WORD = 8
_CELL = ffi.typeof("uint64_t *")
_WORDS = ffi.typeof("uint64_t[]")
_SEQ_CST = 5
_VERSION = (0, 2, 2)  # of patomic; `_declarations` contains its layout
_MODULUS = 1 << 64
_new = ffi.new
_get_item: Any = operator.getitem
_set_item: Any = operator.setitem
IS_TSO = os.uname().machine in {"x86_64", "AMD64"}
"""Whether plain loads, of any size, are executed in program order (total store order)."""


class _Functions:
    """The C functions of `atomics` for 8-byte unsigned words.

    The library is never unloaded (RTLD_NODELETE): words outlive this module when the interpreter exits.
    """

    def __init__(self) -> None:
        library = ffi.dlopen(_library_path(), ffi.RTLD_NOW | ffi.RTLD_NODELETE)
        found = library.patomic_version_major(), library.patomic_version_minor(), library.patomic_version_patch()
        if found != _VERSION:
            raise NotImplementedError(f"version {found} of patomic may have another layout than {_VERSION}")
        ops = library.patomic_create_explicit(_WORD, 0, 0)
        self.load, self.store, self.add = ops.load, ops.store, ops.add
        self.fetch_or, self.compare_exchange = ops.fetch_or, ops.compare_exchange
        if not all(vars(self).values()):
            raise NotImplementedError("this build of atomics lacks an 8-byte operation")


def _library_path() -> str:
    """Return the path of the C library: of several the last one, as the package does."""
    package = importlib.util.find_spec("atomics")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package atomics was not found")
    directory = os.path.join(package.submodule_search_locations[0], "_clib")  # noqa: PTH118
    return max(os.path.join(directory, file) for file in os.listdir(directory) if "patomic" in file)  # noqa: PTH118, PTH208


def _functions() -> _Functions | None:
    try:
        return _Functions()
    except (ImportError, AttributeError, ValueError, NotImplementedError, OSError):
        return None


_FUNCTIONS = _functions()
if _FUNCTIONS is None:
    import atomics  # noqa: F401 - now, not in a signal handler or a forked child


def _cell(value: int) -> Any:
    # A fresh cell for each call: cffi lets other threads run during a call, so a shared one could be overwritten.
    return _new(_CELL, value % _MODULUS)


_ZERO = _cell(0)  # never written


class FastWord:
    """A word through the package's C functions. Keeps its mapping alive."""

    # `load`, `load_relaxed` and `store_release` are C callables: a call of a method would take twice as long.
    __slots__ = ("_base", "_exchange", "_functions", "_word", "load", "load_relaxed", "store_release")

    load: Callable[[], int]
    load_relaxed: Callable[[], int]
    store_release: Callable[[int], None]
    _exchange: Callable[..., int]

    def __init__(self, mapping: mmap, offset: int) -> None:
        if _FUNCTIONS is None:
            raise NotImplementedError("the C functions of this release of atomics were not found")
        self._functions = _FUNCTIONS
        # Not from a memoryview: CPython before 3.13 crashes when its collector clears an exported one.
        self._base = ffi.from_buffer(_WORDS, mapping)
        self._word = self._base + offset // _WORD
        self._exchange = partial(self._functions.compare_exchange, self._word)
        plain = memoryview(mapping)[offset : offset + _WORD].cast("Q")
        self.load_relaxed = partial(_get_item, plain, 0)
        if IS_TSO:
            self.load = self.load_relaxed
            self.store_release = partial(_set_item, plain, 0)
        else:
            self.load = partial(_load, self._functions.load, self._word)
            self.store_release = partial(_store, self._functions.store, self._word)

    def store(self, value: int) -> None:
        _store(self._functions.store, self._word, value)

    def bind_add(self, delta: int) -> Callable[[], None]:
        return partial(self._functions.add, self._word, _cell(delta), _SEQ_CST)

    def fetch_or(self, bits: int) -> int:
        old = _cell(0)
        self._functions.fetch_or(self._word, _cell(bits), _SEQ_CST, old)
        return int(old[0])

    def compare_exchange(self, expected: int, desired: int) -> bool:
        # The cells as in `_cell`, without a call: each write calls this.
        return self._exchange(_new(_CELL, expected), _new(_CELL, desired), _SEQ_CST, _SEQ_CST) != 0


def _load(function: Any, word: Any) -> int:
    cell = _cell(0)
    function(word, _SEQ_CST, cell)
    return int(cell[0])


def _store(function: Any, word: Any, value: int) -> None:
    function(word, _cell(value) if value else _ZERO, _SEQ_CST)


class ViewWord:
    """A word through the package's public views. Keeps its mapping alive."""

    __slots__ = ("_package", "_plain", "_window")

    def __init__(self, mapping: mmap, offset: int) -> None:
        import atomics  # noqa: PLC0415 - slow to import, and imported already where this class is used

        self._package = atomics
        self._window = memoryview(mapping)[offset : offset + _WORD]
        self._plain = self._window.cast("Q")

    def _view(self) -> Any:
        # One context per operation: an open one raises when it is dropped.
        return self._package.atomicview(buffer=self._window, atype=self._package.UINT)

    def load_relaxed(self) -> int:
        return self._plain[0]

    def load(self) -> int:
        with self._view() as view:
            return int(view.load())

    def store(self, value: int) -> None:
        with self._view() as view:
            view.store(value)

    store_release = store

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


def bind_loads(mapping: mmap, offset: int, distance: int, count: int) -> Callable[[], list[int]]:
    """Return a callable that loads words of a mapping one after the other, in ascending order of their addresses.

    Args:
        mapping: the mapping, which is kept alive.
        offset: offset of the first word in bytes.
        distance: from one word to the next, in bytes.
        count: number of words.
    """
    if IS_TSO:
        words = memoryview(mapping)[offset : offset + distance * count].cast("Q")
        return words[:: distance // _WORD].tolist
    loads = [bind(mapping, offset + distance * number).load for number in range(count)]
    return lambda: [load() for load in loads]
