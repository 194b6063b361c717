"""What a scan reads from a state segment."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import GENERATION_AT, STATE_SIZE, VERSION_AT

if TYPE_CHECKING:
    from typing_extensions import Self

    from shmsync._shm.segment import Segment

WORD = struct.Struct("=Q")


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
        """Read them from an open segment."""
        raw = segment.read(0, STATE_SIZE).ljust(STATE_SIZE, b"\0")
        seq, *generations = (WORD.unpack_from(raw, at)[0] for at in (VERSION_AT, *GENERATION_AT))
        return cls(seq, (generations[0], generations[1]))


def unix_time(nanoseconds: int) -> float | None:
    """Convert nanoseconds of Unix time to seconds; None for 0."""
    return nanoseconds / 1e9 if nanoseconds else None
