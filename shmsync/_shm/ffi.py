"""The door to cffi, which `atomics` brings: calls of C functions, and views of memory.

cffi's own class wraps the one of its backend, which does the same in two thirds of the time (0.19 us instead of 0.29
for `new`) and parses types without a lock, which an exception from a signal handler could leave locked for ever.
"""

from __future__ import annotations

from typing import Any

try:
    from _cffi_backend import FFI
except ImportError:
    from cffi import FFI

ffi: Any = FFI()
BYTES = ffi.typeof("char[]")
"""For `from_buffer`. Types are parsed once."""
