"""Errors of system calls, in words: what the kernel says, and what the user can do about it."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from types import TracebackType

_REMEDIES = {
    errno.EMFILE: "close what is not used, or raise the limit of this process (ulimit -n)",
    errno.ENFILE: "raise the limit of the system (sysctl fs.file-max)",
    errno.ENOMEM: (
        "a limit on memory of this container or cgroup, on the address space of this process (ulimit -v), or on its "
        "mappings (vm.max_map_count) is reached; raise it"
    ),
    errno.EISDIR: "remove it",
    errno.ENOLCK: "the kernel has no memory for a lock; raise the memory limit of this container or cgroup",
    errno.EROFS: "mount /dev/shm read-write (for a container, without `:ro`)",
    errno.ENOSYS: "the kernel or a sandbox (seccomp, gVisor) lacks this system call; allow it there",
    errno.EPERM: "a security policy (seccomp, SELinux, AppArmor) or the owner of the segment forbids it",
    errno.ELOOP: "it is a symbolic link; remove it",
    errno.EIO: "see the kernel log (dmesg)",
}


def explain(error: OSError) -> str:
    """Return the message of a system call's error, followed by what to do about it, if anything is known to help."""
    text = error.strerror or str(error) or type(error).__name__
    # A text of our own contains the remedy.
    remedy = _REMEDIES.get(error.errno or 0) if error.errno and text == os.strerror(error.errno) else None
    return f"{text}; {remedy}" if remedy else text


class raised_as:  # noqa: N801 - used like contextlib.suppress
    """Raise the errors of system calls in this block as `kind`, with a message "cannot `action`: ...".

    An OSError without an errno passes: no system call raised it, but a signal handler, such as an alarm with its
    TimeoutError. FileExistsError passes, too: the creator of a segment expects it. Python's own refusal to map an empty
    or truncated file, a ValueError, counts as an error of the call.

    A class, because a generator takes four times as long, and an inspection of all names enters many of these blocks.
    """

    __slots__ = ("_action", "_kind")

    def __init__(self, kind: type[ShmSyncError], action: str) -> None:
        self._kind = kind
        self._action = action

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, (ShmSyncError, FileExistsError)):
            return
        if isinstance(error, OSError) and error.errno is not None:
            raise self._kind(error.errno, f"cannot {self._action}: {explain(error)}") from error
        if isinstance(error, ValueError):
            text = f"cannot {self._action}: {error}; it is empty or truncated"
            raise self._kind(errno.EINVAL, text) from error
