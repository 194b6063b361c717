"""What successive versions of a value have in common, so that a reader opens the second and later ones in a few steps.

Opening an archive, or a frame that is one array, reads a small part of the payload: headers, a dtype, a shape, the keys
of a small map. Everything that it returns follows from these bytes, the *schema*, and from the size of the payload: at
which offsets are the elements, and how are they decoded? If both are those of the last version, nothing is parsed or
validated. The same slices are taken of the new payload.

Invariant: a value made by `Schema.make` is the one that opening the payload would return. So a recipe lists every byte
that its decisions depend on; bytes that are only sliced are not part of it. Equal bytes and an equal size have passed
the same checks of bounds, so damage to them is found as ever: they differ, and the payload is opened.

A schema refers to no payload: it contains copies of bytes, slices, dtypes and keys.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Span = tuple[int, int]
    """A range of bytes of a payload: its start, and its end."""

NO_CODEC = -1
MAX_SIZE = 16 * 1024
"""A schema of more bytes is not kept."""


class Recipe(NamedTuple):
    """How a part of a payload was opened.

    Attributes:
        spans: the bytes of the payload that were interpreted.
        make: opens the same part of another payload, which has the same size and the same bytes there.
    """

    spans: tuple[Span, ...]
    make: Callable[[memoryview], Any]


class Schema(NamedTuple):
    """The schema of one version.

    Attributes:
        codec: number of its codec; NO_CODEC if there is no schema.
        size: size of its payload in bytes.
        read: returns the bytes of a payload of this size that belong to the schema.
        content: what `read` has returned for this version.
        make: returns the value of a payload of this size and content.
    """

    codec: int
    size: int
    read: Callable[[memoryview], tuple[bytes, ...]]
    content: tuple[bytes, ...]
    make: Callable[[memoryview], Any]


def _unused(_: memoryview) -> Any:
    raise AssertionError("there is no schema")


NO_SCHEMA = Schema(NO_CODEC, -1, _unused, (), _unused)


def schema_of(codec: int, payload: memoryview, recipe: Recipe | None) -> Schema:
    """Return the schema of a payload that was opened; NO_SCHEMA if there is no recipe, or if it is too large."""
    if recipe is None:
        return NO_SCHEMA
    spans = _merged(recipe.spans)
    if sum(stop - start for start, stop in spans) > MAX_SIZE:
        return NO_SCHEMA
    # All spans are read by one call. Padding takes no time, and a payload of another size is refused.
    parts, at = [], 0
    for start, stop in spans:
        parts.append(f"{start - at}x{stop - start}s")
        at = stop
    read = struct.Struct(f"={''.join(parts)}{len(payload) - at}x").unpack
    return Schema(codec, len(payload), read, read(payload), recipe.make)


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in ascending order; those that overlap or touch are joined, and empty ones omitted."""
    merged: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged
