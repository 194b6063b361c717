"""cffi, a dependency of `atomics`: calls of C functions, and views of memory.

cffi's public class wraps the class of its backend. The backend does the same in two thirds of the time (0.19 us instead
of 0.29 for `new`) and parses types without a lock, which an exception from a signal handler could leave locked.
"""

from __future__ import annotations

from typing import Any

try:
    from _cffi_backend import FFI
except ImportError:
    from cffi import FFI

ffi: Any = FFI()
BYTES = ffi.typeof("char[]")
"""For `from_buffer`. Parsed once."""
