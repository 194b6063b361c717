"""Results as `--json` prints them: one dictionary for each row and peer. All times are seconds, all sizes bytes."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Result = dict[str, Any]
Document = dict[str, Any]

_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0)
_INF = float("inf")
_UNITS = {
    "s": ((1e-6, 1e9, "ns"), (1e-3, 1e6, "\u00b5s"), (1.0, 1e3, "ms"), (_INF, 1.0, "s")),
    "/s": ((1e3, 1.0, "/s"), (1e6, 1e-3, "k/s"), (_INF, 1e-6, "M/s")),
    "bytes": ((1 << 10, 1.0, "B"), (1 << 20, 1 / (1 << 10), "KiB"), (_INF, 1 / (1 << 20), "MiB")),
}  # limit, factor, name


def result(
    row: str, peer: str, unit: str = "s", values: Sequence[float] = (), x: float | None = None, remark: str = ""
) -> Result:
    """Return the result of one peer in one row.

    Args:
        row: its name.
        peer: its name.
        unit: of the values: "s", "/s" or "bytes".
        values: the sample; empty if there is none, for the reason in `remark`.
        x: number of readers or payload size over which the row is drawn; None for a single bar.
        remark: why there is no sample, or a note on it.
    """
    found: Result = {"row": row, "peer": peer, "unit": unit}
    if x is not None:
        found["x"] = x
    if len(values):
        found |= summary(values)
    return found | ({"remark": remark} if remark else {})


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the statistics of a sample; `spread` maps a share of the values to the largest of them."""
    ordered = np.sort(values)
    spread = {str(share): float(ordered[max(0, math.ceil(share * len(ordered)) - 1)]) for share in _SHARES}
    extremes = {"min": spread["0.0"], "median": float(np.median(ordered)), "p99": spread["0.99"]}
    return {"count": len(ordered), **extremes, "max": spread["1.0"], "spread": spread}


def select(results: Sequence[Result], row: str, x: float | None = None) -> list[Result]:
    """Return the results of a row that have a sample; with `x`, only those at that place."""
    return [one for one in results if one["row"] == row and "median" in one and (x is None or one["x"] == x)]


def by_peer(results: Sequence[Result], row: str, x: float | None = None) -> dict[str, Result]:
    """Return the same by peer."""
    return {one["peer"]: one for one in select(results, row, x)}


def formatted(value: float, unit: str) -> str:
    """Return a value with three digits, in a unit that fits."""
    for limit, factor, name in _UNITS[unit]:
        if abs(value) < limit * 0.9995:  # what would round up to the limit takes the next unit
            scaled = value * factor
            return f"{f'{scaled:.3g}' if unit == 'bytes' and abs(scaled) < 99.95 else digits(scaled)} {name}"
    raise AssertionError(value)


def digits(value: float) -> str:
    """Return a number with three digits, or more before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 or value == 0 else f"{value:#.3g}"


def environment() -> dict[str, Any]:
    """Return the machine and the versions."""
    from shmsync import __version__  # noqa: PLC0415 - processes of other peers do not import shmsync

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "shmsync": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": cpu,
        "cores": os.cpu_count(),
    }


def versions(document: Document, peers: Iterable[str] = ()) -> str:
    """Return the versions of shmsync, of the system, and of the packages of some peers."""
    facts = document["environment"]
    known = facts.get("peers", {})
    named = [f"{peer} {known[peer]}" for peer in peers if not known.get(peer, "Python").startswith("Python")]
    system = f"Linux {facts['kernel'].partition('-')[0]}, {facts['cores']} cores of {facts['cpu']}"
    return ", ".join([f"shmsync {facts['shmsync']}", f"Python {facts['python']}", system, *named])
