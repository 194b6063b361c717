"""The reader of `shmsync.h`, step by step as in C, against the shipped writer.

Each method is a function of the header with the same name, and each call of `do` an atomic access or a system call
there. A change of the header has to be made here, too: this is a copy, which the explorer can run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.world import FIRST_SLOT, GENERATION, HIGH_WATER, VERSION, WORDS_PER_SLOT, Violation
from shmsync._core.layout import ANNOUNCE, CLOSED, EVICTED, ONE, ONE_CLAIM, index_of
from shmsync._core.layout import HIGH_WATER as MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.process import Bodies, Port

COUNTS = ANNOUNCE - 1


class Slot:
    """A claimed slot: `refs` counts the handle, and the retained snapshots."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.refs = 1
        self.generation = [0, 0]
        self.retained = [0, 0]

    @property
    def pin(self) -> int:
        return FIRST_SLOT + WORDS_PER_SLOT * self.number


class Map:
    """A mapped inode."""

    def __init__(self, inode: int, generation: int) -> None:
        self.inode = inode
        self.generation = generation
        self.seq = 0  # of the version that was checked


class Snapshot:
    """A snapshot that is held."""

    def __init__(self, slot: Slot, mapping: Map, seq: int) -> None:
        self.slot = slot
        self.mapping = mapping
        self.seq = seq


class CReader:
    """The handle.

    Args:
        port: where the steps are taken.
        slots: size of the reader table.
        bug: what is done wrong.
    """

    def __init__(self, port: Port, slots: int, bug: str) -> None:
        self._port = port
        self.slots = slots
        self.bug = bug
        self.slot: Slot | None = None
        self.maps: list[Map | None] = [None, None]
        self.ready: Snapshot | None = None

    def do(self, *op: Any) -> Any:
        return self._port.do(*op)

    def claim(self) -> Slot:
        for number in range(self.slots):
            if not self.do("lock", number):
                continue
            slot = Slot(number)
            for word in (slot.pin + 1, slot.pin + 2, slot.pin):
                self.do("store", word, 0)
            while True:
                now = self.do("load", HIGH_WATER) or 0
                mark = max(now & MARK, number + 1)
                if self.do("exchange", HIGH_WATER, now, (now & ~MARK) + ONE_CLAIM + mark & CLOSED):
                    return slot
                if self._port.closing:
                    return slot
        raise Violation("no slot is free")

    def slot_free(self, slot: Slot) -> None:
        if slot.refs or (self.do("load", slot.pin) or 0) & COUNTS:
            return
        for word in (slot.pin + 1, slot.pin + 2, slot.pin):
            self.do("store", word, 0)
        self.do("unlock", slot.number)

    def slot_drop(self, slot: Slot) -> None:
        slot.refs -= 1
        self.slot_free(slot)

    def leave_slot(self) -> None:
        slot, self.slot, self.ready = self.slot, None, None
        if slot is not None:
            self.slot_drop(slot)

    def unmap_index(self, index: int) -> None:
        if self.ready is not None and self.ready.mapping is self.maps[index]:
            self.ready = None
        self.maps[index] = None

    def enter(self, slot: Slot) -> int:
        seq: int = self.do("load", VERSION) or 0
        self.do("add", slot.pin, ONE[index_of(seq)])
        if self.bug == "no re-check" or self.do("load", VERSION) == seq:
            return seq
        self.do("add", slot.pin, ANNOUNCE - ONE[index_of(seq)])
        seq = self.do("load", VERSION) or 0
        self.do("add", slot.pin, ONE[index_of(seq)] - ANNOUNCE)
        return seq

    def map_pinned(self, seq: int) -> bool:
        index = index_of(seq)
        first = self.do("load", GENERATION[0]) or 0  # not in one expression: a digest sees local variables only
        second = self.do("load", GENERATION[1]) or 0
        generations = (first, second)
        other = self.maps[1 - index]
        if other is not None and other.generation != generations[1 - index]:
            self.unmap_index(1 - index)
        mapping = self.maps[index]
        if mapping is None or mapping.generation != generations[index]:
            self.unmap_index(index)
            opened = self.do("open", index)
            if opened is None:
                return False
            mapping = self.maps[index] = Map(opened[0], generations[index])
        if mapping.seq == seq:
            return True
        if self.do("header", mapping.inode) != (seq, mapping.generation):
            mapping.seq = 0
            return False
        mapping.seq = seq
        return True

    def pin_slowly(self) -> Snapshot:
        while not self._port.closing:
            slot = self.slot = self.slot or self.claim()
            seq = self.enter(slot)
            index = index_of(seq)
            is_mapped = self.map_pinned(seq)
            if self.bug == "no look at EVICTED" or not (self.do("load", slot.pin) or 0) & EVICTED:
                mapping = self.maps[index]
                if is_mapped and mapping is not None:
                    self.ready = Snapshot(slot, mapping, seq)
                    return Snapshot(slot, mapping, seq)
                self.unmap_index(index)
                self.do("add", slot.pin, -ONE[index])
                if self._port.closing:
                    break
                raise Violation("a healthy name is reported as damaged")
            self.unmap_index(index)
            self.do("add", slot.pin, -ONE[index])
            if not self.do("exchange", slot.pin, EVICTED, 0):
                self.leave_slot()
        raise AssertionError

    def pin(self) -> Snapshot:
        seq, ready = self.do("load", VERSION), self.ready
        if ready is None or ready.seq != seq:
            return self.pin_slowly()
        slot, index = ready.slot, index_of(ready.seq)
        before = self.do("fetch_add", slot.pin, ONE[index]) or 0
        is_newest = self.bug == "no re-check on the fast path" or self.do("load", VERSION) == seq
        if is_newest and not before & EVICTED:
            return Snapshot(slot, ready.mapping, ready.seq)
        self.do("add", slot.pin, -ONE[index])
        return self.pin_slowly()

    def unpin(self, snapshot: Snapshot) -> None:
        slot = snapshot.slot
        self.do("add", slot.pin, -ONE[index_of(snapshot.seq)])
        if slot is self.slot:
            return
        self.do("exchange", slot.pin, EVICTED, 0)
        self.slot_free(slot)

    def set_hazard(self, snapshot: Snapshot) -> None:
        slot, index, generation = snapshot.slot, index_of(snapshot.seq), snapshot.mapping.generation
        slot.refs += 1
        if generation > slot.generation[index]:
            slot.generation[index] = generation
            slot.retained[index] = 0
            self.do("store", slot.pin + 1 + index, generation)
        if generation == slot.generation[index]:
            slot.retained[index] += 1

    def retain(self, snapshot: Snapshot) -> None:
        if self.bug == "the hazard is stored after leaving":
            self.unpin(snapshot)
            self.set_hazard(snapshot)
            return
        self.set_hazard(snapshot)
        self.unpin(snapshot)

    def release(self, snapshot: Snapshot) -> None:
        slot, index = snapshot.slot, index_of(snapshot.seq)
        is_in_word = snapshot.mapping.generation == slot.generation[index]
        if self.bug == "the hazard of a newer generation is cleared":
            is_in_word = True
        if is_in_word:
            slot.retained[index] -= 1
            if self.bug == "the hazard is cleared with the first of two snapshots" or slot.retained[index] == 0:
                slot.generation[index] = 0
                self.do("store", slot.pin + 1 + index, 0)
        self.slot_drop(slot)

    def detach(self) -> None:
        self.unmap_index(0)
        self.unmap_index(1)
        self.leave_slot()


def use(reader: CReader, snapshot: Snapshot) -> None:
    """Check the content of an inode that is held."""
    reader.do("hold", snapshot.mapping.inode, snapshot.seq)
    reader.do("use")
    reader.do("release", snapshot.mapping.inode, snapshot.seq)


def reads(reader: CReader) -> int:
    """Read a version while it is pinned."""
    snapshot = reader.pin()
    use(reader, snapshot)
    reader.unpin(snapshot)
    return snapshot.seq


def retains(reader: CReader) -> int:
    """Read a version while it is retained."""
    snapshot = reader.pin()
    reader.retain(snapshot)
    use(reader, snapshot)
    reader.release(snapshot)
    return snapshot.seq


def overlaps(reader: CReader) -> int:
    """Hold two versions, and end the older one first."""
    older = reader.pin()
    use(reader, older)
    newer = reader.pin()
    use(reader, newer)
    reader.unpin(older)
    use(reader, newer)
    reader.unpin(newer)
    return newer.seq


def retains_two(reader: CReader) -> int:
    """Retain two versions, perhaps of one data segment, and end the older one first."""
    older = reader.pin()
    reader.retain(older)
    use(reader, older)
    newer = reader.pin()
    reader.retain(newer)
    use(reader, newer)
    reader.release(older)
    use(reader, newer)
    reader.release(newer)
    return newer.seq


def a_c_reader(*scripts: Any, bug: str = "", detaches: bool = True) -> Callable[[int], Callable[[Port], Bodies]]:
    """Return a reader for `make_scenario`, which runs these scripts in order."""

    def with_slots(slots: int) -> Callable[[Port], Bodies]:
        def spec(port: Port) -> Bodies:
            reader = CReader(port, slots, bug)

            def body() -> None:
                reader.unpin(reader.pin())
                port.do("ready")
                newest = 0
                for turn in range(len(scripts)):
                    seq = scripts[turn](reader)
                    if seq < newest:
                        raise Violation(f"version {seq} was read after version {newest}")
                    newest = seq
                if detaches:
                    reader.detach()

            return [body]

        return spec

    return with_slots
