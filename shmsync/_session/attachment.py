"""A reader's attachment to one incarnation of a name: its slot, its mappings, and the last version that it pinned."""

from __future__ import annotations

from contextlib import suppress
from sys import getrefcount
from typing import TYPE_CHECKING, Any, ClassVar

from shmsync._core import protocol, slots
from shmsync._core.layout import (
    CLOSED,
    DIGESTED,
    EVICTED,
    PAGE,
    PAYLOAD_AT,
    DataHeader,
    Names,
    checksum_of,
    header_prefix,
    index_of,
    largest_payload,
    parse_data_header,
    unpack_data_header,
    unpack_page,
)
from shmsync._core.retention import ViewTracker
from shmsync._session.control import check_owner
from shmsync._session.log import logger
from shmsync._session.mapping import TrackedMapping
from shmsync._session.pinned import PinnedVersion
from shmsync._session.state import NO_VALUE
from shmsync._session.uwsgi import warn_if_it_forks_silently
from shmsync._shm import fork
from shmsync._shm.fork import in_progress
from shmsync._shm.ofd_locks import try_lock
from shmsync._shm.segment import open_segment
from shmsync._util.os_errors import raised_as
from shmsync.codecs import NOT_PLAIN
from shmsync.errors import DataReadError, ShmSyncError, StateReadError, not_published

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._core.slots import Slot
    from shmsync._session.state import Channel
    from shmsync.codecs import Decoder


_LARGEST = largest_payload(PAGE)


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
        copies: whether a segment was mapped that `copy_at_once` can copy.
        missed: see `ViewTracker`.
        WORD_IS_SEQ: whether the version word is the sequence number of the newest version.
    """

    WORD_IS_SEQ: ClassVar[bool] = True
    copies = False

    def __init__(self, names: Names, channel: Channel, decoder: Decoder, lock: RLock, counters: ReaderCounters) -> None:
        self._names = names
        self._decoder = decoder
        self._lock = lock
        self._counters = counters
        self.channel = channel
        self.version = channel.version
        self.cell = channel.version_cell
        self._load_version = channel.version.load
        self._load_words = channel.load_words
        self._plain_codec, self._unpack = decoder.plain_codec, decoder.unpack
        self._incarnation = channel.header.incarnation
        self._slot: Slot | None = None
        self._mappings: list[TrackedMapping | None] = [None, None]
        self._released: list[ViewTracker | None] = [None, None]  # of mappings that may have views: see `release`
        self._generations = [0, 0]
        """Those that the words had when the mappings were compared with them. What is mapped has these generations."""
        self.missed: list[int] = []
        self._pinned: PinnedVersion | None = None
        counters.attached += 1
        logger.debug("attached to %s", names.state)
        warn_if_it_forks_silently(names.name)

    def newest(self) -> tuple[int, int]:
        """Return the newest sequence number, or 0 or CLOSED; and the value of the version word to sleep on."""
        seq = self.version.load()
        return seq, seq

    def copy_at_once(self) -> tuple[Any, int, Any] | None:
        """Copy a small newest version without a pin, and decode it.

        As under a sequence lock. Return `cell`, the label of the version, and its value. Return None if it is not in a
        mapped page, changes during the copy, is damaged, or is not plain: `pin` can wait and map, and tells what is
        wrong.
        """
        seq = self._load_version()
        expected = [seq, *self._generations]  # before the mapping is loaded: a signal handler may exchange both
        mapping = self._mappings[(seq + 1) & 1]
        if mapping is None or mapping.copy_page is None:
            return None
        page = mapping.copy_page()
        # Nothing prevents the writer from overwriting this page. But it starts to write to the segment of `seq`, or to
        # give that index a new inode, only after it has published the next version. So if the version is still `seq`
        # after the copy (this machine executes loads in order), the copy has seen no such write. And if the generations
        # are those of what is mapped then, they were so before: they only grow.
        if self._load_words() != expected:
            return None
        incarnation, found, size, codec, digest = unpack_page(page)
        if found != seq or incarnation != self._incarnation or size > _LARGEST or checksum_of(page[DIGESTED]) != digest:
            return None  # the digest covers the fields that are not compared
        if codec != self._plain_codec:
            value = self._decoder.decode_plain(codec, page[PAYLOAD_AT : PAYLOAD_AT + size])
            return None if value is NOT_PLAIN else (self.cell, seq, value)
        try:
            return self.cell, seq, self._unpack(page[PAYLOAD_AT : PAYLOAD_AT + size])  # without another call
        except self._decoder.unpack_errors as error:
            value = self._decoder.decode_refused(page[PAYLOAD_AT : PAYLOAD_AT + size], error)
            return None if value is NOT_PLAIN else (self.cell, seq, value)

    def pin_at_once(self) -> tuple[Slot, TrackedMapping, DataHeader] | None:
        """Pin the newest version if its segment is mapped and nothing is in the way: the fast path of `pin`.

        The caller unpins before it returns, so the counts do not have to be limited as in `slot`. After any exception
        it calls `discard`.

        Return None if nothing is pinned, for whatever reason: `pin` finds out.
        """
        slot = self._slot
        if slot is None or slot.poisoned:
            return None
        try:
            seq = self._load_version()
            index = (seq + 1) & 1
            slot.enter[index]()  # SYNC POINT scan: as in `enter`
            # The same checks as in `pin_and_map`, after the pin and in the same order:
            #   1. Rule A: the version is still `seq`, so the writer's next scan sees the pin.
            #   2. The inode that is mapped has the current generation: nothing has to be opened. If a signal handler
            #      maps another one after the words are loaded, it was replaced under this pin: case 3.
            #   3. Rule B, SYNC POINT evict: EVICTED is not set now, so it was not set when we loaded the generation,
            #      and the writer has not replaced the inode that we pinned.
            # If any of them fails, or a fork needs this version sealed, the pin is taken back, and `pin` begins again.
            if (
                self._load_words() == [seq, *self._generations]
                and (mapping := self._mappings[index])
                and not slot.load_pin() & EVICTED
            ):
                header = unpack_data_header(mapping.copy_header(), mapping.prefix, seq, mapping.largest)
                if header is not None and not in_progress:
                    return slot, mapping, header
            slot.leave[index]()
        except BaseException:
            self.discard(slot)  # as in `pin_and_map`
            raise
        return None

    def pinned_version(self, header: DataHeader, mapping: TrackedMapping) -> PinnedVersion:
        """Return the version that `pin_at_once` has pinned."""
        pinned = self._pinned
        if pinned is None or pinned.seq != header.seq or pinned.mapping is not mapping:
            pinned = self._pinned = PinnedVersion(header, mapping)
        return pinned

    def forget_pinned(self) -> None:
        """Forget the version that was pinned last, with its value and mapping."""
        self._pinned = None

    def pin(self, *, check_bytes: bool) -> tuple[Slot, PinnedVersion]:
        """Pin the newest version. The caller unpins; after any exception it calls `discard`.

        Raises:
            StaleAttachmentError: attach again.
            And what `Reader.get` raises.
        """
        try:
            slot, seq, mapping = protocol.pin_and_map(self, self.version)
            if in_progress:  # the slot may have been looked at before this pin
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
        raw = mapping.copy_header()
        is_truncated = len(raw) < PAYLOAD_AT
        header = None if is_truncated else unpack_data_header(raw, mapping.prefix, seq, mapping.largest)
        return PinnedVersion(header or self._checked_header(seq, mapping, raw), mapping)

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
        self.missed.clear()
        self._compare_generations()
        for views in (*self._released, *(mapping.views for mapping in self._mappings if mapping is not None)):
            if views is not None:
                views.release_if_unused()

    def _compare_generations(self) -> list[int]:
        """Load the generations, and unmap inodes that were replaced."""
        _, *generations = self._load_words()
        if generations != self._generations:
            for mapping in self._mappings:
                if mapping is not None and mapping.generation != generations[mapping.index]:
                    # Its memory is released with its last view, not with our next read of this index.
                    self._mappings[mapping.index] = None
            self._generations = generations  # last: if interrupted before, they are compared again
        return generations

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
        generations = self._compare_generations()
        mapping = self._mappings[index]
        if mapping is None:
            mapping = self._open(index, generations[index])
            self.copies |= mapping.copy_page is not None
            self._mappings[index] = mapping
        return mapping

    def _open(self, index: int, generation: int) -> TrackedMapping:
        segment_name = self._names.data[index]
        with raised_as(DataReadError, f"map {segment_name}"), open_segment(segment_name, writable=False) as segment:
            check_owner(self._names, segment)
            # Held by the mapping, until its last view is gone. Before EVICTED is looked at: see `_core.spares`.
            if not try_lock(segment.fd, 0, shared=True):
                raise DataReadError(f"{segment_name} is locked by another program; the next write replaces it")
            views = self._released[index]
            if views is None or views.generation != generation:
                views = ViewTracker(index, generation, self._lock, self.missed)
            mapping = TrackedMapping(segment, index, views)
        mapping.prefix = header_prefix(self._incarnation, generation)
        return mapping

    def discard(self, slot: Slot | None = None) -> None:
        """Poison a slot, by default the current one, and stop entering through it; its last reference frees it."""
        slot = slot or self._slot
        if slot is not None:
            slot.poison()
            if self._slot is slot:
                self._slot = None
