"""How the figures of peers are printed: a table for each row, and what is claimed of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.measure import percentile
from benchmark.peers import PEERS, SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.figures import Figure

_WIDTH = 22
_SAFE = {peer.name for peer in PEERS if peer.crash_safe}
_UNITS = {"s": ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (float("inf"), 1.0, "s")), "/s": ((float("inf"), 1.0, "/s"),)}
_BYTES = ((1 << 20, 1 / 1024, "KiB"), (float("inf"), 1 / (1 << 20), "MiB"))


@dataclass(frozen=True)
class Bound:
    """What is claimed of a kind of rows.

    Attributes:
        metric: how the names of the rows end.
        ratio: what shmsync's median may be at most, of the best peer's.
        crash_safe: whether only peers count that a killed process does not take down.
    """

    metric: str
    ratio: float
    crash_safe: bool


BOUNDS = (
    Bound("unchanged", 0.5, crash_safe=False),
    Bound("changed, polling", 0.8, crash_safe=True),
    Bound("write()", 1.2, crash_safe=True),
)


@dataclass(frozen=True)
class Standing:
    """A bound, and what was measured for one row."""

    bound: Bound
    mine: Figure
    best: Figure

    @property
    def ratio(self) -> float:
        """Median against median."""
        return self.mine.median / self.best.median

    @property
    def is_met(self) -> bool:
        """Whether the claim holds."""
        return self.ratio <= self.bound.ratio

    def as_dict(self) -> dict[str, object]:
        """Return what --json prints."""
        return {
            "row": self.mine.row,
            "target_ratio": self.bound.ratio,
            "among": self._among,
            "best": self.best.peer,
            "ratio": round(self.ratio, 3),
            "met": self.is_met,
        }

    def as_text(self) -> str:
        """Return the line."""
        verdict = "met" if self.is_met else "MISSED"
        mine, best = (_shown(figure.median, figure) for figure in (self.mine, self.best))
        against = f"{best} of {self.best.peer}"
        return (
            f"{self.mine.row:46}{mine:>11} against {against:32}"
            f"{self.ratio:7.2f}  <= {self.bound.ratio} of the best {self._among}  {verdict}"
        )

    @property
    def _among(self) -> str:
        return "crash-safe peer" if self.bound.crash_safe else "peer"


def standings(figures: Iterable[Figure]) -> Iterator[Standing]:
    """Yield what is claimed, for each row that has a figure of shmsync and of another one."""
    for row, group in _by_row(figures):
        for bound in BOUNDS:
            if row.endswith((f", {bound.metric}", f": {bound.metric}")):
                found = [figure for figure in group if figure.values]
                mine = [figure for figure in found if figure.peer == SHMSYNC.name]
                others = [figure for figure in found if figure.peer != SHMSYNC.name]
                if bound.crash_safe:
                    others = [figure for figure in others if figure.peer in _SAFE]
                if mine and others:
                    yield Standing(bound, mine[0], min(others, key=lambda figure: figure.median))


def tables(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield a table for each row: a line for each peer, the fastest first; crash-safe ones have an asterisk."""
    for row, group in _by_row(figures):
        lines = [f"\n{row:{_WIDTH + 22}}{'min':>12}{'median':>12}{'p99':>12}{'x shmsync':>11}"]
        mine = next((figure.median for figure in group if figure.peer == SHMSYNC.name and figure.values), None)
        group.sort(key=lambda figure: figure.median if figure.values else float("inf"))
        lines += [_line(figure, mine) for figure in group]
        yield "\n".join(lines)


def _line(figure: Figure, mine: float | None) -> str:
    name = figure.peer + ("" if figure.x is None else f", {figure.x:g}") + (" *" if figure.peer in _SAFE else "")
    if not figure.values:
        return f"  {name:{_WIDTH + 20}}{figure.remark}"
    spread = min(figure.values), figure.median, percentile(list(figure.values), 0.99)
    columns = "".join(f"{_shown(value, figure):>12}" for value in spread)
    ratio = f"{figure.median / mine:11.2f}" if mine else " " * 11
    return f"  {name:{_WIDTH + 20}}{columns}{ratio}  {figure.remark}".rstrip()


def _shown(value: float, figure: Figure) -> str:
    for limit, scale, unit in _BYTES if figure.unit == "bytes" else _UNITS[figure.unit]:
        if value < limit:
            return f"{value * scale:.3f} {unit}" if value * scale < 100 else f"{value * scale:.1f} {unit}"
    raise AssertionError(value)


def _by_row(figures: Iterable[Figure]) -> Iterator[tuple[str, list[Figure]]]:
    for row, group in itertools.groupby(figures, key=lambda figure: figure.row):
        yield row, list(group)
