"""How long the workloads of processes that run at the same time go on: all lengths and counts in one place.

They are short, since there are many peers. A phase begins when all of its processes have attached and warmed up.
"""

from __future__ import annotations

from typing import NamedTuple

from benchmark.names import POLL_SIZES, READER_COUNTS

GUARD = 2.0
"""Seconds after which a call that has not returned is taken for blocked for ever."""

LEAD = 0.05
"""Seconds between the command to begin and the agreed time."""

WARM_UP = 0.15
"""Seconds of a phase that are not measured: until then segments are mapped and caches are warm."""


class Phases(NamedTuple):
    """Seconds, unless the name says a number of something.

    Attributes:
        load: one measurement with readers at full speed.
        readers: numbers of them.
        turn: one of the alternating measurements with and without a writer.
        turns: how many of each.
        poll: of arrays that are published non-stop.
        sizes: of these arrays, in bytes.
        notice: of versions that a reader waits for.
        reader_kills, writer_kills: rounds that end with a kill.
        publishing: of the versions before the memory in use is looked at; slow peers get fewer of them.
        holders: numbers of readers that hold a value at the same time.
        rounds: of what is measured call by call, in turn.
    """

    load: float = 1.0
    readers: tuple[int, ...] = READER_COUNTS
    turn: float = 0.5
    turns: int = 3
    poll: float = 1.0
    sizes: tuple[int, ...] = POLL_SIZES
    notice: float = 2.0
    reader_kills: int = 10
    writer_kills: int = 3
    publishing: float = 10.0
    holders: tuple[int, ...] = (1, 4, 16)
    rounds: int = 9


FULL = Phases()
QUICK = Phases(
    load=0.2,
    readers=READER_COUNTS[::2],
    turn=0.3,
    turns=2,
    poll=0.2,
    sizes=POLL_SIZES[1:],
    notice=0.7,
    reader_kills=2,
    writer_kills=1,
    publishing=1.5,  # one write of shmsync waits a second for a reader that is stuck
    holders=(1, 2),
    rounds=3,
)


def phases(*, quick: bool) -> Phases:
    """Return the lengths for a run."""
    return QUICK if quick else FULL
