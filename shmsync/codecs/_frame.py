"""A frame: a body, and out-of-band buffers that are read in place.

    0             magic byte 0xC1 | 3 zero bytes | number of buffers u32 | size of the body u64
    16            for each buffer: offset u64 | size u64
    16 + 16 n     body
    ...           buffers; those of 64 bytes and more start at a multiple of 64

Offsets are relative to the start of the frame; numbers are in native byte order. No msgpack value starts with 0xC1, so
this byte alone distinguishes a frame from a bare msgpack value.
"""

from __future__ import annotations

import struct
from itertools import accumulate, chain, islice
from typing import TYPE_CHECKING, NamedTuple

from shmsync.codecs._gather import LINE_ALIGNMENT, WORD_ALIGNMENT, GatherList
from shmsync.errors import EntityReadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmsync.codecs._gather import Bytes, Source

MAGIC = 0xC1
_HEADER = struct.Struct("=B3xIQ")
_DESCRIPTOR = struct.Struct("=QQ")


_SLACK_FROM = 16 * 1024
_BODY_ALIGNMENT = 256


class Buffer(NamedTuple):
    """An out-of-band buffer: its content, and its size in bytes."""

    source: Source
    size: int


def pack(body: Bytes, buffers: Sequence[Buffer]) -> GatherList:
    """Return a frame of a body and its buffers."""
    return pack_many(body, [buffer.source for buffer in buffers], [buffer.size for buffer in buffers])


def pack_many(body: Bytes, sources: Sequence[Source], sizes: Sequence[int]) -> GatherList:
    """Return a frame of a body and buffers. There may be thousands, so most of the work runs in C."""
    count = len(sizes)
    at = _HEADER.size + _DESCRIPTOR.size * count + len(body)
    if sum(sizes) >= _SLACK_FROM:  # so that an update of the body seldom moves the buffers
        at += -at % _BODY_ALIGNMENT
    offsets = _aligned(at, sizes)
    descriptors = struct.pack(f"={2 * count}Q", *chain.from_iterable(zip(offsets, sizes, strict=True)))
    frame = GatherList()
    frame.add(_HEADER.pack(MAGIC, count, len(body)) + descriptors)
    frame.add(body)
    frame.extend(offsets, sizes, sources)
    return frame


def _aligned(at: int, sizes: Sequence[int]) -> list[int]:
    """Return the offsets of buffers of these sizes that follow offset `at`."""
    if sizes and min(sizes) >= LINE_ALIGNMENT and not any(map((LINE_ALIGNMENT - 1).__and__, sizes)):
        at += -at % LINE_ALIGNMENT
        return list(islice(accumulate(sizes, initial=at), len(sizes)))  # without a step of Python for each
    offsets = []
    for size in sizes:
        at += -at % (LINE_ALIGNMENT if size >= LINE_ALIGNMENT else WORD_ALIGNMENT)
        offsets.append(at)
        at += size
    return offsets


def is_frame(payload: Bytes) -> bool:
    """Return whether a payload is a frame."""
    return len(payload) > 0 and payload[0] == MAGIC


def unpack(payload: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Return the body and the buffers of a frame, as views of it.

    Raises:
        EntityReadError: see `locate`.
    """
    body, buffers = locate(payload)
    return payload[body], list(map(payload.__getitem__, buffers))


def locate(payload: memoryview) -> tuple[slice, list[slice]]:
    """Return where the body and the buffers of a frame are.

    Raises:
        EntityReadError: the payload is not a frame, or its body or a buffer extends beyond its end.
    """
    if len(payload) < _HEADER.size or not is_frame(payload):
        raise EntityReadError(
            f"the published bytes are not a valid frame: {bytes(payload[:16])!r} is not a header; "
            "publish the value again"
        )
    _, count, body_size = _HEADER.unpack_from(payload)
    body_at = _HEADER.size + _DESCRIPTOR.size * count
    if body_at + body_size > len(payload):
        raise EntityReadError(
            f"the published frame is damaged: its body ends at byte {body_at + body_size} of {len(payload)}; "
            "publish the value again"
        )
    buffers = []
    for offset, size in _DESCRIPTOR.iter_unpack(payload[_HEADER.size : body_at]):
        if offset + size > len(payload):
            raise EntityReadError(
                f"the published frame is damaged: a buffer ends at byte {offset + size} of {len(payload)}; "
                "publish the value again"
            )
        buffers.append(slice(offset, offset + size))
    return slice(body_at, body_at + body_size), buffers
