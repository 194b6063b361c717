"""What is compared with the peers: each entry is a function that takes the chosen peers and yields their figures."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark.figures import Figure
from benchmark.peers import SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from benchmark.peers import Peer, Shape


@dataclass(frozen=True)
class Comparison:
    """A function that measures rows of several peers together.

    Attributes:
        place: module and function; it is called with the peers, `quick` and `args`.
        rows: the names of the rows that it yields.
        args: of the function, besides.
    """

    place: str
    rows: tuple[str, ...]
    args: tuple[Any, ...] = ()

    def run(self, peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
        """Return an iterator of the figures."""
        if importlib.util.find_spec("numpy") is None:
            remark = "not installed: pip install 'shmsync[bench]'"
            return iter([Figure(row, SHMSYNC.name, "text", remark=remark) for row in self.rows])
        module, _, function = self.place.rpartition(".")
        measure: Callable[..., Iterator[Figure]] = getattr(importlib.import_module(module), function)
        return measure(peers, quick, *self.args)


UNCHANGED, POLLED, IDLE, WRITE = "get(), unchanged", "get(), changed, polling", "get(), changed, idle", "write()"
METRICS = (UNCHANGED, POLLED, IDLE, WRITE)
NAMES: dict[Shape, str] = {"config": "W1 config", "array": "W2 array", "int map": "W3 int map", "str map": "W3 str map"}


def row_of(shape: Shape, metric: str) -> str:
    """Return the name of a row of a workload."""
    return f"{NAMES[shape]}: {metric.replace('get()', 'get() + look-up') if shape.endswith('map') else metric}"


COMPARISONS = tuple(
    Comparison("benchmark.versus.compare", tuple(row_of(shape, metric) for metric in METRICS), (shape,))
    for shape in NAMES
)


def figures(text: str, peers: Iterable[Peer], *, quick: bool) -> Generator[Figure]:
    """Measure the rows whose name contains a text; yield each figure as soon as its comparison is done."""
    for comparison in COMPARISONS:
        if any(text in row for row in comparison.rows):
            yield from (figure for figure in comparison.run(peers, quick=quick) if text in figure.row)
