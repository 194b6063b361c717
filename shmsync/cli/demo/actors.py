"""What the processes of the demo do. Each answers to the parent over a pipe and ends when the parent is gone."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from shmsync import Reader, Writer, WriterStats
from shmsync.cli.demo import table

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from threading import Barrier

    from shmsync.cli.demo.table import Table

PATIENCE = 30.0
"""Seconds after which something that should have happened is taken to hang."""

_LOOK_EVERY = 0.5
_BATCH = 0.1
_LOOKUPS_PER_LOOK = 1000


class Writing(NamedTuple):
    """A write begins."""

    number: int


class Published(NamedTuple):
    """A write has returned, at a time on the monotonic clock that all processes share."""

    number: int
    seq: int
    at: float
    reset: bool
    stats: WriterStats


class Tally(NamedTuple):
    """What a pool worker did in one batch.

    Attributes:
        lookups: airports looked up.
        torn: versions or airports that were not whole.
        first_seen: (version number, time of the first look at it by this worker).
    """

    lookups: int
    torn: int
    first_seen: list[tuple[int, float]]


def _asked(pipe: Connection) -> str:
    """Wait until the parent asks for something."""
    while not _asks(pipe, _LOOK_EVERY):
        pass
    request: str = pipe.recv()
    return request


def _asks(pipe: Connection, seconds: float) -> bool:
    asks = pipe.poll(seconds)
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        raise SystemExit
    return asks


# -------------------------------------------------------------------------------------------------------- the writers


def write(name: str, pipe: Connection, rate: float, grace: float) -> None:
    """Stand by; when asked to begin, publish at a rate until asked to stop, then unlink when asked to."""
    with Writer(name, grace_duration=grace) as writer:
        _asked(pipe)
        try:
            _publish(name, writer, pipe, 1 / rate)
            pipe.send("stopped")
            _asked(pipe)
        finally:
            writer.unlink()
        pipe.send("unlinked")


def _publish(name: str, writer: Writer, pipe: Connection, period: float) -> None:
    value = _newest(name)
    due = time.monotonic()
    while True:
        value = table.revised(value)
        pipe.send(Writing(value["number"]))
        result = writer.write(value)
        pipe.send(Published(value["number"], result.version.seq, time.monotonic(), result.reset, writer.stats()))
        due = max(due + period, time.monotonic())
        if _asks(pipe, due - time.monotonic()):
            pipe.recv()
            return


def _newest(name: str) -> Table:
    """Return what a predecessor published last, or the first table."""
    with Reader(name) as reader:
        value: Table = reader.get(None) or table.first()
        return value


# --------------------------------------------------------------------------------------------- readers with a snapshot


def hold(name: str, pipe: Connection) -> None:
    """Do as asked: hold a snapshot, check and leave it, read the newest version."""
    with Reader(name, timeout=PATIENCE) as reader:
        while True:
            request = _asked(pipe)
            if request == "end":
                return
            if request == "read":
                pipe.send(reader.get()["number"])
                continue
            with reader.read() as snapshot:
                before = xxhash.xxh3_64_intdigest(snapshot.buffer)
                pipe.send(snapshot.version.seq)
                _asked(pipe)
                unchanged = xxhash.xxh3_64_intdigest(snapshot.buffer) == before == snapshot.version.checksum
            pipe.send(unchanged)


# ---------------------------------------------------------------------------------------------------- pool workers


class _Desk:
    """A pool worker's place: its reader, and what it has seen."""

    def __init__(self, name: str, all_here: Barrier) -> None:
        self.reader = Reader(name, timeout=PATIENCE)
        self.all_here = all_here
        self.number = 0
        self.batches = itertools.count()


_desk: _Desk | None = None


def sit_down(name: str, all_here: Barrier) -> None:
    """Prepare a pool worker: the pool's initializer."""
    global _desk  # noqa: PLW0603 - a pool hands its workers no other place
    _desk = _Desk(name, all_here)


def look_up() -> Tally:
    """Look airports up in the newest version for a tenth of a second; check each version at first sight."""
    assert _desk is not None
    get = _desk.reader.get
    codes = random.Random(next(_desk.batches)).choices(list(get()["airports"]), k=_LOOKUPS_PER_LOOK)  # noqa: S311
    lookups = torn = 0
    first_seen = []
    now = start = time.monotonic()
    while now < start + _BATCH:
        value, now = get(), time.monotonic()
        if value["number"] != _desk.number:
            first_seen.append((value["number"], now))
            torn += not table.is_whole(value) or value["number"] < _desk.number
            _desk.number = value["number"]
        torn += sum(get()["airports"][code]["icao"] != code for code in codes)
        lookups += len(codes)
    return Tally(lookups, torn, first_seen)


def number_seen() -> int:
    """Return the newest version's number as this worker sees it; each worker of the pool answers once."""
    assert _desk is not None
    _desk.all_here.wait(PATIENCE)
    number: int = _desk.reader.get()["number"]
    return number
