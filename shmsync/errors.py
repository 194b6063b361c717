"""Every error that shmsync raises.

Each one is a `ShmSyncError` and also the builtin that a Python user would catch, so both `except FileNotFoundError` and
`except ShmSyncError` work. All of them pickle, so they can cross a multiprocessing pool.
"""

from __future__ import annotations

import errno


class ShmSyncError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(ShmSyncError, ValueError):
    """An argument is not valid: a name with a slash, a negative duration, an unknown codec."""


class StateReadError(ShmSyncError, OSError):
    """The state segment or the reader table cannot be opened, read or locked."""


class StateNotFoundError(StateReadError, FileNotFoundError):
    """The name does not exist: no writer has published under it yet, or it was unlinked."""


class UninitializedStateError(ShmSyncError, LookupError):
    """The name exists, but nothing has been published under it yet."""


class DataReadError(ShmSyncError, OSError):
    """A data segment is missing, truncated, damaged or cannot be mapped."""


class DataWriteError(ShmSyncError, OSError):
    """A segment cannot be created, written or removed."""


class CapacityError(ShmSyncError, OSError):
    """There is not enough shared memory for the value.

    The errno says why: ENOSPC: the file system is full; EFBIG: a limit on file sizes; ENOMEM: a memory limit; EDQUOT: a
    quota.
    """


class EntityWriteError(ShmSyncError, ValueError):
    """The value cannot be encoded so that it reads back equal. Nothing was published; the last value stays readable."""


class EntityReadError(ShmSyncError, ValueError):
    """The published bytes cannot be decoded."""


class IntegrityError(ShmSyncError, ValueError):
    """The payload does not match its checksum (only under `check_bytes=True`)."""


class InvalidInstanceVersionError(ShmSyncError, ValueError):
    """A sequence number, index, size or checksum is out of range."""


class LayoutMismatchError(ShmSyncError, RuntimeError):
    """The segment was created by another layout version of shmsync, or by another program."""


class WriteLockConflictError(ShmSyncError, BlockingIOError):
    """Another live writer owns the name, or a process that it forked still holds its lock."""


class ReadersFullError(ShmSyncError, BlockingIOError):
    """Every slot of the reader table is taken by a live reader."""


class ClosedError(ShmSyncError, ValueError):
    """The handle or snapshot was used after it was closed."""


class UnsupportedInterpreterError(ShmSyncError, ImportError):
    """shmsync cannot work in this interpreter: its global interpreter lock (GIL) is disabled. Raised by the import."""


class MissingExtraError(ShmSyncError, ImportError):
    """An optional dependency is not installed; the message names the extra that installs it."""


class ReplicationError(ShmSyncError, ConnectionError):
    """A version cannot be sent to the engine, or not be received from it: see `shmsync.replication`."""


class FencedError(ReplicationError, PermissionError):
    """A newer publisher has sent versions of this name. What this one sends is refused."""


def reason(error: Exception) -> str:
    """Return the message of an error without its errno and file name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def format_error(error: Exception) -> str:
    """Return the message of an error, prefixed with its file name if it has one."""
    filename = getattr(error, "filename", None)
    return f"{filename}: {reason(error)}" if filename else reason(error)


def not_found(name: str) -> StateNotFoundError:
    """Return the error for a name that does not exist."""
    return StateNotFoundError(
        errno.ENOENT,
        f"nothing is published as {name!r}; start its writer first, or wait for it with Reader(timeout=...)",
    )


def not_published(name: str) -> UninitializedStateError:
    """Return the error for a name that exists but has no value yet."""
    return UninitializedStateError(
        f"{name!r} has no value yet: its writer is about to publish the first one; try again, or wait for it with "
        "Reader(timeout=...)"
    )
