"""shmsync and its peers, one publishing process and one reading process each: unchanged, after a change, and writing.

All peers of a workload stand ready at once and are taken in turn, round by round, so that a drift of the machine meets
all of them. A round is: a block of calls of `get()` while nothing changes; some versions, each asked for once, over the
pipe, by a reader that was idle; some more while the reader calls `get()` without pause. Each of its calls is timed by
itself; those that return another version than the call before are the sample, and the version is looked at outside of
the timed part. Of maps, a key is looked up in each call; in the polled ones it is the one that changes.

What a writer is given is what its user has in hand: a dict, an array, or keys and rows as arrays. For databases that
would be items as bytes, sorted by key; to make these is not timed. What shmsync and an Arrow file do to have keys found
is part of their `write`.

Whoever returns a wrong, stale or torn value, raises, or hangs, gets an error instead of figures.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark import reading
from benchmark.children import Child, child
from benchmark.figures import Figure
from benchmark.measure import per_call
from benchmark.names import IDLE, METRICS, POLLED, UNCHANGED, WRITE, row_of
from benchmark.peers import prepared, size_of
from benchmark.workloads import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from benchmark.peers import Peer, Shape

_PATIENCE = 60.0  # seconds for one step, after which a peer is taken to hang
_PAUSE = 2e-3  # between two versions while the reader polls, beyond what it takes to read one
_WRITES = 50  # of a config, in a block
_KEYS = 10_000  # looked up in a block


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: at most.
        seconds: of its own, after which a peer takes part in no further round.
        slow: seconds for a version, more than which a peer may not even take part in one round.
        versions: in a round and way, at most.
        block: seconds for a block of unchanged calls.
    """

    rounds: int
    seconds: float
    slow: float
    versions: int
    block: float


_EFFORT: dict[Shape, tuple[Effort, Effort]] = {
    "config": (Effort(10, 3, 2, 30, 0.02), Effort(3, 1, 1, 10, 0.01)),
    "array": (Effort(10, 4, 2, 5, 0.02), Effort(2, 1, 1, 2, 0.01)),
    "int map": (Effort(4, 4, 2, 4, 0.02), Effort(1, 1, 1, 1, 0.01)),
    "str map": (Effort(4, 4, 2, 4, 0.02), Effort(1, 1, 1, 1, 0.01)),
}


def compare(peers: Iterable[Peer], shape: Shape, *, quick: bool) -> Iterator[Figure]:
    """Measure one workload; yield a figure for each peer and row."""
    peers = list(peers)
    source, effort = Source(shape), _EFFORT[shape][quick]
    with ExitStack() as stack:
        entrants = [
            stack.enter_context(Entrant(peer, shape, source, effort).closing())
            for peer in peers
            if peer.excuse(shape) is None
        ]
        for step in (Entrant.enter, Entrant.attach, *([Entrant.round] * effort.rounds)):
            for entrant in entrants:
                entrant.attempt(step)
    found = {entrant.peer.name: entrant for entrant in entrants}
    for metric in METRICS:
        for peer in peers:
            yield _figure(shape, metric, peer, found.get(peer.name))


def _figure(shape: Shape, metric: str, peer: Peer, entrant: Entrant | None) -> Figure:
    name = row_of(shape, metric)
    if entrant is None:
        return Figure(name, peer.name, "text", remark=peer.excuse(shape) or "")
    if entrant.error:
        return Figure(name, peer.name, "text", remark=entrant.error)
    if sample := entrant.sample(metric):
        return Figure(name, peer.name, "s", tuple(sample), remark=peer.remark)
    return Figure(name, peer.name, "text", remark="too slow for the time that there is")


@dataclass
class Entrant:
    """One peer in one workload: its writer here, its reader in a child."""

    peer: Peer
    shape: Shape
    source: Source
    effort: Effort
    samples: dict[str, list[float]] = field(default_factory=lambda: {metric: [] for metric in METRICS})
    error: str = ""

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._writer: Any = None
        self._child: Child | None = None
        self._key: Any = None
        self._first: dict[str, float] = {}
        self._spent = 0.0
        self._is_slow = False
        self._calls = 1
        self._versions = 1
        self._pause = _PAUSE

    @contextmanager
    def closing(self) -> Iterator[Entrant]:
        """Remove all that was made, whatever happens."""
        try:
            yield self
        except BaseException:
            self._kill()  # it may be in the middle of something
            raise
        finally:
            with suppress(Exception), _time_limit(_PATIENCE):
                self._stack.close()

    def attempt(self, step: Callable[[Entrant], None]) -> None:
        """Take a step, unless one before has failed; note what fails or hangs."""
        if self.error:
            return
        start = time.perf_counter()
        try:
            with _time_limit(_PATIENCE):
                step(self)
            self._spent += time.perf_counter() - start
        except Exception as error:  # noqa: BLE001 - it is this peer's result
            self.error = _last_line(error)
            self._kill()
            with suppress(Exception), _time_limit(_PATIENCE):
                self._stack.close()

    def _kill(self) -> None:
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.kill()

    @property
    def reader(self) -> Child:
        """The process of the reader."""
        assert self._child is not None
        return self._child

    def enter(self) -> None:
        """Have a writer with a first version, and a child that attaches to it."""
        self._child = self._stack.enter_context(child())
        self._writer = self.peer.writer(self.shape, size_of(self.source.value))
        self._stack.callback(self._writer.close)
        self.source.advance()
        self._writer.write(self._prepared())
        self._child.start(reading.attach, self.peer.name, self.shape, self._writer.address)

    def attach(self) -> None:
        """See that the reader reads what is written, and how long all of it takes."""
        self.reader.hear()
        self._stack.callback(self.reader.ask, reading.detach)
        written, read = self._write(), self._ask_idle()
        self._check()
        unchanged = self.reader.ask(reading.time_unchanged, self.source.some_keys(10), 1)
        self._first = {WRITE: written, IDLE: read, UNCHANGED: unchanged}
        self._calls = max(1, min(20_000, int(self.effort.block / unchanged)))
        self._versions = max(1, min(self.effort.versions, int(0.3 / (written + read))))
        self._pause = _PAUSE + 1.5 * read
        self._is_slow = written + read > self.effort.slow

    def round(self) -> None:
        """Measure all there is, if there is time."""
        if self._spent > self.effort.seconds and (self.samples[POLLED] or self._is_slow):
            return
        keys = self.source.some_keys(min(self._calls, _KEYS))
        self.samples[UNCHANGED].append(self.reader.ask(reading.time_unchanged, keys, max(1, self._calls // len(keys))))
        for _ in range(self._versions):
            if self.shape == "config":  # too short to be timed alone; what piles up is not what an idle reader is asked
                self.samples[WRITE].append(self._write(_WRITES))
                self._ask_idle()
                self._write()
            else:
                self.samples[WRITE].append(self._write())
            self.samples[IDLE].append(self._ask_idle())
        self._poll()
        self._check()

    def sample(self, metric: str) -> list[float]:
        """Return what was measured; of whoever is too slow for a round, what attaching showed."""
        return self.samples[metric] or [value for name, value in self._first.items() if name == metric]

    def _write(self, times: int = 1) -> float:
        self._key = self.source.advance()
        value = self._prepared()
        return per_call(lambda: self._writer.write(value), times)

    def _prepared(self) -> Any:
        start = time.perf_counter()
        value = prepared(self._writer, self.source.value)
        self._spent -= time.perf_counter() - start  # whoever comes first packs for others, too
        return value

    def _ask_idle(self) -> float:
        taken, counter = self.reader.ask(reading.time_one, self._key)
        if counter != self.source.counter:
            raise RuntimeError(f"a stale value was read: version {counter} after {self.source.counter} was written")
        return taken

    def _check(self) -> None:
        if not self.reader.ask(reading.check, self.source.expected()):
            raise RuntimeError("a wrong value was read")

    def _poll(self) -> None:
        self.reader.start(reading.poll, self._key, self.source.counter + self._versions)
        for number in range(self._versions):
            self.source.advance(other_row=False)
            value = self._prepared()
            time.sleep(self._pause if number else _PAUSE)
            self._writer.write(value)
        self.samples[POLLED] += self.reader.hear()


def _last_line(error: Exception) -> str:
    return str(error).strip().rpartition("\n")[2] or type(error).__name__


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def give_up(*_: object) -> NoReturn:
        raise TimeoutError(f"it hangs: nothing for {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
