"""A reader's attachment to one incarnation of a name: its slot, its mappings, and the last version that it pinned."""

from __future__ import annotations

from contextlib import suppress
from sys import getrefcount
from typing import TYPE_CHECKING, ClassVar

from shmsync._core import protocol, slots
from shmsync._core.layout import CLOSED, PAGE, PAYLOAD_AT, DataHeader, Names, index_of, parse_data_header
from shmsync._session.control import check_owner
from shmsync._session.log import logger
from shmsync._session.mapping import TrackedMapping
from shmsync._session.pinned import PinnedVersion
from shmsync._session.state import NO_VALUE
from shmsync._session.uwsgi import warn_if_it_forks_silently
from shmsync._shm import fork
from shmsync._shm.atomics import IS_TSO
from shmsync._shm.segment import open_segment
from shmsync._util.os_errors import raised_as
from shmsync.errors import DataReadError, ShmSyncError, StateReadError, not_published

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._core.retention import ViewTracker
    from shmsync._core.slots import Slot
    from shmsync._session.state import Channel
    from shmsync.codecs import Decoder


class ReaderCounters:
    """The counters of `ReaderStats`, over all attachments of a handle."""

    __slots__ = ("attached", "claimed", "values")

    def __init__(self) -> None:
        self.values = self.attached = self.claimed = 0


class StaleAttachmentError(Exception):
    """The incarnation has ended since the attachment was made. Handled by the Reader, which attaches again."""


class Attachment:
    """The attachment of a reader. All methods but `discard` are called under the reader's lock.

    Args:
        names: the segment names.
        channel: the incarnation.
        decoder: the reader's decoder.
        lock: the reader's lock.
        counters: the reader's counters.

    Attributes:
        cell: the word that `Reader.get` compares with the label of the version that it has returned last.
        WORD_IS_SEQ: whether the version word is the sequence number of the newest version.
    """

    WORD_IS_SEQ: ClassVar[bool] = True

    def __init__(self, names: Names, channel: Channel, decoder: Decoder, lock: RLock, counters: ReaderCounters) -> None:
        self._names = names
        self._decoder = decoder
        self._lock = lock
        self._counters = counters
        self.channel = channel
        self.version = channel.version
        self.cell = channel.version_cell
        self._generations = self.channel.generations
        self._incarnation = self.channel.header.incarnation
        self._slot: Slot | None = None
        self._mappings: list[TrackedMapping | None] = [None, None]
        self._released: list[ViewTracker | None] = [None, None]  # of mappings that may have views: see `release`
        self._pinned: PinnedVersion | None = None
        counters.attached += 1
        logger.debug("attached to %s", names.state)
        warn_if_it_forks_silently(names.name)

    def newest(self) -> tuple[int, int]:
        """Return the newest sequence number, or 0 or CLOSED; and the value of the version word to sleep on."""
        seq = self.version.load()
        return seq, seq

    def seqlock_read(self) -> tuple[int, int, bytes] | None:
        """Copy a small newest version without a pin; return its sequence number, codec number and payload.

        Return None if the version is not in a mapped page, changes during the copy, or is pinned already.
        """
        seq = self.version.load()
        mapping = self._mappings[index_of(seq)]
        if mapping is None or mapping.size != PAGE or not IS_TSO or seq == CLOSED:
            return None
        if self._pinned is not None and self._pinned.seq == seq:
            return None
        if mapping.generation != self._generations[mapping.index].load():
            return None
        raw = mapping.copy(0, PAGE)
        # Nothing prevents the writer from overwriting this page. But it starts to write to the segment of `seq`, or to
        # give that index a new inode, only after it has published the next version. So if the version is still `seq`
        # after all these loads, which this machine executes in order, none of them has seen such a write.
        if self.version.load() != seq:
            return None
        header = self._checked_header(seq, mapping, raw)
        return seq, header.codec, raw[PAYLOAD_AT : PAYLOAD_AT + header.size]

    def pin(self, *, check_bytes: bool) -> tuple[Slot, PinnedVersion]:
        """Pin the newest version. The caller unpins; after any exception it calls `discard`.

        Raises:
            StaleAttachmentError: attach again.
            And what `Reader.get` raises.
        """
        try:
            slot, seq, mapping = protocol.pin_and_map(self, self.version)
            if fork.in_progress:  # the slot may have been looked at before this pin
                self.channel.seals.seal(0)
                self.channel.seals.seal(1)
            pinned = self._pinned_version(seq, mapping)
        except (StateReadError, DataReadError):
            # A segment does not match the state. That is expected if the incarnation has ended: its segment may be
            # missing, or that of a new one was mapped. The slot in the old table is freed as a whole, with its pin.
            if self.channel.is_live():
                raise
            self.discard()
            raise StaleAttachmentError from None
        if check_bytes:
            pinned.verify()
            self._decoder.check(pinned.codec, pinned.export())
        return slot, pinned

    def _pinned_version(self, seq: int, mapping: TrackedMapping | None) -> PinnedVersion:
        if seq == CLOSED:
            raise StaleAttachmentError
        if mapping is None:
            raise not_published(self._names.name)
        pinned = self._pinned
        if pinned is None or pinned.seq != seq or pinned.mapping is not mapping:
            pinned = self._pinned = self._new_pinned_version(seq, mapping)
        return pinned

    def _new_pinned_version(self, seq: int, mapping: TrackedMapping) -> PinnedVersion:
        return PinnedVersion(self._checked_header(seq, mapping, mapping.copy(0, PAYLOAD_AT)), mapping)

    def _checked_header(self, seq: int, mapping: TrackedMapping, raw: bytes) -> DataHeader:
        segment_name = self._names.data[mapping.index]
        header = parse_data_header(segment_name, raw, mapping.size)
        if header[:3] != (self._incarnation, mapping.generation, seq):
            raise DataReadError(
                f"{segment_name} contains version {header.seq} of generation {header.generation}, but the state says "
                f"version {seq} of generation {mapping.generation}; the next write repairs it"
            )
        return header

    def release_unused(self) -> None:
        """Unmap replaced inodes, and clear the hazards that could not be cleared when their last view was destroyed."""
        for mapping in self._mappings:
            if mapping is not None:
                if mapping.views.retained_by is not None:
                    mapping.views.release_if_unused()
                if mapping.generation != self._generations[mapping.index].load_relaxed():
                    # Its memory is released with its last view, not with our next read of this index.
                    self._mappings[mapping.index] = None

    def release(self) -> None:
        """Drop the mappings; the next read maps again. The slot is kept."""
        self._pinned = None
        for index, mapping in enumerate(self._mappings):
            if mapping is not None:
                self._released[index] = mapping.views  # first: it has to be found when the inode is mapped again
                self._mappings[index] = None

    def lower_slot(self) -> bool:
        """Exchange the highest slot in use for a lower one if there are few readers: the writer scans all below it.

        Return whether it was exchanged. The old one is freed with the last reference: what is pinned or retained there.
        """
        slot, lower = self._slot, None
        if slot is not None:
            with suppress(ShmSyncError):  # such as too many open files: the old one will do
                lower = slots.claim_lower(self.channel.table, self.channel.seals, slot)
        if lower is not None:
            self._enter_through(lower)
        return lower is not None

    def _enter_through(self, slot: Slot) -> None:
        self._slot = slot
        fork.call_before(slot)
        self._counters.claimed += 1
        logger.debug("claimed slot %d of %s", slot.index, self._names.readers)

    # The port `ReaderPort` of the protocol.

    def slot(self) -> Slot:
        """Return the slot to enter through; claim one if there is none."""
        if getrefcount(self._slot) > slots.MAX_REFERENCES and self._slot is not None:
            self.discard()  # its snapshots keep it
        slot = self._slot
        if slot is None or slot.poisoned:
            slot = slots.claim(self.channel.table, self.channel.seals)
            self._enter_through(slot)
        return slot

    def map(self, seq: int) -> TrackedMapping | None:
        """Return the mapping of the segment that holds `seq`; None if no segment contains it (0 and CLOSED)."""
        if seq in NO_VALUE:
            return None
        index = index_of(seq)
        generation = self._generations[index].load()
        mapping = self._mappings[index]
        if mapping is None or mapping.generation != generation:
            mapping = self._mappings[index] = self._open(index, generation)
        return mapping

    def _open(self, index: int, generation: int) -> TrackedMapping:
        segment_name = self._names.data[index]
        with raised_as(DataReadError, f"map {segment_name}"), open_segment(segment_name, writable=False) as segment:
            check_owner(self._names, segment)
            released = self._released[index]
            views = released if released is not None and released.generation == generation else None
            return TrackedMapping(segment, index, generation, self._lock, views)

    def discard(self, slot: Slot | None = None) -> None:
        """Poison a slot, by default the current one, and stop entering through it; its last reference frees it."""
        slot = slot or self._slot
        if slot is not None:
            slot.poison()
            if self._slot is slot:
                self._slot = None
