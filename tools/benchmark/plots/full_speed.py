"""Reads beside a writer at full speed, of shmsync and its peers: how long the slow ones take, how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark import names
from benchmark.plots.axes import around, heading, logarithmic, ticks_at
from benchmark.plots.lines import LABELLED, SCALE, Line, chosen, curve, draw_lines, labelled, of_peer, panel
from benchmark.plots.rows import TAILS
from benchmark.plots.sheet import EDGE, SHMSYNC, Sheet
from benchmark.report import Document, Entry, entries, shown, versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

_SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999)
_HUNDREDTH = 101  # an x that only shares above 99 % exceed
_TAIL = 3.6  # inches of a panel


def tail(document: Document) -> Figure | None:
    """Draw percentiles: a panel for each workload, in it a line for each peer."""
    found = {name: _percentiles(entries(document, *place)) for name, place in TAILS.items()}
    found = {name: chosen(lines, _slow) for name, lines in found.items() if lines}
    if not found:
        return None
    peers = dict.fromkeys(peer for lines in found.values() for peer in labelled(lines))
    note = "One reader beside a writer that publishes without pause. A line ends where there are too few reads to tell."
    if not all(line.colour for lines in found.values() for line in lines):
        note += f" Labelled: shmsync and the {LABELLED - 1} others that take least at 99 %; grey: the rest."
    title = "Reads beside a writer at full speed: how long the slow ones take"
    sheet = Sheet(title, note, _TAIL * len(found), versions(document, peers))
    for number, (name, lines) in enumerate(found.items()):
        axes = sheet.axes(panel(_TAIL * number + 0.25, 2.8))
        heading(axes, f"{name}: {_slowest(lines)}", EDGE - SCALE)
        _shares_at(axes, max(line.xs[-1] for line in lines))
        logarithmic(axes, "y", "s", "time of one read", around([y for line in lines for y in line.ys]))
        draw_lines(axes, lines, mark=False)
    return sheet.figure


def _percentiles(figures: Iterable[Entry]) -> list[Line]:
    """Return lines over 1 / the share of slower reads, as far as one read or more of the sample is slower."""
    lines = []
    for figure in figures:
        spread = {float(share): value for share, value in figure["spread"].items()}
        known = [share for share in spread if 0.5 <= share < 1 and figure["count"] * (1 - share) >= 1]
        if len(known) > 1:
            xs = [1 / (1 - share) for share in known]
            lines.append(of_peer(figure["peer"], xs, [spread[share] for share in known]))
    return lines


def _slow(line: Line) -> float:
    """Return what the slowest hundredth takes at least; of fewer reads than a hundred, the slowest share known."""
    return max(y for x, y in zip(line.xs, line.ys, strict=True) if x < _HUNDREDTH)


def _slowest(lines: Sequence[Line]) -> str:
    """Say what shmsync takes at 99 %, or as far as is known, and the best of the others that are known there."""
    mine = next((line for line in lines if line.name == SHMSYNC), None)
    if mine is None:
        return "by peer"
    place = max(x for x in mine.xs if x < _HUNDREDTH)
    found = {line.name: y for line in lines for x, y in zip(line.xs, line.ys, strict=True) if x == place}
    text = f"{100 * (1 - 1 / place):.3g} % within {shown(found.pop(SHMSYNC), 's')} with shmsync"
    best = min(found, key=lambda name: found[name], default="")
    return f"{text}, {shown(found[best], 's')} with {best}" if best else text


def _shares_at(axes: Any, last: float) -> None:
    places = [1 / (1 - share) for share in _SHARES]
    axes.set(xscale="log", xlim=(places[0], last * 1.02), xlabel="share of reads that are as fast or faster")
    ticks_at(axes.xaxis, places, lambda value: f"{100 * (1 - 1 / value):.6g} %")
    axes.grid(axis="x")


def throughput(document: Document) -> Figure | None:
    """Draw the reads in a second, by the number of readers: a line for each peer."""
    figures = entries(document, names.READS)
    peers = dict.fromkeys(figure["peer"] for figure in figures)
    lines = [of_peer(peer, *curve(figure for figure in figures if figure["peer"] == peer)) for peer in peers]
    if not lines:
        return None
    most = max(line.xs[-1] for line in lines)
    lines = chosen([line for line in lines if line.xs[-1] == most], lambda line: -line.ys[-1])
    note = "get() of all readers together, a config of 1 KiB, while the writer publishes at full speed."
    note += f" Full mark: crash-safe; hollow: not. {_others(lines)}"
    sheet = Sheet(_throughput_title(lines), note, 3.7, versions(document, labelled(lines)))
    axes = sheet.axes(panel(0, 3.2))
    axes.set(xscale="log", xlim=around(lines[0].xs, 1.15), xlabel="readers")
    ticks_at(axes.xaxis, lines[0].xs, lambda value: f"{value:.0f}")
    logarithmic(axes, "y", "/s", "reads per second", around([y for line in lines for y in line.ys]))
    draw_lines(axes, lines)
    return sheet.figure


def _throughput_title(lines: Sequence[Line]) -> str:
    ranked = sorted(lines, key=lambda line: -line.ys[-1])
    mine = next((line for line in lines if line.name == SHMSYNC), ranked[0])
    others = [line for line in ranked if line is not mine]
    title = f"{mine.xs[-1]:.0f} readers beside a writer read {shown(mine.ys[-1], '/s')} with {mine.name}"
    return f"{title}, {shown(others[0].ys[-1], '/s')} with {others[0].name}" if others else title


def _others(lines: Iterable[Line]) -> str:
    names = [line.name for line in lines if not line.colour]
    return f"Labelled are the best; grey: {', '.join(names)}." if names else ""
