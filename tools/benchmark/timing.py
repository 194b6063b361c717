"""Loops that time single calls in processes that run at the same time, with little memory however long they run.

The clock is the same in all processes. One look at it ends a call and begins the next; it is part of every figure.
A call that raises is made anew, and the time until one succeeds is the time of that one.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmark.phases import WARM_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

clock = time.monotonic
_CHUNK = 4096
_KEPT = 50_000


@dataclass
class Latencies:
    """A sample of the calls of a loop.

    Attributes:
        values: of each `stride`-th call, in seconds.
        longest: of all calls.
        count: how many there were.
        seconds: what they took together.
        failures: how many calls ended otherwise, by the name of the exception.
    """

    values: list[float] = field(default_factory=list)
    stride: int = 1
    longest: float = 0.0
    count: int = 0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.count / self.seconds if self.seconds else 0.0

    def add(self, taken: list[float]) -> None:
        """Take in the calls of a chunk, in their order."""
        if taken:
            self.values += taken[-self.count % self.stride :: self.stride]
            self.longest = max(self.longest, *taken)
            self.count += len(taken)
            self.seconds += sum(taken)
        while len(self.values) > _KEPT:
            self.values = self.values[::2]
            self.stride *= 2


def merged(parts: Iterable[Latencies]) -> tuple[float, ...]:
    """Return one sample of several loops, sorted, with the longest call of all among it."""
    found = [part for part in parts if part.count]
    stride = max((part.stride for part in found), default=1)
    sample = sorted(value for part in found for value in part.values[:: stride // part.stride])
    longest_of_all = max((part.longest for part in found), default=0.0)
    if sample and sample[-1] < longest_of_all:
        sample.append(longest_of_all)
    return tuple(sample)


def failures(parts: Iterable[Latencies]) -> str:
    """Say what failed in several loops."""
    total: Counter[str] = Counter()
    for part in parts:
        total += part.failures
    return ", ".join(f"{count} x {name}" for name, count in total.most_common() if count)


def sleep_until(moment: float) -> None:
    """Sleep until the clock shows it."""
    time.sleep(max(0.0, moment - clock()))


def timed(call: Callable[[], object], begin: float, seconds: float) -> Latencies:
    """Time a call at full speed for so many seconds, once it is warm."""
    sleep_until(begin)
    warm = begin + WARM_UP
    end = warm + seconds
    _chunks(call, warm, Latencies())
    found = Latencies()
    _chunks(call, end, found)
    return found


def _chunks(call: Callable[[], object], end: float, found: Latencies) -> None:
    while clock() < end:
        found.add(_chunk(call, end, found.failures))


def _chunk(call: Callable[[], object], end: float, failed: Counter[str]) -> list[float]:
    taken: list[float] = []
    append = taken.append
    now = clock()
    for _ in range(_CHUNK):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            failed[type(error).__name__] += 1
            if clock() >= end:
                break
            continue
        after = clock()
        append(after - now)
        now = after
        if now >= end:
            break
    return taken


def timed_whole(
    get: Callable[[], Any], check: Callable[[Any], float], begin: float, seconds: float
) -> tuple[Latencies, Latencies]:
    """Time until a call has returned a whole value; the check of that one, which tells its number, is not part of it.

    Reads that fail at the end count for what they have lasted, unless none has succeeded at all. Return all reads, and
    those that found another number than the one before.
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
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            value = None
            now = clock()
            found.failures[type(error).__name__] += now >= warm
            continue
        value = None  # what is still referred to would have to be kept
        if after >= warm:
            found.add([after - start])
            changed.add([after - start] if number != last else [])
        last = number
        now = start = clock()
    if now > start and found.count:
        found.add([now - start])
    return found, changed


def longest(call: Callable[[], object], begin: float, split: float, end: float) -> tuple[float, float, Counter[str]]:
    """Return the longest call that ended before `split`, the longest that ended after it, and the failures."""
    sleep_until(begin)
    found = [0.0, 0.0]
    failed: Counter[str] = Counter()
    now = last = clock()
    while now < end:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            failed[type(error).__name__] += 1
            now = clock()
            continue
        now = clock()
        found[now >= split] = max(found[now >= split], now - last)
        last = now
    found[1] = max(found[1], now - last)
    return found[0], found[1], failed


def counted(call: Callable[[], object], begin: float, seconds: float) -> Latencies:
    """Count calls, without a clock around each of them. Those of a millisecond with a failure do not count."""
    sleep_until(begin)
    warm = begin + WARM_UP
    block = range(_block(call, warm))
    found = Latencies()
    start = now = clock()
    end = start + seconds
    while now < end:
        try:
            for _ in block:
                call()
            found.count += len(block)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises
            found.failures[type(error).__name__] += 1
        now = clock()
    found.seconds = now - start
    return found


def _block(call: Callable[[], object], end: float) -> int:
    """Call until `end`; return how many calls take a millisecond or so."""
    found = Latencies()
    _chunks(call, end, found)
    return max(1, int(found.rate / 1000))
