"""The rows that compare shmsync with its peers, in the order in which they are measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench import crash, load, memory, scaling
from bench import settings as rows
from bench.compare import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from bench.peers import Peer
    from bench.results import Result


class Comparison(NamedTuple):
    """A function that measures several peers, and the names of its rows."""

    measure: Callable[..., Iterator[Result]]
    rows: tuple[str, ...]


def _around(*names: str) -> tuple[str, ...]:
    return tuple(name.format(when) for name in names for when in ("before", "after"))


_COMPARISONS = (
    *(
        Comparison(partial(compare, shape=shape), tuple(rows.row_of(shape, metric) for metric in rows.METRICS))
        for shape in rows.WORKLOADS
    ),
    Comparison(load.full_speed, (rows.READS, rows.WRITES, rows.ONE_READ, rows.ONE_WRITE, rows.UNCHANGED_READS)),
    *(
        Comparison(partial(load.beside_writer, value=value), tuple(row.format(value) for row in rows.BESIDE_ROWS))
        for value in rows.PINNED
    ),
    Comparison(load.wake_latency, (rows.WAKE_LATENCY,)),
    Comparison(crash.reader_killed, _around(rows.KILLED_READER_WRITE, rows.KILLED_READER_READ)),
    Comparison(crash.writer_killed, (rows.FIRST_READ, rows.NEXT_WRITER)),
    Comparison(load.arrays, (rows.POLL, rows.POLL_CHANGED)),
    *(
        Comparison(partial(memory.after_publishes, row=row), (row,))
        for row in (rows.SPACE_FREE, rows.SPACE_HOLDING, rows.SPACE_STOPPED)
    ),
    Comparison(memory.holders, (rows.PRIVATE, rows.PROPORTIONAL)),
    Comparison(scaling.write_by_readers, (rows.SCALED_WRITE,)),
    Comparison(scaling.by_size, (rows.SCALED_WRITE_RAW, rows.SCALED_CHANGED, rows.SCALED_READ, rows.SCALED_GET)),
)


def measured(text: str, peers: list[Peer], *, quick: bool) -> Generator[list[Result]]:
    """Measure the rows whose name contains a text; yield the results of each row."""
    for comparison in _COMPARISONS:
        if any(text in row for row in comparison.rows):
            results = list(comparison.measure(peers, quick=quick))
            for row in comparison.rows:
                if text in row and (found := [one for one in results if one["row"] == row]):
                    yield found
