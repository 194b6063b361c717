"""The archive codec: values of any size, opened in microseconds and decoded on access.

Supports None, bool, int (64 bits, signed or unsigned), float, str, bytes, list, tuple and dict, nested up to 100 levels
deep, with any of the scalars or tuples of them as dict keys; NumPy arrays of every dtype but object; and `ArrayMap`. A
read returns an `ArchivedMap` or `ArchivedList`, whose elements are decoded on access. A list of ints only, or of floats
only, is returned as a vector: a read-only array on the segment (a memoryview if NumPy is not installed). An array is
returned as a read-only array on the segment. `unarchive` converts any of these to plain objects.

Values read back equal, with these conversions: tuples other than dict keys become lists; bytearray and memoryview
become bytes; NumPy scalars become Python's; arrays become C-ordered; instances of subclasses become instances of the
base type. Dataclasses, msgspec Structs and attrs instances become dicts; their fields are written as msgspec writes
JSON: dates, UUIDs and Decimals as text, sets as lists, and the value of an enumeration's member in its place, so that
`Reader(type=...)` restores them. An empty list among lists of numbers becomes an empty vector. NaN keys cannot be
looked up; iterating yields them. Bytes are copied on each access; with `Reader(zero_copy_bytes=True)`, those of 4 KiB
and more are memoryviews.

Format: see `_format`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _culprit
from shmsync.codecs._schema import Recipe
from shmsync.codecs.archive import (
    _map_columns,  # noqa: F401 - registers its column types
    _nested_columns,  # noqa: F401 - registers its column types
)
from shmsync.codecs.archive._array_map import ArrayMap
from shmsync.codecs.archive._columns import Column, open_column
from shmsync.codecs.archive._encoder import Encoder
from shmsync.codecs.archive._format import damaged, root_of, trailer_span
from shmsync.codecs.archive._partition import parts_of
from shmsync.codecs.archive._views import ArchivedList, ArchivedMap, unarchive

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._gather import Payload

__all__ = ["ID", "NAME", "ArchivedList", "ArchivedMap", "ArrayMap", "check", "decode", "encode", "unarchive"]

NAME = "archive"
ID = 2


def encode(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> Payload:
    """Return the archive of a value.

    Args:
        value: the value.
        enc_hook: called with each value of an unsupported type; returns one of a supported type.

    Raises:
        EntityWriteError: the value contains something that an archive does not support; the message contains the path
            to it.
    """
    try:
        return Encoder(value, enc_hook).payload
    except (TypeError, ValueError, OverflowError, LookupError, RuntimeError) as error:
        # RuntimeError: another thread modified a container while it was being encoded.
        raise _culprit.refusal(value, partial(parts_of, enc_hook), error) from _culprit.cause_of(error)


def decode(payload: memoryview, *, zero_copy_bytes: bool = False) -> Any:
    """Return the value; only its root is read.

    Args:
        payload: the archive.
        zero_copy_bytes: return bytes of 4 KiB and more as memoryviews of the archive; by default they are copied.

    Raises:
        EntityReadError: the payload is not a valid archive.
        MissingExtraError: the value is an array, and NumPy is not installed.
    """
    return open_root(payload, zero_copy_bytes=zero_copy_bytes)[0]


def decode_to_update(payload: memoryview, open_map: Callable[[Any], Any] | None) -> Any:
    """Return the value as `decode` does, but for each map that has a capacity what `open_map` makes of its column."""
    try:
        return open_column(payload, root_of(payload)._replace(open_map=open_map)).get(0)
    except (IndexError, RecursionError):
        raise damaged("its columns refer to each other inconsistently") from None


def open_root(payload: memoryview, *, zero_copy_bytes: bool = False) -> tuple[Any, Column]:
    """Return what `decode` returns, and the root column that it comes from."""
    try:
        root = open_column(payload, root_of(payload)._replace(zero_copy_bytes=zero_copy_bytes))
        return root.get(0), root
    except (IndexError, RecursionError):
        raise damaged("its columns refer to each other inconsistently") from None


def recipe_of(payload: memoryview, root: Column) -> Recipe | None:
    """Return how to decode the next version of an archive that is open; None if that would not be faster."""
    recipe = root.value_recipe()
    return recipe and Recipe((*recipe.spans, trailer_span(payload)), recipe.make)


def decode_plain(payload: memoryview) -> Any:
    """Return the value as plain objects.

    Raises:
        EntityReadError: the payload is not a valid archive.
        MissingExtraError: the value contains an array, and NumPy is not installed.
    """
    try:
        return open_column(payload, root_of(payload)).plain(0, 1)[0]
    except (IndexError, RecursionError):
        raise damaged("its columns refer to each other inconsistently") from None


def check(payload: memoryview) -> None:
    """Validate the whole archive: every offset, string and key, and that no column is referred to twice.

    Raises:
        EntityReadError: the archive is damaged.
    """
    try:
        open_column(payload, root_of(payload)).check(set())
    except (IndexError, RecursionError):
        raise damaged("its columns refer to each other inconsistently") from None
