"""Children that check something, forked through Python or in C."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import ClosedError, WriteLockConflictError
from stress.settings import Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync import Snapshot, Writer

_CHILD_TIMEOUT = 30
_python_api = ctypes.PyDLL(None)  # keeps the interpreter's lock, as a C extension does that forks


def c_fork() -> int:
    """Fork without the hooks of `os.fork`, as uWSGI and C libraries do."""
    pid: int = _python_api.fork()
    return pid


def run_forked(fork: Callable[[], int], child: Callable[[], None]) -> None:
    """Call a function in a child.

    Raises:
        Violation: it raised an error, or did not end.
    """
    read_end, write_end = os.pipe()
    pid = fork()
    if pid == 0:
        error = b""
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_CHILD_TIMEOUT)
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
    _, status = os.waitpid(pid, 0)
    if message or status:
        reason = message.decode() or f"status {os.waitstatus_to_exitcode(status)}"
        raise Violation(f"in a child of {getattr(fork, '__name__', fork)}: {reason}")


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
