"""What Relay and Replica have in common: a loop in a thread, which connects again and again, and its last error."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from shmsync._core.layout import names_of
from shmsync._util.backoff import backoff
from shmsync.errors import FencedError, ReplicationError, ShmSyncError, format_error
from shmsync.replication._urls import redacted
from shmsync.replication.redis import RedisEngine, check_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from shmsync.replication.engine import Engine

    class OpenEngine(Protocol):
        """Opens a connection to an engine for a name."""

        def __call__(self, url: str, name: str, *, password: str | None) -> Engine: ...


log = logging.getLogger("shmsync.replication")
_PAUSES = (0.05, 2.0)  # seconds, the first and the longest pause between two attempts to connect


class Service:
    """A loop that works with an engine until it is stopped, and continues after errors.

    Args:
        name: the name.
        url: of the engine.
        password: of the engine.
        engine: opens the connection.
    """

    def __init__(self, name: str, url: str, password: str | None, engine: OpenEngine | None) -> None:
        names_of(name)  # checks it
        if engine is None:
            check_url(url)
        self.name = name
        self._url = url
        self._password = password
        self._open: OpenEngine = RedisEngine if engine is None else engine
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._error: ShmSyncError | None = None
        self._connected = False
        self.on_fenced: Callable[[FencedError], object] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread that `start` has started is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        """Start the loop in a thread, unless it runs; return this object."""
        if not self.is_running:
            self._stopped.clear()
            self._thread = threading.Thread(target=self._run_thread, name=f"shmsync {self!r}", daemon=True)
            self._thread.start()
        return self

    def end(self) -> None:
        """Stop the loop, but do not wait until its thread has ended."""
        self._stopped.set()

    def stop(self) -> None:
        """Stop the loop, and wait until its thread has ended. Idempotent."""
        self.end()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def run(self) -> None:
        """Run the loop in this thread, until another thread or a signal handler calls `stop`.

        Raises:
            FencedError: a newer publisher has taken the name over.
        """
        pauses = backoff(*_PAUSES)
        while not self._stopped.is_set():
            try:
                engine = self._open(self._url, self.name, password=self._password)
                try:
                    for _ in self._work(engine):  # each time something has worked
                        pauses = backoff(*_PAUSES)
                        self._note(None)
                finally:
                    self._connected = False
                    engine.close()
            except FencedError as error:
                self._note(error)
                if self.on_fenced is not None:
                    self.on_fenced(error)
                raise
            except ShmSyncError as error:
                if not self._stopped.is_set():
                    self._note(error)
            self._stopped.wait(next(pauses))

    def _run_thread(self) -> None:
        with suppress(FencedError):  # it is noted, and logged
            self.run()

    def _work(self, engine: Engine) -> Iterator[None]:
        """Work until `stop` is called; yield after each step that has succeeded."""
        raise NotImplementedError

    def _check_stopped(self) -> None:
        """Raise ReplicationError if the loop has to stop: in the midst of a long transfer."""
        if self._stopped.is_set():
            raise ReplicationError("stopped")

    def _note(self, error: ShmSyncError | None) -> None:
        """Record an error, and log it if it is another one than before; or that there is none any more."""
        if error is not None:
            forget_frames(error)
        before, self._error = self._error, error
        self._connected = error is None
        if error is None:
            if before is not None:
                log.info("%s: works again", self.name)
        elif before is None or str(before) != str(error):
            log.warning("%s: %s", self.name, redacted(format_error(error)))
        with self._changed:
            self._changed.notify_all()

    def _wait_until(self, condition: Callable[[], bool], timeout: float | None, what: str) -> None:
        """Wait for a condition that a step of the loop makes true.

        Raises:
            FencedError: a newer publisher has taken the name over.
            ReplicationError: it is not true after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not condition():
                if isinstance(self._error, FencedError):
                    raise self._error
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    why = f": {redacted(format_error(self._error))}" if self._error is not None else ""
                    raise ReplicationError(f"{self.name!r}: {what} within {timeout:g} s{why}")
                self._changed.wait(left)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(self, *_: object) -> None:
        import asyncio  # noqa: PLC0415 - slow to import; where a coroutine runs, it has been imported

        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def forget_frames(error: ShmSyncError) -> None:
    """Make an error that is kept refer to no frames, and so to no memory of a version."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
