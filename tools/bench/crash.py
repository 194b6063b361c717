"""W6: what other processes notice when a reader or the writer is killed at a random moment.

A reader is killed while it reads a large array in a loop: so it dies inside a read, or holding a lock or a view, as
often as its reads last. The writer is killed while it publishes large arrays at full speed.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import settings as rows
from bench.load import poll, publish
from bench.processes import BLOCKED, attach, clock, last_line, workload
from bench.results import Result, result
from bench.settings import LARGE, MIB, START_DELAY, TIMEOUT
from bench.timing import listed, sleep_until, timed
from bench.values import counter_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.peers import Peer
    from bench.processes import Child, State, Workload
    from bench.settings import Settings
    from bench.timing import Latencies

_SIZE = 8 * MIB
_READER_KILL = (0.05, 0.1)  # seconds after the start
_WRITER_KILL = (0.1, 0.3)
_AFTER = 0.1
_SETTLE = 0.1  # seconds in which further reads after the first complete one are checked
_NEW = 1e6  # not in any array of the killed writer

Outcome = tuple[float | None, str]
"""Seconds, if there are any, and a remark."""


def reader_killed(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Kill readers; measure the longest write, and the longest read of another reader, before and after the kill."""
    observed = [Observed(), Observed()]
    with workload(peer, "array", _SIZE, readers=1, spare=plan.reader_kills) as work:
        for victim in work.readers[1:]:
            _kill_reader(work, victim, observed)
            if any(one.blocked for one in observed):
                break
    for number, one in enumerate(observed):
        before, after = rows.READER_KILLED[2 * number : 2 * number + 2]
        remark = f"{BLOCKED} after kill {len(one.after)} of {plan.reader_kills}" if one.blocked else ""
        remark = ", ".join(filter(None, (remark, listed(one.failures))))
        yield result(before, peer.name, "s", one.before)
        yield result(after, peer.name, "s", one.after, remark=remark)


@dataclass
class Observed:
    """The longest calls of a process before and after each kill of another one."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    blocked: bool = False

    def add(self, process: Child, kill: float, end: float) -> None:
        """Add the result of one kill."""
        try:
            found = process.result(max(0.0, end + TIMEOUT - clock()))
        except TimeoutError:
            self.blocked = True
            self.after.append(TIMEOUT)
            return
        before, after = found.longest(kill, end)
        self.before.append(before)
        self.after.append(after)
        self.failures += found.failures


def _kill_reader(work: Workload, victim: Child, observed: Iterable[Observed]) -> None:
    victim.call(attach, work.peer, work.shape, work.address)  # without a read: the first one may block
    begin = clock() + START_DELAY
    kill = begin + random.uniform(*_READER_KILL)
    end = kill + _AFTER
    work.writer.submit(publish, begin, end - begin, 0.0)
    work.readers[0].submit(read_complete, begin, end - begin)
    victim.submit(poll, begin, end + TIMEOUT - begin)
    sleep_until(kill)
    work.kill(victim)
    for one, process in zip(observed, (work.writer, work.readers[0]), strict=True):
        one.add(process, kill, end)


def writer_killed(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Kill writers; measure the first complete read after that, and how long the next writer takes to publish."""
    kills = plan.writer_kills
    outcomes = [_kill_writer(peer) for _ in range(kills)]
    for row, found in zip((rows.FIRST_READ, rows.NEXT_WRITER), zip(*outcomes, strict=True), strict=True):
        remarks = Counter(remark for _, remark in found)
        remark = ", ".join(f"{remark} in {count} of {kills}" for remark, count in remarks.items())
        yield result(row, peer.name, "s", [value for value, _ in found if value is not None], remark=remark)


def _kill_writer(peer: Peer) -> tuple[Outcome, Outcome]:
    with workload(peer, "array", LARGE, readers=1, spare=1) as work:
        reader, successor = work.readers
        successor.call(prepare)
        begin = clock() + START_DELAY
        work.writer.submit(publish, begin, _WRITER_KILL[1] + TIMEOUT)
        sleep_until(begin + random.uniform(*_WRITER_KILL))
        work.kill(work.writer)
        try:
            read = reader.submit(read_first)(2 * TIMEOUT)
        except TimeoutError:
            return (TIMEOUT, BLOCKED), (None, "no reader left")
        return read, _publish_again(work, reader, successor)


def _publish_again(work: Workload, reader: Child, successor: Child) -> Outcome:
    try:
        seconds = successor.submit(take_over, work.peer, work.address)(TIMEOUT)
    except TimeoutError:
        return TIMEOUT, BLOCKED
    except RuntimeError as error:
        return None, f"failed: {last_line(error)}"
    if seconds is None:
        return None, "not supported"
    try:
        return seconds, "read by attached readers" if reader.submit(sees)(2 * TIMEOUT) else "not read"
    except TimeoutError:
        return seconds, "attached readers are blocked"


# ------------------------------------------------------------------------------------------------------ in a child


def read_complete(state: State, begin: float, seconds: float) -> Latencies:
    get = state.reader.get
    return timed(lambda: counter_of("array", get()), begin, seconds, 0.0)


def read_first(state: State) -> Outcome:
    """Return the time until a read returned a complete value, and the failures of that one and the next ones."""
    failed: Counter[str] = Counter()
    first = None
    start = now = clock()
    while now < (start + TIMEOUT if first is None else start + first + _SETTLE):
        try:
            value = state.reader.get()
            duration = clock() - start
            counter_of("array", value)
            first = duration if first is None else first
        except Exception as error:  # noqa: BLE001 - a peer may raise anything
            failed[type(error).__name__] += 1
        value = None
        now = clock()
    if first is None:
        return TIMEOUT, f"never complete: {', '.join(failed)}"
    return first, ", ".join(sorted(failed)) or "complete"


def prepare(state: State) -> None:
    state.value = np.full(LARGE // 4, _NEW, np.float32)


def take_over(state: State, peer: Peer, address: Any) -> float | None:
    """Publish as the next writer; return how long that took, or None if the peer does not support it."""
    start = clock()
    if not peer.writer.can_replace:
        return None
    writer = peer.writer("array", LARGE, address)
    state.closing.callback(writer.close)
    writer.write(state.value)
    return clock() - start


def sees(state: State) -> bool:
    """Return whether the reader gets, within a second, what the next writer has published."""
    end = clock() + 1
    while clock() < end:
        value = state.reader.get()
        if value[0] == _NEW:
            counter_of("array", value)
            return True
        value = None
    return False
