"""W8: publish a change of a large value while readers poll.

A writer changes random items of a map of a million keys, or random rows of an array of 64 MiB, as its library changes a
part of a value. One reader, then four, look up one of the items that change in the newest value, again and again with a
short sleep, until they see the change; so they are at the newest version before the next update begins. The first
update of a block is not counted: the ones before it were of another size.

All peers are measured in turn, as in W1 to W3, and in the same way what their users have at hand is not timed: changed
items in packed form, or the whole map in arrays for the full write. A peer whose reader does not see the change, or
sees something else, has an error instead of a result.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.peers import SHMSYNC, updating
from bench.processes import State, call_method, clock, last_line, workload
from bench.results import Result, result
from bench.settings import POLLING, READ_AFTER, UPDATED, first_read_of, update_of
from bench.timing import per_call, timed_read
from bench.values import MARK, TornError, agrees, counter_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bench.peers import Peer

Samples = dict[tuple[int, int], list[float]]
"""By number of items and of readers."""

_PAUSE = 2e-3  # seconds before an update, in which the readers begin to poll
_POLL_PAUSE = 1e-3
_POLL_LIMIT = 30.0
_SLOW = 1.0  # seconds; the first update of a block is counted if it takes as long


class Effort(NamedTuple):
    """How much is measured."""

    rounds: int  # at most
    seconds: float  # for the updates of one size beside the same readers, after which there is no further round
    updates: int  # in a block, at most
    block: float  # seconds that a block should take


_FULL, _QUICK = Effort(5, 6.0, 20, 0.5), Effort(1, 1.0, 5, 0.2)


def compare(peers: Iterable[Peer], shape: str, *, quick: bool) -> Iterator[Result]:
    """Measure updates of a map or of an array; beside the array, also writes of a config by shmsync."""
    effort = _QUICK if quick else _FULL
    with ExitStack() as stack:
        entries = [Entry(peer, shape, effort, stack) for peer in updating(peers)]
        if shape == "row map":
            entries.append(Entry(SHMSYNC, "config", effort, stack))
        for entry in entries:
            entry.attempt(Entry.start)
        for readers in POLLING:
            for entry in entries:
                entry.attempt(partial(Entry.attach, count=readers))
            for _, count, entry in product(range(effort.rounds), UPDATED[shape], entries):
                entry.attempt(partial(Entry.block, count=count))
    for entry in entries:
        yield from entry.results()


class Entry:
    """One peer in one workload."""

    def __init__(self, peer: Peer, shape: str, effort: Effort, stack: ExitStack) -> None:
        self.peer, self.shape, self.effort, self.stack = peer, shape, effort, stack
        self.error = peer.unsupported(shape) or ""
        self.readers = 0
        self.updates: Samples = {}
        self.reads: Samples = {}
        self.spent: dict[tuple[int, int], float] = {}

    def attempt(self, step: Callable[[Entry], None]) -> None:
        """Take a step, unless one before has failed; keep the error if it fails or hangs."""
        if not self.error:
            try:
                step(self)
            except (RuntimeError, TimeoutError) as error:
                self.error = last_line(error)

    def start(self) -> None:
        """Start the processes."""
        self.work = self.stack.enter_context(workload(self.peer, self.shape, spare=max(POLLING)))

    def attach(self, count: int) -> None:
        """Attach readers, as many as there should be."""
        self.work.attach(self.work.readers[self.readers : count])
        self.readers = count

    def block(self, count: int) -> None:
        """Measure some updates of the same size, unless the time for them is over, and check the last one."""
        place = count, self.readers
        if count not in UPDATED[self.shape] or self.spent.get(place, 0.0) > self.effort.seconds:
            return
        start = time.perf_counter()
        samples = [self._update(count)]
        if samples[0][0] < _SLOW:
            samples = [self._update(count)]
        while len(samples) < self.effort.updates and time.perf_counter() < start + self.effort.block:
            samples.append(self._update(count))
        for written, read in samples:
            self.updates.setdefault(place, []).append(written)
            self.reads.setdefault(place, []).append(read)
        expected = self.work.writer.call(call_method, "source.expected")
        for reader in self.work.readers[: self.readers]:
            if not reader.call(check, expected):
                raise RuntimeError("wrong value")
        self.spent[place] = self.spent.get(place, 0.0) + time.perf_counter() - start

    def _update(self, count: int) -> tuple[float, float]:
        """Return the times of an update, and of the first read that sees it, by the first of the readers."""
        key, counter = self.work.writer.call(prepare, count)
        readers = self.work.readers[: self.readers]
        for reader in readers:
            reader.submit(follow, key, counter, tears=self.peer.tears)
        written = self.work.writer.call(update)
        read, *_ = [reader.result() for reader in readers]
        return written, read

    def results(self) -> Iterator[Result]:
        """Return the results of all rows."""
        for count in UPDATED[self.shape]:
            yield from self._results(update_of(self.shape, count), self.updates, count)
            if (self.shape, count) in READ_AFTER:
                yield from self._results(first_read_of(self.shape, count), self.reads, count)

    def _results(self, row: str, samples: Samples, count: int) -> Iterator[Result]:
        if self.error:
            yield result(row, self.peer.name, remark=self.error)
            return
        for readers in POLLING:
            yield result(row, self.peer.name, "s", samples[count, readers], readers, self.peer.update_remark)


# ------------------------------------------------------------------------------------------------------ in a child


def prepare(state: State, count: int) -> tuple[Any, int]:
    """Make the next change; return a key that it changes, and the version."""
    source = state.source
    if source.shape == "config":
        source.advance()
        return None, source.counter
    part, key = source.part(count)
    state.part = state.writer.prepare_part(part)
    return key, source.counter


def update(state: State) -> float:
    """Publish the change that was prepared; return the duration."""
    writer = state.writer
    call = partial(writer.write, state.source.value)
    if state.source.shape != "config":
        call = partial(writer.update, state.part)
        state.part = None
    time.sleep(_PAUSE)
    return per_call(call, 1)


def follow(state: State, key: Any, counter: int, *, tears: bool) -> float:
    """Read with short sleeps until there is a version; return the duration of the read that found it."""
    end = clock() + _POLL_LIMIT
    while clock() < end:
        duration, value, row = timed_read(state.reader, key)
        try:
            if (value[MARK] if key is None else row)[0] == counter:
                counter_of(state.shape, value, row)
                return duration
        except TornError:
            if not tears:
                raise
        value = row = None  # a reference would pin the version, and the writer would need more memory
        time.sleep(_POLL_PAUSE)
    raise RuntimeError(f"stale value: version {counter} is not seen")


def check(state: State, expected: Any) -> bool:
    return agrees(state.shape, state.reader, expected)
