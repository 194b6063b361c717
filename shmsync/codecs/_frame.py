"""A frame: a body, and beside it buffers that are handed out where they lie.

    0             mark 0xC1 | 3 zero bytes | number of buffers u32 | size of the body u64
    16            for each buffer: offset u64 | size u64
    16 + 16 n     body
    ...           buffers; those of 64 bytes and more start at a multiple of 64

Offsets count from the start of the frame, numbers are in native byte order. 0xC1 is the one byte with which no msgpack
value begins, so a bare value needs no mark to be told from a frame.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from shmsync.codecs._gather import LINE_ALIGNMENT, WORD_ALIGNMENT, GatherList
from shmsync.errors import EntityReadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmsync.codecs._gather import Bytes, Source

MARK = 0xC1
_HEAD = struct.Struct("=B3xIQ")
_PLACE = struct.Struct("=QQ")


class Buffer(NamedTuple):
    """Bytes that lie beside the body: what they come from, and how many they are."""

    source: Source
    size: int


def assemble(body: Bytes, buffers: Sequence[Buffer]) -> GatherList:
    """Return the frame."""
    at = _HEAD.size + _PLACE.size * len(buffers) + len(body)
    places = []
    for buffer in buffers:
        align = LINE_ALIGNMENT if buffer.size >= LINE_ALIGNMENT else WORD_ALIGNMENT
        at = -(-at // align) * align
        places.append((at, buffer.size, align))
        at += buffer.size
    pieces = GatherList()
    head = _HEAD.pack(MARK, len(buffers), len(body))
    pieces.add(head + b"".join(_PLACE.pack(start, size) for start, size, _ in places))
    pieces.add(body)
    for buffer, (start, size, align) in zip(buffers, places, strict=True):
        placed = pieces.add(buffer.source, size, align=align)
        assert placed == start
    return pieces


def is_frame(payload: Bytes) -> bool:
    """Tell whether a payload is a frame."""
    return len(payload) > 0 and payload[0] == MARK


def take_apart(payload: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Return the body and the buffers of a frame, as views of it.

    Raises:
        EntityReadError: not a frame, or its parts do not lie inside it.
    """
    if len(payload) < _HEAD.size or not is_frame(payload):
        raise EntityReadError("the published bytes are no frame: the mark is missing")
    _, count, body_size = _HEAD.unpack_from(payload)
    body_at = _HEAD.size + _PLACE.size * count
    if body_at + body_size > len(payload):
        raise EntityReadError(f"the published frame is damaged: body of {body_size} bytes in {len(payload)}")
    buffers = []
    for start, size in _PLACE.iter_unpack(payload[_HEAD.size : body_at]):
        if start + size > len(payload):
            raise EntityReadError(f"the published frame is damaged: buffer at {start} of {size} bytes")
        buffers.append(payload[start : start + size])
    return payload[body_at : body_at + body_size], buffers
