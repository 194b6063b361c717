"""What shmsync needs of the interpreter."""

from __future__ import annotations

import sys

from shmsync.errors import UnsupportedInterpreterError


def check_gil() -> None:
    """Check that only one thread runs Python code at a time. Call after posix_ipc was imported, which may enable that.

    Raises:
        UnsupportedInterpreterError: the GIL is disabled.
    """
    # A free-threaded interpreter enables the GIL when it imports a module that needs it, unless PYTHON_GIL=0 forbids.
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    if is_enabled is not None and not is_enabled():
        raise UnsupportedInterpreterError(
            "shmsync does not work without the global interpreter lock (GIL): threads that share a handle would read "
            "torn values; unset PYTHON_GIL=0 (and -X gil=0), or use an interpreter with a GIL"
        )
