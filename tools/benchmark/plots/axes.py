"""What stands at axes: a heading, the names of the peers, scales and their ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmark.plots.sheet import BLUE, INK, SHMSYNC
from benchmark.report import Entry, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# In inches.
LABELS = 1.75  # the room for names of peers beside axes
BAR = 0.185  # the height of the line of a peer


def heading(axes: Any, text: str, left: float) -> None:
    """Write above axes, from a place at the left of them, in inches."""
    axes.annotate(
        text, (0, 1), (left * 72, 6), xycoords="axes fraction", textcoords="offset points", weight="bold", va="bottom"
    )


def peers_at(axes: Any, peers: Sequence[str]) -> None:
    """Write the peers beside axes, the first one above, and a line for each."""
    axes.set(yticks=range(len(peers)), ylim=(len(peers) - 0.4, -0.6))
    axes.set_yticklabels(peers)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label in axes.get_yticklabels():
        is_mine = label.get_text() == SHMSYNC
        label.set(color=BLUE if is_mine else INK, weight="bold" if is_mine else "normal")


def best_first(figures: Iterable[Entry]) -> list[Entry]:
    """Sort as the lines of peers are."""
    return sorted(figures, key=lambda figure: float(figure["median"]))


def logarithmic(axes: Any, which: str, unit: str, label: str, limits: tuple[float, float]) -> None:
    """Make an axis, "x" or "y", logarithmic, with ticks in units that suit them."""
    low, high = limits
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log", f"{which}lim": limits, f"{which}label": label})
    subs = (1.0,) if high / low > 400 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))
    axes.grid(axis=which)


def ticks_at(axis: Any, places: Iterable[float], text: Callable[[float], str]) -> None:
    """Let an axis have these ticks only."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))


def tick(value: float, unit: str) -> str:
    """Return a round figure in a unit that suits it."""
    if value == 0:
        return "0"
    number, _, name = shown(value, unit).partition(" ")
    return f"{float(number):g} {name}"


def around(values: Sequence[float], factor: float = 1.5) -> tuple[float, float]:
    """Return limits of a logarithmic axis."""
    return min(values) / factor, max(values) * factor
