"""The sheet that a chart is drawn on: style and colours, title and small print, places for axes, saving."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmark import peers
from benchmark.report import CRASH_SAFE, Document

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

SHMSYNC = peers.SHMSYNC.name

BLUE, INK, GREY, FAINT, PAPER = "#0072b2", "#222222", "#666666", "#e4e4e4", "#ffffff"
PALE = {BLUE: "#8fc3e4", GREY: "#cccccc"}
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": "sans-serif",
    # Whatever the user's settings prefer, so that the files are the same.
    "font.sans-serif": mpl.rcParamsDefault["font.sans-serif"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#bbbbbb",
    "axes.labelcolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",
    "svg.hashsalt": "shmsync",
}
DPI = 150

# Lengths are in inches.
WIDTH = 8.0
EDGE = 0.15
_TITLE, _NOTE, _SMALL = 0.25, 0.16, 0.14  # a line of each
_GAP = 0.12

_FIXED = "\u00a0"  # a space at which no line is broken


def styled() -> AbstractContextManager[None]:
    """Return a context in which charts are to be made and saved."""
    context: AbstractContextManager[None] = mpl.rc_context(STYLE)
    return context


def save(figure: Figure, directory: Path, name: str) -> list[Path]:
    """Write a chart as SVG and PNG, without what would differ from run to run; return the files."""
    made = []
    for kind, told in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        made.append(directory / f"{name}.{kind}")
        figure.savefig(made[-1], dpi=DPI, metadata=told)
    return made


class Panel(NamedTuple):
    """A place for axes, in inches from the left of the sheet and from below its note."""

    left: float
    top: float
    width: float
    height: float


class Sheet:
    """A chart: a title, a note below it, room for axes, and what it was measured with in small print."""

    def __init__(self, title: str, note: str, height: float, small: str) -> None:
        titles, notes = _wrapped(title, 72), _wrapped(note, 120)
        smalls = _wrapped(small.replace(" ", _FIXED).replace(f",{_FIXED}", ", "), 142)
        self._top = EDGE + _TITLE * len(titles) + _NOTE * len(notes) + _GAP
        self._height = self._top + height + _GAP + _SMALL * len(smalls) + EDGE
        self.figure = Figure(figsize=(WIDTH, self._height))
        self._write(EDGE, titles, size=13, step=_TITLE, weight="bold")
        self._write(EDGE + _TITLE * len(titles), notes, size=9, step=_NOTE, color=GREY)
        self._write(self._height - EDGE - _SMALL * len(smalls), smalls, size=7.5, step=_SMALL, color=GREY)

    def _write(self, top: float, lines: Iterable[str], *, size: float, step: float, **how: Any) -> None:
        for number, line in enumerate(lines):
            y = 1 - (top + number * step) / self._height
            self.figure.text(EDGE / WIDTH, y, line, fontsize=size, va="top", **how)

    def axes(self, panel: Panel) -> Any:
        """Return axes in a place below the note."""
        height = self._height
        bottom = height - self._top - panel.top - panel.height
        return self.figure.add_axes((panel.left / WIDTH, bottom / height, panel.width / WIDTH, panel.height / height))


def _wrapped(text: str, width: int) -> list[str]:
    """Break into lines, but not between a number and its unit, nor at hyphens."""
    return textwrap.wrap(re.sub(r"(?<=\d) (?=[\w/%]{1,3}\b)", _FIXED, text), width, break_on_hyphens=False)


def without(document: Document, rows: Iterable[str]) -> str:
    """Name the peers that lack a figure, in all rows or in some, as the end of a note."""
    figures = [figure for figure in document["figures"] if figure["row"] in set(rows)]
    there = {figure["peer"] for figure in figures if "median" in figure}
    lacking = dict.fromkeys(figure["peer"] for figure in figures if "median" not in figure)
    names = [f"{name} (in part)" if name in there else name for name in lacking]
    return f" Without a figure: {', '.join(names)}." if names else ""


def colour_of(peer: str) -> str:
    """Return the colour where all peers but shmsync have the same."""
    return BLUE if peer == SHMSYNC else GREY


def face_of(peer: str, colour: str) -> str:
    """Return what fills the mark of a peer: nothing, if it is not crash-safe."""
    return colour if peer in CRASH_SAFE else PAPER
