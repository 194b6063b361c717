"""W1 to W3: shmsync and its peers with one writer and one reader process each.

All peers of a workload are measured in turn, round by round, so that a drift of the machine affects all of them. A
round has three parts: a block of `get()` while nothing changes; versions that an idle reader is asked for over its
pipe, one by one; versions that are published while the reader calls `get()` in a loop. Each call of that loop is timed;
those that return a new version are the sample. Which version it is, is checked outside of the timed part. In a map each
call also looks up a key; while polling, the one that changes.

The writer gets what its user would have at hand: a dict, an array, or keys and rows as arrays. For databases that is a
list of packed items, sorted by key; packing them is not timed. Building an index for readers is part of `write`.

A peer that returns a wrong, stale or torn value, raises, or hangs, has an error instead of a result.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.processes import State, call_method, last_line, workload
from bench.results import Result, result
from bench.settings import IDLE, METRICS, POLLED, UNCHANGED, WRITE, row_of
from bench.timing import per_call, timed_read
from bench.values import Source, agrees, counter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bench.peers import Peer

_PAUSE = 2e-3  # seconds between two versions while the reader polls, besides the time of a read
_WRITES = 50  # of a config, in a block
_KEYS = 10_000  # looked up in a block


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int  # at most
    seconds: float  # after which a peer takes part in no further round
    slow: float  # seconds for one version, above which a peer takes part in no round if its time is over
    versions: int  # in each part of a round, at most
    block: float  # seconds of a block of unchanged calls


_MAP = (Effort(4, 4, 2, 4, 0.02), Effort(1, 1, 1, 1, 0.01))
_EFFORT = {
    "config": (Effort(10, 3, 2, 30, 0.02), Effort(3, 1, 1, 10, 0.01)),
    "array": (Effort(10, 4, 2, 5, 0.02), Effort(2, 1, 1, 2, 0.01)),
    "int map": _MAP,
    "str map": _MAP,
}


def compare(peers: Iterable[Peer], shape: str, *, quick: bool) -> Iterator[Result]:
    """Measure one workload."""
    effort = _EFFORT[shape][quick]
    with ExitStack() as stack:
        entries = [Entry(peer, shape, effort, stack) for peer in peers]
        for step in (Entry.start, *([Entry.round] * effort.rounds)):
            for entry in entries:
                entry.attempt(step)
    for metric in METRICS:
        for entry in entries:
            yield entry.result(metric)


class Entry:
    """One peer in one workload."""

    def __init__(self, peer: Peer, shape: str, effort: Effort, stack: ExitStack) -> None:
        self.peer, self.shape, self.effort, self.stack = peer, shape, effort, stack
        self.error = peer.unsupported(shape) or ""
        self.samples: dict[str, list[float]] = {metric: [] for metric in METRICS}
        self.first: dict[str, float] = {}

    def attempt(self, step: Callable[[Entry], None]) -> None:
        """Take a step, unless one before has failed; keep the error if it fails or hangs."""
        if not self.error:
            try:
                step(self)
            except (RuntimeError, TimeoutError) as error:
                self.error = last_line(error)

    def start(self) -> None:
        """Start both processes, check that the reader reads what is written, and see how long that takes."""
        work = self.stack.enter_context(workload(self.peer, self.shape, readers=1))
        self.writer, self.reader = work.writer, work.readers[0]
        written, key = self._write()
        read = self._read_idle(key)
        self._check()
        unchanged = self.reader.call(time_unchanged, self._keys(10), 1)
        self.first = {WRITE: written, IDLE: read, UNCHANGED: unchanged}
        self.calls = max(1, min(20_000, int(self.effort.block / unchanged)))
        self.versions = max(1, min(self.effort.versions, int(0.3 / (written + read))))
        self.pause = _PAUSE + 1.5 * read
        self.spent = written + read

    def round(self) -> None:
        """Measure one round, unless the time of the peer is over."""
        is_slow = self.first[WRITE] + self.first[IDLE] > self.effort.slow
        if self.spent > self.effort.seconds and (self.samples[POLLED] or is_slow):
            return
        start = time.perf_counter()
        keys = self._keys(min(self.calls, _KEYS))
        unchanged = self.reader.call(time_unchanged, keys, max(1, self.calls // len(keys)))
        self.samples[UNCHANGED].append(unchanged)
        for _ in range(self.versions):
            written, key = self._write(_WRITES if self.shape == "config" else 1)
            self.samples[WRITE].append(written)
            if self.shape == "config":  # the last call was not timed alone: the reader is asked for the next version
                self._read_idle(key)
                _, key = self._write()
            self.samples[IDLE].append(self._read_idle(key))
        self.reader.submit(poll, key, self.counter + self.versions)
        self.writer.call(write_paced, self.versions, self.pause)
        self.samples[POLLED] += self.reader.result()
        self._check()
        self.spent += time.perf_counter() - start

    def result(self, metric: str) -> Result:
        """Return the result; for a peer that is too slow for a round, what was measured at the start."""
        row = row_of(self.shape, metric)
        if self.error:
            return result(row, self.peer.name, remark=self.error)
        sample = self.samples[metric] or [value for name, value in self.first.items() if name == metric]
        remark = self.peer.remark if sample else "too slow for the time limit"
        return result(row, self.peer.name, values=sample, remark=remark)

    def _write(self, times: int = 1) -> tuple[float, Any]:
        duration, key, self.counter = self.writer.call(write, times)
        return duration, key

    def _keys(self, count: int) -> list[Any]:
        keys: list[Any] = self.writer.call(call_method, "source.some_keys", count)
        return keys

    def _read_idle(self, key: Any) -> float:
        duration, counter = self.reader.call(time_one, key)
        if counter != self.counter:
            raise RuntimeError(f"stale value: read version {counter} after version {self.counter} was written")
        return duration

    def _check(self) -> None:
        if not self.reader.call(check, self.writer.call(call_method, "source.expected")):
            raise RuntimeError("wrong value")


def write(state: State, times: int) -> tuple[float, Any, int]:
    """Publish the next version; return the seconds per call, the key that has changed, and the version."""
    source: Source = state.source
    key = source.advance()
    value = state.writer.prepare(source.value)
    return per_call(lambda: state.writer.write(value), times), key, source.counter


def write_paced(state: State, count: int, pause: float) -> None:
    """Publish versions with pauses between them, each with another value of the same key."""
    for number in range(count):
        state.source.advance(other_row=False)
        value = state.writer.prepare(state.source.value)
        time.sleep(pause if number else _PAUSE)
        state.writer.write(value)


def check(state: State, expected: Any) -> bool:
    return agrees(state.shape, state.reader, expected)


def time_one(state: State, key: Any) -> tuple[float, int]:
    """Read once; return the duration and the version."""
    duration, value, row = timed_read(state.reader, key)
    return duration, counter_of(state.shape, value, row)


def time_unchanged(state: State, keys: list[Any], times: int) -> float:
    """Return the seconds per read, loop included."""
    get, look_up = state.reader.get, state.reader.look_up
    if keys[0] is None:
        return per_call(get, len(keys) * times)
    start = time.perf_counter()
    for _ in range(times):
        for key in keys:
            look_up(get(), key)
    return (time.perf_counter() - start) / (len(keys) * times)


def poll(state: State, key: Any, last: int) -> list[float]:
    """Read in a loop until version `last` is there; return the durations of the reads that found a new version."""
    found = []
    _, value, row = timed_read(state.reader, key)
    seen = counter_of(state.shape, value, row)
    while seen < last:
        value = row = None  # a reference would pin the version, and the writer would need more memory
        duration, value, row = timed_read(state.reader, key)
        counter = counter_of(state.shape, value, row)
        if counter != seen:
            found.append(duration)
            seen = counter
    return found
