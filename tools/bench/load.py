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
from bench.peers import SHMSYNC
from bench.processes import call_method, clock, per_peer, run_together, workload
from bench.results import Result, result
from bench.settings import CONFIG_SIZE, WARM_UP, Settings, settings
from bench.timing import Latencies, counted, failures, merged, sleep_until, timed, timed_complete
from bench.values import MARK, check_complete, mark_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bench.peers import Peer
    from bench.processes import State, Workload

_PERIOD = 0.01  # seconds between two publishes, for readers that mostly find nothing new
_PAUSE = 0.002  # between two publishes, each of which is read before the next
_WAKE_PERIOD = 0.005
_WAIT_TIMEOUT = 0.1


@per_peer(rows.READS, "config")
def full_speed(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W4: rates and latencies of reads and writes by number of readers; reads per second if few find a change."""
    with workload(peer, "config", CONFIG_SIZE, readers=0, spare=max(plan.readers)) as work:
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


def beside_writer(peers: Iterable[Peer], value: str, *, quick: bool) -> Iterator[Result]:
    """W4: `get()` of shmsync with and without a writer on the other core, in turn: all, and those with a change."""
    if SHMSYNC in peers:
        shape, size = rows.PINNED[value]
        with workload(SHMSYNC, shape, size, readers=1) as work:
            yield from _beside_writer(work, value, settings(quick=quick))


def _beside_writer(work: Workload, value: str, plan: Settings) -> Iterator[Result]:
    writer, (reader,) = work.writer, work.readers
    cores = sorted(os.sched_getaffinity(0))
    for process, core in zip((writer, reader), cores if len(cores) > 1 else (), strict=False):
        os.sched_setaffinity(process.pid, {core})
    found: dict[str, list[Latencies]] = {row: [] for row in rows.BESIDE_ROWS}
    for _ in range(plan.turns):
        found[rows.BESIDE].append(run_together(plan.turn, (reader, poll), (writer, publish))[0])
        found[rows.ALONE] += run_together(plan.turn, (reader, poll))
        paused = partial(publish_every, period=_PAUSE)
        for row, call in ((rows.CHANGED_BESIDE, publish), (rows.CHANGED_PAUSED, paused)):
            (_, changed), _ = run_together(
                plan.turn, (reader, partial(poll, loop=partial(timed_complete, check=mark_of))), (writer, call)
            )
            found[row].append(changed)
    remark = "" if len(cores) > 1 else "not pinned: there is one core"
    for row, parts in found.items():
        yield result(row.format(value), SHMSYNC.name, "s", merged(parts), remark=remark)


@per_peer(rows.WAKE_LATENCY, "config")
def wake_latency(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W5: from the start of a write until a reader that was blocked runs."""
    with workload(peer, "config", CONFIG_SIZE, readers=0, spare=1) as work:
        work.writer.call(call_method, "writer.notify")
        work.attach(work.readers)
        if work.readers[0].call(can_wait):
            stamped = partial(publish_every, period=_WAKE_PERIOD, stamp=True)
            _, found = run_together(plan.wake_latency, (work.writer, stamped), (work.readers[0], wait_each))
            yield result(rows.WAKE_LATENCY, peer.name, "s", found)


@per_peer(rows.POLL, "array")
def arrays(peer: Peer, plan: Settings) -> Iterator[Result]:
    """W7: the time until a read has returned a complete array."""
    for size in plan.sizes:
        with workload(peer, "array", size, readers=1) as work:
            calls = (
                (work.writer, publish),
                (work.readers[0], partial(poll, loop=partial(timed_complete, check=check_complete))),
            )
            _, (read, changed) = run_together(plan.poll, *calls)
            failed = failures([read])
            reads = len(read.durations)
            remark = f"{failed} in {reads + read.failures.total()} reads" if failed else ""
            if not reads:
                remark = f"never succeeded: {failed}"
            yield result(rows.POLL, peer.name, "s", merged([read]) if reads else [plan.poll], size, remark)
            remark = "" if changed.durations else "no read found a change"
            yield result(rows.POLL_CHANGED, peer.name, "s", merged([changed]), size, remark)


# ------------------------------------------------------------------------------------------------------ in a child


def publish(state: State, begin: float, seconds: float) -> Latencies:
    write, values = state.writer.write, state.values
    return timed(lambda: write(next(values)), begin, seconds)


def publish_every(state: State, begin: float, seconds: float, period: float, *, stamp: bool = False) -> None:
    """Publish at a fixed rate; with `stamp`, a float in the value is the time at which the write began."""
    sleep_until(begin)
    for number in itertools.count(1):
        value = next(state.values)
        if stamp:
            value[MARK][1] = clock()
        state.writer.write(value)
        if clock() >= begin + seconds:
            return
        sleep_until(begin + number * period)


def poll(state: State, begin: float, seconds: float, loop: Callable[..., Any] = timed) -> Any:
    """Call `get` in one of the loops of `timing`."""
    return loop(state.reader.get, begin, seconds)


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
