"""Lines over an axis, with labels at their ends; what the charts of full speed and of scaling are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from benchmark.plots.axes import LABELS
from benchmark.plots.sheet import BLUE, GREY, PALE, SHMSYNC, WIDTH, Panel, face_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmark.report import Entry

SCALE = 0.85  # inches for the scale at the left of axes
LABELLED = 6
_ROOM = 0.17  # inches for a label
_COLOURS = {
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


@dataclass(frozen=True)
class Line:
    """What is drawn as a line.

    Attributes:
        name: its label.
        xs: of its points.
        ys: of its points.
        colour: None if it is one of the others, which have no label.
        face: what its marks are filled with.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: str | None
    face: str


def of_peer(peer: str, xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Return a line that has the peer's colour."""
    colour = _COLOURS.get(peer, GREY)
    return Line(peer, xs, ys, colour, face_of(peer, colour))


def curve(figures: Iterable[Entry]) -> tuple[list[float], list[float]]:
    """Return the places and the medians of figures, ordered."""
    ordered = sorted(figures, key=lambda figure: float(figure["x"]))
    return [figure["x"] for figure in ordered], [figure["median"] for figure in ordered]


def chosen(lines: Sequence[Line], key: Callable[[Line], float]) -> list[Line]:
    """Leave the colour to shmsync and to the best of the others."""
    best = sorted((line for line in lines if line.name != SHMSYNC), key=key)[: LABELLED - 1]
    named = {SHMSYNC, *(line.name for line in best)}
    return [line if line.name in named else replace(line, colour=None) for line in lines]


def labelled(lines: Iterable[Line]) -> list[str]:
    """Return the names of those that have labels."""
    return [line.name for line in lines if line.colour]


def panel(top: float, height: float) -> Panel:
    """Return a place with room for a scale at the left and labels at the right."""
    return Panel(SCALE, top, WIDTH - SCALE - LABELS, height)


def draw_lines(axes: Any, lines: Sequence[Line], *, mark: bool = True) -> None:
    """Draw lines, those with labels above; write the labels at their ends, where they do not overlap."""
    for line in sorted(lines, key=lambda line: (line.colour is not None, line.name == SHMSYNC)):
        width = 2.4 if line.name == SHMSYNC else 1.5
        how: dict[str, Any] = {"color": line.colour or PALE[GREY], "linewidth": width}
        if mark and line.colour:
            how |= {"marker": "o", "markersize": 5, "markerfacecolor": line.face, "markeredgewidth": 1.4}
        axes.plot(line.xs, line.ys, **how)
    named = sorted((line for line in lines if line.colour), key=lambda line: line.ys[-1])
    places = [_place(axes, line.ys[-1]) for line in named]
    room = _ROOM / (axes.get_position().height * axes.figure.get_figheight())
    for line, place in zip(named, _apart(places, room), strict=True):
        _label(axes, line, place)


def _label(axes: Any, line: Line, place: float) -> None:
    is_near = line.xs[-1] > 0.5 * axes.get_xlim()[1]
    leader = {"arrowstyle": "-", "color": line.colour, "linewidth": 0.6, "linestyle": "-" if is_near else (0, (1, 3))}
    axes.annotate(
        line.name,
        (line.xs[-1], line.ys[-1]),
        (1.03, place),
        textcoords="axes fraction",
        va="center_baseline",
        color=line.colour,
        weight="bold" if line.name == SHMSYNC else "normal",
        annotation_clip=False,
        arrowprops=leader | {"shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)},
    )


def _place(axes: Any, y: float) -> float:
    """Return where on a logarithmic axis, from 0 to 1."""
    low, high = axes.get_ylim()
    return math.log(y / low) / math.log(high / low)


def _apart(places: Iterable[float], room: float) -> list[float]:
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
