"""The incarnation that a writer owns: its segments, and the steps that publish a value into them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._core.layout import VERSION_AT, index_of
from shmsync._core.lifecycle import StaleIncarnationError
from shmsync._core.protocol import Publisher
from shmsync._session.control import open_control_segment
from shmsync._session.data import DataSegments, Encoded
from shmsync._session.notify import Notifier
from shmsync._session.reader_table import WriterTable
from shmsync._session.state import NO_VALUE
from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader
    from shmsync._core.lifecycle import NameOwner
    from shmsync._core.protocol import PreparedWrite
    from shmsync._session.create_options import CreateOptions
    from shmsync._session.state_file import StateFile


class _Clock:
    now = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)  # looked up each time: gevent or eventlet may replace it after this module is imported


class Ownership:
    """One incarnation, and the segments that the holder of its write lock writes to.

    Args:
        options: options for creating segments.
        owner: the hold on the name.
        state: its state segment, locked and initialized.

    Attributes:
        previous_owner_pid: process of the previous writer, if it died without closing; otherwise 0.
        previous_mode: permission bits that were replaced by this writer's; None if they are the same.
        max_readers: slots of the reader table, as the creator of the incarnation has set them.
    """

    def __init__(self, options: CreateOptions, owner: NameOwner[StateFile], state: StateFile) -> None:
        names = options.names
        words = state.words
        self.state = state
        self.version = words.version
        self._table = WriterTable(names, open_control_segment(names, names.readers, writable=True), state.header)
        self.previous_mode: int | None = None
        if state.has_other_permissions():
            self._table.set_mode(options.table_mode)
            self.previous_mode = state.adopt_permissions()
        self.max_readers = state.header.max_readers
        self.previous_owner_pid = state.previous_owner_pid()
        state.record_owner(os.getpid(), time.time_ns())
        self.data = DataSegments(names, state.header.incarnation, options.read_mode, owner)
        publisher: Publisher[Encoded] = Publisher(
            words.version, words.generations, self._table, self.data, _Clock(), options.max_backoff
        )
        self._publisher = publisher
        self._notifier = Notifier(state.memory, VERSION_AT, self.version, self._table.waiters)
        self._load_waiters = self._table.waiters.load
        self._owes_wake = False  # `waiters` was cleared, and nothing has been published since
        self.prepare = publisher.prepare
        self.prepare_update = publisher.prepare_update

    def try_publish(self, value: Encoded, size: int) -> tuple[int, int, int, int] | None:
        """Publish a value if nothing prevents it: the fast path of `prepare` and `commit`.

        Args:
            value: the encoded value.
            size: size of its payload in bytes.

        Returns:
            Sequence number, index, size and checksum; None if nothing was published.
        """
        if self._load_waiters():
            self._owes_wake = True  # first: if nothing is published, `commit` still has to wake those who were cleared
            self._notifier.disarm()
        published = self._publisher.try_publish(value, size)
        if (self._owes_wake or self._load_waiters()) and published is not None:
            self._notifier.notify(had_waiters=True)
            self._owes_wake = False
        return published

    def commit(self, prepared: PreparedWrite, value: Encoded) -> int:
        """Publish a value into a prepared segment, and wake the waiters; return the checksum of the payload.

        Raises:
            StaleIncarnationError: the incarnation was ended; nothing was published.
        """
        had_waiters = self._notifier.disarm() or self._owes_wake
        checksum = self._publisher.commit(prepared, value)
        self._notify(had_waiters=had_waiters)
        return checksum

    def commit_update(self, prepared: PreparedWrite) -> int:
        """Publish a payload that was changed in place, and wake the waiters; return its checksum. Raises the same."""
        had_waiters = self._notifier.disarm() or self._owes_wake
        checksum = self._publisher.commit_update(prepared)
        self._notify(had_waiters=had_waiters)
        return checksum

    def _notify(self, *, had_waiters: bool) -> None:
        self._notifier.notify(had_waiters=had_waiters)
        self._owes_wake = False

    def newest_header(self) -> DataHeader | None:
        """Return the header of the newest version, which an update begins with; None if there is none.

        Raises:
            DataReadError: its segment is missing or damaged.
        """
        seq = self.version.load()
        if seq in NO_VALUE:
            return None
        return self.data.newest_header(seq, self.state.words.generations[index_of(seq)].load())

    def record_outdated(self, prepared: PreparedWrite) -> None:
        """Record since when readers have held the memory that a write replaced. For tools only."""
        moment = self.data.published(1 - prepared.idx) or int(time.monotonic())
        self._table.record_outdated(prepared.idx, prepared.generation - 1, prepared.evicted, moment)

    def evicted(self) -> list[int]:
        """Return the pids whose slots are evicted now. For messages only."""
        return self._table.evicted()

    def record_release(self) -> None:
        """Record that this writer has closed, and remove what only it can use."""
        with suppress(ShmSyncError, StaleIncarnationError):  # the next writer removes it
            self.data.drop_spares()
        self.state.record_owner(0, 0)

    def close(self) -> None:
        """Close this process's descriptor of the reader table."""
        self._table.close()
