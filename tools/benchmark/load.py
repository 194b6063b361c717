"""Workloads W4 and W7: readers and a writer at full speed at the same time.

Each is a process of its own. Where there are more of them than cores, the longest calls are those that were interrupted
by the scheduler, for every peer alike.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmark import names
from benchmark.cast import CONFIG, Cast, at_once, cast, each, pin, pinned_cores
from benchmark.figures import Figure
from benchmark.peers import SHMSYNC
from benchmark.phases import Phases, phases
from benchmark.timing import Latencies, clock, counted, failures, merged, sleep_until, timed, timed_whole
from benchmark.workloads import check_whole, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Held
    from benchmark.peers import Peer

_TICK = 0.01  # seconds between two versions that are seldom
_PAUSE = 0.002  # between two of which each is read, but in peace


def full_speed(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure W4: reads and writes per second, and what one of them takes, with 1, 2 and 4 readers.

    Then the reads per second of 4 readers when one in many finds something new.
    """
    return each(peers, names.READS, "config", partial(_full_speed, plan=phases(quick=quick)))


def _full_speed(peer: Peer, plan: Phases) -> Iterator[Figure]:
    with cast(peer, "config", CONFIG, readers=0, spare=max(plan.readers)) as actors:
        attached = 0
        for count in plan.readers:
            actors.attach(actors.readers[attached:count])
            attached = count
            written, *read = at_once(
                plan.load, (actors.writer, publish, ()), *((reader, poll, ()) for reader in actors.readers[:count])
            )
            rates = (sum(part.rate for part in read),), (written.rate,)
            failed = failures(read), failures([written])
            yield Figure(names.READS, peer.name, "/s", rates[0], count)
            yield Figure(names.WRITES, peer.name, "/s", rates[1], count)
            yield Figure(names.ONE_READ, peer.name, "s", merged(read), count, failed[0])
            yield Figure(names.ONE_WRITE, peer.name, "s", merged([written]), count, failed[1])
        _, *read = at_once(
            plan.load,
            (actors.writer, publish_in_time, (_TICK,)),
            *((reader, count_reads, ()) for reader in actors.readers),
        )
        yield Figure(names.UNCHANGED_READS, peer.name, "/s", (sum(part.rate for part in read),), remark=failures(read))


def beside_writer(peers: Iterable[Peer], value: str, *, quick: bool) -> Iterator[Figure]:
    """Measure what `get()` takes beside a writer and without one, each on a core of its own, in turn; of shmsync.

    Then the same of those that find a change only, beside a writer that pauses instead of none.
    """
    if SHMSYNC in peers:
        shape, size = names.BESIDE_VALUES[value]
        with cast(SHMSYNC, shape, size, readers=1) as actors:
            yield from _beside_writer(actors, value, phases(quick=quick))


def _beside_writer(actors: Cast, value: str, plan: Phases) -> Iterator[Figure]:
    writer, (reader,) = actors.writer, actors.readers
    cores = pinned_cores()
    for process, core in zip((writer, reader), cores, strict=True):
        process.ask(pin, core)
    found: dict[str, list[Latencies]] = {
        row: [] for row in (names.BESIDE, names.ALONE, names.CHANGED_BESIDE, names.CHANGED_PAUSED)
    }
    for _ in range(plan.turns):
        found[names.BESIDE].append(at_once(plan.turn, (reader, poll, ()), (writer, publish, ()))[0])
        found[names.ALONE] += at_once(plan.turn, (reader, poll, ()))
        for row, act in ((names.CHANGED_BESIDE, (publish, ())), (names.CHANGED_PAUSED, (publish_in_time, (_PAUSE,)))):
            (_, changed), _ = at_once(plan.turn, (reader, poll_marked, ()), (writer, *act))
            found[row].append(changed)
    remark = "" if None not in cores else "not pinned: there is one core"
    for row, parts in found.items():
        yield Figure(row.format(value), SHMSYNC.name, "s", merged(parts), remark=remark)


def while_publishing(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure W7: the time until a read has returned a whole array."""
    return each(peers, names.POLL, "array", partial(_while_publishing, plan=phases(quick=quick)))


def _while_publishing(peer: Peer, plan: Phases) -> Iterator[Figure]:
    for size in plan.sizes:
        with cast(peer, "array", size, readers=1) as actors:
            _, (read, changed) = at_once(plan.poll, (actors.writer, publish, ()), (actors.readers[0], poll_whole, ()))
            failed = failures([read])
            remark = f"{failed} in {read.count + read.failures.total()} reads" if failed else ""
            if read.count == 0:
                remark = f"never succeeded: {failed}"
            yield Figure(names.POLL, peer.name, "s", merged([read]) or (plan.poll,), size, remark)
            yield Figure(names.POLL_CHANGED, peer.name, "s", merged([changed]), size, "" if changed.count else "none")


# --------------------------------------------------------------------------------------------------------- in a child


def publish(held: Held, begin: float, seconds: float) -> Latencies:
    """Publish at full speed."""
    write, versions = held.writer.write, held.values
    return timed(lambda: write(next(versions)), begin, seconds)


def publish_in_time(held: Held, begin: float, seconds: float, tick: float) -> None:
    """Publish once in so many seconds."""
    sleep_until(begin)
    for number in itertools.count(1):
        held.writer.write(next(held.values))
        if clock() >= begin + seconds:
            return
        time.sleep(max(0.0, begin + number * tick - clock()))


def poll(held: Held, begin: float, seconds: float) -> Latencies:
    """Read at full speed."""
    return timed(held.reader.get, begin, seconds)


def count_reads(held: Held, begin: float, seconds: float) -> Latencies:
    """Read at full speed without a look at the clock after each."""
    return counted(held.reader.get, begin, seconds)


def poll_whole(held: Held, begin: float, seconds: float) -> tuple[Latencies, Latencies]:
    """Read arrays and look whether they are whole; return all reads, and those that found a change."""
    return timed_whole(held.reader.get, check_whole, begin, seconds)


def poll_marked(held: Held, begin: float, seconds: float) -> tuple[Latencies, Latencies]:
    """Read at full speed and look which version it is; return all reads, and those that found a change."""
    return timed_whole(held.reader.get, mark_of, begin, seconds)
