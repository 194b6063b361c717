"""What one call takes, of shmsync and its peers: a panel for each call, in it a line for each peer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.plots.axes import BAR, LABELS, around, best_first, heading, logarithmic, peers_at
from benchmark.plots.rows import calls
from benchmark.plots.sheet import EDGE, FAINT, SHMSYNC, WIDTH, Panel, Sheet, colour_of, face_of, without
from benchmark.report import Document, Entry, entries, shown, versions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

# In inches.
_VALUES = 0.85  # the room for the medians
_AROUND = 0.84  # what a panel needs above and below its axes


def config(document: Document) -> Figure | None:
    """Draw W1."""
    title = "A config of 1 KiB: what one call takes"
    return _draw(document, title, "A dict of 20 keys, one writer, one reader.", calls("config"))


def array(document: Document) -> Figure | None:
    """Draw W2."""
    title = "An array of 64 MiB: what one call takes"
    return _draw(document, title, "A float32 array, one writer, one reader.", calls("array"))


def int_map(document: Document) -> Figure | None:
    """Draw W3, with int keys."""
    title = "A map of a million keys: what one call takes"
    note = "int keys to 10 floats, one writer, one reader, which looks one key up each time."
    return _draw(document, title, note, calls("int map"))


def _draw(document: Document, title: str, note: str, rows: dict[str, str]) -> Figure | None:
    found = {name: best_first(entries(document, row)) for name, row in rows.items()}
    found = {name: figures for name, figures in found.items() if figures}
    if not found:
        return None
    heights = [_AROUND + BAR * len(figures) for figures in found.values()]
    peers = dict.fromkeys(figure["peer"] for figures in found.values() for figure in figures)
    note += " The mark is the median, the line ends at the 99th percentile. Full mark: crash-safe; hollow: not."
    sheet = Sheet(title, note + without(document, rows.values()), sum(heights), versions(document, peers))
    top = 0.0
    for (name, figures), height in zip(found.items(), heights, strict=True):
        axes = sheet.axes(Panel(LABELS, top + 0.25, WIDTH - LABELS - _VALUES, height - _AROUND))
        _dots(axes, figures)
        heading(axes, f"{name}: {_standing(figures)}", EDGE - LABELS)
        top += height
    return sheet.figure


def _dots(axes: Any, figures: Sequence[Entry]) -> None:
    peers_at(axes, [figure["peer"] for figure in figures])
    for number, figure in enumerate(figures):
        _dot(axes, number, figure)
        _median(axes, number, figure)
    limits = around([figure[name] for figure in figures for name in ("median", "p99")])
    logarithmic(axes, "x", "s", "time of one call, logarithmic", limits)


def _dot(axes: Any, number: int, figure: Entry) -> None:
    colour, median = colour_of(figure["peer"]), figure["median"]
    face = face_of(figure["peer"], colour)
    axes.axhline(number, color=FAINT, linewidth=0.7, zorder=0)
    axes.plot([median, figure["p99"]], [number] * 2, color=colour, linewidth=1.4, solid_capstyle="butt")
    axes.plot(figure["p99"], number, "|", color=colour, markersize=6, markeredgewidth=1.4)
    axes.plot(median, number, "o", color=colour, markerfacecolor=face, markersize=6, markeredgewidth=1.4)


def _median(axes: Any, number: int, figure: Entry) -> None:
    """Write it at the right of the axes."""
    axes.annotate(
        shown(figure["median"], "s"),
        (1, number),
        (_VALUES * 72 - 8, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        weight="bold" if figure["peer"] == SHMSYNC else "normal",
        color=colour_of(figure["peer"]),
        annotation_clip=False,
    )


def _standing(figures: Sequence[Entry]) -> str:
    """Say how fast shmsync is, and how fast the best other peer."""
    mine = next((figure for figure in figures if figure["peer"] == SHMSYNC), None)
    others = [figure for figure in figures if figure is not mine]
    if mine is None or not others:
        return "median by peer"
    own, best = (shown(figure["median"], "s") for figure in (mine, others[0]))
    if mine is figures[0]:
        return f"shmsync is the fastest with {own}, before {others[0]['peer']} with {best}"
    place = figures.index(mine) + 1
    return f"shmsync takes {own}, place {place} of {len(figures)}; first is {others[0]['peer']} with {best}"
