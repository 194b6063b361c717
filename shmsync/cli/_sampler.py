"""Rates and lags of all names, computed from successive samples."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import shmsync
from shmsync._inspect.inspector import Inspector
from shmsync.cli._output import info_to_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync import Info


class Row(NamedTuple):
    """A sample of one name.

    Attributes:
        info: the state of the name.
        rate: versions published per second since the previous sample; None in the first one.
        readers: live readers.
        holders: live readers that hold a version.
        evicted: live readers that are evicted.
        lag: how many versions the oldest held version is behind the newest one; None if no version is held.
        lag_is_exact: whether `lag` is exact; if not, it is a lower bound.
        outdated: seconds since the oldest version that a live reader holds was replaced by a newer one; None if none
            holds an outdated version, or the time is unknown.
    """

    info: Info
    rate: float | None
    readers: int
    holders: int
    evicted: int
    lag: int | None
    lag_is_exact: bool
    outdated: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the row for JSON."""
        fields = self._asdict()
        del fields["info"], fields["readers"]  # the info contains the readers themselves
        return {**info_to_dict(self.info), **fields}


class _Hold(NamedTuple):
    """Identifies a data segment that a reader holds across samples.

    Attributes:
        name, incarnation: the name.
        slot, since: the reader.
        idx: index of the data segment.
        retained: generation of the segment if it is retained for views; 0 if a snapshot is open.
    """

    name: str
    incarnation: int | None
    slot: int
    since: float | None
    idx: int
    retained: int


class _HeldSeq(NamedTuple):
    """Sequence number of a held version, or of the newest version when the hold was first sampled."""

    seq: int
    is_exact: bool


class Sampler:
    """Takes samples and compares each with the previous one."""

    def __init__(self) -> None:
        self._inspector = Inspector()
        self._sampled_at = 0.0
        self._seqs: dict[tuple[str, int | None], int] = {}
        self._held: dict[_Hold, _HeldSeq] = {}

    def sample(self) -> list[Row]:
        """Sample all names; return the busiest first."""
        now = time.monotonic()
        elapsed, self._sampled_at = now - self._sampled_at, now
        infos = self._inspector.inspect(shmsync.names())
        previous, self._seqs = self._seqs, {(info.name, info.incarnation): info.seq or 0 for info in infos}
        held, self._held = self._held, {}
        rows = []
        for info in infos:
            last = previous.get((info.name, info.incarnation))
            rate = None if last is None else max(0, (info.seq or 0) - last) / elapsed
            rows.append(self._row(info, rate, held))
        return sorted(rows, key=lambda row: (-(row.rate or 0), row.info.name))

    def _row(self, info: Info, rate: float | None, held: dict[_Hold, _HeldSeq]) -> Row:
        newest = info.seq or 0
        lags = []
        for hold, seq in _holds(info):
            current = _HeldSeq(newest if seq is None else seq, seq is not None)
            first = self._held[hold] = held.get(hold, current)
            lags.append((newest - first.seq, first.is_exact))
        states = [reader.state for reader in info.readers]
        lag, is_exact = max(lags) if lags else (None, True)
        return Row(
            info,
            rate,
            readers=len(states) - states.count("dead"),
            holders=sum(1 for reader in info.readers if reader.alive and (reader.is_reading or reader.retained)),
            evicted=states.count("evicted"),
            lag=lag,
            lag_is_exact=is_exact,
            outdated=max((each.outdated for each in info.readers if each.alive and each.outdated), default=None),
        )


def _holds(info: Info) -> Iterator[tuple[_Hold, int | None]]:
    """Yield each data segment that a live reader holds, with the sequence number of the version if it is known."""
    for reader in info.readers:
        if not reader.alive:
            continue
        owner = (info.name, info.incarnation, reader.slot, reader.since)
        for idx, count in enumerate(reader.counts):
            if count:
                yield _Hold(*owner, idx, 0), None if reader.evicted else info.segments[2 + idx].seq
        for retained in reader.retained:
            idx = retained.idx
            yield _Hold(*owner, idx, retained.generation), info.segments[2 + idx].seq if retained.current else None
