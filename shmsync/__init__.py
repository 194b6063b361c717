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

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._handles.reader import Reader
from shmsync._handles.reservation import Reservation
from shmsync._handles.snapshot import Snapshot
from shmsync._handles.synchronizer import Synchronizer
from shmsync._handles.writer import Writer
from shmsync._session.unlink import unlink
from shmsync._types import HeldSegmentInfo, InstanceVersion, Origin, ReaderStats, WriteResult, WriterStats
from shmsync._util.interpreter import check_gil
from shmsync.codecs import Codec, load, register_codec
from shmsync.errors import (
    CapacityError,
    ClosedError,
    DataReadError,
    DataWriteError,
    EntityReadError,
    EntityWriteError,
    FencedError,
    IntegrityError,
    InvalidArgumentError,
    InvalidInstanceVersionError,
    LayoutMismatchError,
    MissingExtraError,
    ReadersFullError,
    ReplicationError,
    ShmSyncError,
    StateNotFoundError,
    StateReadError,
    UninitializedStateError,
    UnsupportedInterpreterError,
    WriteLockConflictError,
)

check_gil()


def _import_before_fork() -> None:
    """Import what every handle needs, and `info`: a child often changes its user, and cannot import then."""
    with suppress(Exception):  # the call that needs it imports it again, and reports what is wrong
        load()
        import shmsync._handles.update  # noqa: PLC0415 - see `_LAZY`
        import shmsync._inspect  # noqa: PLC0415 - as above

        if "numpy" in sys.modules:
            import json  # noqa: F401, PLC0415 - for structured dtypes

            import shmsync.codecs._draft_arrays  # noqa: F401, PLC0415 - as above


os.register_at_fork(before=_import_before_fork)

if TYPE_CHECKING:
    from shmsync._handles.update import Update
    from shmsync._handles.version_changes import VersionChanges
    from shmsync._info_types import Info, ProcessInfo, ReaderInfo, RetainedInfo, SegmentInfo, WriterInfo
    from shmsync._inspect import info, names, readers
    from shmsync._util.include import get_include
    from shmsync.codecs.archive import ArchivedList, ArchivedMap, ArrayMap, unarchive

__version__ = "0.1.0"

__all__ = [
    "ArchivedList",
    "ArchivedMap",
    "ArrayMap",
    "CapacityError",
    "ClosedError",
    "Codec",
    "DataReadError",
    "DataWriteError",
    "EntityReadError",
    "EntityWriteError",
    "FencedError",
    "HeldSegmentInfo",
    "Info",
    "InstanceVersion",
    "IntegrityError",
    "InvalidArgumentError",
    "InvalidInstanceVersionError",
    "LayoutMismatchError",
    "MissingExtraError",
    "Origin",
    "ProcessInfo",
    "Reader",
    "ReaderInfo",
    "ReaderStats",
    "ReadersFullError",
    "ReplicationError",
    "Reservation",
    "RetainedInfo",
    "SegmentInfo",
    "ShmSyncError",
    "Snapshot",
    "StateNotFoundError",
    "StateReadError",
    "Synchronizer",
    "UninitializedStateError",
    "UnsupportedInterpreterError",
    "Update",
    "VersionChanges",
    "WriteLockConflictError",
    "WriteResult",
    "Writer",
    "WriterInfo",
    "WriterStats",
    "get_include",
    "info",
    "names",
    "readers",
    "register_codec",
    "unarchive",
    "unlink",
]

if not TYPE_CHECKING:  # a type checker would accept any name
    _LAZY = {
        **dict.fromkeys(("ArchivedList", "ArchivedMap", "ArrayMap", "unarchive"), "codecs.archive"),
        **dict.fromkeys(("info", "names", "readers"), "_inspect"),
        **dict.fromkeys(
            ("Info", "ProcessInfo", "ReaderInfo", "RetainedInfo", "SegmentInfo", "WriterInfo"), "_info_types"
        ),
        "Update": "_handles.update",
        "VersionChanges": "_handles.version_changes",
        "get_include": "_util.include",
    }

    def __getattr__(name: str) -> object:
        """Import on first use what neither the import of shmsync nor every handle needs."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - on first use

        value = globals()[name] = getattr(import_module(f"shmsync.{_LAZY[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
