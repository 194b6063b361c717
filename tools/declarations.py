"""Generate `shmsync/_shm/_declarations.py`: the C functions that shmsync calls, as cffi reads them without its parser.

Run it after a change of `CDEF`; `tests/shm/test_declarations.py` compares the file with what it generates. See
https://cffi.readthedocs.io/en/stable/cdef.html, "out-of-line ABI mode".
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from cffi import FFI

TARGET = Path(__file__).parent.parent / "shmsync" / "_shm" / "_declarations.py"

CDEF = """
// libc
uintptr_t mmap(uintptr_t, size_t, int, int, int, long);
long syscall(long, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

// patomic 0.2.2, the C library of the package atomics; what is not used is void *
typedef struct {
    void (*store)(void *, void *, int);
    void (*load)(void *, int, void *);
    void *exchange;
    void *compare_exchange_weak;
    int (*compare_exchange)(void *, void *, void *, int, int);
    void *bitwise[4];
    void *binary[4];  // or, xor, and, not
    void (*fetch_or)(void *, void *, int, void *);
    void *fetch_binary[3];
    void *signed_arithmetic[10];
    void (*add)(void *, void *, int);
    void *unsigned_arithmetic[9];
    size_t alignment[3];
} patomic_explicit_t;

patomic_explicit_t patomic_create_explicit(size_t, int, int);
int patomic_version_major(void);
int patomic_version_minor(void);
int patomic_version_patch(void);
"""


def generate() -> str:
    """Return the text of the module."""
    builder = FFI()
    builder.cdef(CDEF)
    builder.set_source("shmsync._shm._declarations", None)
    with tempfile.NamedTemporaryFile("r", suffix=".py", encoding="utf-8") as file:
        builder.emit_python_code(file.name)
        return Path(file.name).read_text(encoding="utf-8")


if __name__ == "__main__":
    TARGET.write_text(generate(), encoding="utf-8")
