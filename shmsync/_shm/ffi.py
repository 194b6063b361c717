"""cffi, a dependency of `atomics`: calls of C functions, and views of memory.

`_declarations` is generated, so only cffi's backend is imported: its parser takes longer to import than all of shmsync.
The backend's class does the same as the public one, which wraps it, in two thirds of the time (0.19 us instead of 0.29
for `new`), and parses types without a lock, which an exception from a signal handler could leave locked.
"""

from __future__ import annotations

from typing import Any

from shmsync._shm import _declarations

ffi: Any = _declarations.ffi
libc: Any = ffi.dlopen(None)
BYTES = ffi.typeof("char[]")
"""For `from_buffer`. Parsed once."""
