"""A reader's attachment to an isolated incarnation: see `shmsync._core.isolated`. And the choice of the attachment.

There is no slot and nothing to unpin: an inode that has had the data name is never written to. A forked child may go on
using what its parent has mapped.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from shmsync._core.isolated import INDEX, newest, poll
from shmsync._core.layout import CLOSED
from shmsync._core.retention import ViewTracker
from shmsync._core.slots import NoSlot
from shmsync._session.attachment import Attachment, StaleAttachmentError
from shmsync._session.control import check_owner
from shmsync._session.data_name import header_of
from shmsync._session.mapping import TrackedMapping
from shmsync._session.pinned import PinnedVersion
from shmsync._session.state import NO_VALUE, PublicChannel, attach
from shmsync._shm.segment import open_segment
from shmsync._util.os_errors import raised_as
from shmsync.errors import DataReadError, StateReadError, not_published

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._core.layout import DataHeader, Names
    from shmsync._core.slots import Slot
    from shmsync._session.attachment import ReaderCounters
    from shmsync._shm.segment import Segment
    from shmsync.codecs import Decoder


def open_attachment(names: Names, decoder: Decoder, lock: RLock, counters: ReaderCounters) -> Attachment:
    """Attach to the current incarnation of a name, in the mode that it has.

    Raises:
        StateNotFoundError, UninitializedStateError, StateReadError, LayoutMismatchError: see `Reader.get`.
    """
    channel = attach(names)
    if isinstance(channel, PublicChannel):
        return IsolatedAttachment(names, channel, decoder, lock, counters)
    return Attachment(names, channel, decoder, lock, counters)


class IsolatedAttachment(Attachment):
    """The attachment of a reader to an isolated incarnation; with the interface of `Attachment`."""

    WORD_IS_SEQ = False

    def __init__(self, names: Names, channel: PublicChannel, *rest: Any) -> None:
        super().__init__(names, channel, *rest)
        self.cell = channel.generation_cell
        self._generation = channel.generations[INDEX]
        self._no_slot = NoSlot()

    def newest(self) -> tuple[int, int]:
        """Return the newest sequence number, or 0 or CLOSED; and the value of the version word to sleep on."""
        seq, seen = poll(self.version, self._newest_seq)
        return (seen if seen == CLOSED else seq), seen

    def _newest_seq(self) -> int:
        pinned = self._pinned
        if pinned is not None and pinned.label == self._generation.load():
            return pinned.seq
        try:
            with self._open_data() as segment:
                return self._checked(header_of(segment.name, segment)).seq
        except DataReadError as error:
            if error.errno not in {None, errno.ENOENT}:
                raise
            return 0  # removed or overwritten by another program: the next write repairs it

    def pin_at_once(self) -> None:
        """Return None: `pin` is fast enough, because it pins nothing."""

    def pin(self, *, check_bytes: bool) -> tuple[Slot, PinnedVersion]:
        """Return the newest version, and a slot that needs no unpin.

        Raises:
            StaleAttachmentError: attach again.
            And what `Reader.get` raises.
        """
        if self.version.load() == CLOSED:
            raise StaleAttachmentError
        try:
            pinned = self._pinned = newest(self._pinned, self._generation, self._open_newest)
        except (StateReadError, DataReadError):
            if self.channel.is_live():
                raise
            raise StaleAttachmentError from None
        if check_bytes:
            pinned.verify()
            self._decoder.check(pinned.codec, pinned.export())
        return self._no_slot, pinned

    def _open_newest(self) -> PinnedVersion:
        with self._open_data() as segment:
            pinned = self._pinned
            # The word moves before the name does, and stays ahead of it if the writer dies in between.
            if pinned is not None and segment.status().st_ino == pinned.mapping.inode:
                return pinned
            header = self._checked(header_of(segment.name, segment))
            views = ViewTracker(INDEX, header.generation, self._lock, self.missed)
            with raised_as(DataReadError, f"map {segment.name}"):
                mapping = TrackedMapping(segment, INDEX, views)
        pinned = PinnedVersion(header, mapping)
        pinned.label = header.generation
        return pinned

    def _open_data(self) -> Segment:
        before = self.version.load()  # before the open: the first version may be published right after it
        try:
            return self._open_name()
        except DataReadError as error:
            if error.errno == errno.ENOENT and before in NO_VALUE:
                raise not_published(self._names.name) from None
            raise

    def _open_name(self) -> Segment:
        name = self._names.data[INDEX]
        with raised_as(DataReadError, f"open {name}"):
            segment = open_segment(name, writable=False)
        check_owner(self._names, segment)
        return segment

    def _checked(self, header: DataHeader) -> DataHeader:
        if header.incarnation != self._incarnation:
            raise DataReadError(
                f"{self._names.data[INDEX]} contains version {header.seq} of another incarnation of the name; the next "
                "write repairs it"
            )
        return header

    def release_unused(self) -> None:
        """Do nothing: the memory of a version that was replaced is released with its last view."""

    def release(self) -> None:
        """Drop the mapping; the next read maps again."""
        self._pinned = None

    def discard(self, slot: Slot | None = None) -> None:
        """Do nothing: there is no slot."""
