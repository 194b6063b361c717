"""How the benchmark prints what it measured: rows against a baseline, rows of peers, or JSON."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.figures import MIB, shown
from benchmark.measure import percentile
from benchmark.peers import PEERS, SHMSYNC
from shmsync import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.figures import Figure, Unit
    from benchmark.measure import Claim, Sample

_WIDTH = 52
_PEER_WIDTH = 32
_SAFE = {peer.name for peer in PEERS if peer.crash_safe}

# ------------------------------------------------------------------------------------------------- against a baseline


@dataclass(frozen=True)
class Row:
    """One line of the table; without a sample if a package is not installed."""

    claim: Claim
    sample: Sample | None

    @property
    def median(self) -> float:
        """The subject's."""
        assert self.sample is not None
        return statistics.median(self.sample.subject)

    @property
    def is_met(self) -> bool | None:
        """Whether the target or limit is met; None if there is none."""
        assert self.sample is not None
        if self.claim.ratio is not None:
            return self.sample.ratio <= self.claim.ratio
        return None if self.claim.limit is None else self.median <= self.claim.limit

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        claim, sample = self.claim, self.sample
        found: dict[str, Any] = {"row": claim.name, "baseline": claim.baseline}
        if sample is None:
            return found | {"error": f"not installed: {claim.install}"}
        unit, scale = ("mib", 1 / MIB) if claim.memory else ("us", 1e6)
        return found | {
            "ratio": round(sample.ratio, 3),
            "target_ratio": claim.ratio,
            f"limit_{unit}": claim.limit and round(claim.limit * scale, 3),
            "met": self.is_met,
            "rounds": len(sample.subject),
            f"subject_{unit}": _spread(sample.subject, scale),
            f"baseline_{unit}": _spread(sample.baseline, scale),
        }

    def as_text(self) -> str:
        """Return the line."""
        claim, sample = self.claim, self.sample
        if sample is None:
            return f"{claim.name:{_WIDTH}}  not installed: {claim.install}"
        subject = (min(sample.subject), self.median, percentile(sample.subject, 0.99))
        figures = (*subject, statistics.median(sample.baseline))
        columns = "".join(f"{shown(figure, self._unit):>12}" for figure in figures)
        ratio = round(sample.ratio, 2) + 0.0  # a reader may end with some pages less than it began with: no "-0.00"
        verdict = {True: "met", False: "MISSED", None: ""}[self.is_met]
        return f"{claim.name:{_WIDTH}}{columns}{ratio:8.2f}{self._target():>12}  {verdict:8}{claim.baseline}"

    @property
    def _unit(self) -> Unit:
        return "bytes" if self.claim.memory else "s"

    def _target(self) -> str:
        claim = self.claim
        if claim.ratio is not None:
            return f"<= {claim.ratio:.1f}"
        return "" if claim.limit is None else f"<= {shown(claim.limit, self._unit, 0)}"


def heading() -> str:
    """Return the first lines: what was measured, on what, and the names of the columns."""
    facts = " | ".join(f"{key} {value}" for key, value in environment().items())
    columns = "".join(f"{column:>12}" for column in ("min", "median", "p99", "baseline"))
    return f"{facts}\n{'row':{_WIDTH}}{columns}{'ratio':>8}{'target':>12}  {'':8}baseline is"


def _spread(values: list[float], scale: float) -> dict[str, float]:
    return {
        "min": round(min(values) * scale, 3),
        "median": round(statistics.median(values) * scale, 3),
        "p99": round(percentile(values, 0.99) * scale, 3),
        "max": round(max(values) * scale, 3),
    }


# ------------------------------------------------------------------------------------------------------ beside peers


def tables(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield a table for each row: a line for each peer, the best first; crash-safe ones have an asterisk."""
    for row, group in itertools.groupby(figures, key=lambda figure: figure.row):
        found = sorted(group, key=_rank)
        mine = {figure.x: figure.median for figure in found if figure.peer == SHMSYNC.name and figure.values}
        columns = "".join(f"{column:>12}" for column in ("min", "median", "p99", "max"))
        lines = [f"\n{row}", f"  {'':{_PEER_WIDTH}}{columns}{'x shmsync':>11}"]
        yield "\n".join(lines + [_line(figure, mine.get(figure.x)) for figure in found])


def _rank(figure: Figure) -> tuple[bool, float, float]:
    median = figure.median if figure.values else 0.0
    return not figure.values, figure.x or 0.0, -median if figure.unit == "/s" else median


def _line(figure: Figure, mine: float | None) -> str:
    name = f"{figure.peer} *" if figure.peer in _SAFE else figure.peer
    if figure.x is not None:
        name = f"{shown(figure.x, 'bytes', 0) if figure.x >= MIB else f'{figure.x:g}':>8}  {name}"
    if not figure.values:
        return f"  {name:{_PEER_WIDTH}}  {figure.remark}"
    spread = min(figure.values), figure.median, percentile(list(figure.values), 0.99), max(figure.values)
    columns = "".join(f"{shown(value, figure.unit):>12}" for value in spread)
    ratio = f"{figure.median / mine:11.2f}" if mine else " " * 11
    return f"  {name:{_PEER_WIDTH}}{columns}{ratio}  {figure.remark}".rstrip()


# ------------------------------------------------------------------------------------------------------- the machine


def environment() -> dict[str, Any]:
    """Say what was measured, and on what."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "shmsync": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": cpu,
        "cores": os.cpu_count(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
