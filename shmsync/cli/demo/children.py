"""The parent's handles for the child processes and for the pool."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shmsync.cli.demo import processes
from shmsync.cli.demo.processes import TIMEOUT
from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import BaseContext
    from multiprocessing.pool import AsyncResult, Pool


class DemoError(ShmSyncError, RuntimeError):
    """A child process failed or did not respond."""


@contextmanager
def child_signals() -> Iterator[None]:
    """Set the signals that processes started inside inherit.

    They ignore Ctrl-C, because the parent ends them, and die of SIGTERM.
    """
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class ChildProcess:
    """A child process and the pipe to it.

    Args:
        context: the multiprocessing context that starts it.
        role: description of the process in messages.
        target: function that it runs, with the name, its end of the pipe and `args`.
        name: the name that is published.
        args: further arguments.
    """

    def __init__(self, context: BaseContext, role: str, target: Callable[..., None], name: str, *args: Any) -> None:
        self.role = role
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=target, args=(name, child_end, *args), daemon=True)  # type: ignore[attr-defined]
        self._process.start()
        child_end.close()
        self.pid: int = self._process.pid

    def send(self, request: str) -> None:
        """Send a request."""
        self._pipe.send(request)

    def has_message(self) -> bool:
        """Return whether `receive` would return something, or fail."""
        return self._pipe.poll()

    def receive(self) -> list[Any]:
        """Return the messages that have arrived, without waiting.

        Raises:
            DemoError: the process has ended and all its messages have been received.
        """
        messages: list[Any] = []
        try:
            while self._pipe.poll():
                messages.append(self._pipe.recv())
        except (EOFError, ConnectionResetError):
            if not messages:
                raise DemoError(f"{self.role} (pid {self.pid}) exited unexpectedly") from None
        return messages

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        self._process.join(TIMEOUT)
        self._pipe.close()


class LookupPool:
    """The pool of readers. Each worker has one batch at a time."""

    def __init__(self, pool: Pool, workers: int) -> None:
        self._pool = pool
        self._workers = workers
        self._pending: list[tuple[float, AsyncResult[processes.BatchResult]]] = []

    def collect(self, *, submit: bool) -> list[processes.BatchResult]:
        """Return the results of finished batches; with `submit`, start new ones in their place.

        Raises:
            DemoError: a worker is hung.
        """
        ready = [batch for _, batch in self._pending if batch.ready()]
        self._pending = [entry for entry in self._pending if not entry[1].ready()]
        if self._pending and time.monotonic() - self._pending[0][0] > TIMEOUT:
            raise DemoError(f"a pool worker did not respond within {TIMEOUT:.0f} s")
        while submit and len(self._pending) < self._workers:
            self._pending.append((time.monotonic(), self._pool.apply_async(processes.run_batch)))
        return [batch.get() for batch in ready]

    def newest_numbers(self) -> list[int]:
        """Return the number of the newest version that each worker reads."""
        return self._pool.starmap_async(processes.newest_number, [()] * self._workers, chunksize=1).get(TIMEOUT)

    @property
    def is_busy(self) -> bool:
        """Whether a batch is in progress."""
        return bool(self._pending)
