"""Every error that shmsync raises.

Each one is a `ShmSyncError` and also the builtin that a Python user would catch, so that `except FileNotFoundError`
and `except ShmSyncError` both work. All of them pickle, so that they cross a multiprocessing pool unharmed.
"""

from __future__ import annotations

import errno
import os


class ShmSyncError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(ShmSyncError, ValueError):
    """An argument cannot be used: a name with a slash, a negative duration, an unknown codec."""


class StateReadError(ShmSyncError, OSError):
    """The state segment or the reader table cannot be opened or read."""


class StateNotFoundError(StateReadError, FileNotFoundError):
    """There is no state segment of this name: no writer has published yet, or it was unlinked."""


class UninitializedStateError(ShmSyncError, LookupError):
    """The state segment is there, but nothing has been published in it yet."""


class DataReadError(ShmSyncError, OSError):
    """A data segment is missing, truncated, damaged or cannot be mapped."""


class DataWriteError(ShmSyncError, OSError):
    """A segment cannot be created or written."""


class CapacityError(ShmSyncError, OSError):
    """The shared memory file system is too small for the value (errno is ENOSPC)."""


class EntityWriteError(ShmSyncError, ValueError):
    """The value cannot be encoded so that it reads back equal. Nothing was published."""


class EntityReadError(ShmSyncError, ValueError):
    """The published bytes cannot be decoded."""


class IntegrityError(ShmSyncError, ValueError):
    """The payload does not match its checksum (only under `check_bytes=True`)."""


class InvalidInstanceVersionError(ShmSyncError, ValueError):
    """A sequence number, index, size or checksum is out of its range."""


class LayoutMismatchError(ShmSyncError, RuntimeError):
    """The segment was made by another layout version of shmsync, or not by shmsync."""


class WriteLockConflictError(ShmSyncError, BlockingIOError):
    """Another live writer owns this name."""


class ReadersFullError(ShmSyncError, BlockingIOError):
    """Every slot of the reader table is held by a live reader."""


class ClosedError(ShmSyncError, ValueError):
    """The handle or snapshot was used after it had been closed."""


class MissingExtraError(ShmSyncError, ImportError):
    """An optional dependency is not installed; the text names the extra that brings it."""


def reason(error: Exception) -> str:
    """Return the text of an error, without its number and the name of a file."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def sentence(error: Exception) -> str:
    """Return the text of an error, after the name of the file or segment that it has to do with."""
    filename = getattr(error, "filename", None)
    return f"{filename}: {reason(error)}" if filename else reason(error)


def not_found(segment: str) -> StateNotFoundError:
    """Return the error for a state segment or reader table that is not there."""
    return StateNotFoundError(
        errno.ENOENT,
        f"{os.strerror(errno.ENOENT)}: {segment}; nothing is published under this name "
        "(start its writer first, or give the reader a timeout)",
    )


def no_space(segment: str, need: int) -> CapacityError:
    """Return the error for a segment of `need` bytes that does not fit."""
    return CapacityError(
        errno.ENOSPC,
        f"{os.strerror(errno.ENOSPC)}: {segment} needs {need:,} bytes and the shared memory file system "
        f"has {_free()} left; enlarge /dev/shm (docker run --shm-size=...) or publish less",
    )


def _free() -> str:
    try:
        stat = os.statvfs("/dev/shm")  # noqa: S108 - where Linux keeps them
    except OSError:
        return "an unknown number of bytes"
    return f"{stat.f_bavail * stat.f_frsize:,} of {stat.f_blocks * stat.f_frsize:,} bytes"
