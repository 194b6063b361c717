"""A gather list: the buffers of an encoded value, and the single copy that writes them into a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from shmsync._core.layout import LINE, checksum_of, checksum_state
from shmsync.codecs import _blocks

Bytes: TypeAlias = memoryview | bytes | bytearray  # contiguous, of format "B"
Source: TypeAlias = Bytes | Callable[[memoryview], None]
"""Contiguous bytes, or a function that writes its bytes into the memoryview it is given."""

WORD_ALIGNMENT = 8
LINE_ALIGNMENT = LINE  # the payload starts on a cache line, so an offset that is a multiple of this does too

_COALESCE_BELOW = 4096


class GatherList:
    """A payload in several buffers, each with its offset. Padding between them is zero.

    Each buffer is copied once, straight into the segment. Small buffers are coalesced into one, so that a value of many
    small parts does not need a separate copy of each.
    """

    __slots__ = ("_coalesced", "_entries", "_size")

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Source]] = []
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
        if callable(source) or count >= _COALESCE_BELOW:
            self._coalesced = None
            self._entries.append((at, count, source))
        else:
            self._coalesce(at, source)
        self._size = at + count
        return at

    def next_offset(self, align: int = WORD_ALIGNMENT) -> int:
        """Return the offset that the next buffer would get."""
        return -(-self._size // align) * align

    def _coalesce(self, at: int, source: Bytes) -> None:
        if self._coalesced is None:
            self._coalesced = bytearray()
            self._entries.append((at, 0, self._coalesced))
        start, _, coalesced = self._entries[-1]
        assert coalesced is self._coalesced
        self._coalesced += bytes(at - start - len(self._coalesced))
        self._coalesced += source
        self._entries[-1] = (start, len(self._coalesced), coalesced)

    def clear(self) -> None:
        """Drop the references to all buffers."""
        self._entries.clear()
        self._coalesced = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[tuple[int, int, Source]]:
        """Yield (offset, size, source) of each buffer, in ascending order of offset."""
        return iter(self._entries)

    def __bytes__(self) -> bytes:
        target = bytearray(self._size)
        copy_into(memoryview(target), self)
        return bytes(target)


Payload: TypeAlias = Bytes | GatherList


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


def copy_into(target: memoryview, payload: Payload) -> int:
    """Copy a payload into `target`, which has exactly its size.

    The copy is hashed rather than the source, because another thread may modify the source during the copy. Copying and
    hashing alternate in blocks, so that a large payload crosses the memory bus once less.

    Returns:
        The xxh3-64 of the bytes in `target`.
    """
    size = len(payload)
    if size <= _blocks.BLOCK_SIZE and not isinstance(payload, GatherList):
        target[:] = payload
        return checksum_of(target)
    state = checksum_state()
    at = 0
    for offset, count, source in payload if isinstance(payload, GatherList) else ((0, size, payload),):
        if offset > at:
            padding = bytes(offset - at)
            target[at:offset] = padding
            state.update(padding)
        at = offset + count
        _copy_source(target[offset:at], source, state.update)
    return int(state.intdigest())


def _copy_source(target: memoryview, source: Source, update_hash: Callable[[memoryview], None]) -> None:
    if callable(source):
        source(target)
        _blocks.each(target, update_hash)
        return
    if len(target) <= _blocks.BLOCK_SIZE:
        target[:] = source
        update_hash(target)
        return
    with memoryview(source) as view:
        _blocks.copy(target, view, update_hash)
