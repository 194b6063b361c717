"""What a scan reads from a state segment, or from a public state."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import GENERATION_AT, VERSION_AT, WRITER, WRITER_AT
from shmsync._info_types import SegmentInfo

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from shmsync._shm.segment import Segment

WORD = struct.Struct("=Q")
USED = WRITER_AT + WRITER.size
"""The rest of a state segment is empty."""
_BLOCK = 512  # unit of st_blocks, in bytes


class StateWords(NamedTuple):
    """The shared words of a state segment, or of a public state.

    Attributes:
        seq: sequence number of the newest version, or CLOSED.
        generations: generation numbers of data segments 0 and 1.
    """

    seq: int
    generations: tuple[int, int]

    @classmethod
    def read(cls, segment: Segment) -> Self:
        """Read the words of an open state segment."""
        return cls.parse(segment.read(0, USED).ljust(USED, b"\0"))

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the words in the first bytes of a state segment."""
        seq, first, second = (WORD.unpack_from(raw, at)[0] for at in (VERSION_AT, *GENERATION_AT))
        return cls(seq, (first, second))


def segment_info(name: str, status: os.stat_result | None) -> SegmentInfo:
    """Return size and memory of a segment; None if it does not exist."""
    if status is None:
        return SegmentInfo(name, None)
    memory = status.st_blocks * _BLOCK
    return SegmentInfo(name, status.st_size, memory, status.st_ino, status.st_mode & 0o7777, status.st_uid)


def unix_time(nanoseconds: int) -> float | None:
    """Convert nanoseconds of Unix time to seconds; None for 0."""
    return nanoseconds / 1e9 if nanoseconds else None
