"""A reader's hold of one life of a name: its slot, its mappings, and the version it pinned last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core import protocol, slots
from shmsync._core.layout import CLOSED, PAGE, PAYLOAD_AT, DataHeader, Names, index_of, parse_data_header
from shmsync._handles.snapshot import Record
from shmsync._session.log import logger
from shmsync._session.state import attach
from shmsync._shm import fork
from shmsync._shm.atomics import ORDERED_LOADS
from shmsync._shm.segment import LendingMapping, open_segment
from shmsync.errors import DataReadError, StateReadError, UninitializedStateError, reason

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._core.slots import Slot
    from shmsync.codecs import Decoder


_NO_VALUE = frozenset({0, CLOSED})


class Tally:
    """The counts of `ReaderStats`, over all attachments of a handle."""

    __slots__ = ("attached", "claimed", "values")

    def __init__(self) -> None:
        self.values = self.attached = self.claimed = 0


class LifeEndedError(Exception):
    """The name has been unlinked, or given a new life, since the attachment was made. Never reaches a user."""


class Attachment:
    """See the module. All methods but `retire` are called under the reader's lock."""

    def __init__(self, names: Names, decoder: Decoder, lock: RLock, tally: Tally) -> None:
        self._names = names
        self._decoder = decoder
        self._lock = lock
        self._tally = tally
        self.channel = attach(names)
        self.version = self.channel.version
        self._generations = self.channel.generations
        self._instance = self.channel.header.instance
        self._slot: Slot | None = None
        self._mappings: list[LendingMapping | None] = [None, None]
        self._record: Record | None = None
        tally.attached += 1
        logger.debug("attached to %s", names.state)

    def copy_out(self) -> tuple[int, int, bytes] | None:
        """Return sequence number, number of the codec and payload of a small newest version, copied, without a pin.

        None if it does not lie in one page that is mapped already, or has changed meanwhile, or has a record.
        """
        seq = self.version.load()
        mapping = self._mappings[index_of(seq)]
        if mapping is None or mapping.size != PAGE or not ORDERED_LOADS or seq == CLOSED:
            return None
        if self._record is not None and self._record.seq == seq:
            return None
        if mapping.generation != self._generations[mapping.index].load():
            return None
        raw = mapping.copy(0, PAGE)
        # Nobody holds the writer off here. But it starts to write where `seq` lies, or to give that index a new inode,
        # only after it has published the next version. So if the version is `seq` after all these loads, which this
        # machine does in order, none of them has seen anything of that.
        if self.version.load() != seq:
            return None
        header = self._header_of(seq, mapping, raw)
        return seq, header.codec, raw[PAYLOAD_AT : PAYLOAD_AT + header.size]

    def pin(self, *, check_bytes: bool) -> tuple[Slot, Record]:
        """Pin the newest version. The caller counts out; after any exception it calls `retire`.

        Raises:
            LifeEndedError: attach anew.
            And what `Reader.get` raises.
        """
        try:
            slot, seq, mapping = protocol.hold(self, self.version)
        except (StateReadError, DataReadError):
            # A segment is not what the state says: no wonder if the name has been given a new life meanwhile.
            if self.channel.is_current():
                raise
            raise LifeEndedError from None
        record = self._examine(seq, mapping)
        if check_bytes:
            record.verify()
            self._decoder.check(record.codec, record.export())
        return slot, record

    def _examine(self, seq: int, mapping: LendingMapping | None) -> Record:
        if seq == CLOSED:
            raise LifeEndedError
        if mapping is None:
            raise UninitializedStateError(
                f"{self._names.state} is there, but nothing is published yet; try again later"
            )
        record = self._record
        if record is None or record.seq != seq or record.mapping is not mapping:
            record = self._record = self._new_record(seq, mapping)
        return record

    def _new_record(self, seq: int, mapping: LendingMapping) -> Record:
        return Record(self._header_of(seq, mapping, mapping.copy(0, PAYLOAD_AT)), mapping)

    def _header_of(self, seq: int, mapping: LendingMapping, raw: bytes) -> DataHeader:
        segment = self._names.data[mapping.index]
        header = parse_data_header(segment, raw, mapping.size)
        if header[:3] != (self._instance, mapping.generation, seq):
            raise DataReadError(
                f"{segment} holds version {header.seq} of generation {header.generation}, the state says version {seq} "
                f"of generation {mapping.generation}; the next write repairs it"
            )
        return header

    def give_up_unused(self) -> None:
        """Let go of inodes that were replaced, and of keeps that could not be taken back when the last view went."""
        for mapping in self._mappings:
            if mapping is not None:
                if mapping.lending.keeper is not None:
                    mapping.lending.give_up()
                if mapping.generation != self._generations[mapping.index].peek():
                    # Its memory goes with its last view, and not with our next read of it.
                    self._mappings[mapping.index] = None

    # What the protocol asks for (the port `Holder`).

    def slot(self) -> Slot:
        """Return the slot to enter through; claim one if there is none."""
        if self._slot is None or self._slot.retired:
            self._slot = slots.claim(self.channel.table)
            fork.register(self._slot)
            self._tally.claimed += 1
            logger.debug("claimed slot %d of %s", self._slot.index, self._names.readers)
        return self._slot

    def map(self, seq: int) -> LendingMapping | None:
        """Return the mapping of the segment that holds `seq`; None for the sequence numbers that none holds."""
        if seq in _NO_VALUE:
            return None
        index = index_of(seq)
        generation = self._generations[index].load()
        mapping = self._mappings[index]
        if mapping is None or mapping.generation != generation:
            mapping = self._mappings[index] = self._open(index, generation)
        return mapping

    def _open(self, index: int, generation: int) -> LendingMapping:
        name = self._names.data[index]
        try:
            with open_segment(name, writable=False) as segment:
                return LendingMapping(segment, index, generation, self._lock)
        except (OSError, ValueError) as error:
            code = getattr(error, "errno", None) or 0
            raise DataReadError(code, f"cannot map {name}: {reason(error)}") from error

    def retire(self, slot: Slot | None = None) -> None:
        """Stop entering through a slot (without one: the present one); its holders keep it, the last one frees it."""
        slot = slot or self._slot
        if slot is not None:
            slot.retire()
            if self._slot is slot:
                self._slot = None
