"""What was measured of the peers, as the table, the JSON and the pictures take it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any, Literal

from benchmark.measure import percentile

Unit = Literal["s", "bytes", "/s", "text"]

MIB = 1 << 20
_INF = float("inf")
_SCALES: dict[Unit, tuple[tuple[float, float, str], ...]] = {  # up to which value, what it is multiplied with, name
    "s": ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (_INF, 1.0, "s")),
    "bytes": ((MIB, 1 / 1024, "KiB"), (_INF, 1 / MIB, "MiB")),
    "/s": ((1e3, 1.0, "/s"), (_INF, 1e-3, "k/s")),
}
_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)


@dataclass(frozen=True)
class Figure:
    """A sample of one peer in one row.

    Attributes:
        row: what was measured, e.g. "W1 config: get(), unchanged".
        peer: its name.
        unit: of the values: seconds, bytes, per second; "text" if `remark` says it all.
        values: the sample.
        x: what the row is drawn over: a number of readers, a payload size in bytes; None if it is one bar.
        remark: why there is no value, or what to know of it.
    """

    row: str
    peer: str
    unit: Unit
    values: tuple[float, ...] = ()
    x: float | None = None
    remark: str = ""

    @property
    def median(self) -> float:
        """Of the sample."""
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints; the spread by the share of the values that do not exceed it."""
        found: dict[str, Any] = {"row": self.row, "peer": self.peer, "unit": self.unit}
        if self.x is not None:
            found["x"] = self.x
        if self.values:
            found |= {"count": len(self.values), "min": min(self.values), "median": self.median}
            found |= {"p99": percentile(list(self.values), 0.99), "max": max(self.values)}
            found["spread"] = {str(share): percentile(list(self.values), max(share, 1e-9)) for share in _SHARES}
        return found | ({"remark": self.remark} if self.remark else {})


def shown(value: float, unit: Unit, digits: int = 3) -> str:
    """Return a value in a unit that fits it."""
    scale, name = next((scale, name) for limit, scale, name in _SCALES[unit] if abs(value) < limit)
    scaled = value * scale
    return f"{scaled:.{digits if abs(scaled) < 100 else min(digits, 1)}f} {name}"
