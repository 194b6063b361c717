"""Charts of what `bench.py --json` prints, as PNG and SVG; a chart whose rows are not there is left out.

shmsync is blue in all of them. A peer of which a process can be killed anywhere without harm to the others has a full
mark, any other one a hollow mark.
"""

from __future__ import annotations

import math
import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MultipleLocator, NullLocator

from benchmark.report import CRASH_SAFE, Document, Entry, digits, entries, shown, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

SHMSYNC = "shmsync"

# The rows that are drawn, by the names that they have in the document.
UNCHANGED, CHANGED, WRITE = "get(), nothing new", "get() after a change", "write()"
LATENCIES = {
    "latency-config": (
        "A config of 1 KiB: what one call takes",
        "A dict of 20 keys, one writer, one reader.",
        {
            UNCHANGED: "W1 config: get(), unchanged",
            CHANGED: "W1 config: get(), changed, polling",
            WRITE: "W1 config: write()",
        },
    ),
    "latency-array": (
        "An array of 64 MiB: what one call takes",
        "A float32 array, one writer, one reader.",
        {
            UNCHANGED: "W2 array: get(), unchanged",
            CHANGED: "W2 array: get(), changed, polling",
            WRITE: "W2 array: write()",
        },
    ),
    "latency-map": (
        "A map of a million keys: what one call takes",
        "int keys to 10 floats, one writer, one reader, which looks one key up each time.",
        {
            UNCHANGED: "W3 int map: get() + look-up, unchanged",
            CHANGED: "W3 int map: get() + look-up, changed, polling",
            WRITE: "W3 int map: write()",
        },
    ),
}
PRIVATE = "Memory: private (USS) of a reader, 64 MiB array"
PROPORTIONAL = "Memory: proportional (PSS) of a reader, 64 MiB array"
MEMORY_VALUE = 64 << 20
BY_SIZE = {
    "unchanged get()": "Scaling: one get(), unchanged, by size of the raw value",
    "unchanged read()": "Scaling: one `with read()`, unchanged, by size of the raw value",
    "changed read()": "Scaling: one `with read()` after a change, by size of the raw value",
    "write_raw()": "Scaling: one write_raw, by size of the raw value",
}
TAILS = {
    "Config of 1 KiB": ("W4 config: one get(), writer at full speed", 1),
    "Array of 8 MiB, changed reads": ("W7 array: one of these reads that returned another array", 8 << 20),
}
THROUGHPUT = "W4 config: reads/s of all readers, writer at full speed"
BY_READERS = "Scaling: one write of a config, by attached readers"
SPACE_FREE = "Space: memory in use after 100 publishes of 8 MiB, nobody reads"
SPACE_HELD = "Space: the same, a reader has taken a value and holds it"
SPACE_VALUE = 8 << 20

BLUE, INK, GREY, FAINT, PAPER = "#0072b2", "#222222", "#666666", "#e4e4e4", "#ffffff"
PALE = {BLUE: "#8fc3e4", GREY: "#cccccc"}
COLOURS = {
    SHMSYNC: BLUE,
    "LMDB": "#e69f00",
    "iceoryx2 pub-sub": "#009e73",
    "zerochannel": "#cc79a7",
    "SharedMemory": "#d55e00",
    "sharedbox": "#56b4e9",
    "iceoryx2 blackboard": "#882255",
    "SharedArray": "#999933",
    "UltraDict2": "#332288",
    "EasyGlobals": "#117733",
    "file": "#44aa99",
    "Arrow file": "#aa4499",
}
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": "sans-serif",
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
WIDTH = 8.0  # inches, as all lengths here
DPI = 150
_EDGE, _LABELS, _VALUES = 0.15, 1.75, 0.85
_LINE, _BAR = 0.16, 0.185
_AROUND = 0.84  # what a panel needs above and below its axes
_LABELLED = 6
_SPACE = "\u00a0"  # at which no line is broken


def draw(document: Document, directory: Path) -> list[Path]:
    """Draw all charts of which there are figures; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    with mpl.rc_context(STYLE):
        for name, chart in _charts(document):
            for kind, told in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                made.append(directory / f"{name}.{kind}")
                chart.savefig(made[-1], dpi=DPI, metadata=told)
    return made


def _charts(document: Document) -> Iterator[tuple[str, Figure]]:
    for name, (title, note, rows) in LATENCIES.items():
        yield from _named(name, _latency(document, title, note, rows))
    for name, chart in {
        "memory": _memory,
        "size": _size,
        "tail": _tail,
        "throughput": _throughput,
        "readers": _readers,
        "space": _space,
    }.items():
        yield from _named(name, chart(document))


def _named(name: str, chart: Figure | None) -> Iterator[tuple[str, Figure]]:
    if chart is not None:
        yield name, chart


# ---------------------------------------------------------------------------------------------------------- the sheet


class Panel(NamedTuple):
    """A place for axes, in inches from the left and the top of the sheet."""

    left: float
    top: float
    width: float
    height: float


class Sheet:
    """A chart: a title, a note below it, axes, and what it was measured with in small print."""

    def __init__(self, title: str, note: str, height: float, small: str) -> None:
        lines = _wrapped(title, 72)
        notes = _wrapped(note, 120)
        smalls = _wrapped(small.replace(" ", _SPACE).replace(f",{_SPACE}", ", "), 142)
        self.top = _EDGE + 0.25 * len(lines) + _LINE * len(notes) + 0.12
        total = self.top + height + 0.12 + 0.14 * len(smalls) + _EDGE
        self.figure = Figure(figsize=(WIDTH, total))
        self._height = total
        self._write(_EDGE, lines, size=13, step=0.25, weight="bold")
        self._write(_EDGE + 0.25 * len(lines), notes, size=9, step=_LINE, color=GREY)
        self._write(total - _EDGE - 0.14 * len(smalls), smalls, size=7.5, step=0.14, color=GREY)

    def _write(self, top: float, lines: Iterable[str], *, size: float, step: float, **how: Any) -> None:
        for number, line in enumerate(lines):
            y = 1 - (top + number * step) / self._height
            self.figure.text(_EDGE / WIDTH, y, line, fontsize=size, va="top", **how)

    def axes(self, panel: Panel) -> Any:
        """Return axes in a place below the note."""
        bottom = self._height - self.top - panel.top - panel.height
        height = self._height
        return self.figure.add_axes((panel.left / WIDTH, bottom / height, panel.width / WIDTH, panel.height / height))


def _wrapped(text: str, width: int) -> list[str]:
    """Break into lines, but not between a number and its unit, nor at hyphens."""
    return textwrap.wrap(re.sub(r"(?<=\d) (?=[\w/%]{1,3}\b)", _SPACE, text), width, break_on_hyphens=False)


def _without(document: Document, rows: Iterable[str]) -> str:
    """Name the peers that lack a figure, in all rows or in some."""
    figures = [figure for figure in document["figures"] if figure["row"] in set(rows)]
    there = {figure["peer"] for figure in figures if "median" in figure}
    lacking = dict.fromkeys(figure["peer"] for figure in figures if "median" not in figure)
    names = [f"{name} (in part)" if name in there else name for name in lacking]
    return f" Without a figure: {', '.join(names)}." if names else ""


def _heading(axes: Any, text: str, left: float) -> None:
    """Write above axes, from a place at the left of them, in inches."""
    axes.annotate(
        text, (0, 1), (left * 72, 6), xycoords="axes fraction", textcoords="offset points", weight="bold", va="bottom"
    )


def _scale_of(axes: Any, which: str, unit: str, label: str, limits: tuple[float, float]) -> None:
    """Make an axis logarithmic, with ticks in units that suit them."""
    low, high = limits
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits, f"{which}label": label})
    subs = (1.0,) if high / low > 400 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axes.grid(axis=which)


def _tick(value: float, unit: str) -> str:
    if value == 0:
        return "0"
    number, _, name = shown(value, unit).partition(" ")
    return f"{float(number):g} {name}"


def _around(values: Sequence[float], factor: float = 1.5) -> tuple[float, float]:
    return min(values) / factor, max(values) * factor


def _colour(peer: str) -> str:
    return BLUE if peer == SHMSYNC else GREY


# --------------------------------------------------------------------------------------------------- a line for a peer


def _peers_at(axes: Any, peers: Sequence[str]) -> None:
    """Write the peers beside an axis, the first one above, and a line for each."""
    axes.set(yticks=range(len(peers)), ylim=(len(peers) - 0.4, -0.6))
    axes.set_yticklabels(peers)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label in axes.get_yticklabels():
        is_mine = label.get_text() == SHMSYNC
        label.set(color=BLUE if is_mine else INK, weight="bold" if is_mine else "normal")


def _values_at(axes: Any, texts: Iterable[str], peers: Sequence[str]) -> None:
    """Write a value for each peer at the right of the axes."""
    for number, (text, peer) in enumerate(zip(texts, peers, strict=True)):
        weight = "bold" if peer == SHMSYNC else "normal"
        right = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}
        axes.annotate(
            text,
            (1, number),
            (_VALUES * 72 - 8, 0),
            ha="right",
            va="center_baseline",
            weight=weight,
            color=_colour(peer),
            **right,
        )


def _latency(document: Document, title: str, note: str, rows: dict[str, str]) -> Figure | None:
    found = {name: _sorted(entries(document, row)) for name, row in rows.items()}
    found = {name: figures for name, figures in found.items() if figures}
    if not found:
        return None
    heights = [_AROUND + _BAR * len(figures) for figures in found.values()]
    peers = dict.fromkeys(figure["peer"] for figures in found.values() for figure in figures)
    key = "The mark is the median, the line ends at the 99th percentile. Full mark: crash-safe; hollow: not."
    sheet = Sheet(title, f"{note} {key}{_without(document, rows.values())}", sum(heights), versions(document, peers))
    top = 0.0
    for (name, figures), height in zip(found.items(), heights, strict=True):
        axes = sheet.axes(Panel(_LABELS, top + 0.25, WIDTH - _LABELS - _VALUES, height - _AROUND))
        _dots(axes, figures)
        _heading(axes, f"{name}: {_standing(figures)}", _EDGE - _LABELS)
        top += height
    return sheet.figure


def _sorted(figures: Iterable[Entry]) -> list[Entry]:
    return sorted(figures, key=lambda figure: float(figure["median"]))


def _dots(axes: Any, figures: Sequence[Entry]) -> None:
    peers = [figure["peer"] for figure in figures]
    _peers_at(axes, peers)
    for number, figure in enumerate(figures):
        colour, median = _colour(figure["peer"]), figure["median"]
        axes.axhline(number, color=FAINT, linewidth=0.7, zorder=0)
        axes.plot([median, figure["p99"]], [number] * 2, color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(figure["p99"], number, "|", color=colour, markersize=6, markeredgewidth=1.4)
        face = colour if figure["peer"] in CRASH_SAFE else PAPER
        axes.plot(median, number, "o", color=colour, markerfacecolor=face, markersize=6, markeredgewidth=1.4)
    _values_at(axes, [shown(figure["median"], "s") for figure in figures], peers)
    _scale_of(
        axes,
        "x",
        "s",
        "time of one call, logarithmic",
        _around([figure[name] for figure in figures for name in ("median", "p99")]),
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


# --------------------------------------------------------------------------------------------------- memory and space


def _memory(document: Document) -> Figure | None:
    counts = sorted({figure["x"] for figure in entries(document, PROPORTIONAL)})
    if not counts:
        return None
    last = _sorted(entries(document, PROPORTIONAL, counts[-1]))
    peers = [figure["peer"] for figure in last]
    note = "Memory of each worker that holds the same array of 64 MiB, by the number of workers. Dark: its own (USS);"
    note += " pale: its share of what several have mapped. Together they are its PSS. What the"
    note += f" writer or a server holds is not counted.{_without(document, [PROPORTIONAL, PRIVATE])}"
    sheet = Sheet(_memory_title(last), note, 0.72 + _BAR * len(peers), versions(document, peers))
    gap = 0.25
    width = (WIDTH - _LABELS - _EDGE + gap) / len(counts)
    for number, count in enumerate(counts):
        axes = sheet.axes(Panel(_LABELS + number * width, 0.25, width - gap, _BAR * len(peers)))
        _stacks(axes, document, count, peers)
        axes.set_xlim(0, 1.22 * max(figure["median"] for figure in entries(document, PROPORTIONAL)) / (1 << 20))
        _heading(axes, f"{count:.0f} worker{'s' if count > 1 else ''}", 0)
        if number:
            axes.set_yticklabels([])
    return sheet.figure


def _memory_title(figures: Sequence[Entry]) -> str:
    mine = next((figure for figure in figures if figure["peer"] == SHMSYNC), figures[0])
    others = [figure["median"] for figure in figures if figure is not mine]
    title = f"With {mine['x']:.0f} workers each takes {shown(mine['median'], 'bytes')} with {mine['peer']}"
    if not others:
        return title
    copies = sum(other >= 0.95 * MEMORY_VALUE for other in others)  # some pages more or less do not matter
    return f"{title}, about {shown(MEMORY_VALUE, 'bytes')} or more with {copies} of {len(others)} others"


def _stacks(axes: Any, document: Document, count: float, peers: Sequence[str]) -> None:
    _peers_at(axes, peers)
    both = {row: {one["peer"]: one["median"] / (1 << 20) for one in entries(document, row, count)} for row in _USED}
    for number, peer in enumerate(peers):
        if peer in both[PROPORTIONAL]:
            total = max(0.0, both[PROPORTIONAL][peer])
            own = min(total, max(0.0, both[PRIVATE].get(peer, 0.0)))
            colour = _colour(peer)
            axes.barh(number, own, height=0.66, color=colour)
            axes.barh(number, total - own, left=own, height=0.66, color=PALE[colour])
            text = f"{total:.0f}" if total >= 9.95 else f"{total:.1f}"
            axes.annotate(text, (total, number), (3, 0), textcoords="offset points", va="center_baseline", color=colour)
    axes.xaxis.set_major_locator(MultipleLocator(64))
    axes.set_xlabel("MiB for each worker")
    axes.grid(axis="x")


_USED = (PRIVATE, PROPORTIONAL)


def _space(document: Document) -> Figure | None:
    figures = _sorted(entries(document, SPACE_HELD))
    if not figures:
        return None
    peers = [figure["peer"] for figure in figures]
    note = (
        "Memory in use after 100 publishes of an array of 8 MiB, in multiples of it, while a reader has taken a value"
    )
    note += " and holds it. The tick: the same while nobody reads. Full bar: crash-safe; hollow: not."
    note += "".join(f" * {figure['peer']}: {figure['remark']}." for figure in figures if "remark" in figure)
    sheet = Sheet(_space_title(figures), note, 0.5 + _BAR * len(peers), versions(document, peers))
    axes = sheet.axes(Panel(_LABELS, 0, WIDTH - _LABELS - _EDGE, _BAR * len(peers)))
    _peers_at(axes, peers)
    free = {figure["peer"]: figure["median"] / SPACE_VALUE for figure in entries(document, SPACE_FREE)}
    for number, figure in enumerate(figures):
        _space_bar(axes, number, figure, free.get(figure["peer"]))
    axes.set_xlim(0, 1.1 * max(figure["median"] for figure in figures) / SPACE_VALUE)
    axes.set_xlabel("times the size of the value")
    axes.grid(axis="x")
    return sheet.figure


def _space_bar(axes: Any, number: int, figure: Entry, free: float | None) -> None:
    colour, held = _colour(figure["peer"]), figure["median"] / SPACE_VALUE
    face = colour if figure["peer"] in CRASH_SAFE else PAPER
    axes.barh(number, held, height=0.6, facecolor=face, edgecolor=colour, linewidth=1.2)
    if free is not None:
        for shade, width in ((PAPER, 4.0), (INK, 1.6)):
            axes.plot([free] * 2, [number - 0.4, number + 0.4], color=shade, linewidth=width)
    text = digits(held) + (" *" if "remark" in figure else "")
    end = max(held, free or 0)
    axes.annotate(text, (end, number), (4, 0), textcoords="offset points", va="center_baseline", color=colour)


def _space_title(figures: Sequence[Entry]) -> str:
    mine = next((figure for figure in figures if figure["peer"] == SHMSYNC), figures[0])
    return f"A reader that never lets go: {mine['peer']} then takes {mine['median'] / SPACE_VALUE:.2g} times the value"


# -------------------------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True)
class Line:
    """What is drawn as a line; without a colour it is one of the others, which have no label."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str | None


def _lines(axes: Any, lines: Sequence[Line], *, mark: bool = True) -> None:
    """Draw lines, those with labels above; write the labels at their ends, where they do not overlap."""
    for line in sorted(lines, key=lambda line: (line.colour is not None, line.name == SHMSYNC)):
        is_mine = line.name == SHMSYNC
        how: dict[str, Any] = {"color": line.colour or "#cccccc", "linewidth": 2.4 if is_mine else 1.5}
        if mark and line.colour:
            face = line.colour if line.name in CRASH_SAFE or line.name in BY_SIZE else PAPER
            how |= {"marker": "o", "markersize": 5, "markerfacecolor": face, "markeredgewidth": 1.4}
        axes.plot(line.xs, line.ys, **how)
    labelled = sorted((line for line in lines if line.colour), key=lambda line: line.ys[-1])
    fractions = [_fraction(axes, line.ys[-1]) for line in labelled]
    room = 0.17 / (axes.get_position().height * axes.figure.get_figheight())
    for line, y in zip(labelled, _apart(fractions, room), strict=True):
        _label(axes, line, y)


def _label(axes: Any, line: Line, y: float) -> None:
    is_near = line.xs[-1] > 0.5 * axes.get_xlim()[1]
    leader = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.6, "linestyle": "-" if is_near else (0, (1, 3))}
    axes.annotate(
        line.name,
        (line.xs[-1], line.ys[-1]),
        (1.03, y),
        textcoords="axes fraction",
        va="center_baseline",
        color=line.colour,
        weight="bold" if line.name == SHMSYNC else "normal",
        annotation_clip=False,
        arrowprops=leader | {"shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
    )


def _fraction(axes: Any, y: float) -> float:
    low, high = axes.get_ylim()
    return math.log(y / low) / math.log(high / low)


def _apart(places: Sequence[float], room: float) -> list[float]:
    """Move sorted places apart so that each has room, as little as that takes, and none leaves the axes."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _bounds(groups[-2], room)[1] > _bounds(groups[-1], room)[0]:
            last = groups.pop()
            groups[-1] += last
    return [_bounds(group, room)[0] + (number + 0.5) * room for group in groups for number in range(len(group))]


def _bounds(group: Sequence[float], room: float) -> tuple[float, float]:
    """Return where a group begins and ends: around its centre, within the axes."""
    whole = room * len(group)
    begin = min(max(sum(group) / len(group) - whole / 2, 0.0), 1.0 - whole + room / 2)
    return begin, begin + whole


def _chosen(lines: Sequence[Line], key: Callable[[Line], float]) -> list[Line]:
    """Leave the colour to shmsync and to the best of the others."""
    best = sorted((line for line in lines if line.name != SHMSYNC), key=key)[: _LABELLED - 1]
    named = {SHMSYNC, *(line.name for line in best)}
    return [line if line.name in named else Line(line.name, line.xs, line.ys, None) for line in lines]


def _size(document: Document) -> Figure | None:
    colours = (BLUE, "#56b4e9", "#e69f00", "#009e73")
    lines = [
        Line(name, *_curve(entries(document, row)), colour)
        for (name, row), colour in zip(BY_SIZE.items(), colours, strict=True)
        if entries(document, row)
    ]
    if not lines:
        return None
    note = "One call of shmsync, by the size of a raw value: median. A read does not copy; a write copies the value."
    sheet = Sheet(_size_title(lines[0]), note, 3.7, versions(document, ()))
    axes = sheet.axes(Panel(0.85, 0, WIDTH - 0.85 - _LABELS, 3.2))
    _sizes_at(axes, lines[0].xs)
    _scale_of(axes, "y", "s", "time of one call", _around([y for line in lines for y in line.ys], 2))
    _lines(axes, lines)
    return sheet.figure


def _size_title(line: Line) -> str:
    smallest, largest = (f"{shown(line.ys[place], 's')} for {_tick(line.xs[place], 'bytes')}" for place in (0, -1))
    return f"One {line.name} takes {smallest}, and {largest}"


def _curve(figures: Sequence[Entry]) -> tuple[list[float], list[float]]:
    ordered = sorted(figures, key=lambda figure: float(figure["x"]))
    return [figure["x"] for figure in ordered], [figure["median"] for figure in ordered]


def _sizes_at(axes: Any, sizes: Sequence[float]) -> None:
    _scale_of(axes, "x", "bytes", "size of the value", _around(sizes))
    axes.xaxis.set_major_locator(FixedLocator(list(sizes)))


def _readers(document: Document) -> Figure | None:
    xs, ys = _curve([figure for figure in entries(document, BY_READERS) if figure["peer"] == SHMSYNC])
    if len(xs) < 2:
        return None
    title = f"Each further attached reader adds {shown((ys[-1] - ys[0]) / (xs[-1] - xs[0]), 's')} to a write"
    sheet = Sheet(title, "One write of shmsync, a config of 1 KiB: median.", 3.0, versions(document, ()))
    axes = sheet.axes(Panel(0.85, 0, WIDTH - 0.85 - 0.5, 2.5))
    axes.plot(xs, ys, color=BLUE, linewidth=2.4, marker="o", markersize=5, clip_on=False)
    for x, y in zip(xs, ys, strict=True):
        _point(axes, x, y)
    axes.set(xlim=(0, xs[-1] * 1.02), ylim=(0, max(ys) * 1.15), xlabel="attached readers", ylabel="time of one write")
    axes.xaxis.set_major_locator(MultipleLocator(32))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, "s")))
    axes.grid(axis="y")
    return sheet.figure


def _point(axes: Any, x: float, y: float) -> None:
    """Write the value above a point, unless the points are too close to each other for that."""
    if x == 1:
        axes.annotate(shown(y, "s"), (x, y), (4, -16), textcoords="offset points", color=BLUE, weight="bold")
    elif x >= 64:
        axes.annotate(shown(y, "s"), (x, y), (0, 8), textcoords="offset points", ha="center", color=BLUE, weight="bold")


def _of(figures: Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(figure["peer"] for figure in figures))


def _hue(peer: str) -> str:
    return COLOURS.get(peer, GREY)


def _throughput(document: Document) -> Figure | None:
    figures = entries(document, THROUGHPUT)
    lines = [Line(peer, *_curve([one for one in figures if one["peer"] == peer]), _hue(peer)) for peer in _of(figures)]
    if not lines:
        return None
    most = max(line.xs[-1] for line in lines)
    lines = _chosen([line for line in lines if line.xs[-1] == most], lambda line: -line.ys[-1])
    note = "get() of all readers together, a config of 1 KiB, while the writer publishes at full speed."
    note += " Full mark: crash-safe; hollow: not."
    sheet = Sheet(_throughput_title(lines), f"{note} {_others(lines)}", 3.7, versions(document, _labelled(lines)))
    axes = sheet.axes(Panel(0.85, 0, WIDTH - 0.85 - _LABELS, 3.2))
    axes.set(xscale="log", xlim=_around(lines[0].xs, 1.15), xlabel="readers")
    axes.xaxis.set_major_locator(FixedLocator(list(lines[0].xs)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    _scale_of(axes, "y", "/s", "reads per second", _around([y for line in lines for y in line.ys]))
    _lines(axes, lines)
    return sheet.figure


def _throughput_title(lines: Sequence[Line]) -> str:
    ranked = sorted(lines, key=lambda line: -line.ys[-1])
    mine = next((line for line in lines if line.name == SHMSYNC), ranked[0])
    others = [line for line in ranked if line is not mine]
    title = f"{mine.xs[-1]:.0f} readers beside a writer read {shown(mine.ys[-1], '/s')} with {mine.name}"
    return f"{title}, {shown(others[0].ys[-1], '/s')} with {others[0].name}" if others else title


def _labelled(lines: Iterable[Line]) -> list[str]:
    return [line.name for line in lines if line.colour]


def _others(lines: Sequence[Line]) -> str:
    names = [line.name for line in lines if not line.colour]
    return f"Labelled are the best; grey: {', '.join(names)}." if names else ""


# ------------------------------------------------------------------------------------------------------- percentiles


def _tail(document: Document) -> Figure | None:
    found = {name: _percentiles(entries(document, *place)) for name, place in TAILS.items()}
    found = {name: _chosen(lines, _slow) for name, lines in found.items() if lines}
    if not found:
        return None
    peers = dict.fromkeys(peer for lines in found.values() for peer in _labelled(lines))
    note = "One reader beside a writer that publishes without pause. A line ends where there are too few reads to tell."
    if not all(line.colour for lines in found.values() for line in lines):
        note += f" Labelled: shmsync and the {_LABELLED - 1} others that take least at 99 %; grey: the rest."
    title = "Reads beside a writer at full speed: how long the slow ones take"
    sheet = Sheet(title, note, 3.6 * len(found), versions(document, peers))
    for number, (name, lines) in enumerate(found.items()):
        axes = sheet.axes(Panel(0.85, 3.6 * number + 0.25, WIDTH - 0.85 - _LABELS, 2.8))
        _heading(axes, f"{name}: {_slowest(lines)}", _EDGE - 0.85)
        _shares_at(axes, max(line.xs[-1] for line in lines))
        _scale_of(axes, "y", "s", "time of one read", _around([y for line in lines for y in line.ys]))
        _lines(axes, lines, mark=False)
    return sheet.figure


def _slow(line: Line) -> float:
    """Return what the slowest hundredth takes at least; of fewer reads than a hundred, the slowest share known."""
    return max(y for x, y in zip(line.xs, line.ys, strict=True) if x < 101)


_SHARES = (0.5, 0.9, 0.99, 0.999, 0.9999)


def _percentiles(figures: Iterable[Entry]) -> list[Line]:
    """Return lines over the share of slower reads; only as far as one read or more of the sample is slower."""
    lines = []
    for figure in figures:
        spread = {float(share): value for share, value in figure["spread"].items()}
        known = [share for share in spread if 0.5 <= share < 1 and figure["count"] * (1 - share) >= 1]
        if len(known) > 1:
            xs = [1 / (1 - share) for share in known]
            lines.append(Line(figure["peer"], xs, [spread[share] for share in known], _hue(figure["peer"])))
    return lines


def _shares_at(axes: Any, last: float) -> None:
    places = [1 / (1 - share) for share in _SHARES]
    axes.set(xscale="log", xlim=(places[0], last * 1.02), xlabel="share of reads that are as fast or faster")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - 1 / value):.6g} %"))
    axes.grid(axis="x")


def _slowest(lines: Sequence[Line]) -> str:
    """Say what shmsync takes at 99 %, or as far as is known, and the best of the others that are known there."""
    mine = next((line for line in lines if line.name == SHMSYNC), None)
    if mine is None:
        return "by peer"
    place = max(x for x in mine.xs if x < 101)
    found = {line.name: y for line in lines for x, y in zip(line.xs, line.ys, strict=True) if x == place}
    text = f"{100 * (1 - 1 / place):.3g} % within {shown(found.pop(SHMSYNC), 's')} with shmsync"
    best = min(found, key=lambda name: found[name], default="")
    return f"{text}, {shown(found[best], 's')} with {best}" if best else text
