"""Follow a file or a callable in a web server: one of its processes publishes, the workers read.

Start a `Publisher` in the arbiter of gunicorn, or in every worker: the one that gets the write lock of the name
publishes. When its process ends, however it ends, the next one takes over.
"""

from __future__ import annotations

import logging
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from shmsync import _files
from shmsync._handles.writer import Writer
from shmsync.errors import InvalidArgumentError, ShmSyncError, WriteLockConflictError, format_error

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["Publisher"]

_log = logging.getLogger("shmsync")
_RETRY_AFTER = 1.0  # seconds between two attempts to become the publisher


class Publisher:
    """Publishes a file whenever it changes, or what a callable returns, in a background thread.

    A file that cannot be read or parsed is logged, as a warning of the logger `shmsync`, and the last value stays
    published. So does an exception of the callable.

    Args:
        name: the name to publish under.
        source: path of a file, whose suffix tells the format: .json, .toml, .yaml, .msgpack, and .raw or .bin for
            bytes. Or a callable, which is called every `interval` seconds; what it returns is published unless it is
            the same object as before.
        interval: seconds between two calls of a callable.
        options: of the `Writer`: codec, mode, and so on.

    Raises:
        MissingExtraError: a file is followed and the extra `publish` is not installed.

    Example:
        The configuration file of gunicorn, which runs it in the arbiter::

            from shmsync.publisher import Publisher

            publisher = Publisher("settings", "settings.toml")

            def when_ready(server):
                publisher.start()

            def on_exit(server):
                publisher.stop()
    """

    def __init__(
        self, name: str, source: str | os.PathLike[str] | Callable[[], Any], *, interval: float = 1.0, **options: Any
    ) -> None:
        if not callable(source):
            _files.require_watcher()
        if not interval > 0:
            raise InvalidArgumentError(f"interval must be more than 0 seconds, not {interval!r}")
        self._name = name
        self._source = source
        self._interval = interval
        self._options = options
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        Writer(name, **options).close()  # checks the arguments

    def start(self) -> None:
        """Start the thread, unless it runs. It waits while another process publishes under the name."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name=f"shmsync publisher of {self._name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait until it has closed its writer. The last value stays published."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @asynccontextmanager
    async def lifespan(self, _app: object) -> AsyncIterator[None]:
        """Run it while an ASGI application runs: `Starlette(lifespan=publisher.lifespan)`, and so for FastAPI."""
        import asyncio  # noqa: PLC0415 - slow to import; where a coroutine runs, it has been imported

        self.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.stop)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Writer(self._name, **self._options) as writer:
                    for publish in self._publishes():
                        self._attempt(writer, publish)
            except WriteLockConflictError:  # another process publishes
                pass
            except (ShmSyncError, OSError) as error:
                _log.warning("%s: cannot publish: %s", self._name, format_error(error))
            self._stop.wait(_RETRY_AFTER)

    def _attempt(self, writer: Writer[Any], publish: Callable[[Writer[Any]], object]) -> None:
        try:
            publish(writer)
        except WriteLockConflictError:
            raise
        except Exception as error:  # noqa: BLE001 - also what the callable raises
            _log.warning("%s: kept the last value: %s", self._name, format_error(error))

    def _publishes(self) -> Iterator[Callable[[Writer[Any]], object]]:
        """Yield a function for each publish that is due."""
        source = self._source
        if not callable(source):
            for _ in _files.changes(source, self._name, self._stop):
                yield lambda writer: _files.publish(writer, source, _files.format_of(source))
            return
        last: list[Any] = []

        def publish(writer: Writer[Any]) -> None:
            value = source()
            if not last or value is not last[0]:
                writer.write(value)
                last[:] = [value]

        while not self._stop.is_set():
            yield publish
            self._stop.wait(self._interval)
