"""What Relay and Replica have in common: a loop in a thread, which connects again and again, and its last error."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol

from shmsync._core.layout import names_of
from shmsync._shm import fork
from shmsync._util.arguments import function
from shmsync._util.backoff import backoff
from shmsync._util.stop_event import StopEvent
from shmsync.errors import FencedError, InvalidArgumentError, ReplicationError, ShmSyncError, format_error
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
        if function(engine, "engine") is None:
            check_url(url)
        if password is not None and not isinstance(password, str):
            raise InvalidArgumentError("password must be a str or None")  # without the value: it may be a secret
        self.name = name
        self._url = url
        self._password = password
        self._open: OpenEngine = RedisEngine if engine is None else engine
        self._thread: threading.Thread | None = None
        self._has_ended = False  # and was not started again
        self._error: ShmSyncError | None = None
        self._connected = False
        self.on_fenced: Callable[[FencedError], object] | None = None
        self._reset_locks()
        fork.call_after(self)

    def _reset_locks(self) -> None:
        self._stopped = StopEvent()
        self._changed = threading.Condition(threading.RLock())

    def after_fork_in_child(self) -> None:
        """Leave the loop and its connection to the parent: see `shmsync._shm.fork`."""
        self._reset_locks()  # the thread, which is not here, may have had them
        self._stopped.set()
        self._thread = None
        self._has_ended, self._connected = True, False

    @property
    def is_running(self) -> bool:
        """Whether the thread that `start` has started is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        """Start the loop in a thread, unless it runs; return this object."""
        with self._changed:  # else two threads could start one each
            if not self.is_running:
                self._stopped.clear()
                self._has_ended = False
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
        self._has_ended = False
        try:
            self._run()
        except ShmSyncError:
            raise
        except BaseException as error:  # an error in this package, or no memory: `wait` and `status` have to say so
            self._note(ReplicationError(f"ended by {type(error).__name__}: {error}; start it again"))
            raise
        finally:
            self._has_ended = True
            with self._changed:
                self._changed.notify_all()

    def _run(self) -> None:
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
                try:
                    self._note(error)
                finally:  # also if a handler of the log raises
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
            ReplicationError: it is not true after `timeout` seconds, or when the loop has ended.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not condition():
                if isinstance(self._error, FencedError):
                    raise self._error
                left = None if deadline is None else deadline - time.monotonic()
                if self._has_ended:
                    raise ReplicationError(f"{self.name!r}: {what}{self._why('it is not running; call start')}")
                if left is not None and left <= 0:
                    raise ReplicationError(f"{self.name!r}: {what} within {timeout:g} s{self._why()}")
                self._changed.wait(left if left is None else min(left, threading.TIMEOUT_MAX))

    def _why(self, otherwise: str = "") -> str:
        if self._error is not None:
            return f": {redacted(format_error(self._error))}"
        return f": {otherwise}" if otherwise else ""

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

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} belongs to the process that runs it; make one in the other process")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def forget_frames(error: ShmSyncError) -> None:
    """Make an error that is kept refer to no frames, and so to no memory of a version."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
