"""Publish a value into shared memory; read the newest version from every process, wait-free and without copying.

One process writes:

    >>> from shmsync import Writer, Reader
    >>> writer = Writer("prices")
    >>> writer.write({"EURUSD": 1.08}).version.seq
    1

Every other process on the host reads:

    >>> reader = Reader("prices")
    >>> reader.get()["EURUSD"]
    1.08
    >>> reader.close(); writer.unlink(); writer.close()
"""

from shmsync._handles.reader import Reader
from shmsync._handles.reservation import Reservation
from shmsync._handles.snapshot import Snapshot
from shmsync._handles.synchronizer import Synchronizer
from shmsync._handles.writer import Writer
from shmsync._inspect import info, names, readers
from shmsync._session.unlink import unlink
from shmsync._types import (
    HeldSegmentInfo,
    Info,
    InstanceVersion,
    ReaderInfo,
    ReaderStats,
    RetainedInfo,
    SegmentInfo,
    WriteResult,
    WriterInfo,
    WriterStats,
)
from shmsync.codecs.archive import ArchivedList, ArchivedMap, ArrayMap, unarchive
from shmsync.errors import (
    CapacityError,
    ClosedError,
    DataReadError,
    DataWriteError,
    EntityReadError,
    EntityWriteError,
    IntegrityError,
    InvalidArgumentError,
    InvalidInstanceVersionError,
    LayoutMismatchError,
    MissingExtraError,
    ReadersFullError,
    ShmSyncError,
    StateNotFoundError,
    StateReadError,
    UninitializedStateError,
    WriteLockConflictError,
)

__version__ = "0.1.0"

__all__ = [
    "ArchivedList",
    "ArchivedMap",
    "ArrayMap",
    "CapacityError",
    "ClosedError",
    "DataReadError",
    "DataWriteError",
    "EntityReadError",
    "EntityWriteError",
    "HeldSegmentInfo",
    "Info",
    "InstanceVersion",
    "IntegrityError",
    "InvalidArgumentError",
    "InvalidInstanceVersionError",
    "LayoutMismatchError",
    "MissingExtraError",
    "Reader",
    "ReaderInfo",
    "ReaderStats",
    "ReadersFullError",
    "Reservation",
    "RetainedInfo",
    "SegmentInfo",
    "ShmSyncError",
    "Snapshot",
    "StateNotFoundError",
    "StateReadError",
    "Synchronizer",
    "UninitializedStateError",
    "WriteLockConflictError",
    "WriteResult",
    "Writer",
    "WriterInfo",
    "WriterStats",
    "info",
    "names",
    "readers",
    "unarchive",
    "unlink",
]
