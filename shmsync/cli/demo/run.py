"""The demo's story, told by the parent process: who starts, who dies when, and what must be true afterwards."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shmsync import Writer
from shmsync._core.layout import names_of
from shmsync.cli.demo import actors, table
from shmsync.cli.demo.actors import PATIENCE
from shmsync.cli.demo.ledger import Ledger
from shmsync.cli.demo.report import Progress, Summary
from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import AsyncResult, Pool

    Story = Generator[None, None, "T"]
    """Something that takes a while, told in steps; others have time in between."""

_GRACE = 0.5
_STUCK = 0.3
_TICK = 0.01
_SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps them

T = TypeVar("T")


class DemoError(ShmSyncError, RuntimeError):
    """Something did not happen that should have."""


@dataclass(frozen=True)
class Options:
    """How the demo runs.

    Attributes:
        seconds: how long at least; it always ends the story.
        workers: processes in the pool.
        rate: versions per second.
        start_method: of multiprocessing: "fork", "spawn" or "forkserver".
    """

    seconds: float
    workers: int
    rate: float
    start_method: str


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start processes that never see Ctrl-C, since it is the parent that ends them, and that die of SIGTERM."""
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _Actor:
    """A process of the demo and the pipe to it."""

    def __init__(self, context: BaseContext, role: str, target: Callable[..., None], *args: Any) -> None:
        self.role = role
        self.pipe, theirs = context.Pipe()
        name, *rest = args
        self._process = context.Process(target=target, args=(name, theirs, *rest), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        theirs.close()
        self.pid: int = self._process.pid

    def ask(self, request: str) -> None:
        """Ask it for something; what it answers comes by `heard`."""
        self.pipe.send(request)

    def heard(self) -> list[Any]:
        """Return what it has said since."""
        said: list[Any] = []
        try:
            while self.pipe.poll():
                said.append(self.pipe.recv())
        except (EOFError, ConnectionResetError):
            if not said:  # or it is heard to the end first
                raise DemoError(f"{self.role} (process {self.pid}) has ended unexpectedly") from None
        return said

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """End it at once, wherever it is."""
        self._process.kill()
        self._process.join(PATIENCE)
        self.pipe.close()


class _Lookups:
    """The pool at work: each worker has always one batch."""

    def __init__(self, pool: Pool, workers: int) -> None:
        self._pool = pool
        self._workers = workers
        self._pending: list[tuple[float, AsyncResult[actors.Tally]]] = []

    def collect(self, *, go_on: bool) -> list[actors.Tally]:
        """Return the tallies of the batches that have ended; start others."""
        ready = [batch for _, batch in self._pending if batch.ready()]
        self._pending = [entry for entry in self._pending if not entry[1].ready()]
        if self._pending and time.monotonic() - self._pending[0][0] > PATIENCE:
            raise DemoError("a pool worker does not answer")
        while go_on and len(self._pending) < self._workers:
            self._pending.append((time.monotonic(), self._pool.apply_async(actors.look_up)))
        return [batch.get() for batch in ready]

    def numbers_seen(self) -> list[int]:
        """Return the newest version that each worker sees."""
        return self._pool.starmap_async(actors.number_seen, [()] * self._workers, chunksize=1).get(PATIENCE)

    @property
    def busy(self) -> bool:
        """Whether a batch is under way."""
        return bool(self._pending)


class _Demo:
    """One run. Everything that waits is a generator that `_tick`s between two looks."""

    def __init__(self, options: Options, progress: Progress, stack: ExitStack) -> None:
        self._progress = progress
        self._ledger = Ledger()
        self._words: list[str] = []
        self.summary = Summary()
        self.name = f"demo-{os.getpid()}-{secrets.token_hex(4)}"
        stack.callback(self._clean_up)
        context = multiprocessing.get_context(options.start_method)
        with _undisturbed():

            def actor(role: str, target: Callable[..., None], *args: Any) -> _Actor:
                started = _Actor(context, role, target, self.name, *args)
                stack.callback(started.end)
                return started

            # All before the pool, which has threads: nothing forks from a process with threads.
            self._writer = actor("the writer", actors.write, options.rate, _GRACE)
            self._successor = actor("the second writer", actors.write, options.rate, _GRACE)
            self._victim = actor("the reader to be killed", actors.hold)
            self._sleeper = actor("the reader to be stopped", actors.hold)
            self._holder = actor("the patient reader", actors.hold)
            pool = context.Pool(options.workers, actors.sit_down, (self.name, context.Barrier(options.workers)))
            stack.callback(pool.join)
            stack.callback(pool.terminate)
        self._lookups = _Lookups(pool, options.workers)

    # -------------------------------------------------------------------------------------------------------- waiting

    def drive(self, story: Story[T], *, go_on: bool = True) -> T:
        """Go through a story, with ticks between its steps; return what it returns."""
        while True:
            try:
                next(story)
            except StopIteration as end:
                value: T = end.value
                return value
            self.tick(go_on=go_on)

    def tick(self, *, go_on: bool = True) -> None:
        """Let a moment pass; take in what writer and pool say; with `go_on`, give the pool more to do."""
        time.sleep(_TICK)
        for said in self._writer.heard():
            if isinstance(said, str):
                self._words.append(said)
            else:
                self._ledger.note(self._writer.role, said)
        summary, ledger = self.summary, self._ledger
        for tally in self._lookups.collect(go_on=go_on):
            summary.lookups += tally.lookups
            summary.torn += tally.torn
            stale = [1000 * ledger.staleness(number, at) for number, at in tally.first_seen]
            summary.staleness_ms = round(max([summary.staleness_ms, *stale]), 1)
        summary.versions = ledger.versions
        summary.replaced = ledger.replaced
        summary.takeovers = ledger.takeovers
        self._progress.standing(summary)

    def _until(self, happened: Callable[[], bool], what: str) -> Story[None]:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            if time.monotonic() > deadline:
                raise DemoError(f"waited {PATIENCE:.0f} s in vain for {what}")
            yield

    def _answer(self, actor: _Actor, request: str) -> Story[Any]:
        actor.ask(request)
        yield from self._until(actor.pipe.poll, f"an answer of {actor.role} to {request!r}")
        return actor.heard()[0]

    def _unchanged(self, actor: _Actor) -> Story[None]:
        if not (yield from self._answer(actor, "leave")):
            self.summary.torn += 1

    # ---------------------------------------------------------------------------------------------------------- story

    def story(self) -> Story[None]:
        """Tell all of it, with time for others between two steps."""
        self._writer.ask("begin")
        yield from self._until(lambda: self._ledger.last > 1, "the first versions")
        yield from self._a_reader_is_killed()
        yield from self._a_reader_is_stopped()
        yield from self._the_writer_is_killed()

    def _a_reader_is_killed(self) -> Story[None]:
        seq = yield from self._answer(self._victim, "hold")
        self._victim.end()
        self._progress.event(f"a reader is killed (SIGKILL) while it holds version {seq}")
        before = self._ledger.resets
        yield from self._until(lambda: self._ledger.resets > before, "the dead reader's slot to be cleared")
        self.summary.recovered += 1
        self._progress.event(f"version {self._ledger.last}: the writer has cleared the dead reader's slot")

    def _a_reader_is_stopped(self) -> Story[None]:
        ledger = self._ledger
        seq = yield from self._answer(self._sleeper, "hold")
        self._sleeper.signal(signal.SIGSTOP)
        self._progress.event(f"a reader is stopped (SIGSTOP) while it holds version {seq}")
        resets, replaced = ledger.resets, ledger.replaced
        yield from self._until(
            lambda: ledger.resets > resets and ledger.replaced > replaced, "the stopped reader's inode to be replaced"
        )
        self._progress.event(f"version {ledger.last}: grace over after {_GRACE} s, the writer has taken new memory")
        later = ledger.last + 3
        yield from self._until(lambda: ledger.last >= later, "writes beside a stopped reader")
        self._sleeper.signal(signal.SIGCONT)
        yield from self._unchanged(self._sleeper)
        newest = ledger.last
        seen = yield from self._answer(self._sleeper, "read")
        if seen < newest:
            self.summary.problems.append(f"the stopped reader read version {seen}, the newest was {newest}")
        self._progress.event(f"it goes on (SIGCONT): its bytes are unchanged, its next read is version {seen}")

    def _the_writer_is_killed(self) -> Story[None]:
        ledger = self._ledger
        yield from self._answer(self._holder, "hold")  # so that a write has to wait for it

        def inside_a_write() -> bool:
            return ledger.writing_since is not None and time.monotonic() - ledger.writing_since > _STUCK

        yield from self._until(inside_a_write, "a write to be under way")
        last = ledger.last
        self._writer.end()
        self._progress.event(f"the writer is killed (SIGKILL) in the middle of the write after version {last}")
        self._writer = self._successor
        self._writer.ask("begin")
        yield from self._unchanged(self._holder)
        yield from self._until(lambda: ledger.takeovers > 0, "a new writer to take over")
        self._progress.event(f"version {ledger.last}: a new writer goes on")

    # ------------------------------------------------------------------------------------------------------------ end

    def end(self) -> Story[None]:
        """Stop the writer, see that all who survived have its last version, unlink."""
        self._writer.ask("stop")
        yield from self._until(lambda: "stopped" in self._words, "the writer to stop")
        yield from self._until(lambda: not self._lookups.busy, "the pool to finish")
        seen = self._lookups.numbers_seen()
        for reader in (self._sleeper, self._holder):
            seen.append((yield from self._answer(reader, "read")))
        self._writer.ask("unlink")
        yield from self._until(lambda: "unlinked" in self._words, "the writer to unlink")
        problems, last = self.summary.problems, self._ledger.last
        problems += self._ledger.problems
        problems += [f"a process saw version {number} last, not version {last}" for number in seen if number != last]
        problems += [f"{segment} is left in /dev/shm" for segment in self._left()]
        if self.summary.torn:
            problems.append(f"{self.summary.torn} torn reads")

    def _left(self) -> list[str]:
        names = names_of(self.name)
        return [name for name in (names.state, names.readers, *names.data) if (_SHM / name.lstrip("/")).exists()]

    def _clean_up(self) -> None:
        with Writer(self.name) as last:  # whoever held the lock is gone
            last.unlink()


def run(options: Options, progress: Progress) -> Summary:
    """Run the demo; leave no process and no segment behind, however it ends.

    Raises:
        MissingExtraError: the package airportsdata is not installed.
        DemoError: something did not happen that should have.
    """
    progress.event(
        f"{len(table.first()['airports']):,} airports, {options.workers} pool workers, {options.start_method}"
    )
    with ExitStack() as stack:
        demo = _Demo(options, progress, stack)
        start = time.monotonic()
        with progress:
            demo.drive(demo.story())
            while time.monotonic() < start + options.seconds:
                demo.tick()
            elapsed = time.monotonic() - start
            demo.drive(demo.end(), go_on=False)
        demo.summary.lookups_per_s = round(demo.summary.lookups / elapsed, 1)
        return demo.summary
