"""A reader's hold of one life of a name: its slot, its mappings, and the version it pinned last."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync import _fork, _protocol, _readers
from shmsync._channel import attach
from shmsync._layout import CLOSED, Names, index_of, parse_data_header
from shmsync._segment import LendingMapping, open_segment
from shmsync._snapshot import Record
from shmsync.errors import DataReadError, StateReadError, UninitializedStateError

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._readers import Slot
    from shmsync.codecs import Decoder


class LifeEndedError(Exception):
    """The name has been unlinked, or given a new life, since the attachment was made. Never reaches a user."""


class Attachment:
    """See the module. All methods but `retire` are called under the reader's lock."""

    def __init__(self, names: Names, decoder: Decoder, lock: RLock) -> None:
        self._names = names
        self._decoder = decoder
        self._lock = lock
        self.channel = attach(names)
        self.version = self.channel.version
        self._slot: Slot | None = None
        self._mappings: list[LendingMapping | None] = [None, None]
        self._record: Record | None = None

    def pin(self, *, check_bytes: bool) -> tuple[Slot, Record]:
        """Pin the newest version. The caller counts out; after any exception it calls `retire`.

        Raises:
            LifeEndedError: attach anew.
            And what `Reader.get` raises.
        """
        try:
            slot, seq, mapping = _protocol.hold(self, self.version)
        except (StateReadError, DataReadError):
            # A segment is not what the state says: no wonder if the name has been given a new life meanwhile.
            if self.channel.is_current():
                raise
            raise LifeEndedError from None
        record = self._examine(seq, mapping)
        if check_bytes:
            record.verify()
            self._decoder.check(record.codec, record.payload())
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
        segment = self._names.data[mapping.index]
        header = parse_data_header(segment, mapping.view())
        expected = (self.channel.header.instance, mapping.generation, seq)
        if (header.instance, header.generation, header.seq) != expected:
            raise DataReadError(
                f"{segment} holds version {header.seq} of generation {header.generation}, the state says version {seq} "
                f"of generation {mapping.generation}; the next write repairs it"
            )
        return Record(header, mapping)

    def give_up_unused(self) -> None:
        """Let go of inodes that were replaced, and of keeps that could not be taken back when the last view went."""
        for index, mapping in enumerate(self._mappings):
            if mapping is not None:
                mapping.lending.give_up()
                if mapping.generation != self.channel.generations[index].peek():
                    self._mappings[index] = None  # its memory goes with its last view, and not with our next read of it

    # What the protocol asks for (the port `Holder`).

    def slot(self) -> Slot:
        """Return the slot to enter through; claim one if there is none."""
        if self._slot is None or self._slot.retired:
            self._slot = _readers.claim(self.channel.table)
            _fork.register(self._slot)
        return self._slot

    def map(self, seq: int) -> LendingMapping | None:
        """Return the mapping of the segment that holds `seq`; None for the sequence numbers that none holds."""
        if seq in {0, CLOSED}:
            return None
        index = index_of(seq)
        generation = self.channel.generations[index].load()
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
            raise DataReadError(code, f"cannot map {name}: {getattr(error, 'strerror', None) or error}") from error

    def retire(self, slot: Slot | None = None) -> None:
        """Stop entering through a slot (without one: the present one); its holders keep it, the last one frees it."""
        slot = slot or self._slot
        if slot is not None:
            slot.retire()
            if self._slot is slot:
                self._slot = None
