"""Charts of the results, as SVG and PNG; a chart without results is left out.

shmsync is blue. A crash-safe peer has a full mark, any other one a hollow mark.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MultipleLocator, NullLocator

from bench import settings as rows
from bench.peers import CRASH_SAFE, FULL_WRITE, SHMSYNC
from bench.results import Document, Result, by_peer, digits, formatted, select, versions
from bench.settings import MIB, POLLING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Points = tuple[list[float], list[float]]

_OWN = SHMSYNC.name
_BLUE, _PALE_BLUE, _INK, _GREY, _PALE = "#0072b2", "#8fc3e4", "#222222", "#666666", "#cccccc"
_COLOURS = {
    _OWN: _BLUE,
    FULL_WRITE.name: _PALE_BLUE,
    "SQLite": "#cc6677",
    "Redis": "#661100",
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
    "unchanged get()": _BLUE,
    "unchanged read()": "#56b4e9",
    "changed read()": "#e69f00",
    "write_raw()": "#009e73",
}
_COLOURED = 6  # peers in a chart of lines
_LINE = 0.2  # inches for a peer
_MARKS = "Full mark: crash-safe; hollow: not."
_SHAPES = {
    "config": ("A config of 1 KiB", "A dict of 20 keys; after a change, the reader finds its caches cold."),
    "array": ("An array of 64 MiB", "float32."),
    "int map": ("A map of a million keys", "int keys to 10 floats; the reader looks up one key in each call."),
}
_CALLS = {"get(), nothing new": rows.UNCHANGED, "get() after a change": rows.POLLED, "write()": rows.WRITE}
_TAILS = {"Config of 1 KiB": (rows.ONE_READ, 1), "Array of 8 MiB, changed reads": (rows.POLL_CHANGED, 8 * MIB)}
_BY_SIZE = {
    "unchanged get()": rows.SCALED_GET,
    "unchanged read()": rows.SCALED_READ,
    "changed read()": rows.SCALED_CHANGED,
    "write_raw()": rows.SCALED_WRITE_RAW,
}


def draw(document: Document, directory: Path) -> list[Path]:
    """Draw all charts; return the files, which are the same each time for the same results."""
    directory.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with mpl.rc_context(fname=Path(__file__).with_name("style.mplstyle")):
        for name, chart in _CHARTS.items():
            if (figure := chart(document)) is not None:
                for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                    made.append(directory / f"{name}.{kind}")
                    figure.savefig(made[-1], metadata=metadata)
    return made


def _chart(title: str, note: str, *heights: float, **grid: Any) -> tuple[Figure, list[Any]]:
    """Return a figure with a title above and a note below, and its axes, with their heights in inches."""
    lines = textwrap.wrap(note, 112, break_on_hyphens=False)
    figure = Figure(figsize=(mpl.rcParams["figure.figsize"][0], sum(heights) + 0.15 * len(lines) + 0.5))
    figure.suptitle(title, x=0.01, ha="left")
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=_GREY)
    return figure, list(figure.subplots(len(heights), squeeze=False, height_ratios=heights, **grid).flat)


def _face(peer: str, colour: str) -> str:
    return colour if peer in CRASH_SAFE else "white"


def _peers_at(axes: Any, peers: Sequence[str]) -> list[str]:
    """Name the peers at the y axis; return their colours."""
    axes.set_yticks(range(len(peers)), peers)
    axes.set_ylim(len(peers) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label in axes.get_yticklabels():
        if label.get_text() == _OWN:
            label.set(color=_BLUE, weight="bold")
    return [_BLUE if peer == _OWN else _GREY for peer in peers]


def _log_axis(axes: Any, which: str, unit: str, label: str, values: Sequence[float]) -> None:
    low, high = min(values) / 1.5, max(values) * 1.5
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high), f"{which}label": label})
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 400 else (1.0, 2.0, 5.0), numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, unit)))
    axes.grid(axis=which)


def _ticks_at(axis: Any, places: Iterable[float], text: Callable[[float], str]) -> None:
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def _tick(value: float, unit: str) -> str:
    number, _, name = formatted(value, unit).partition(" ")
    return f"{float(number):g} {name}" if value else "0"


def _text(axes: Any, text: str, place: tuple[float, float], colour: str, offset: tuple[float, float] = (4, 0)) -> None:
    axes.annotate(text, place, offset, textcoords="offset points", va="center_baseline", color=colour)


def _best_first(results: Iterable[Result]) -> list[Result]:
    return sorted(results, key=lambda one: float(one["median"]))


def _notes(note: str, document: Document, *names: str) -> str:
    """Return a note with the peers that have no result in some rows, and what was measured on what."""
    found = [one for one in document["results"] if one["row"] in names]
    measured = dict.fromkeys(one["peer"] for one in found if "median" in one)
    lacking = dict.fromkeys(one["peer"] for one in found if "median" not in one)
    peers = ", ".join(f"{peer} (in part)" if peer in measured else peer for peer in lacking)
    return f"{note}{f' Not measured: {peers}.' if peers else ''} {versions(document, measured)}."


def _latencies(document: Document, shape: str) -> Figure | None:
    """Draw a panel for each call."""
    names = {name: rows.row_of(shape, metric) for name, metric in _CALLS.items()}
    panels = {name: found for name, row in names.items() if (found := _best_first(select(document["results"], row)))}
    if not panels:
        return None
    title, note = _SHAPES[shape]
    note = f"{note} One writer, one reader. Mark: median; end of the line: 99th percentile. {_MARKS}"
    heights = (0.5 + _LINE * len(found) for found in panels.values())
    figure, axes = _chart(f"{title}: time of one call", _notes(note, document, *names.values()), *heights)
    for one, (name, found) in zip(axes, panels.items(), strict=True):
        one.set_title(name)
        medians, p99 = ([result[name] for result in found] for name in ("median", "p99"))
        places = range(len(found))
        colours = _peers_at(one, [result["peer"] for result in found])
        faces = [_face(result["peer"], colour) for result, colour in zip(found, colours, strict=True)]
        one.hlines(places, medians, p99, colours, linewidth=1.4)
        one.scatter(p99, places, 36, colours, marker="|")
        one.scatter(medians, places, 36, facecolors=faces, edgecolors=colours, linewidths=1.4, zorder=3)
        _log_axis(one, "x", "s", "", [*medians, *p99])
        for place, (median, colour) in enumerate(zip(medians, colours, strict=True)):
            _text(one, formatted(median, "s"), (one.get_xlim()[1], place), colour)
        one.grid(axis="y")
    return figure


def _memory(document: Document) -> Figure | None:
    """Draw a panel for each number of workers."""
    found = document["results"]
    counts = sorted({one["x"] for one in select(found, rows.PROPORTIONAL)})
    if not counts:
        return None
    peers = [one["peer"] for one in _best_first(select(found, rows.PROPORTIONAL, counts[-1]))]
    note = "Dark: private memory (USS); pale: the share of memory that several have mapped; together: PSS."
    note += " The memory of the writer or of a server is not included."
    note = _notes(note, document, rows.PROPORTIONAL, rows.PRIVATE)
    title, height = "Memory of each worker that holds the same array of 64 MiB", 0.6 + _LINE * len(peers)
    figure, panels = _chart(title, note, height, ncols=len(counts), sharey=True, sharex=True)
    for axes, count in zip(panels, counts, strict=True):
        axes.set_title(f"{count:.0f} worker{'s' if count > 1 else ''}")
        private, total = (by_peer(found, row, count) for row in (rows.PRIVATE, rows.PROPORTIONAL))
        for place, (peer, colour) in enumerate(zip(peers, _peers_at(axes, peers), strict=True)):
            if peer in total:
                whole = max(0.0, total[peer]["median"] / MIB)
                own = min(whole, max(0.0, private[peer]["median"] / MIB))
                axes.barh(place, own, height=0.66, color=colour)
                axes.barh(place, whole - own, left=own, height=0.66, color=_PALE_BLUE if peer == _OWN else _PALE)
                _text(axes, f"{whole:.0f}" if whole >= 9.95 else f"{whole:.1f}", (whole, place), colour)
        axes.xaxis.set_major_locator(MultipleLocator(64))
        axes.grid(axis="x")
    panels[0].set_xlim(0, 1.3 * max(one["median"] for one in select(found, rows.PROPORTIONAL)) / MIB)
    panels[len(counts) // 2].set_xlabel("MiB for each worker")
    return figure


def _space(document: Document) -> Figure | None:
    found = _best_first(select(document["results"], rows.SPACE_HOLDING))
    if not found:
        return None
    note = "After 100 publishes of an array of 8 MiB. Tick: the same without readers."
    note += " Full bar: crash-safe; hollow: not."
    note += "".join(f" * {one['peer']}: {one['remark']}." for one in found if "remark" in one)
    note = _notes(note, document, rows.SPACE_HOLDING)
    figure, (axes,) = _chart("Memory in use while one reader holds a value", note, 0.5 + _LINE * len(found))
    free = by_peer(document["results"], rows.SPACE_FREE)
    for place, (one, colour) in enumerate(zip(found, _peers_at(axes, [one["peer"] for one in found]), strict=True)):
        held = one["median"] / rows.SPACE_SIZE
        axes.barh(place, held, height=0.6, facecolor=_face(one["peer"], colour), edgecolor=colour, linewidth=1.2)
        tick = free[one["peer"]]["median"] / rows.SPACE_SIZE if one["peer"] in free else 0.0
        axes.plot([tick] * 2, [place - 0.4, place + 0.4], color=_INK, linewidth=1.6)
        _text(axes, digits(held) + (" *" if "remark" in one else ""), (max(held, tick), place), colour)
    axes.set_xlabel("times the size of the value")
    axes.grid(axis="x")
    return figure


def _lines(axes: Any, lines: dict[str, Points], rank: Callable[[Points], float], *, mark: bool = True) -> None:
    """Draw lines; the best ones have a colour, and a label beside the axes, in the order of their ends."""
    best = sorted(lines, key=lambda name: (name != _OWN, rank(lines[name])))[:_COLOURED]
    for name in sorted(lines, key=lambda name: (name in best, name == _OWN)):
        colour = _COLOURS.get(name, _GREY) if name in best else _PALE
        style: dict[str, Any] = {"label": name} if name in best else {}
        if mark:
            is_full = name in CRASH_SAFE or name in _BY_SIZE
            style |= {"marker": "o", "markerfacecolor": colour if is_full else "white"}
        axes.plot(*lines[name], color=colour, linewidth=2.4 if name == _OWN else 1.5, zorder=2.5, **style)
    handles = sorted(axes.get_legend_handles_labels()[0], key=lambda line: -float(line.get_ydata()[-1]))
    colours = [line.get_color() for line in handles]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5), labelcolor=colours)


def _curves(results: Iterable[Result], key: str = "peer") -> dict[str, Points]:
    """Return the medians by x, for each peer or row."""
    lines: dict[str, Points] = {}
    for one in sorted(results, key=lambda one: float(one["x"])):
        xs, ys = lines.setdefault(one[key], ([], []))
        xs.append(one["x"])
        ys.append(one["median"])
    return lines


def _ys(lines: dict[str, Points]) -> list[float]:
    return [y for _, ys in lines.values() for y in ys]


def _tail(document: Document) -> Figure | None:
    panels = {name: _percentiles(select(document["results"], *place)) for name, place in _TAILS.items()}
    panels = {name: lines for name, lines in panels.items() if lines}
    if not panels:
        return None
    note = "One reader beside a writer at full speed. A line ends where the sample has too few reads."
    note += f" In colour: shmsync and the {_COLOURED - 1} others with the lowest 99th percentile. {versions(document)}."
    figure, axes = _chart("Tail latency of reads beside a writer at full speed", note, *[3.0] * len(panels))
    for one, (name, lines) in zip(axes, panels.items(), strict=True):
        _log_axis(one, "y", "s", "time of one read", _ys(lines))
        _lines(one, lines, lambda line: max(y for x, y in zip(*line, strict=True) if x < 101), mark=False)
        one.set_title(name)
        one.set(xscale="log", xlabel="percentile")
        _ticks_at(one.xaxis, (2, 10, 100, 1000, 10_000), lambda value: f"{100 - 100 / value:.6g} %")
        one.grid(axis="x")
    return figure


def _percentiles(results: Iterable[Result]) -> dict[str, Points]:
    """Return lines over 1 / the share of slower reads, as far as at least one read of the sample is slower."""
    lines: dict[str, Points] = {}
    for one in results:
        shares = {float(share): value for share, value in one.get("spread", {}).items()}
        known = [share for share in shares if 0.5 <= share < 1 and one["count"] * (1 - share) >= 1]
        if len(known) > 1:
            lines[one["peer"]] = [1 / (1 - share) for share in known], [shares[share] for share in known]
    return lines


def _throughput(document: Document) -> Figure | None:
    lines = _curves(select(document["results"], rows.READS))
    if not lines:
        return None
    note = f"get() of all readers together, a config of 1 KiB. {_MARKS} Grey: the slowest."
    note = _notes(note, document, rows.READS)
    figure, (axes,) = _chart("Reads per second beside a writer at full speed", note, 3.6)
    _log_axis(axes, "y", "/s", "reads per second", _ys(lines))
    axes.set(xscale="log", xlabel="readers")
    _ticks_at(axes.xaxis, next(iter(lines.values()))[0], lambda value: f"{value:.0f}")
    _lines(axes, lines, lambda line: -line[1][-1])
    return figure


def _updates(document: Document) -> Figure | None:
    counts = rows.UPDATED["int map"]
    found = {count: select(document["results"], rows.update_of("int map", count), POLLING[0]) for count in counts}
    lines = _curves({**one, "x": count / counts[-1]} for count, results in found.items() for one in results)
    if not lines:
        return None
    note = f"A map of a million int keys to 10 floats, which one reader polls: median. {_MARKS}"
    note = _notes(note, document, *(rows.update_of("int map", count) for count in counts))
    figure, (axes,) = _chart("Time to publish a change, by share of the rows that change", note, 3.6)
    _log_axis(axes, "y", "s", "time of one update", _ys(lines))
    axes.set(xscale="log", xlabel="rows that change")
    _ticks_at(axes.xaxis, [count / counts[-1] for count in counts], lambda value: f"{100 * value:g} %")
    axes.grid(axis="x")
    _lines(axes, lines, lambda line: line[1][0])
    return figure


def _size(document: Document) -> Figure | None:
    lines = {
        name: _curves(found)[_OWN] for name, row in _BY_SIZE.items() if (found := select(document["results"], row))
    }
    if not lines:
        return None
    note = f"Median. A read does not copy the value; a write does. {versions(document)}."
    figure, (axes,) = _chart("Time of one call of shmsync, by size of a raw value", note, 3.4)
    xs = next(iter(lines.values()))[0]
    _log_axis(axes, "x", "bytes", "size of the value", xs)
    _ticks_at(axes.xaxis, xs, lambda value: _tick(value, "bytes"))
    _log_axis(axes, "y", "s", "time of one call", _ys(lines))
    _lines(axes, lines, lambda line: line[1][-1])
    return figure


def _readers(document: Document) -> Figure | None:
    lines = _curves(select(document["results"], rows.SCALED_WRITE))
    if not lines:
        return None
    note = f"A config of 1 KiB: median. {versions(document)}."
    figure, (axes,) = _chart("Time of one write, by number of attached readers", note, 3.0)
    xs, ys = lines[_OWN]
    axes.plot(xs, ys, color=_BLUE, marker="o", linewidth=2.4)
    for x, y in zip(xs, ys, strict=True):
        if x == 1 or x >= 64:  # the others are too close to each other
            _text(axes, formatted(y, "s"), (x, y), _BLUE, (4, -12))
    axes.set(xlim=(0, xs[-1] * 1.12), ylim=(0, max(ys) * 1.15), xlabel="attached readers", ylabel="time of one write")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, "s")))
    axes.grid(axis="y")
    return figure


_CHARTS: dict[str, Callable[[Document], Figure | None]] = {
    "latency-config": lambda document: _latencies(document, "config"),
    "latency-array": lambda document: _latencies(document, "array"),
    "latency-map": lambda document: _latencies(document, "int map"),
    "memory": _memory,
    "size": _size,
    "tail": _tail,
    "throughput": _throughput,
    "readers": _readers,
    "space": _space,
    "updates": _updates,
}
