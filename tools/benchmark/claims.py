"""What is claimed of shmsync beside its peers and of how it scales, checked against the figures of the same run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark import names
from benchmark.figures import Figure, shown
from benchmark.measure import percentile
from benchmark.peers import PEERS, SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.peers import Peer

Figures = Sequence[Figure]
Statistic = Callable[[Figure], float]


class Found(NamedTuple):
    """What is held against a limit, and what it was computed from."""

    value: float
    source: str


@dataclass(frozen=True)
class PeerClaim:
    """One claim.

    Attributes:
        name: of the quotient, or whatever is compared.
        compute: it, from the figures of a run; None if one of them is missing.
        limit: what it may be at most, or has to be at least; None if it is only shown.
        at_least: which of the two.
    """

    name: str
    compute: Callable[[Figures], Found | None]
    limit: float | None = None
    at_least: bool = False


class Checked(NamedTuple):
    """A claim, and what was found."""

    claim: PeerClaim
    found: Found

    @property
    def is_met(self) -> bool | None:
        """Whether it holds; None if there is no limit."""
        limit, value = self.claim.limit, self.found.value
        if limit is None:
            return None
        return value >= limit if self.claim.at_least else value <= limit

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        bound = "at_least" if self.claim.at_least else "at_most"
        value, source = self.found
        limit = self.claim.limit
        return {"claim": self.claim.name, bound: limit, "value": value, "met": self.is_met, "from": source}

    def as_text(self) -> str:
        """Return the line."""
        sign = ">=" if self.claim.at_least else "<="
        bound = "" if self.claim.limit is None else f"{sign} {self.claim.limit}"
        verdict = {True: "met", False: "MISSED", None: ""}[self.is_met]
        return f"{self.claim.name:104}{self.found.value:8.2f} {bound:>7}  {verdict:8}{self.found.source}".rstrip()


def checked(figures: Figures) -> Iterator[Checked]:
    """Check all claims of which there are figures."""
    for claim in CLAIMS:
        if (found := claim.compute(figures)) is not None:
            yield Checked(claim, found)


# --------------------------------------------------------------------------------------------------- what is compared


def _median(figure: Figure) -> float:
    return statistics.median(figure.values)


def _p99(figure: Figure) -> float:
    return percentile(list(figure.values), 0.99)


def _longest(figure: Figure) -> float:
    return max(figure.values)


def _of_row(figures: Figures, row: str, x: float | None = None) -> dict[str, Figure]:
    """Return the figures of a row by peer."""
    return {figure.peer: figure for figure in figures if figure.row == row and figure.x == x and figure.values}


def _mine(figures: Figures, row: str, x: float | None = None) -> Figure | None:
    return _of_row(figures, row, x).get(SHMSYNC.name)


def _over(own: float, other: float, figure: Figure) -> Found:
    return Found(own / other, f"{shown(own, figure.unit)} / {shown(other, figure.unit)}")


def _against_best(
    row: str,
    statistic: Statistic = _median,
    *,
    x: float | None = None,
    among: Callable[[Peer], bool] = lambda _: True,
    best: Callable[..., str] = min,
) -> Callable[[Figures], Found | None]:
    """Return what computes shmsync's statistic over that of the best other peer of some."""
    counting = {peer.name for peer in PEERS if peer is not SHMSYNC and among(peer)}

    def compute(figures: Figures) -> Found | None:
        found = _of_row(figures, row, x)
        mine = found.get(SHMSYNC.name)
        others = {peer: statistic(figure) for peer, figure in found.items() if peer in counting}
        if mine is None or not others:
            return None
        name = best(others, key=others.__getitem__)
        value, source = _over(statistic(mine), others[name], mine)
        return Found(value, f"{source} of {name}")

    return compute


def _quotient(
    subject: str, base: str, statistic: Statistic, *, x: tuple[float | None, float | None] = (None, None)
) -> Callable[[Figures], Found | None]:
    """Return what computes one statistic of shmsync over the same of another row, or at another place in it."""

    def compute(figures: Figures) -> Found | None:
        own, other = _mine(figures, subject, x[0]), _mine(figures, base, x[1])
        return None if own is None or other is None else _over(statistic(own), statistic(other), own)

    return compute


def _per_reader(figures: Figures) -> Found | None:
    fewest, most = names.ATTACHED[0], names.ATTACHED[-1]
    low, high = (_mine(figures, names.SCALED_WRITE, count) for count in (fewest, most))
    if low is None or high is None:
        return None
    each = (high.median - low.median) / (most - fewest) * 1e6
    return Found(each, f"{shown(low.median, 's')} with {fewest}, {shown(high.median, 's')} with {most}")


def _space(row: str, figures: Figures) -> Found | None:
    mine = _mine(figures, row)
    return None if mine is None else _over(mine.median - _TABLES, names.SPACE_SIZE, mine)


def _woken(figures: Figures) -> Found | None:
    mine = _mine(figures, names.NOTICE)
    return None if mine is None else Found(mine.median * 1e6, f"p99 {shown(_p99(mine), 's')}")


# ---------------------------------------------------------------------------------------------------------- the claims


def _is_safe(peer: Peer) -> bool:
    return peer.crash_safe


def _is_safe_in_place(peer: Peer) -> bool:
    return peer.crash_safe and peer.in_place


def _in_turn() -> Iterator[PeerClaim]:
    for shape in names.VALUES:
        row = names.row_of(shape, names.UNCHANGED)
        yield PeerClaim(f"{row} / the fastest peer's", _against_best(row), 0.5)
        row = names.row_of(shape, names.POLLED)
        yield PeerClaim(f"{row} / the fastest crash-safe peer's", _against_best(row, among=_is_safe), 0.8)
        row = names.row_of(shape, names.WRITE)
        yield PeerClaim(f"{row} / the fastest crash-safe peer's", _against_best(row, among=_is_safe), 1.2)
        if shape.endswith("map"):  # whoever only copies leaves it to each reader to make an index of the keys
            name = f"{row} / the fastest crash-safe peer's whose readers look up in place"
            yield PeerClaim(name, _against_best(row, among=_is_safe_in_place))


def _beside_a_writer() -> Iterator[PeerClaim]:
    for value in names.BESIDE_VALUES:
        beside, alone, changed, paused = (
            row.format(value) for row in (names.BESIDE, names.ALONE, names.CHANGED_BESIDE, names.CHANGED_PAUSED)
        )
        name = f"W4 {value}: p99 of get() beside a writer at full speed / without"
        yield PeerClaim(name, _quotient(beside, alone, _p99), 3)
        name = f"W4 {value}: p99 of get() that found a change, writer at full speed / pausing between versions"
        yield PeerClaim(name, _quotient(changed, paused, _p99))


_TABLES = 64 * 1024  # state and reader table, whatever the size of the value
_STUCK = ((names.SPACE_HOLDING, "holds a value"), (names.SPACE_STOPPED, "is stopped in a read"))
_ENDS = names.SCALED_SIZES[-1], names.SCALED_SIZES[0]

CLAIMS = (
    *_in_turn(),
    PeerClaim(
        f"{names.UNCHANGED_READS} / the fastest peer's",
        _against_best(names.UNCHANGED_READS, best=max),
        1.8,
        at_least=True,
    ),
    *_beside_a_writer(),
    PeerClaim(f"{names.NOTICE}: us", _woken, 40),
    *(
        PeerClaim(
            f"W7 array of {size >> 20} MiB: longest read while it is published non-stop / the best peer's",
            _against_best(names.POLL, _longest, x=size),
            1.0,
        )
        for size in names.POLL_SIZES
    ),
    *(
        PeerClaim(f"Space: memory in use but 64 KiB / size of the value, while a reader {how}", partial(_space, row), 3)
        for row, how in _STUCK
    ),
    PeerClaim("Scaling: us that each further attached reader adds to a write", _per_reader, 0.3),
    PeerClaim(
        "Scaling: one unchanged `with read()` of 64 MiB / of 64 bytes",
        _quotient(names.SCALED_READ, names.SCALED_READ, _median, x=_ENDS),
        1.1,
    ),
)
