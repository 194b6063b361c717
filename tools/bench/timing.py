"""Loops that time single calls, in processes that run at the same time.

The clock is read once between two calls; that is part of every duration. A call that raises is repeated, and the time
until it succeeds is its duration.
"""

from __future__ import annotations

import gc
import time
import timeit
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.processes import clock
from bench.settings import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.peers.base import Reader

Pair = tuple[list[float], list[float]]
"""The samples of a subject and of its baseline."""


@dataclass
class Latencies:
    """The calls of a loop."""

    durations: array[int] = field(default_factory=lambda: array("q"))  # nanoseconds; empty if calls were only counted
    failures: Counter[str] = field(default_factory=Counter)  # by the name of the exception
    rate: float = 0.0  # calls per second
    begin: int = 0  # nanoseconds; the durations follow each other without a gap

    def longest(self, split: float, end: float) -> tuple[float, float]:
        """Return the longest call that ended before `split`, and the longest after it, also if it never succeeded."""
        ends = (self.begin + np.cumsum(self.durations)) * 1e-9
        durations, is_after = merged([self]), ends >= split
        unfinished = max(0.0, end - (ends[-1] if len(ends) else self.begin * 1e-9))
        return durations[~is_after].max(initial=0.0), durations[is_after].max(initial=unfinished)


def merged(parts: Iterable[Latencies]) -> Any:
    """Return the durations of several loops in one array, in seconds."""
    return np.concatenate([np.asarray(part.durations) for part in parts]) * 1e-9


def failures(parts: Iterable[Latencies]) -> str:
    """Return the number of failures in several loops, by the name of the exception."""
    return listed(sum((part.failures for part in parts), Counter()))


def timed_read(reader: Reader, key: Any) -> tuple[float, Any, Any]:
    """Return the duration of a read, the value, and the row of the key."""
    get, look_up = reader.get, reader.look_up
    row = None
    start = time.perf_counter()
    value = get()
    if key is not None:
        row = look_up(value, key)
    return time.perf_counter() - start, value, row


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.most_common() if count)


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - clock()))


def timed(call: Callable[[], object], begin: float, seconds: float, warm_up: float = WARM_UP) -> Latencies:
    """Time calls in a loop for some seconds, after a warm-up."""
    sleep_until(begin)
    _timed(call, begin + warm_up)
    return _timed(call, begin + warm_up + seconds)


def _timed(call: Callable[[], object], until: float) -> Latencies:
    found = Latencies()
    append, read_clock, end = found.durations.append, time.monotonic_ns, int(until * 1e9)
    now = start = found.begin = read_clock()
    while now < end:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - a peer may raise anything
            found.failures[type(error).__name__] += 1
            if read_clock() >= end:
                break
            continue
        after = read_clock()
        append(after - now)
        now = after
    if now > start:
        found.rate = len(found.durations) / (now - start) * 1e9
    return found


def timed_complete(
    get: Callable[[], Any], begin: float, seconds: float, check: Callable[[Any], float]
) -> tuple[Latencies, Latencies]:
    """Time reads until one returns a complete value; return all reads, and those that found a change.

    `check` raises if the value is torn, and returns a number that tells versions apart; it is not part of the
    duration. Reads that fail until the end count with their duration so far, if any other read has succeeded.
    """
    sleep_until(begin)
    warm = begin + WARM_UP
    end = warm + seconds
    found, changed = Latencies(), Latencies()
    last = 0.0
    now = start = clock()
    while now < end:
        try:
            value = get()
            after = clock()
            number = check(value)
        except Exception as error:  # noqa: BLE001 - a peer may raise anything
            value = None
            now = clock()
            found.failures[type(error).__name__] += now >= warm
            continue
        value = None  # a reference would pin the version
        if after >= warm:
            found.durations.append(round((after - start) * 1e9))
            if number != last:
                changed.durations.append(found.durations[-1])
        last = number
        now = start = clock()
    if now > start and found.durations:
        found.durations.append(round((now - start) * 1e9))
    return found, changed


def counted(call: Callable[[], object], begin: float, seconds: float) -> Latencies:
    """Count calls in blocks of a millisecond, without reading the clock after each; a block that fails is left out."""
    sleep_until(begin)
    block = range(max(1, int(_timed(call, begin + WARM_UP).rate / 1000)))
    found = Latencies()
    calls = 0
    start = now = clock()
    while now < start + seconds:
        try:
            for _ in block:
                call()
            calls += len(block)
        except Exception as error:  # noqa: BLE001 - a peer may raise anything
            found.failures[type(error).__name__] += 1
        now = clock()
    found.rate = calls / (now - start)
    return found


def per_loop(statement: str, count: int, **names: Any) -> float:
    """Return the seconds per execution of a statement in a loop, with the garbage collector on."""
    names |= {"gc": gc, "loop": range(count)}
    return timeit.timeit(f"for _ in loop:\n {statement}", "gc.enable()", number=1, globals=names) / count


def per_call(call: Callable[[], object], count: int) -> float:
    """Return the seconds per call, loop included."""
    return per_loop("call()", count, call=call)


def paired(rounds: int, subject: Callable[[], float], *baselines: Callable[[], float]) -> list[Pair]:
    """Measure the subject and its baselines in turn; return a pair for each baseline. The first round is a warm-up."""
    pairs: list[Pair] = [([], []) for _ in baselines]
    for number in range(rounds + 1):
        measured = [subject(), *(baseline() for baseline in baselines)]
        for pair, other in zip(pairs if number else (), measured[1:], strict=False):
            pair[0].append(measured[0])
            pair[1].append(other)
    return pairs
