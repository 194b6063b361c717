"""Workload W6: readers and writers that are killed at random moments, and what the others notice.

A reader is killed while it reads a large array as fast as it can. So it dies inside a read, or while it holds a lock or
a view, as often as its reads last. The writer is killed while it publishes large arrays non-stop.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark import names
from benchmark.cast import Cast, attach, cast, each
from benchmark.children import die_with_parent
from benchmark.figures import MIB, Figure
from benchmark.load import poll, publish
from benchmark.phases import GUARD, LEAD, phases
from benchmark.timing import clock, longest, sleep_until
from benchmark.workloads import check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmark.children import Child, Held
    from benchmark.peers import Peer

SIZE = 8 * MIB
LARGE = 64 * MIB
_READER_MOMENTS = (0.05, 0.1)  # of a kill, in seconds after the beginning
_WRITER_MOMENTS = (0.1, 0.3)
_AFTER = 0.1
_LATER = 0.1
_NEW = 1e6  # a number that no array before was filled with
_BLOCKED = f"blocked for ever (> {GUARD:.0f} s)"


# ------------------------------------------------------------------------------------------------- a reader is killed


class Moments(NamedTuple):
    """When a round begins, is split by a kill, and ends."""

    begin: float
    kill: float
    end: float


def reader_killed(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Kill readers; measure the longest write and the longest read of another reader that end before and after that."""
    return each(
        peers,
        names.KILLED_READER_WRITE.format("after"),
        "array",
        partial(_reader_killed, rounds=phases(quick=quick).reader_kills),
    )


def _reader_killed(peer: Peer, rounds: int) -> Iterator[Figure]:
    writes, reads = Findings(), Findings()
    with cast(peer, "array", SIZE, readers=1, spare=rounds) as actors:
        for victim in actors.readers[1:]:
            _kill_reader(actors, victim, writes, reads)
            if writes.blocked or reads.blocked:
                break
    yield from writes.figures(names.KILLED_READER_WRITE, peer, rounds)
    yield from reads.figures(names.KILLED_READER_READ, peer, rounds)


def _kill_reader(actors: Cast, victim: Child, writes: Findings, reads: Findings) -> None:
    victim.ask(attach, actors.peer, actors.shape, actors.address)  # without a read: the first one may block
    begin = clock() + LEAD
    kill = begin + random.uniform(*_READER_MOMENTS)
    moments = Moments(begin, kill, kill + _AFTER)
    waits = (
        (writes, actors.writer.start(publish_around, moments)),
        (reads, actors.readers[0].start(read_around, moments)),
    )
    victim.start(poll, begin, moments.end + GUARD - begin)
    sleep_until(kill)
    actors.litter.note(victim.pid)
    victim.kill()
    for findings, wait in waits:
        findings.take(wait, moments.end + GUARD)


class Findings:
    """What one of the processes that go on noticed of the kills."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        self.failed: Counter[str] = Counter()
        self.blocked = False

    def take(self, wait: Callable[[float], tuple[float, float, Counter[str]]], deadline: float) -> None:
        """Take in the answer of a round."""
        try:
            before, after, failed = wait(max(0.0, deadline - clock()))
        except TimeoutError:
            self.blocked = True
            self.after.append(GUARD)
            return
        self.before.append(before)
        self.after.append(after)
        self.failed += failed

    def figures(self, row: str, peer: Peer, rounds: int) -> Iterator[Figure]:
        """Yield them as Figures: a value for each kill."""
        remarks = [f"{count} x {name}" for name, count in self.failed.items()]
        if self.blocked:
            remarks.insert(0, f"{_BLOCKED} after kill {len(self.after)} of {rounds}")
        yield Figure(row.format("before"), peer.name, "s", tuple(self.before))
        yield Figure(row.format("after"), peer.name, "s", tuple(self.after), remark=", ".join(remarks))


# ------------------------------------------------------------------------------------------------ the writer is killed


def writer_killed(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Kill writers; measure the first whole read after that, and how long a successor takes to publish."""
    return each(peers, names.FIRST_READ, "array", partial(_writer_killed, rounds=phases(quick=quick).writer_kills))


class Aftermath(NamedTuple):
    """What became of one round: seconds, and what to say of them."""

    read: float
    read_remark: str
    takeover: float | None
    takeover_remark: str


def _writer_killed(peer: Peer, rounds: int) -> Iterator[Figure]:
    found = [_kill_writer(peer) for _ in range(rounds)]
    reads = tuple(one.read for one in found)
    takeovers = tuple(one.takeover for one in found if one.takeover is not None)
    yield Figure(names.FIRST_READ, peer.name, "s", reads, remark=_tally([one.read_remark for one in found]))
    remark = _tally([one.takeover_remark for one in found])
    yield Figure(names.SUCCESSOR, peer.name, "s" if takeovers else "text", takeovers, remark=remark)


def _tally(remarks: list[str]) -> str:
    """Say how often each thing was said."""
    return ", ".join(f"{remark} in {remarks.count(remark)} of {len(remarks)}" for remark in dict.fromkeys(remarks))


def _kill_writer(peer: Peer) -> Aftermath:
    with cast(peer, "array", LARGE, readers=1, spare=1) as actors:
        writer, (reader, successor) = actors.writer, actors.readers
        successor.ask(prepare)
        begin = clock() + LEAD
        writer.start(publish, begin, _WRITER_MOMENTS[1] + GUARD)
        sleep_until(begin + random.uniform(*_WRITER_MOMENTS))
        actors.litter.note(writer.pid)
        writer.kill()
        try:
            read, remark = reader.start(read_first)(2 * GUARD)
        except TimeoutError:
            return Aftermath(GUARD, _BLOCKED, None, "nobody left to see it")
        return Aftermath(read, remark, *_succeed(peer, actors.address, reader, successor))


def _succeed(peer: Peer, address: Any, reader: Child, successor: Child) -> tuple[float | None, str]:
    try:
        takeover = successor.start(take_over, peer, address)(GUARD)
    except TimeoutError:
        return GUARD, _BLOCKED
    except RuntimeError as error:
        return None, f"failed: {str(error).strip().splitlines()[-1]}"
    if takeover is None:
        return None, "no take-over"
    try:
        return takeover, "seen by the old readers" if reader.start(see)(2 * GUARD) else "not seen by the old readers"
    except TimeoutError:
        return takeover, "the old readers are blocked"


# --------------------------------------------------------------------------------------------------------- in a child


def publish_around(held: Held, moments: Moments) -> tuple[float, float, Counter[str]]:
    """Publish at full speed; return the longest write before and after the kill, and what failed."""
    die_with_parent()
    write, versions = held.writer.write, held.values
    return longest(lambda: write(next(versions)), *moments)


def read_around(held: Held, moments: Moments) -> tuple[float, float, Counter[str]]:
    """Read at full speed; return the same of reads. The look whether the value is whole is part of them."""
    get = held.reader.get
    return longest(lambda: check_whole(get()), *moments)


def read_first(held: Held) -> tuple[float, str]:
    """Return how long it took until a read returned a whole value, and how whole it and the next ones were."""
    failed: Counter[str] = Counter()
    first = None
    start = now = clock()
    while now < (start + GUARD if first is None else start + first + _LATER):
        try:
            value = held.reader.get()
            took = clock() - start
            check_whole(value)
            first = took if first is None else first
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            failed[type(error).__name__] += 1
        value = None
        now = clock()
    if first is None:
        return GUARD, "never whole: " + ", ".join(failed)
    return first, ", ".join(sorted(failed)).lower() if failed else "whole"


def prepare(held: Held) -> None:
    """Have a value ready."""
    held.value = np.full(LARGE // 4, _NEW, np.float32)


def take_over(held: Held, peer: Peer, address: Any) -> float | None:
    """Publish as the successor of a dead writer; return what that took."""
    start = clock()
    writer = peer.successor("array", LARGE, address)
    if writer is None:
        return None
    held.closing.callback(writer.close)
    writer.write(held.value)
    return clock() - start


def see(held: Held) -> bool:
    """Tell whether the reader gets what the successor has published, whole, before long."""
    end = clock() + 1
    while clock() < end:
        value = held.reader.get()
        if value[0] == _NEW:
            check_whole(value)
            return True
        value = None
    return False
