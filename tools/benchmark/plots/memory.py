"""What memory shmsync and its peers take: of each worker, and of all values while a reader holds one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MultipleLocator

from benchmark import names
from benchmark.plots.axes import BAR, LABELS, best_first, heading, peers_at
from benchmark.plots.rows import MEMORY_VALUE
from benchmark.plots.sheet import (
    EDGE,
    INK,
    PALE,
    PAPER,
    SHMSYNC,
    WIDTH,
    Panel,
    Sheet,
    colour_of,
    face_of,
    without,
)
from benchmark.report import Document, Entry, digits, entries, shown, versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

_MIB = 1 << 20
_GAP = 0.25  # inches between panels


def memory(document: Document) -> Figure | None:
    """Draw what each worker takes: a panel for each number of workers, in it a bar for each peer."""
    figures = entries(document, names.PROPORTIONAL)
    counts = sorted({figure["x"] for figure in figures})
    if not counts:
        return None
    last = best_first(entries(document, names.PROPORTIONAL, counts[-1]))
    peers = [figure["peer"] for figure in last]
    note = "Memory of each worker that holds the same array of 64 MiB, by the number of workers. Dark: its own (USS);"
    note += " pale: its share of what several have mapped. Together they are its PSS. What the"
    note += f" writer or a server holds is not counted.{without(document, [names.PROPORTIONAL, names.PRIVATE])}"
    sheet = Sheet(_memory_title(last), note, 0.72 + BAR * len(peers), versions(document, peers))
    width = (WIDTH - LABELS - EDGE + _GAP) / len(counts)
    for number, count in enumerate(counts):
        axes = sheet.axes(Panel(LABELS + number * width, 0.25, width - _GAP, BAR * len(peers)))
        _stacks(axes, document, count, peers)
        axes.set_xlim(0, 1.22 * max(figure["median"] for figure in figures) / _MIB)
        heading(axes, f"{count:.0f} worker{'s' if count > 1 else ''}", 0)
        if number:
            axes.set_yticklabels([])
    return sheet.figure


def _memory_title(figures: Sequence[Entry]) -> str:
    mine = _mine(figures)
    others = [figure["median"] for figure in figures if figure is not mine]
    title = f"With {mine['x']:.0f} workers each takes {shown(mine['median'], 'bytes')} with {mine['peer']}"
    if not others:
        return title
    copies = sum(other >= 0.95 * MEMORY_VALUE for other in others)  # some pages more or less do not matter
    return f"{title}, about {shown(MEMORY_VALUE, 'bytes')} or more with {copies} of {len(others)} others"


def _stacks(axes: Any, document: Document, count: float, peers: Sequence[str]) -> None:
    peers_at(axes, peers)
    private, proportional = (
        _by_peer(entries(document, row, count), _MIB) for row in (names.PRIVATE, names.PROPORTIONAL)
    )
    for number, peer in enumerate(peers):
        if peer in proportional:
            total = max(0.0, proportional[peer])
            own = min(total, max(0.0, private.get(peer, 0.0)))
            colour = colour_of(peer)
            axes.barh(number, own, height=0.66, color=colour)
            axes.barh(number, total - own, left=own, height=0.66, color=PALE[colour])
            _write(axes, f"{total:.0f}" if total >= 9.95 else f"{total:.1f}", (total, number), 3, colour)
    axes.xaxis.set_major_locator(MultipleLocator(64))
    axes.set_xlabel("MiB for each worker")
    axes.grid(axis="x")


def space(document: Document) -> Figure | None:
    """Draw what all values take while a reader holds one: a bar for each peer."""
    figures = best_first(entries(document, names.SPACE_HOLDING))
    if not figures:
        return None
    peers = [figure["peer"] for figure in figures]
    note = "Memory in use after 100 publishes of an array of 8 MiB, in multiples of it, while a reader has taken a"
    note += " value and holds it. The tick: the same while nobody reads. Full bar: crash-safe; hollow: not."
    note += "".join(f" * {figure['peer']}: {figure['remark']}." for figure in figures if "remark" in figure)
    sheet = Sheet(_space_title(figures), note, 0.5 + BAR * len(peers), versions(document, peers))
    axes = sheet.axes(Panel(LABELS, 0, WIDTH - LABELS - EDGE, BAR * len(peers)))
    peers_at(axes, peers)
    free = _by_peer(entries(document, names.SPACE_FREE), names.SPACE_SIZE)
    for number, figure in enumerate(figures):
        _space_bar(axes, number, figure, free.get(figure["peer"]))
    axes.set_xlim(0, 1.1 * max(figure["median"] for figure in figures) / names.SPACE_SIZE)
    axes.set_xlabel("times the size of the value")
    axes.grid(axis="x")
    return sheet.figure


def _space_title(figures: Sequence[Entry]) -> str:
    mine = _mine(figures)
    times = mine["median"] / names.SPACE_SIZE
    return f"A reader that never lets go: {mine['peer']} then takes {times:.2g} times the value"


def _space_bar(axes: Any, number: int, figure: Entry, free: float | None) -> None:
    colour, held = colour_of(figure["peer"]), figure["median"] / names.SPACE_SIZE
    face = face_of(figure["peer"], colour)
    axes.barh(number, held, height=0.6, facecolor=face, edgecolor=colour, linewidth=1.2)
    if free is not None:
        for shade, width in ((PAPER, 4.0), (INK, 1.6)):
            axes.plot([free] * 2, [number - 0.4, number + 0.4], color=shade, linewidth=width)
    text = digits(held) + (" *" if "remark" in figure else "")
    _write(axes, text, (max(held, free or 0), number), 4, colour)


def _mine(figures: Sequence[Entry]) -> Entry:
    """Return shmsync's, or the best if that is not there."""
    return next((figure for figure in figures if figure["peer"] == SHMSYNC), figures[0])


def _by_peer(figures: Iterable[Entry], unit: int) -> dict[str, float]:
    return {figure["peer"]: figure["median"] / unit for figure in figures}


def _write(axes: Any, text: str, end: tuple[float, float], gap: float, colour: str) -> None:
    """Write a value behind the end of its bar."""
    axes.annotate(text, end, (gap, 0), textcoords="offset points", va="center_baseline", color=colour)
