"""The incarnation that a writer owns in isolated mode: see `shmsync._core.isolated`. And the choice of the mode."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX, IsolatedPublisher, Label
from shmsync._core.layout import PAYLOAD_AT, allocated_size
from shmsync._core.lifecycle import StaleIncarnationError
from shmsync._session import updates
from shmsync._session.change_log import ChangeLog
from shmsync._session.data import fill
from shmsync._session.data_name import header_of, newest_label
from shmsync._session.origin import origin_of
from shmsync._session.ownership import Ownership
from shmsync._shm.segment import Mapping, create_segment, open_segment, rename_segment, unlink_segment
from shmsync._util.os_errors import raised_as
from shmsync.codecs import _blocks
from shmsync.errors import DataReadError, DataWriteError

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader, Names
    from shmsync._core.lifecycle import NameOwner
    from shmsync._core.protocol import PreparedWrite
    from shmsync._session.create_options import CreateOptions
    from shmsync._session.data import Encoded
    from shmsync._session.state_file import StateFile
    from shmsync._session.updates import OpenUpdate
    from shmsync._types import Origin
    from shmsync.codecs._gather import Payload


_TOKEN_BYTES = 8


def own(options: CreateOptions, owner: NameOwner[StateFile], state: StateFile) -> Ownership:
    """Return the owned incarnation in the mode that it has.

    Raises:
        StateNotFoundError: a part of it was removed just now: acquire the name again.
        StaleIncarnationError: the same.
    """
    kind = IsolatedOwnership if state.header.isolated else Ownership
    return kind(options, owner, state)


class NextVersion:
    """The data name, and the inode that is going to have it: the port `Register`.

    Args:
        names: the segment names.
        incarnation: incarnation of the state segment.
        mode: permission bits.
    """

    def __init__(self, names: Names, incarnation: int, mode: int) -> None:
        self._names = names
        self._incarnation = incarnation
        self._mode = mode
        self._unpublished = ""
        self._creator = 0
        self._mapping: Mapping | None = None
        self._source: Mapping | None = None
        self._newest: DataHeader
        self._log = ChangeLog()
        self.update: OpenUpdate | None = None

    def newest(self) -> Label | None:
        """Return the label of what the data name leads to; None if that is not a version of this incarnation."""
        return newest_label(self._names, self._incarnation, os.geteuid())

    def create(self, size: int) -> bool:
        """Create the next inode under a private name; return False if the name is taken.

        Raises:
            CapacityError, DataWriteError: it cannot be created.
        """
        self.discard(INDEX)
        name = self._names.unpublished(os.urandom(_TOKEN_BYTES))
        self._unpublished, self._creator = name, os.getpid()  # first: an exception from a signal handler may follow
        try:
            created = create_segment(name, allocated_size(size), self._mode)
        except FileExistsError:
            return False
        with created as segment, raised_as(DataWriteError, f"map {self._names.data[INDEX]}"):
            self._mapping = Mapping(segment, INDEX, 0, writable=True)
        return True

    def payload_view(self, _: int, size: int) -> memoryview:
        """Return a writable view of the memory of the next payload."""
        assert self._mapping is not None
        return self._mapping.view(PAYLOAD_AT, PAYLOAD_AT + size)

    def newest_header(self, seq: int, _: int) -> DataHeader:
        """Return the header of the newest version, which an update begins with.

        Raises:
            DataReadError: it is missing or damaged.
        """
        name = self._names.data[INDEX]
        try:
            with open_segment(name, writable=False) as segment, raised_as(DataReadError, f"map {name}"):
                header = header_of(name, segment)
                self._source = Mapping(segment, INDEX, header.generation, writable=False)
        except OSError:
            raise updates.no_newest(name, seq) from None
        if (header.incarnation, header.seq) != (self._incarnation, seq):
            raise updates.no_newest(name, seq)
        self._newest = header
        return header

    def newest_payload(self) -> bytes:
        """Return a copy of the payload whose header `newest_header` has returned last."""
        assert self._source is not None
        return _blocks.to_bytes(self._source.view(PAYLOAD_AT, PAYLOAD_AT + self._newest.size))

    def newest_origin(self) -> Origin | None:
        """Return the origin of the version whose header `newest_header` has returned last; None if it has none."""
        assert self._source is not None
        return origin_of(self._source, self._newest)

    def catch_up(self, _: int, newest: int) -> None:
        """Copy the payload of version `newest`, whose header `newest_header` has returned."""
        assert self._mapping is not None
        assert self._source is not None
        assert self._newest.seq == newest
        self.update = updates.copy_all(self._mapping, self._source, self._newest)
        self._source = None

    def begin(self, _: int, payload: Payload, codec: int) -> None:
        """Begin an update with another value than the newest version."""
        assert self._mapping is not None
        self.update = updates.begin(self._mapping, payload, codec)

    def finish_update(self, _: int, generation: int, seq: int) -> int:
        """Write checksum and header of a payload that was changed in place; return the checksum."""
        assert self.update is not None
        assert self.update.target is self._mapping
        return updates.finish(self.update, (self._incarnation, generation, seq), self._log)

    def drop_update(self) -> None:
        """Drop the update, and with it the mapping of the version before."""
        self.update = self._source = None

    def fill(self, label: Label, value: Encoded) -> int:
        """Write payload and header; return the checksum of the payload."""
        assert self._mapping is not None
        return fill(self._mapping, (self._incarnation, *label), value)

    def publish(self) -> None:
        """Rename the inode to the data name.

        Raises:
            StaleIncarnationError: another program has removed it.
            DataWriteError: the kernel refuses.
        """
        try:
            rename_segment(self._unpublished, self._names.data[INDEX])
        except DataWriteError as error:
            if error.errno == errno.ENOENT:
                raise StaleIncarnationError from None
            raise
        self._unpublished = ""
        self._mapping = None

    def discard(self, _: int) -> None:
        """Remove the inode, unless it has the data name."""
        name, self._unpublished = self._unpublished, ""
        self._mapping = None
        if name and self._creator == os.getpid():  # in a child, it is the parent's
            with suppress(DataWriteError):  # a later writer looks for it
                unlink_segment(name)

    def forget_unlinked(self) -> None:
        """Do nothing: a removed data name ends the incarnation."""


class IsolatedOwnership(Ownership):
    """One incarnation in isolated mode; with the interface of `Ownership`, which describes arguments and attributes.

    Raises:
        StaleIncarnationError: acquire the name again.
    """

    def __init__(self, options: CreateOptions, owner: NameOwner[StateFile], state: StateFile) -> None:
        names = options.names
        words = state.words
        self.state = state
        self.version = words.version
        data = NextVersion(names, state.header.incarnation, options.read_mode)
        owner.unlink_staged(INDEX)
        publisher: IsolatedPublisher[Encoded] = IsolatedPublisher(
            words.version, words.generations[INDEX], data, owner, state.wake_readers
        )
        publisher.settle()
        self.previous_mode = None
        if state.has_other_permissions():
            with raised_as(DataWriteError, f"open {names.data[INDEX]}"):
                self._adopt_permissions(names, options.read_mode)
            self.previous_mode = state.adopt_permissions()
        self.max_readers = options.max_readers
        self.previous_owner_pid = state.previous_owner_pid()
        state.record_owner(os.getpid(), time.time_ns())
        self.data = data  # type: ignore[assignment] # what the Writer uses of it is the same
        self._publisher = publisher  # type: ignore[assignment] # the same
        self.prepare = publisher.prepare
        self.prepare_update = publisher.prepare_update

    @staticmethod
    def _adopt_permissions(names: Names, mode: int) -> None:
        with suppress(FileNotFoundError), open_segment(names.data[INDEX], writable=True) as segment:
            segment.set_mode(mode)

    def try_publish(self, value: Encoded, size: int) -> None:
        """Return None: each version needs new memory."""

    def commit(self, prepared: PreparedWrite, value: Encoded) -> int:
        """Publish a value in a prepared inode, and wake the waiters; return the checksum of the payload.

        Raises:
            StaleIncarnationError: the incarnation was ended; nothing was published.
        """
        return self._publisher.commit(prepared, value)

    def commit_update(self, prepared: PreparedWrite) -> int:
        """Publish a payload that was changed in place, and wake the waiters; return its checksum. Raises the same."""
        return self._publisher.commit_update(prepared)

    def record_outdated(self, prepared: PreparedWrite) -> None:
        """Do nothing: there is no slot to record it in."""

    def evicted(self) -> list[int]:
        """Return nothing: no reader is waited for."""
        return []

    def record_release(self) -> None:
        """Record that this writer has closed."""
        self.state.record_owner(0, 0)

    def close(self) -> None:
        """Remove the version that was prepared and not published."""
        self.data.discard(INDEX)
