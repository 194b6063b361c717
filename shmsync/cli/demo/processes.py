"""The child processes of the demo. Each serves the parent's requests over a pipe and exits if the parent has died."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from shmsync import Reader, Writer, WriterStats
from shmsync.cli.demo import airports

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from threading import Barrier

    from shmsync.cli.demo.airports import AirportTable

TIMEOUT = 30.0
"""Seconds after which an operation counts as hung."""

_CHECK_PARENT_EVERY = 0.5
_BATCH_DURATION = 0.1
_LOOKUPS_PER_READ = 1000


class WriteStarted(NamedTuple):
    """Message: a write of this version has started."""

    number: int


class WriteFinished(NamedTuple):
    """Message: a write has returned, at a time of the monotonic clock, which all processes share."""

    number: int
    seq: int
    at: float
    reset: bool
    stats: WriterStats


class BatchResult(NamedTuple):
    """The result of one batch of a pool worker.

    Attributes:
        lookups: airports looked up.
        torn: versions or airports that were not intact.
        first_seen: (version number, monotonic time of this worker's first read of it).
    """

    lookups: int
    torn: int
    first_seen: list[tuple[int, float]]


def _receive(pipe: Connection) -> str:
    """Wait for the next request of the parent."""
    while not _poll(pipe, _CHECK_PARENT_EVERY):
        pass
    request: str = pipe.recv()
    return request


def _poll(pipe: Connection, timeout: float) -> bool:
    has_request = pipe.poll(timeout)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit
    return has_request


# --------------------------------------------------------------------------------------------------------- the writers


def run_writer(name: str, pipe: Connection, rate: float, grace: float) -> None:
    """Publish at a rate between the requests "begin" and "stop", then unlink on request."""
    with closing(Writer(name, grace_duration=grace)) as writer:  # the name is acquired by the first write
        _receive(pipe)
        try:
            _publish(name, writer, pipe, 1 / rate)
            pipe.send("stopped")
            _receive(pipe)
        finally:
            writer.unlink()
        pipe.send("unlinked")


def _publish(name: str, writer: Writer, pipe: Connection, period: float) -> None:
    value = _newest_table(name)
    due = time.monotonic()
    while True:
        value = airports.next_table(value)
        pipe.send(WriteStarted(value["number"]))
        result = writer.write(value)
        pipe.send(WriteFinished(value["number"], result.version.seq, time.monotonic(), result.reset, writer.stats()))
        due = max(due + period, time.monotonic())
        if _poll(pipe, due - time.monotonic()):
            pipe.recv()
            return


def _newest_table(name: str) -> AirportTable:
    """Return the last version of the previous writer, or the initial table."""
    with Reader(name) as reader:
        value: AirportTable = reader.get(default=None) or airports.initial_table()
        return value


# ------------------------------------------------------------------------------------------------ readers that hold on


def run_reader(name: str, pipe: Connection) -> None:
    """Serve requests: "hold" opens a snapshot, any request after it closes and verifies it, "read" reads."""
    with Reader(name, timeout=TIMEOUT) as reader:
        while True:
            request = _receive(pipe)
            if request == "read":
                pipe.send(reader.get()["number"])
                continue
            with reader.read(check_bytes=True) as snapshot:
                before = xxhash.xxh3_64_intdigest(snapshot.buffer)
                pipe.send(snapshot.version.seq)
                _receive(pipe)
                unchanged = xxhash.xxh3_64_intdigest(snapshot.buffer) == before
            pipe.send(unchanged)


# -------------------------------------------------------------------------------------------------------- pool workers


class _Worker:
    """State of a pool worker: its reader, and the newest version that it has verified."""

    def __init__(self, name: str, barrier: Barrier) -> None:
        self.reader = Reader(name, timeout=TIMEOUT)
        self.barrier = barrier
        self.number = 0
        self.batches = itertools.count()


_worker: _Worker | None = None


def init_worker(name: str, barrier: Barrier) -> None:
    """Initialize a pool worker."""
    global _worker  # noqa: PLW0603 - a pool's initializer cannot pass state to the tasks in another way
    _worker = _Worker(name, barrier)


def run_batch() -> BatchResult:
    """Look up airports in the newest version for a tenth of a second; verify each version when it is first read."""
    assert _worker is not None
    get = _worker.reader.get
    codes = random.Random(next(_worker.batches)).choices(list(get()["airports"]), k=_LOOKUPS_PER_READ)  # noqa: S311
    lookups = torn = 0
    first_seen = []
    now = start = time.monotonic()
    while now < start + _BATCH_DURATION:
        value, now = get(), time.monotonic()
        if value["number"] != _worker.number:
            first_seen.append((value["number"], now))
            torn += not airports.is_intact(value) or value["number"] < _worker.number
            _worker.number = value["number"]
        torn += sum(get()["airports"][code]["icao"] != code for code in codes)
        lookups += len(codes)
    return BatchResult(lookups, torn, first_seen)


def newest_number() -> int:
    """Return the number of the newest version that this worker reads. The barrier makes each worker answer once."""
    assert _worker is not None
    _worker.barrier.wait(TIMEOUT)
    number: int = _worker.reader.get()["number"]
    return number
