"""Words through GCC's libatomic, to show that another library could take the place of the package `atomics`."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import TYPE_CHECKING

from shmsync._shm.ffi import BYTES, ffi

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

_RELEASE, _SEQ_CST = 3, 5
_POINTER, _VALUE, _ORDER = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libatomic.so.1")
    except OSError:
        return None
    library.__atomic_load_8.argtypes = (_POINTER, _ORDER)
    library.__atomic_store_8.argtypes = (_POINTER, _VALUE, _ORDER)
    library.__atomic_fetch_add_8.argtypes = library.__atomic_fetch_or_8.argtypes = (_POINTER, _VALUE, _ORDER)
    library.__atomic_compare_exchange_8.argtypes = (_POINTER, _POINTER, _VALUE, _ORDER, _ORDER)
    library.__atomic_load_8.restype = library.__atomic_fetch_or_8.restype = _VALUE
    library.__atomic_compare_exchange_8.restype = ctypes.c_bool
    return library


_LIBRARY = _library()
IS_INSTALLED = _LIBRARY is not None


class LibatomicWord:
    """A word through libatomic. Keeps its mapping alive."""

    def __init__(self, mapping: mmap, offset: int) -> None:
        assert _LIBRARY is not None
        self._plain = memoryview(mapping)[offset : offset + 8].cast("Q")
        self._memory = ffi.from_buffer(BYTES, mapping)  # ctypes accepts only writable memory
        self._word = int(ffi.cast("uintptr_t", self._memory)) + offset
        self._load = partial(getattr(_LIBRARY, "__atomic_load_8"), self._word, _SEQ_CST)
        self._store = getattr(_LIBRARY, "__atomic_store_8")
        self._add = getattr(_LIBRARY, "__atomic_fetch_add_8")
        self._fetch_or = getattr(_LIBRARY, "__atomic_fetch_or_8")
        self._compare_exchange = getattr(_LIBRARY, "__atomic_compare_exchange_8")

    def load_relaxed(self) -> int:
        return self._plain[0]

    def load(self) -> int:
        return int(self._load())

    def store(self, value: int) -> None:
        self._store(self._word, value, _SEQ_CST)

    def store_release(self, value: int) -> None:
        self._store(self._word, value, _RELEASE)

    def bind_add(self, delta: int) -> Callable[[], None]:
        return partial(self._add, self._word, delta % 2**64, _SEQ_CST)

    def fetch_or(self, bits: int) -> int:
        return int(self._fetch_or(self._word, bits, _SEQ_CST))

    def compare_exchange(self, expected: int, desired: int) -> bool:
        found = ctypes.byref(_VALUE(expected))
        return bool(self._compare_exchange(self._word, found, desired, _SEQ_CST, _SEQ_CST))
