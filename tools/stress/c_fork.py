"""Forks that Python does not announce: made in C, as by uWSGI and by C libraries, without the hooks of `os.fork`."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import ClosedError, WriteLockConflictError
from stress.settings import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync import Snapshot, Writer

_python_api = ctypes.PyDLL(None)  # keeps the interpreter's lock, as a C extension does that forks


def run_c_forked(child: Callable[[], None]) -> None:
    """Fork in C, and call a function in the child; raise what it raises as a Violation."""
    read_end, write_end = os.pipe()
    pid = _python_api.fork()
    if pid == 0:
        error = b""
        try:
            child()
        except BaseException as found:  # noqa: BLE001 - the parent reports it
            error = f"{type(found).__name__}: {found}".encode()
        finally:
            with suppress(OSError):  # the parent was killed
                os.write(write_end, error)
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        message = pipe.read()
    os.waitpid(pid, 0)
    if message:
        raise Violation(f"in a child that was forked in C: {message.decode()}")


def check_inherited_snapshot(snapshot: Snapshot[Any]) -> None:
    """Check, in a child, that a snapshot of the parent returns no value, because its memory is not protected here."""
    try:
        _ = snapshot.value
    except ClosedError:
        snapshot.close()
    else:
        raise Violation("a snapshot from before the fork returned a value")


def check_inherited_writer(writer: Writer[Any]) -> None:
    """Check, in a child, that a writer of the parent publishes nothing. Closing it must not release the lock."""
    try:
        writer.write_raw(b"")
    except WriteLockConflictError:
        writer.close()
    else:
        raise Violation("a writer that was inherited by a fork in C has published")
