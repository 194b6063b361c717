"""What shmsync claims of its behaviour under load, checked against the figures of the same run."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark import load, scaling, space
from benchmark.measure import percentile
from benchmark.peers import SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmark.figures import Figure

Found = tuple[float, str] | None
"""What is compared to the limit, and what it was computed from; None if it was not measured."""


@dataclass(frozen=True)
class PeerClaim:
    """What is claimed.

    Attributes:
        name: of the quotient, or whatever is compared.
        limit: what it may be at most, or has to be at least.
        compute: from the figures of a run.
        at_least: which of the two.
    """

    name: str
    limit: float
    compute: Callable[[Sequence[Figure]], Found]
    at_least: bool = False

    def check(self, figures: Sequence[Figure]) -> dict[str, Any]:
        """Return what --json prints of it."""
        found = self.compute(figures)
        checked: dict[str, Any] = {"claim": self.name, "at_least" if self.at_least else "at_most": self.limit}
        if found is None:
            return checked | {"met": None}
        value, from_what = found
        met = value >= self.limit if self.at_least else value <= self.limit
        return checked | {"value": value, "met": met, "from": from_what}


def _rows(figures: Iterable[Figure], row: str, x: float | None = None) -> dict[str, Figure]:
    """Return the figures of a row by peer."""
    return {figure.peer: figure for figure in figures if figure.row == row and figure.x == x and figure.values}


def _against_best(row: str, x: float | None, statistic: Callable[[Figure], float], best: Callable[..., str]) -> Any:
    """Return what computes shmsync's statistic against that of the best other peer."""

    def compute(figures: Sequence[Figure]) -> Found:
        others = _rows(figures, row, x)
        mine = others.pop(SHMSYNC.name, None)
        if mine is None or not others:
            return None
        name = best(others, key=lambda peer: statistic(others[peer]))
        own, other = statistic(mine), statistic(others[name])
        return own / other, f"{own:.4g} / {other:.4g} ({name})"

    return compute


def _quotient(subject: tuple[str, float | None], base: tuple[str, float | None], statistic: Any) -> Any:
    """Return what computes one statistic of shmsync against the same of another row."""

    def compute(figures: Sequence[Figure]) -> Found:
        found = [_rows(figures, *place).get(SHMSYNC.name) for place in (subject, base)]
        if None in found:
            return None
        own, other = map(statistic, found)
        return own / other, f"{own:.4g} / {other:.4g}"

    return compute


def _per_reader(figures: Sequence[Figure]) -> Found:
    fewest, most = scaling.READERS[0], scaling.READERS[-1]
    found = [_rows(figures, scaling.WRITE, count).get(SHMSYNC.name) for count in (fewest, most)]
    if found[0] is None or found[1] is None:
        return None
    low, high = found[0].median * 1e6, found[1].median * 1e6
    return (high - low) / (most - fewest), f"{low:.1f} us with {fewest}, {high:.1f} us with {most}"


def _space(row: str) -> Callable[[Sequence[Figure]], Found]:
    def compute(figures: Sequence[Figure]) -> Found:
        found = _rows(figures, row).get(SHMSYNC.name)
        if found is None:
            return None
        return (found.median - _TABLES) / space.SIZE, f"{found.median:.0f} / {space.SIZE} bytes"

    return compute


def _median(figure: Figure) -> float:
    return statistics.median(figure.values)


def _p99(figure: Figure) -> float:
    return percentile(list(figure.values), 0.99)


def _longest(figure: Figure) -> float:
    return max(figure.values)


_TABLES = 64 * 1024  # state and reader table, whatever the size of the value
_STUCK = ((space.HOLDING, "holds a value"), (space.STOPPED, "is stopped in a read"))

CLAIMS = (
    PeerClaim(
        "unchanged reads/s of 4 readers, writer at 100 Hz / the fastest peer's",
        1.8,
        _against_best(load.UNCHANGED, None, _median, max),
        at_least=True,
    ),
    *(
        PeerClaim(
            f"longest read of an array of {size >> 20} MiB published non-stop / the best peer's",
            1.0,
            _against_best(load.POLL, size, _longest, min),
        )
        for size in load.SIZES
    ),
    *(
        PeerClaim(f"/dev/shm but 64 KiB / size of the value, while a reader {how}", 3, _space(row))
        for row, how in _STUCK
    ),
    PeerClaim("us that each further attached reader adds to a write", 0.3, _per_reader),
    PeerClaim(
        "one unchanged read of 64 MiB / of 64 bytes",
        1.1,
        _quotient((scaling.READ, scaling.SIZES[-1]), (scaling.READ, scaling.SIZES[0]), _median),
    ),
    *(
        PeerClaim(
            f"p99 of get() of a pinned worker beside a writer at full speed / without, {name}",
            3,
            _quotient((load.BESIDE.format(name), None), (load.ALONE.format(name), None), _p99),
        )
        for name in load.BESIDE_VALUES
    ),
)


def as_text(checked: dict[str, Any]) -> str:
    """Return the line of a claim that was checked."""
    bound = f">= {checked['at_least']}" if "at_least" in checked else f"<= {checked['at_most']}"
    verdict = {True: "met", False: "MISSED", None: "not measured"}[checked["met"]]
    value = f"{checked['value']:10.2f}" if "value" in checked else " " * 10
    return f"{checked['claim']:92}{value} {bound:>7}  {verdict:12}  {checked.get('from', '')}".rstrip()


def check(figures: Sequence[Figure]) -> Iterator[dict[str, Any]]:
    """Check all claims of which there are figures."""
    return (claim.check(figures) for claim in CLAIMS if claim.compute(figures) is not None)
