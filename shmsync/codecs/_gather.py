"""A gather list: the buffers of an encoded value, and the single copy that writes them into a segment."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, TypeAlias

from shmsync._core.layout import LINE
from shmsync.codecs import _blocks

Bytes: TypeAlias = memoryview | bytes | bytearray  # contiguous, of format "B"
Source: TypeAlias = Bytes | Callable[[memoryview], None]
"""Contiguous bytes, or a function that writes its bytes into the memoryview it is given."""

WORD_ALIGNMENT = 8
LINE_ALIGNMENT = LINE  # the payload starts on a cache line, so an offset that is a multiple of this does too

_COALESCE_BELOW = 4096
_RUN_FROM = 16


class GatherList:
    """A payload in several buffers, each with its offset. Padding between them is zero.

    Each buffer is copied once, straight into the segment. Small buffers are coalesced into one, so that a value of many
    small parts does not need a separate copy of each.
    """

    # Three lists, not one of tuples: those of thousands of buffers would keep the garbage collector busy.
    __slots__ = ("_coalesced", "_offsets", "_size", "_sizes", "_sources")

    def __init__(self) -> None:
        self._offsets: list[int] = []
        self._sizes: list[int] = []
        self._sources: list[Source] = []
        self._coalesced: bytearray | None = None
        self._size = 0

    def add(self, source: Source, size: int | None = None, *, align: int = WORD_ALIGNMENT) -> int:
        """Append a buffer.

        Args:
            source: content of the buffer.
            size: size of the buffer in bytes; required if `source` is a function.
            align: the offset of the buffer is rounded up to a multiple of this many bytes.

        Returns:
            The offset of the buffer in the payload, in bytes.
        """
        count = size if size is not None else len(source)  # type: ignore[arg-type]
        at = self.next_offset(align)
        self._append(at, count, source)
        return at

    def _append(self, at: int, count: int, source: Source) -> None:
        if callable(source) or count >= _COALESCE_BELOW:
            self._coalesced = None
            self._offsets.append(at)
            self._sizes.append(count)
            self._sources.append(source)
        else:
            self._coalesce(at, source)
        self._size = at + count

    def extend(self, offsets: Sequence[int], sizes: Sequence[int], sources: Sequence[Source]) -> None:
        """Append buffers at offsets in ascending order, from `next_offset` on. Large ones are appended at C speed."""
        if not sizes:
            return
        if min(sizes) < _COALESCE_BELOW:
            for offset, size, source in zip(offsets, sizes, sources, strict=True):
                self._append(offset, size, source)
            return
        self._coalesced = None
        end = offsets[-1] + sizes[-1]
        if len(sizes) >= _RUN_FROM and sum(sizes) == end - offsets[0]:
            offsets, sizes, sources = _runs(offsets, end, sources)
        self._offsets += offsets
        self._sizes += sizes
        self._sources += sources
        self._size = end

    def next_offset(self, align: int = WORD_ALIGNMENT) -> int:
        """Return the offset that the next buffer would get."""
        return -(-self._size // align) * align

    def _coalesce(self, at: int, source: Bytes) -> None:
        if self._coalesced is None:
            self._coalesced = bytearray()
            self._offsets.append(at)
            self._sizes.append(0)
            self._sources.append(self._coalesced)
        assert self._sources[-1] is self._coalesced
        self._coalesced += bytes(at - self._offsets[-1] - len(self._coalesced))
        self._coalesced += source
        self._sizes[-1] = len(self._coalesced)

    def clear(self) -> None:
        """Drop the references to all buffers."""
        self._offsets, self._sizes, self._sources = [], [], []
        self._coalesced = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[tuple[int, int, Source]]:
        """Yield (offset, size, source) of each buffer, in ascending order of offset."""
        return zip(self._offsets, self._sizes, self._sources, strict=True)

    def __bytes__(self) -> bytes:
        target = bytearray(self._size)
        copy_into(memoryview(target), self)
        return bytes(target)


Payload: TypeAlias = Bytes | GatherList


def _runs(offsets: Sequence[int], end: int, sources: Sequence[Source]) -> tuple[list[int], list[int], list[Source]]:
    """Join buffers without gaps to runs of up to a block, each written without a step of Python for each buffer.

    Returns:
        The offsets, sizes and sources of the runs.
    """
    starts: list[int] = []
    joined: list[Source] = []
    at = 0
    while at < len(sources):
        stop = max(bisect_right(offsets, offsets[at] + _blocks.BLOCK_SIZE) - 1, at + 1)
        stop = len(sources) if end - offsets[at] <= _blocks.BLOCK_SIZE else stop
        starts.append(offsets[at])
        part = [offset - offsets[at] for offset in offsets[at:stop]]
        joined.append(partial(_write_run, part, sources[at:stop]) if stop - at > 1 else sources[at])
        at = stop
    ends = [*starts[1:], end]
    return starts, list(map(int.__sub__, ends, starts)), joined


def _write_run(starts: list[int], sources: Sequence[Source], target: memoryview) -> None:
    if any(map(callable, sources)):
        for start, stop, source in zip(starts, [*starts[1:], len(target)], sources, strict=True):
            if callable(source):
                source(target[start:stop])
            else:
                target[start:stop] = source
        return
    parts = map(slice, starts, chain(islice(starts, 1, None), (len(target),)))
    write: Callable[[slice, Any], None] = target.__setitem__
    deque(map(write, parts, sources), maxlen=0)


def release(payload: Payload) -> None:
    """Release the buffers that a payload refers to. The payload cannot be used afterwards."""
    if isinstance(payload, memoryview):
        payload.release()
    elif isinstance(payload, GatherList):
        payload.clear()


def uninitialized(size: int) -> GatherList:
    """Return a payload of `size` bytes that leaves the content of the target unchanged."""
    payload = GatherList()
    payload.add(lambda _: None, size)
    return payload


def copy_into(target: memoryview, payload: Payload, arrived: Callable[[int], object] = bool) -> None:
    """Copy a payload into `target`, which has exactly its size.

    Args:
        target: the memory.
        payload: the payload.
        arrived: called now and then with the end of what is complete, so that a large payload is digested while it is
            in the cache. The copy, not the source, because another thread may modify the source during the copy.
    """
    size = len(payload)
    if size <= _blocks.BLOCK_SIZE and not isinstance(payload, GatherList):
        target[:] = payload
        return
    at = told = 0  # the ends of what was copied, and of what was told of it
    for offset, count, source in payload if isinstance(payload, GatherList) else ((0, size, payload),):
        if offset > at:
            target[at:offset] = bytes(offset - at)
        at = offset + count
        if count > _blocks.BLOCK_SIZE or callable(source):
            _copy_source(target, offset, at, source, arrived)
            told = at
        else:
            target[offset:at] = source
            if at - told > _blocks.BLOCK_SIZE:  # together with its neighbours
                arrived(at)
                told = at


def _copy_source(target: memoryview, start: int, end: int, source: Source, arrived: Callable[[int], object]) -> None:
    if callable(source):
        source(target[start:end])
        for block in _blocks.blocks(end - start):
            arrived(start + block.stop)
        return
    with memoryview(source) as view:
        for block in _blocks.blocks(end - start):
            target[start + block.start : start + block.stop] = view[block]
            arrived(start + block.stop)
