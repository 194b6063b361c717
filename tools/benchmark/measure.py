"""How the rows of the benchmark are taken: names of their own, paired rounds, and what a row claims.

All times are seconds, all memory is bytes; `table` prints them in fitting units.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Call = Callable[[], object]
Timer = Callable[[], float]
"""Does something once, and returns what it took."""

_names: set[str] = set()


@dataclass(frozen=True)
class Claim:
    """What a row says.

    Attributes:
        name: of the row.
        baseline: what it is compared to.
        ratio: the target for median against median; None if there is none.
        limit: what the subject's median may be at most, in seconds or bytes; None if there is none.
        memory: whether bytes were measured, not seconds.
        install: what brings the packages that the row needs.
    """

    name: str
    baseline: str
    ratio: float | None = None
    limit: float | None = None
    memory: bool = False
    install: str = "pip install 'shmsync[bench]'"


@dataclass
class Sample:
    """What was measured for a row."""

    subject: list[float] = field(default_factory=list)
    baseline: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Median against median."""
        return statistics.median(self.subject) / statistics.median(self.baseline)


def percentile(values: list[float], share: float) -> float:
    """Return the value that a share of the values does not exceed: of less than 100 values, p99 is the largest."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def paired(rounds: int, subject: Timer, *baselines: Timer) -> list[Sample]:
    """Time subject and baselines in turn, `rounds` times; return a sample for each baseline."""
    samples = [Sample() for _ in baselines]
    for number in range(rounds + 1):
        mine = subject()
        others = [baseline() for baseline in baselines]
        if number:  # the first round warms up
            for sample, other in zip(samples, others, strict=True):
                sample.subject.append(mine)
                sample.baseline.append(other)
    return samples


def once(call: Call) -> float:
    """Return what one call took."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def once_each(calls: Sequence[Call]) -> float:
    """Return seconds per call of several, one after the other; the loop is part of both sides."""
    start = time.perf_counter()
    for call in calls:
        call()
    return (time.perf_counter() - start) / len(calls)


def per_call(call: Call, count: int) -> float:
    """Return seconds per call of `count` calls; the loop is part of both sides."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        call()
    return (time.perf_counter() - start) / count


def per_block(manager: Call, count: int) -> float:
    """Return seconds per `with` block on what `manager` returns."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        with manager():  # type: ignore[attr-defined]
            pass
    return (time.perf_counter() - start) / count


def per_reused_block(manager: Any, count: int) -> float:
    """Return seconds per `with` block on the manager itself."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        with manager:
            pass
    return (time.perf_counter() - start) / count


def new_name(kind: str) -> str:
    """Return a name that nobody else uses; `sweep` removes it."""
    name = f"bench-{os.getpid()}-{kind}-{len(_names)}"
    _names.add(name)
    return name


def sweep() -> None:
    """Remove what has been left under such names, or under others in which a peer has them."""
    for entry in Path("/dev/shm").iterdir():
        if any(name in entry.name.replace("_", "-") for name in _names):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
