"""Publisher: a Writer whose versions are sent to an engine, too."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from shmsync._handles.snapshot import T
from shmsync._handles.writer import Writer
from shmsync._shm import fork
from shmsync._shm.fork import alive
from shmsync._util.duration import seconds
from shmsync.errors import FencedError, ShmSyncError, StateNotFoundError, UninitializedStateError, format_error
from shmsync.replication._service import log
from shmsync.replication.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._session.ownership import Ownership
    from shmsync.replication.relay import RelayStatus

_RELAY_OPTIONS = ("password", "chunk_size", "full_after", "keep", "retain", "compression", "engine")


class Publisher(Writer[T]):
    """A Writer with a relay in a thread: what it publishes on this host, a `Replica` publishes on others.

    A write returns when the version is visible on this host; `flush` waits until the engine has it. If another
    publisher of the name has taken over, writes raise FencedError. The relay begins with the first write, or with the
    `with` block, and takes a reader slot. A value that an earlier program has left on this host is not sent again if a
    publisher on another host has sent one since.

    Attributes:
        on_fenced: called in the thread of the relay when another publisher has taken over; None by default.

    Args:
        name: the name.
        url: of the engine: see `shmsync.replication`.
        linger: how long `close` waits until the engine has the newest version, in seconds or as a timedelta. That one
            is sent at once, before `retain` is over.
        options: those of `Writer`, and `password`, `chunk_size`, `full_after`, `keep`, `retain`, `compression` and
            `engine` of `Relay`.

    Raises:
        InvalidArgumentError: an argument is not valid.
    """

    def __init__(self, name: str, url: str, *, linger: float | timedelta = 5.0, **options: Any) -> None:
        relayed = {key: options.pop(key) for key in _RELAY_OPTIONS if key in options}
        self._linger = seconds(linger, "linger")
        self._relay = Relay(name, url, **relayed)
        super().__init__(name, **options)
        self._url = url
        self._relayed = relayed
        self._fenced: FencedError | None = None
        self.on_fenced: Callable[[FencedError], object] | None = None
        me = weakref.ref(self)  # the thread must not keep this object alive

        def fence(error: FencedError) -> None:
            publisher = me()
            if publisher is not None:
                publisher._fenced = error
                publisher._usable = False
                if publisher.on_fenced is not None:
                    publisher.on_fenced(error)

        self._relay.on_fenced = fence
        # Not at the end of the process: `close`, which is called then, still has to send the newest version.
        weakref.finalize(self, self._relay.end).atexit = False

    def flush(self, timeout: float | timedelta | None = None, *, last: bool = False) -> None:
        """Wait until the engine has the newest version: see `Relay.flush`.

        Args:
            timeout: how long to wait, in seconds or as a timedelta; blocks indefinitely if None.
            last: whether the program ends then, so that `retain` does not delay it.

        Raises:
            ReplicationError: it has not within that time, or this publisher was closed meanwhile; with the last error.
            FencedError: a newer publisher has taken the name over.
            StateNotFoundError, UninitializedStateError: nothing is published, or the name was removed meanwhile.
            ClosedError: this writer is closed.
        """
        if not self._usable or not alive[0]:
            self._refuse()
        if self._ownership is None:  # nothing was written yet
            self._relay.note_earlier()
        self._relay.start()
        self._relay.flush(timeout, last=last)

    def status(self) -> RelayStatus:
        """Return what the relay does."""
        return self._relay.status()

    def close(self) -> None:
        """Wait until the engine has the newest version, for `linger` at most; then close. Idempotent."""
        try:
            if self._usable and alive[0] and self._relay.is_running:
                if self._linger:
                    self._flush_last()
                self._relay.stop()
        finally:  # also after Ctrl-C
            super().close()
            self._relay.end()  # a write of another thread may have started it again

    def _flush_last(self) -> None:
        try:
            self._relay.flush(self._linger, last=True)
        except (StateNotFoundError, UninitializedStateError):
            pass
        except ShmSyncError as error:
            log.warning("%s: closed before the engine has the newest version: %s", self.name, format_error(error))

    async def __aenter__(self) -> Self:
        import asyncio  # noqa: PLC0415 - slow to import; where a coroutine runs, it has been imported

        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        import asyncio  # noqa: PLC0415 - slow to import; where a coroutine runs, it has been imported

        await asyncio.to_thread(self.__exit__, exc_type, exc, tb)

    def _note_adoption(self, owned: Ownership) -> None:
        super()._note_adoption(owned)
        self._relay.note_earlier()
        self._relay.start()  # not before: another writer of this host may have the name

    def _refuse(self) -> NoReturn:
        fork.check()
        if self._fenced is not None and not self._closed:
            raise FencedError(*self._fenced.args)
        super()._refuse()

    def _options(self) -> dict[str, Any]:
        return super()._options() | self._relayed | {"url": self._url, "linger": self._linger}
