"""How the benchmark prints what it measured: rows of a table, or JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.measure import percentile
from shmsync import __version__

if TYPE_CHECKING:
    from benchmark.measure import Claim, Sample

MIB = 1 << 20
_WIDTH = 52
_SHOWN_IN_US = 1e-3


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
            return found | {"error": f"not installed: {self.claim.install}"}
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
        columns = "".join(f"{_in_unit(figure, memory=claim.memory):>12}" for figure in figures)
        columns += f"{_rounded(sample.ratio):8.2f}{self._target():>12}"
        verdict = {True: "met", False: "MISSED", None: ""}[self.is_met]
        return f"{claim.name:{_WIDTH}}{columns}  {verdict:8}{claim.baseline}"

    def _target(self) -> str:
        claim = self.claim
        if claim.ratio is not None:
            return f"<= {claim.ratio:.1f}"
        return "" if claim.limit is None else f"<= {_in_unit(claim.limit, memory=claim.memory, digits=0)}"


def heading() -> str:
    """Return the first lines: what was measured, on what, and the names of the columns."""
    facts = " | ".join(f"{key} {value}" for key, value in environment().items())
    columns = "".join(f"{column:>12}" for column in ("min", "median", "p99", "baseline"))
    return f"{facts}\n{'row':{_WIDTH}}{columns}{'ratio':>8}{'target':>12}  {'':8}baseline is"


def _in_unit(figure: float, *, memory: bool, digits: int | None = None) -> str:
    if memory:
        return f"{_rounded(figure / MIB):.{2 if digits is None else digits}f} MiB"
    if figure < _SHOWN_IN_US:
        return f"{figure * 1e6:.{3 if digits is None else digits}f} us"
    return f"{figure * 1e3:.{2 if digits is None else digits}f} ms"


def _rounded(figure: float) -> float:
    return round(figure, 2) + 0.0  # a reader may end with some pages less than it began with: no "-0.00"


def _spread(values: list[float], scale: float) -> dict[str, float]:
    return {
        "min": round(min(values) * scale, 3),
        "median": round(statistics.median(values) * scale, 3),
        "p99": round(percentile(values, 0.99) * scale, 3),
        "max": round(max(values) * scale, 3),
    }


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
