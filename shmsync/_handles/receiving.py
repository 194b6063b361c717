"""ReceivingWriter: publishes versions that arrive in parts from elsewhere, as they are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync._handles.writer import Writer
from shmsync._session.origin import ORIGIN_SIZE
from shmsync.codecs._gather import uninitialized
from shmsync.errors import ClosedError, DataReadError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.protocol import PreparedWrite
    from shmsync._handles.reservation import OpenReservation
    from shmsync._session.ownership import Ownership
    from shmsync._session.updates import OpenUpdate
    from shmsync._types import Origin, WriteResult
    from shmsync.codecs._changes import Changes


class Incoming(NamedTuple):
    """A version that is about to be received.

    Attributes:
        size: size of the payload in bytes.
        codec: number of the codec.
        checksum: the checksum that the version has at its publisher.
        origin: which version it is.
    """

    size: int
    codec: int
    checksum: int
    origin: Origin


class ReceivingWriter(Writer[Any]):
    """A Writer that publishes payloads of any codec which it receives in parts, with their origin.

    The parts are written to their place in shared memory, so the value is in memory once. What does not match the
    checksum of the publisher is not published.
    """

    def receive(self, version: Incoming) -> Received:
        """Return a context manager that provides the memory of a version, to be written in full."""
        return Received(self, version, None)

    def receive_changes(self, version: Incoming, changes: Changes) -> Received:
        """Return a context manager that provides a copy of the newest version, to be changed in the parts given.

        Entering it raises DataReadError if there is no newest version, or one of another size.
        """
        return Received(self, version, changes)

    def origin(self) -> Origin | None:
        """Return the origin of the newest version on this host; None if there is none, or if it cannot be read.

        Takes no reader slot. Creates the name if it does not exist, so use it inside the `with` block of the writer.
        """
        with self._lock:
            if self._busy:
                self._refuse_nested()
            try:
                self._take_turn()
                owned, newest = self._newest()
                origin = None if newest is None else owned.data.newest_origin()
                owned.data.drop_update()  # and the mapping that was read
            except DataReadError:
                return None
            else:
                return origin
            finally:
                self._busy = False
                self._finish()

    def _open_received(self, block: Received) -> OpenReservation:
        def prepare() -> tuple[Ownership, PreparedWrite]:
            if block.changes is None:
                return self._prepare_full(block.version)
            return self._prepare_changes(block.version, block.changes)

        opened, _ = self._open(block, prepare, lambda _owned, _prepared: None)  # type: ignore[arg-type]
        return opened

    def _prepare_full(self, version: Incoming) -> tuple[Ownership, PreparedWrite]:
        size = version.size
        owned = self._checked_ownership(time.monotonic(), size)
        prepared = owned.prepare(size + ORIGIN_SIZE, self._grace)
        owned.data.begin(prepared.idx, uninitialized(size), version.codec)
        return owned, prepared

    def _prepare_changes(self, version: Incoming, changes: Changes) -> tuple[Ownership, PreparedWrite]:
        owned, newest = self._newest()
        if newest is None or (newest.size, newest.codec) != (version.size, version.codec):
            raise DataReadError("the version that the changes belong to is not the newest one on this host any more")
        prepared = owned.prepare_update(newest.size + ORIGIN_SIZE, self._grace)
        update = owned.data.update
        assert update is not None
        update.changes.extend(changes)  # before any of it is written: see `stale`
        return owned, prepared

    def _close_received(self, block: Received, opened: OpenReservation | None, *, publish: bool) -> WriteResult | None:
        return self._close(opened, lambda each: self._publish_received(each, block.version), publish=publish)

    def _publish_received(self, opened: OpenReservation, version: Incoming) -> WriteResult:
        update = opened.ownership.data.update
        assert update is not None
        update.expected = version.checksum
        update.origin = version.origin._replace(received=time.time())
        checksum = opened.ownership.commit_update(opened.prepared)
        copied = update.copied + update.changes.size
        return self._note_written(opened.ownership, opened.prepared, version.size, checksum, copied)


class Received:
    """The context manager that `ReceivingWriter.receive` returns. Leaving its block publishes the version.

    An exception publishes nothing.

    Attributes:
        version: the version.
        changes: the parts that the block writes; None if it writes all.

    Raises:
        IntegrityError: the payload does not match the checksum; raised when the block is left, nothing was published.
    """

    def __init__(self, writer: ReceivingWriter, version: Incoming, changes: Changes | None) -> None:
        self.version = version
        self.changes = changes
        self._writer = writer
        self._opened: OpenReservation | None = None
        self._memory: memoryview | None = None

    @property
    def memory(self) -> memoryview:
        """The memory of the payload, writable."""
        if self._memory is None:
            raise ClosedError("the memory of a version is available inside its `with` block only")
        return self._memory

    def __enter__(self) -> Self:
        self._opened = self._writer._open_received(self)
        update: OpenUpdate | None = self._opened.ownership.data.update
        assert update is not None
        self._memory = update.payload()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        self._memory = None
        self._writer._close_received(self, opened, publish=exc_type is None)
