"""An encoded value on its way into a segment: where its pieces will lie, and the one copy that lays them there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from shmsync._core.layout import LINE, checksum_of, checksum_state

Bytes: TypeAlias = memoryview | bytes | bytearray  # contiguous, of format "B"
Source: TypeAlias = Bytes | Callable[[memoryview], None]
"""Contiguous bytes, or a call that fills its place itself."""

WORD_ALIGNED = 8
LINE_ALIGNED = LINE  # the payload starts on a cache line, so an offset that is a multiple of this does too

_GATHER_BELOW = 4096
_BLOCK = 1024 * 1024


class Pieces:
    """A payload in pieces. Each is copied once, straight to its place; what lies between them is zero.

    Small pieces are gathered into one, so that a value of many small parts costs no piece for each.
    """

    __slots__ = ("_gathered", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int, Source]] = []
        self._gathered: bytearray | None = None
        self._size = 0

    def add(self, source: Source, size: int | None = None, *, align: int = WORD_ALIGNED) -> int:
        """Append a piece; return its offset in the payload.

        Args:
            source: what will lie there.
            size: in bytes; needed only if `source` is a call.
            align: its offset will be a multiple of this.
        """
        count = size if size is not None else len(source)  # type: ignore[arg-type]
        at = self.next_offset(align)
        if callable(source) or count >= _GATHER_BELOW:
            self._gathered = None
            self._pieces.append((at, count, source))
        else:
            self._gather(at, source)
        self._size = at + count
        return at

    def next_offset(self, align: int = WORD_ALIGNED) -> int:
        """Return where a piece would lie that is added now."""
        return -(-self._size // align) * align

    def _gather(self, at: int, source: Bytes) -> None:
        if self._gathered is None:
            self._gathered = bytearray()
            self._pieces.append((at, 0, self._gathered))
        start, _, gathered = self._pieces[-1]
        assert gathered is self._gathered
        self._gathered += bytes(at - start - len(self._gathered))
        self._gathered += source
        self._pieces[-1] = (start, len(self._gathered), gathered)

    def clear(self) -> None:
        """Let go of all sources."""
        self._pieces.clear()
        self._gathered = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[tuple[int, int, Source]]:
        """Yield offset, size and source of each piece, in the order of the offsets."""
        return iter(self._pieces)

    def __bytes__(self) -> bytes:
        target = bytearray(self._size)
        lay(memoryview(target), self)
        return bytes(target)


Payload: TypeAlias = Bytes | Pieces


def release(payload: Payload) -> None:
    """Let go of the buffers that a payload refers to; it is of no use afterwards."""
    if isinstance(payload, memoryview):
        payload.release()
    elif isinstance(payload, Pieces):
        payload.clear()


def reserved(size: int) -> Pieces:
    """Return a payload of `size` bytes that somebody else puts in place."""
    pieces = Pieces()
    pieces.add(lambda _: None, size)
    return pieces


def lay(target: memoryview, payload: Payload) -> int:
    """Put a payload in its place; return the xxh3-64 of what lies there now.

    The copy is hashed, not the source: another thread may change that meanwhile. In blocks that stay in the cache
    between the two, so that a large payload passes the memory bus once less.
    """
    size = len(payload)
    if size <= _BLOCK and not isinstance(payload, Pieces):
        target[:] = payload
        return checksum_of(target)
    state = checksum_state()
    at = 0
    for offset, count, source in payload if isinstance(payload, Pieces) else ((0, size, payload),):
        gap = bytes(offset - at)
        target[at:offset] = gap
        state.update(gap)
        at = offset + count
        _lay_piece(target[offset:at], source, state.update)
    return int(state.intdigest())


def _lay_piece(target: memoryview, source: Source, hashed: Callable[[memoryview], None]) -> None:
    if callable(source):
        source(target)
        hashed(target)
        return
    with memoryview(source) as view:
        for at in range(0, len(target), _BLOCK):
            block = target[at : at + _BLOCK]
            block[:] = view[at : at + _BLOCK]
            hashed(block)
