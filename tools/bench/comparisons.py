"""The rows that compare shmsync with its peers, in the order in which they are measured."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bench import crash, load, memory, replication, scaling, sustained, updates
from bench import settings as rows
from bench.compare import compare
from bench.peers import SHMSYNC
from bench.processes import BLOCKED, last_line
from bench.results import result

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from bench.peers import Peer
    from bench.results import Result


class Comparison(NamedTuple):
    """A function that measures the peers, and the names of its rows.

    With a shape, it measures one peer at a time; one that does not support the shape, fails or hangs has the reason as
    its result in the first row.
    """

    measure: Callable[..., Iterator[Result]]
    rows: Sequence[str]
    shape: str = ""
    is_own: bool = False  # measures shmsync only

    def results(self, peers: Sequence[Peer], *, quick: bool) -> Iterator[Result]:
        """Measure all peers."""
        if not self.shape:
            yield from self.measure(peers, quick=quick)
        for peer in [SHMSYNC] if self.is_own else peers if self.shape else ():
            reason = peer.unsupported(self.shape)
            try:
                yield from self.measure(peer, rows.QUICK if quick else rows.FULL) if reason is None else ()
            except TimeoutError:
                reason = BLOCKED
            except RuntimeError as error:
                reason = f"failed: {last_line(error)}"
            if reason is not None:
                yield result(self.rows[0], peer.name, remark=reason)


_COMPARISONS = (
    *(
        Comparison(partial(compare, shape=shape), [rows.row_of(shape, metric) for metric in rows.METRICS])
        for shape in rows.WORKLOADS
    ),
    Comparison(
        load.full_speed, (rows.READS, rows.WRITES, rows.ONE_READ, rows.ONE_WRITE, rows.UNCHANGED_READS), "config"
    ),
    *(
        Comparison(partial(load.beside_writer, value=value), rows.beside(value), shape, is_own=True)
        for value, shape in rows.PINNED.items()
    ),
    Comparison(load.wake_latency, (rows.WAKE_LATENCY,), "config"),
    Comparison(crash.reader_killed, rows.READER_KILLED, "array"),
    Comparison(crash.writer_killed, (rows.FIRST_READ, rows.NEXT_WRITER), "array"),
    Comparison(load.arrays, (rows.POLL, rows.POLL_CHANGED), "array"),
    Comparison(partial(updates.compare, shape="int map"), rows.rows_of("int map")),
    Comparison(partial(updates.compare, shape="row map"), rows.rows_of("row map") + rows.rows_of("config")),
    Comparison(sustained.updates, (rows.SUSTAINED, rows.SUSTAINED_MEMORY, rows.SUSTAINED_SIZE), "int map", is_own=True),
    Comparison(replication.versions, rows.REPLICATION, "array", is_own=True),
    *(
        Comparison(partial(memory.after_publishes, row=row, reader=reader), (row,), "array", is_own)
        for row, reader, is_own in (
            (rows.SPACE_FREE, None, False),
            (rows.SPACE_HOLDING, memory.holding, False),
            (rows.SPACE_STOPPED, memory.stopped, True),
        )
    ),
    Comparison(memory.holders, (rows.PRIVATE, rows.PROPORTIONAL), "array"),
    Comparison(scaling.write_by_readers, (rows.SCALED_WRITE, rows.SCALED_ATTACH), "config", is_own=True),
    Comparison(
        scaling.by_size,
        (rows.SCALED_WRITE_RAW, rows.SCALED_CHANGED, rows.SCALED_READ, rows.SCALED_GET),
        "config",
        is_own=True,
    ),
)


def measured(text: str, peers: Sequence[Peer], *, quick: bool) -> Generator[list[Result]]:
    """Measure the rows whose name contains a text; yield the results of each row."""
    for comparison in _COMPARISONS:
        if any(text in row for row in comparison.rows):
            results = list(comparison.results(peers, quick=quick))
            for row in comparison.rows:
                if text in row and (found := [one for one in results if one["row"] == row]):
                    yield found
