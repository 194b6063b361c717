"""The scenario of the demo: which process is killed or stopped when, and what must hold afterwards."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from shmsync import Writer
from shmsync._core.layout import names_of
from shmsync.cli.demo import processes
from shmsync.cli.demo.children import ChildProcess, DemoError, LookupPool, child_signals
from shmsync.cli.demo.history import History
from shmsync.cli.demo.processes import TIMEOUT
from shmsync.cli.demo.report import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import ExitStack

    from shmsync.cli.demo.report import Progress

    Steps = Generator[None, None, "T"]
    """A part of the scenario. At each yield it waits for something, and the caller handles messages."""

_GRACE = 0.5
_BLOCKED_AFTER = 0.3  # seconds after which a write is considered blocked by a reader
_TICK = 0.01
_SHM = Path("/dev/shm")  # noqa: S108 - the mount point of POSIX shared memory on Linux

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Options of the demo.

    Attributes:
        seconds: minimum duration; the scenario is always completed.
        workers: processes in the pool.
        rate: versions per second.
        start_method: start method of multiprocessing: "fork", "spawn" or "forkserver".
    """

    seconds: float
    workers: int
    rate: float
    start_method: str


class Scenario:
    """One run of the scenario. Everything that waits is a generator that `drive` advances between two ticks.

    Args:
        options: options of the run.
        progress: prints the events.
        stack: ends the processes and removes the name when it is closed.
    """

    def __init__(self, options: Options, progress: Progress, stack: ExitStack) -> None:
        self._progress = progress
        self._history = History()
        self._replies: list[str] = []
        self.summary = Summary()
        self.name = f"demo-{os.getpid()}-{secrets.token_hex(4)}"
        stack.callback(self._clean_up)
        context = multiprocessing.get_context(options.start_method)
        with child_signals():

            def start(role: str, target: Callable[..., None], *args: Any) -> ChildProcess:
                child = ChildProcess(context, role, target, self.name, *args)
                stack.callback(child.kill)
                return child

            # The pool comes last, because it starts threads and a process with threads should not fork.
            self._writer = start("the writer", processes.run_writer, options.rate, _GRACE)
            self._successor = start("the second writer", processes.run_writer, options.rate, _GRACE)
            self._killed_reader = start("the reader to be killed", processes.run_reader)
            self._stopped_reader = start("the reader to be stopped", processes.run_reader)
            self._blocking_reader = start("the blocking reader", processes.run_reader)
            pool = context.Pool(options.workers, processes.init_worker, (self.name, context.Barrier(options.workers)))
            stack.callback(pool.join)
            stack.callback(pool.terminate)
        self._pool = LookupPool(pool, options.workers)

    # -------------------------------------------------------------------------------------------------------- waiting

    def drive(self, steps: Steps[T], *, submit: bool = True) -> T:
        """Run steps to their end, with a tick whenever they wait; return their result."""
        while True:
            try:
                next(steps)
            except StopIteration as end:
                value: T = end.value
                return value
            self.tick(submit=submit)

    def tick(self, *, submit: bool = True) -> None:
        """Sleep briefly, then handle messages of writer and pool; with `submit`, start new batches."""
        time.sleep(_TICK)
        for message in self._writer.receive():
            if isinstance(message, str):
                self._replies.append(message)
            else:
                self._history.record(self._writer.role, message)
        summary, history = self.summary, self._history
        for batch in self._pool.collect(submit=submit):
            summary.lookups += batch.lookups
            summary.torn += batch.torn
            stale = [1000 * history.staleness(number, at) for number, at in batch.first_seen]
            summary.staleness_ms = round(max([summary.staleness_ms, *stale]), 1)
        summary.versions = history.versions
        summary.replaced = history.replaced
        summary.takeovers = history.takeovers
        self._progress.update(summary)

    def _until(self, condition: Callable[[], bool], what: str) -> Steps[None]:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > deadline:
                raise DemoError(f"timed out after {TIMEOUT:.0f} s waiting for {what}")
            yield

    def _request(self, child: ChildProcess, request: str) -> Steps[Any]:
        child.send(request)
        yield from self._until(child.has_message, f"the reply of {child.role} to {request!r}")
        return child.receive()[0]

    def _release(self, reader: ChildProcess) -> Steps[None]:
        """Have a reader close its snapshot; count a torn read if the snapshot has changed."""
        if not (yield from self._request(reader, "release")):
            self.summary.torn += 1

    # ------------------------------------------------------------------------------------------------------ the steps

    def run(self) -> Steps[None]:
        """Run all parts of the scenario."""
        self._writer.send("begin")
        yield from self._until(lambda: self._history.last > 1, "the first versions")
        yield from self._kill_a_reader()
        yield from self._stop_a_reader()
        yield from self._kill_the_writer()

    def _kill_a_reader(self) -> Steps[None]:
        history = self._history
        seq = yield from self._request(self._killed_reader, "hold")
        self._killed_reader.kill()
        self._progress.event(f"a reader is killed (SIGKILL) while it holds version {seq}")
        resets = history.resets
        yield from self._until(lambda: history.resets > resets, "the dead reader's slot to be reclaimed")
        self.summary.recovered += 1
        self._progress.event(f"version {history.last}: the writer has reclaimed the dead reader's slot")

    def _stop_a_reader(self) -> Steps[None]:
        history, reader = self._history, self._stopped_reader
        seq = yield from self._request(reader, "hold")
        reader.signal(signal.SIGSTOP)
        self._progress.event(f"a reader is stopped (SIGSTOP) while it holds version {seq}")
        resets, replaced = history.resets, history.replaced
        yield from self._until(
            lambda: history.resets > resets and history.replaced > replaced,
            "the stopped reader's segment to be replaced",
        )
        self._progress.event(
            f"version {history.last}: after a grace period of {_GRACE} s, the writer has allocated a new segment"
        )
        later = history.last + 3
        yield from self._until(lambda: history.last >= later, "writes while the reader is stopped")
        reader.signal(signal.SIGCONT)
        yield from self._release(reader)
        newest = history.last
        seen = yield from self._request(reader, "read")
        if seen < newest:
            self.summary.problems.append(f"the stopped reader read version {seen}, but the newest was {newest}")
        self._progress.event(f"it continues (SIGCONT): its snapshot is unchanged, its next read returns version {seen}")

    def _kill_the_writer(self) -> Steps[None]:
        history = self._history
        yield from self._request(self._blocking_reader, "hold")  # blocks a write, so that it can be interrupted

        def is_write_blocked() -> bool:
            return history.writing_since is not None and time.monotonic() - history.writing_since > _BLOCKED_AFTER

        yield from self._until(is_write_blocked, "a write to be in progress")
        last = history.last
        self._writer.kill()
        self._progress.event(f"the writer is killed (SIGKILL) during the write after version {last}")
        self._writer = self._successor
        self._writer.send("begin")
        yield from self._release(self._blocking_reader)
        yield from self._until(lambda: history.takeovers > 0, "a new writer to take over")
        self._progress.event(f"version {history.last}: a new writer has taken over")

    # -------------------------------------------------------------------------------------------------------- the end

    def finish(self) -> Steps[None]:
        """Stop the writer, check that all surviving processes read its last version, and unlink the name."""
        self._writer.send("stop")
        yield from self._until(lambda: "stopped" in self._replies, "the writer to stop")
        yield from self._until(lambda: not self._pool.is_busy, "the pool to finish")
        seen = self._pool.newest_numbers()
        for reader in (self._stopped_reader, self._blocking_reader):
            seen.append((yield from self._request(reader, "read")))
        self._writer.send("unlink")
        yield from self._until(lambda: "unlinked" in self._replies, "the writer to unlink the name")
        problems, last = self.summary.problems, self._history.last
        problems += self._history.problems
        problems += [f"a process read version {number} last, not version {last}" for number in seen if number != last]
        problems += [f"{segment} was left in /dev/shm" for segment in self._leftovers()]
        if self.summary.torn:
            problems.append(f"{self.summary.torn} torn reads")

    def _leftovers(self) -> list[str]:
        names = names_of(self.name)
        return [name for name in (names.state, names.readers, *names.data) if (_SHM / name.lstrip("/")).exists()]

    def _clean_up(self) -> None:
        with Writer(self.name) as writer:  # all processes have ended, so the write lock is free
            writer.unlink()
