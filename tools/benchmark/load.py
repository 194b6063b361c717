"""Workloads W4 and W7: readers and a writer at full speed at the same time.

Each is a process of its own. Where there are more of them than cores, the longest calls are those that were interrupted
by the scheduler, for every peer alike.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

from benchmark.cast import CONFIG, MIB, Cast, at_once, attach_all, cast, check_whole, each, pin, pinned_cores
from benchmark.figures import Figure
from benchmark.peers import SHMSYNC
from benchmark.phases import Phases, phases
from benchmark.timing import Latencies, clock, counted, failures, merged, sleep_until, timed, timed_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Held
    from benchmark.peers import Peer

READERS = (1, 2, 4)
SIZES = (8 * MIB, 64 * MIB)
READS = "W4 config: reads/s of all readers, writer at full speed"
WRITES = "W4 config: writes/s, readers at full speed"
ONE_READ = "W4 config: one get(), writer at full speed"
ONE_WRITE = "W4 config: one write, readers at full speed"
UNCHANGED = "W4 config: reads/s of 4 readers, writer at 100 Hz"
BESIDE = "W4 {}: one get() of a pinned worker, writer at full speed on the other core"
ALONE = "W4 {}: one get() of a pinned worker, no writer"
POLL = "W7 array: one read while it is published non-stop"
POLL_NEW = "W7 array: one of these reads that returned another array"
BESIDE_VALUES = {"config": ("config", CONFIG), "array of 8 MiB": ("array", 8 * MIB)}
_TICK = 0.01


def full_speed(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure W4: reads and writes per second, and what one of them takes, with 1, 2 and 4 readers."""
    return each(peers, READS, "config", partial(_full_speed, plan=phases(quick=quick)))


def _full_speed(peer: Peer, plan: Phases) -> Iterator[Figure]:
    with cast(peer, "config", CONFIG, readers=0, spare=max(READERS)) as actors:
        for count in READERS:
            attach_all(peer, "config", actors.address, actors.readers[count // 2 : count])
            written, *read = at_once(
                plan.load, (actors.writer, publish, ()), *((reader, poll, ()) for reader in actors.readers[:count])
            )
            rates = (sum(part.rate for part in read),), (written.rate,)
            failed = failures(read), failures([written])
            yield Figure(READS, peer.name, "/s", rates[0], count)
            yield Figure(WRITES, peer.name, "/s", rates[1], count)
            yield Figure(ONE_READ, peer.name, "s", merged(read), count, failed[0])
            yield Figure(ONE_WRITE, peer.name, "s", merged([written]), count, failed[1])


def unchanged(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure W4: reads per second of 4 readers when one in many finds something new."""
    return each(peers, UNCHANGED, "config", partial(_unchanged, plan=phases(quick=quick)))


def _unchanged(peer: Peer, plan: Phases) -> Iterator[Figure]:
    with cast(peer, "config", CONFIG, readers=4) as actors:
        _, *read = at_once(
            plan.load, (actors.writer, publish_in_time, ()), *((reader, count, ()) for reader in actors.readers)
        )
        yield Figure(UNCHANGED, peer.name, "/s", (sum(part.rate for part in read),), remark=failures(read))


def beside_writer(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure what `get()` takes beside a writer and without one, in turn, each on a core of its own; of shmsync."""
    plan = phases(quick=quick)
    for peer in peers:
        if peer is SHMSYNC:
            for name, (shape, size) in BESIDE_VALUES.items():
                with cast(peer, shape, size, readers=1) as actors:  # type: ignore[arg-type]
                    yield from _beside_writer(actors, name, plan)


def _beside_writer(actors: Cast, name: str, plan: Phases) -> Iterator[Figure]:
    writer, (reader,) = actors.writer, actors.readers
    cores = pinned_cores()
    for process, core in zip((writer, reader), cores, strict=True):
        process.ask(pin, core)
    beside, alone = [], []
    for _ in range(plan.turns):
        beside.append(at_once(plan.turn, (reader, poll, ()), (writer, publish, ()))[0])
        alone += at_once(plan.turn, (reader, poll, ()))
    remark = "" if None not in cores else "not pinned: there is one core"
    yield Figure(BESIDE.format(name), SHMSYNC.name, "s", merged(beside), remark=remark)
    yield Figure(ALONE.format(name), SHMSYNC.name, "s", merged(alone), remark=remark)


def while_publishing(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure W7: the time until a read has returned a whole array."""
    return each(peers, POLL, "array", partial(_while_publishing, plan=phases(quick=quick)))


def _while_publishing(peer: Peer, plan: Phases) -> Iterator[Figure]:
    for size in SIZES:
        with cast(peer, "array", size, readers=1) as actors:
            _, (read, changed) = at_once(plan.poll, (actors.writer, publish, ()), (actors.readers[0], poll_whole, ()))
            failed = failures([read])
            remark = f"{failed} in {read.count + read.failures.total()} reads" if failed else ""
            if read.count == 0:
                remark = f"never succeeded: {failed}"
            yield Figure(POLL, peer.name, "s", merged([read]) or (plan.poll,), size, remark)
            yield Figure(POLL_NEW, peer.name, "s", merged([changed]), size, "" if changed.count else "none")


# --------------------------------------------------------------------------------------------------------- in a child


def publish(held: Held, begin: float, seconds: float) -> Latencies:
    """Publish at full speed."""
    write, versions = held.writer.write, held.values
    return timed(lambda: write(next(versions)), begin, seconds)


def publish_in_time(held: Held, begin: float, seconds: float) -> None:
    """Publish a hundred times a second."""
    sleep_until(begin)
    for number in itertools.count(1):
        held.writer.write(next(held.values))
        if clock() >= begin + seconds:
            return
        time.sleep(max(0.0, begin + number * _TICK - clock()))


def poll(held: Held, begin: float, seconds: float) -> Latencies:
    """Read at full speed."""
    return timed(held.reader.get, begin, seconds)


def count(held: Held, begin: float, seconds: float) -> Latencies:
    """Read at full speed without a look at the clock after each."""
    return counted(held.reader.get, begin, seconds)


def poll_whole(held: Held, begin: float, seconds: float) -> tuple[Latencies, Latencies]:
    """Read arrays and look whether they are whole; return all reads, and those that found a change."""
    return timed_whole(held.reader.get, check_whole, begin, seconds)
