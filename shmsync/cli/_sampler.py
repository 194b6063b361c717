"""What two looks at all names tell: how often is published, and how far readers are behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync.cli._output import plain_info
from shmsync.cli.look import all_infos

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from shmsync import Info

    Hold: TypeAlias = tuple[str, int | None, int, float | None, int, int]
    """Name, its life, slot, since when it is claimed, data segment, generation that is kept or 0."""


class Row(NamedTuple):
    """A name as top shows it.

    Attributes:
        info: the look at it.
        rate: publishes per second since the last look; None at the first.
        readers, holders, evicted: readers that are alive; of them, those that hold something, those that are evicted.
        lag: versions that the holder which is farthest behind is behind the newest one; None without holders.
        lag_is_exact: otherwise it is at least so far behind.
    """

    info: Info
    rate: float | None
    readers: int
    holders: int
    evicted: int
    lag: int | None
    lag_is_exact: bool

    def as_json(self) -> dict[str, Any]:
        """Return it for JSON."""
        seen = self._asdict()
        del seen["info"], seen["readers"]  # all of them are in there
        return {**plain_info(self.info), **seen}


class Rating:
    """Remembers the last look."""

    def __init__(self) -> None:
        self._at = 0.0
        self._seqs: dict[tuple[str, int | None], int] = {}
        self._held_since: dict[Hold, tuple[int, bool]] = {}
        """The version that is held; or the newest one when the hold was first seen, and False."""

    def look(self) -> list[Row]:
        """Look at all names; the busiest first."""
        now = time.monotonic()
        span, self._at = now - self._at, now
        infos = all_infos()
        before, self._seqs = self._seqs, {(info.name, info.incarnation): info.seq or 0 for info in infos}
        held, self._held_since = self._held_since, {}
        rows = [self._row(info, before, span, held) for info in infos]
        return sorted(rows, key=lambda row: (-(row.rate or 0), row.info.name))

    def _row(
        self, info: Info, before: dict[tuple[str, int | None], int], span: float, held: dict[Hold, tuple[int, bool]]
    ) -> Row:
        seq = info.seq or 0
        last = before.get((info.name, info.incarnation))
        lags = []
        for hold, known in _holds(info):
            first, exact = self._held_since[hold] = held.get(hold, (seq if known is None else known, known is not None))
            lags.append((seq - first, exact))
        states = [reader.state for reader in info.readers]
        lag, exact = max(lags) if lags else (None, True)
        return Row(
            info,
            rate=None if last is None else max(0, seq - last) / span,
            readers=len(states) - states.count("dead"),
            holders=sum(1 for reader in info.readers if reader.alive and (reader.is_reading or reader.retained)),
            evicted=states.count("evicted"),
            lag=lag,
            lag_is_exact=exact,
        )


def _holds(info: Info) -> Iterator[tuple[Hold, int | None]]:
    """Yield what readers hold, with the version of it where that is known."""
    for reader in info.readers:
        if not reader.alive:
            continue
        base = (info.name, info.incarnation, reader.slot, reader.since)
        for idx, count in enumerate(reader.counts):
            if count:
                yield (*base, idx, 0), None if reader.evicted else info.segments[2 + idx].seq
        for keep in reader.retained:
            yield (*base, keep.idx, keep.generation), info.segments[2 + keep.idx].seq if keep.current else None
