"""Errors of system calls, in words: what the kernel says, and what the user can do about it."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMEDIES = {
    errno.EMFILE: "close what is not used, or raise the limit of this process (ulimit -n)",
    errno.ENFILE: "raise the limit of the system (sysctl fs.file-max)",
    errno.ENOMEM: "the limit of this container or cgroup on memory, or of the system on mappings, is reached; raise it",
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


@contextmanager
def raised_as(kind: type[ShmSyncError], action: str) -> Iterator[None]:
    """Raise the errors of system calls in this block as `kind`, with a message "cannot `action`: ...".

    An OSError without an errno passes: no system call raised it, but a signal handler, such as an alarm with its
    TimeoutError. FileExistsError passes, too: the creator of a segment expects it. Python's own refusal to map an empty
    or truncated file, a ValueError, counts as an error of the call.
    """
    try:
        yield
    except (ShmSyncError, FileExistsError):
        raise
    except OSError as error:
        if error.errno is None:
            raise
        raise kind(error.errno, f"cannot {action}: {explain(error)}") from error
    except ValueError as error:
        raise kind(errno.EINVAL, f"cannot {action}: {error}; it is empty or truncated") from error
