"""How calls of shmsync alone scale: with the size of the value, and with the number of readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter, MultipleLocator

from benchmark import names
from benchmark.plots.axes import around, logarithmic, tick, ticks_at
from benchmark.plots.lines import SCALE, Line, curve, draw_lines, panel
from benchmark.plots.rows import BY_SIZE
from benchmark.plots.sheet import BLUE, SHMSYNC, WIDTH, Panel, Sheet
from benchmark.report import Document, entries, shown, versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (BLUE, "#56b4e9", "#e69f00", "#009e73")


def size(document: Document) -> Figure | None:
    """Draw what one call takes, by the size of the value: a line for each call."""
    lines = [
        Line(name, *curve(figures), colour, colour)
        for (name, row), colour in zip(BY_SIZE.items(), _COLOURS, strict=True)
        if (figures := entries(document, row))
    ]
    if not lines:
        return None
    note = "One call of shmsync, by the size of a raw value: median. A read does not copy; a write copies the value."
    sheet = Sheet(_size_title(lines[0]), note, 3.7, versions(document, ()))
    axes = sheet.axes(panel(0, 3.2))
    logarithmic(axes, "x", "bytes", "size of the value", around(lines[0].xs))
    ticks_at(axes.xaxis, lines[0].xs, lambda value: tick(value, "bytes"))
    logarithmic(axes, "y", "s", "time of one call", around([y for line in lines for y in line.ys], 2))
    draw_lines(axes, lines)
    return sheet.figure


def _size_title(line: Line) -> str:
    smallest, largest = (f"{shown(line.ys[place], 's')} for {tick(line.xs[place], 'bytes')}" for place in (0, -1))
    return f"One {line.name} takes {smallest}, and {largest}"


def readers(document: Document) -> Figure | None:
    """Draw what one write takes, by the number of attached readers."""
    xs, ys = curve(figure for figure in entries(document, names.SCALED_WRITE) if figure["peer"] == SHMSYNC)
    if len(xs) < 2:
        return None
    title = f"Each further attached reader adds {shown((ys[-1] - ys[0]) / (xs[-1] - xs[0]), 's')} to a write"
    sheet = Sheet(title, "One write of shmsync, a config of 1 KiB: median.", 3.0, versions(document, ()))
    axes = sheet.axes(Panel(SCALE, 0, WIDTH - SCALE - 0.5, 2.5))
    axes.plot(xs, ys, color=BLUE, linewidth=2.4, marker="o", markersize=5, clip_on=False)
    for x, y in zip(xs, ys, strict=True):
        _write(axes, x, y)
    axes.set(xlim=(0, xs[-1] * 1.02), ylim=(0, max(ys) * 1.15), xlabel="attached readers", ylabel="time of one write")
    axes.xaxis.set_major_locator(MultipleLocator(32))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, "s")))
    axes.grid(axis="y")
    return sheet.figure


def _write(axes: Any, x: float, y: float) -> None:
    """Write the value at a point, unless the points are too close to each other for that."""
    if x == 1:
        axes.annotate(shown(y, "s"), (x, y), (4, -16), textcoords="offset points", color=BLUE, weight="bold")
    elif x >= 64:
        axes.annotate(shown(y, "s"), (x, y), (0, 8), textcoords="offset points", ha="center", color=BLUE, weight="bold")
