"""What is compared with the peers: each entry is a function that takes the chosen peers and yields their figures."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmark import names
from benchmark.figures import Figure
from benchmark.peers import SHMSYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from benchmark.peers import Peer


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

    def run(self, peers: Iterable[Peer], *, quick: bool) -> list[Figure]:
        """Return the figures, row by row."""
        if importlib.util.find_spec("numpy") is None:
            remark = "not installed: pip install 'shmsync[bench]'"
            return [Figure(row, SHMSYNC.name, "text", remark=remark) for row in self.rows]
        module, _, function = self.place.rpartition(".")
        measure: Callable[..., Iterator[Figure]] = getattr(importlib.import_module(f"benchmark.{module}"), function)
        return sorted(measure(peers, *self.args, quick=quick), key=lambda figure: self.rows.index(figure.row))


def _both(row: str) -> tuple[str, str]:
    return row.format("before"), row.format("after")


COMPARISONS = (
    *(
        Comparison("versus.compare", tuple(names.row_of(shape, metric) for metric in names.METRICS), (shape,))
        for shape in names.VALUES
    ),
    Comparison("load.full_speed", (names.READS, names.WRITES, names.ONE_READ, names.ONE_WRITE, names.UNCHANGED_READS)),
    *(
        Comparison(
            "load.beside_writer",
            tuple(row.format(value) for row in (names.BESIDE, names.ALONE, names.CHANGED_BESIDE, names.CHANGED_PAUSED)),
            (value,),
        )
        for value in names.BESIDE_VALUES
    ),
    Comparison("notice.woken", (names.NOTICE,)),
    Comparison("crash.reader_killed", _both(names.KILLED_READER_WRITE) + _both(names.KILLED_READER_READ)),
    Comparison("crash.writer_killed", (names.FIRST_READ, names.SUCCESSOR)),
    Comparison("load.while_publishing", (names.POLL, names.POLL_CHANGED)),
    *(
        Comparison("space.after_publishes", (row,), (row,))
        for row in (names.SPACE_FREE, names.SPACE_HOLDING, names.SPACE_STOPPED)
    ),
    Comparison("resident.holders", (names.PRIVATE, names.PROPORTIONAL)),
    Comparison("scaling.write_by_readers", (names.SCALED_WRITE,)),
    Comparison("scaling.by_size", (names.SCALED_WRITE_RAW, names.SCALED_CHANGED, names.SCALED_READ, names.SCALED_GET)),
)


def figures(text: str, peers: Iterable[Peer], *, quick: bool) -> Generator[Figure]:
    """Measure the rows whose name contains a text; yield each figure as soon as its comparison is done."""
    for comparison in COMPARISONS:
        if any(text in row for row in comparison.rows):
            yield from (figure for figure in comparison.run(peers, quick=quick) if text in figure.row)
