"""The archive codec: a value of any size, opened in microseconds and read where it lies.

Takes None, bool, int (64 bits, signed or unsigned), float, str, bytes, list, tuple and dict, nested up to 100 deep,
with any of the scalars or tuples of them as dict keys; NumPy arrays of every dtype but object; and `ArrayMap`. A read
hands out an `ArchivedMap` or `ArchivedList`, whose items are decoded when they are touched; a list of ints only or of
floats only as a vector, which is a read-only array on the segment (a memoryview if NumPy is not installed), and an
array as that. `unarchive` makes plain objects of it all.

These come back as something else: tuples that are not dict keys as lists, bytearray and memoryview as bytes, bytes of
4 KiB and more as memoryviews, NumPy scalars as Python's, arrays in C order, subclasses as their base. An empty list
among lists of numbers is an empty vector. A key that is no number equal to itself (NaN) is only met by iterating.

Format: see `_format`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs.archive import (
    _map_columns,  # noqa: F401 - each adds its kinds of columns
    _nested_columns,  # noqa: F401 - each adds its kinds of columns
)
from shmsync.codecs.archive._array_map import ArrayMap
from shmsync.codecs.archive._columns import open_column
from shmsync.codecs.archive._encoder import Builder
from shmsync.codecs.archive._format import damaged, root_of
from shmsync.codecs.archive._views import ArchivedList, ArchivedMap, unarchive
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

__all__ = ["ID", "NAME", "ArchivedList", "ArchivedMap", "ArrayMap", "check", "decode", "encode", "unarchive"]

NAME = "archive"
ID = 2


def encode(value: Any) -> Payload:
    """Return the archive of a value.

    Raises:
        EntityWriteError: it holds something that an archive cannot.
    """
    try:
        return Builder(value).payload
    except EntityWriteError:
        raise
    except (
        TypeError,
        ValueError,
        OverflowError,
        LookupError,
        RuntimeError,
    ) as error:  # the last: it changes while we look at it
        raise EntityWriteError(f"cannot publish this value: {error}") from error


def decode(payload: memoryview) -> Any:
    """Return the value; looks at its root only.

    Raises:
        EntityReadError: the bytes are no archive.
        MissingExtraError: the value is an array, and NumPy is not installed.
    """
    try:
        return open_column(payload, root_of(payload)).get(0)
    except (IndexError, RecursionError):
        raise damaged("its columns do not fit together") from None


def decode_plain(payload: memoryview) -> Any:
    """Return the value as plain objects. Raises what `decode` raises."""
    try:
        return open_column(payload, root_of(payload)).plain(0, 1)[0]
    except (IndexError, RecursionError):
        raise damaged("its columns do not fit together") from None


def check(payload: memoryview) -> None:
    """Look at the whole archive: every offset, every text, every key; no column twice, so no cycles.

    Raises:
        EntityReadError: something is wrong.
    """
    try:
        open_column(payload, root_of(payload)).check(set())
    except (IndexError, RecursionError):
        raise damaged("its columns do not fit together") from None
