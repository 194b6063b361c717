"""W4, W5 and W7: a writer and readers that run at the same time.

Each is a process. If there are more processes than cores, the longest calls are those that the scheduler interrupted,
for all peers alike.
"""

from __future__ import annotations

import itertools
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import settings as rows
from bench.processes import call_method, clock, publish_next, run_together, workload
from bench.results import Result, result
from bench.settings import MIB, WARM_UP
from bench.timing import Latencies, counted, failures, merged, sleep_until, timed, timed_complete
from bench.values import MARK, counter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers import Peer
    from bench.processes import State
    from bench.settings import Settings

_PERIOD = 0.01  # seconds between two publishes, for readers that mostly find nothing new
_PAUSE = 0.002  # between two publishes, each of which is read before the next
_WAKE_PERIOD = 0.005
_WAIT_TIMEOUT = 0.1


def full_speed(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W4: rates and latencies of reads and writes by number of readers; reads per second if few find a change."""
    with workload(peer, "config", spare=max(plan.readers)) as work:
        attached = 0
        for count in plan.readers:
            work.attach(work.readers[attached:count])
            attached = count
            polls = [(reader, poll) for reader in work.readers[:count]]
            written, *read = run_together(plan.load, (work.writer, publish), *polls)
            yield result(rows.READS, peer.name, "/s", [sum(part.rate for part in read)], count)
            yield result(rows.WRITES, peer.name, "/s", [written.rate], count)
            yield result(rows.ONE_READ, peer.name, "s", merged(read), count, failures(read))
            yield result(rows.ONE_WRITE, peer.name, "s", merged([written]), count, failures([written]))
        polls = [(reader, partial(poll, loop=counted)) for reader in work.readers]
        _, *read = run_together(plan.load, (work.writer, partial(publish_every, period=_PERIOD)), *polls)
        rate = sum(part.rate for part in read)
        yield result(rows.UNCHANGED_READS, peer.name, "/s", [rate], remark=failures(read))


def beside_writer(peer: Peer, plan: Settings, value: str) -> Iterator[Result]:
    """W4: `get()` with and without a writer on the other core, in turn: all, and those with a change."""
    cores = sorted(os.sched_getaffinity(0))
    found: dict[str, list[Latencies]] = {row: [] for row in rows.beside(value)}
    beside, alone, changed_beside, changed_paused = found.values()
    paused = partial(publish_every, period=_PAUSE)
    with workload(peer, rows.PINNED[value], 8 * MIB, readers=1) as work:
        writer, (reader,) = work.writer, work.readers
        for process, core in zip((writer, reader), cores if len(cores) > 1 else (), strict=False):
            os.sched_setaffinity(process.pid, {core})
        for _ in range(plan.turns):
            beside.append(run_together(plan.turn, (reader, poll), (writer, publish))[0])
            alone += run_together(plan.turn, (reader, poll))
            for changed, call in ((changed_beside, publish), (changed_paused, paused)):
                changed.append(run_together(plan.turn, (reader, poll_complete), (writer, call))[0][1])
    remark = "" if len(cores) > 1 else "not pinned: there is one core"
    for row, parts in found.items():
        yield result(row, peer.name, "s", merged(parts), remark=remark)


def wake_latency(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W5: from the start of a write until a reader that was blocked runs."""
    with workload(peer, "config", spare=1) as work:
        work.writer.call(call_method, "writer.notify")
        work.attach(work.readers)
        if work.readers[0].call(can_wait):
            stamped = partial(publish_every, period=_WAKE_PERIOD, stamp=True)
            _, found = run_together(plan.wake_latency, (work.writer, stamped), (work.readers[0], wait_each))
            yield result(rows.WAKE_LATENCY, peer.name, "s", found)


def arrays(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W7: the time until a read has returned a complete array."""
    for size in plan.sizes:
        with workload(peer, "array", size, readers=1) as work:
            _, (read, changed) = run_together(plan.poll, (work.writer, publish), (work.readers[0], poll_complete))
        failed = failures([read])
        reads = len(read.durations)
        remark = f"{failed} in {reads + read.failures.total()} reads" if failed else ""
        if not reads:
            remark = f"never succeeded: {failed}"
        yield result(rows.POLL, peer.name, "s", merged([read]) if reads else [plan.poll], size, remark)
        remark = "" if changed.durations else "no read found a change"
        yield result(rows.POLL_CHANGED, peer.name, "s", merged([changed]), size, remark)


# ------------------------------------------------------------------------------------------------------ in a child


def publish(state: State, begin: float, seconds: float, warm_up: float = WARM_UP) -> Latencies:
    """Publish at full speed."""
    write, advance, value = state.writer.write, state.source.advance, state.source.value
    return timed(lambda: (advance(), write(value)), begin, seconds, warm_up)


def publish_every(state: State, begin: float, seconds: float, period: float, *, stamp: bool = False) -> None:
    """Publish at a fixed rate; with `stamp`, a float in the value is the time at which the write began."""
    for number in itertools.count():
        sleep_until(begin + number * period)
        if stamp:
            state.source.value[MARK][1] = clock()
        publish_next(state)
        if clock() >= begin + seconds:
            return


def poll(state: State, begin: float, seconds: float, loop: Callable[..., Any] = timed) -> Any:
    """Call `get` in one of the loops of `timing`."""
    return loop(state.reader.get, begin, seconds)


def poll_complete(state: State, begin: float, seconds: float) -> tuple[Latencies, Latencies]:
    """Time reads of complete values."""
    return timed_complete(state.reader.get, begin, seconds, partial(counter_of, state.shape))


def can_wait(state: State) -> bool:
    return hasattr(state.reader, "wait")


def wait_each(state: State, begin: float, seconds: float) -> list[float]:
    """Wait for one version after the other; return how long before that each write had begun."""
    found = []
    wait, get = state.reader.wait, state.reader.get
    last = get()[MARK][1]
    while clock() < begin + seconds:
        wait(_WAIT_TIMEOUT)
        now = clock()
        mark = get()[MARK][1]
        if mark > max(last, begin + WARM_UP):
            found.append(now - mark)
        last = mark
    return found
