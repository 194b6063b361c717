"""The digests of a payload, in blocks: see `layout`. Each call of a C function processes one block.

The checksum of a version covers its digests, and these its payload. So a change of a part costs the digests of the
blocks that it touches, and the checksum of the table, which is a thousandth of the payload.
"""

from __future__ import annotations

from array import array
from itertools import islice
from typing import TYPE_CHECKING, Any

from shmsync._core import layout
from shmsync._core.layout import WORD, checksum_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_AT_ONCE = 128
"""Blocks that are digested before other threads and signal handlers get a turn: a megabyte."""


class Digester:
    """Digests a payload while it is written.

    Args:
        payload: the memory of the payload.
    """

    __slots__ = ("_digests", "_payload")

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._digests = array("Q")

    def advance(self, end: int) -> None:
        """Digest the blocks that are complete, where everything before `end` is."""
        done, size = len(self._digests), layout.DIGEST_BLOCK
        complete = end // size
        while done < complete:
            stop = min(done + _AT_ONCE, complete)
            part = self._payload[done * size : stop * size]
            self._digests.extend(map(checksum_of, map(part.__getitem__, islice(_slices(size), stop - done))))
            done = stop

    def finish(self, table: memoryview) -> int:
        """Write the table; return the checksum.

        Args:
            table: the memory of the table, of as many bytes as it takes; none if the payload is a single block.
        """
        payload = self._payload
        if not len(table):
            return checksum_of(payload)
        self.advance(len(payload))
        last = len(payload) % layout.DIGEST_BLOCK
        if last:
            self._digests.append(checksum_of(payload[-last:]))
        table[:] = memoryview(self._digests).cast("B")
        return checksum_of(table)


def _slices(size: int) -> Iterator[slice]:
    found = _SLICES.get(size)
    if found is None:
        found = _SLICES[size] = [slice(at, at + size) for at in range(0, _AT_ONCE * size, size)]
    return iter(found)


_SLICES: dict[int, list[slice]] = {}


def write_table(payload: memoryview, table: memoryview) -> int:
    """Digest a payload, write its table, and return the checksum."""
    return Digester(payload).finish(table)


def update_table(payload: memoryview, table: memoryview, blocks: Sequence[int]) -> int:
    """Digest some blocks again, and return the checksum. The other digests in the table must be right."""
    if not len(table):
        return checksum_of(payload)
    digests: Any = table.cast("Q")
    size = layout.DIGEST_BLOCK
    starts = [block * size for block in blocks]
    parts = map(payload.__getitem__, map(slice, starts, [start + size for start in starts]))
    for block, digest in zip(blocks, map(checksum_of, parts), strict=True):
        digests[block] = digest
    return checksum_of(table)


def copy_digests(target: memoryview, source: memoryview, blocks: Iterable[int]) -> None:
    """Copy the digests of some blocks from one table to another."""
    if len(target):
        to: Any = target.cast("Q")
        of: Any = source.cast("Q")
        for block in blocks:
            to[block] = of[block]


def damaged(payload: memoryview, table: memoryview, checksum: int) -> Sequence[tuple[int, int]] | None:
    """Compare a payload with its digests, and these with the checksum.

    Returns:
        The ranges of bytes that are damaged, ascending; the whole payload if it is a single block; None if the table
        does not match the checksum, so that nothing is known about the payload.
    """
    if not len(table):
        return [] if checksum_of(payload) == checksum else [(0, len(payload))]
    if checksum_of(table) != checksum:
        return None
    found = bytearray(len(table))
    write_table(payload, memoryview(found))
    size, ranges = layout.DIGEST_BLOCK, list[tuple[int, int]]()
    for block in (at // WORD for at in range(0, len(table), WORD) if table[at : at + WORD] != found[at : at + WORD]):
        start, end = block * size, min((block + 1) * size, len(payload))
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    return ranges
