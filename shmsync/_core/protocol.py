"""The protocol: enter, hold, scan and publish, as pure steps over the ports.

One writer and many readers share a version word, two data segments with a generation each, and a slot of words per
reader. The writer always fills the segment that is not current and then moves the version word. What must never
happen is that it writes into an inode from which a live reader reads. Everything below serves that sentence.

Four rules carry the proof (each, when removed, gives a torn read in an exhaustive search of the protocol's model):

- A. A reader counts itself in, then looks again whether the version is still the one it counted for.
- B. A reader looks for EVICTED after it has mapped the segment, and steps back if it is set.
- C. A reader that is evicted while it counts on a segment costs that segment its inode: replaced, never overwritten.
- D. A segment whose present generation is kept by somebody is replaced, never overwritten. The writer first waits a
  little for the keep to go, since new memory has its price, too: at most as long as that takes.

One look at EVICTED, after mapping, is enough. The bit is set by the writer only and cannot be cleared while this
reader's own count stands (clearing needs a pin word without counts), so the one look sees an eviction from before the
count as well as one from during the mapping.

Memory order: each SYNC POINT is a sequentially consistent operation on a word; the two ends carry the same name. Plain
reads of header and payload follow the load that made them visible, and precede the count that gives them up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from shmsync._core import slots
from shmsync._core.layout import ANNOUNCE, EVICTED, HOLDS, LAST_SEQ, ONE, index_of, new
from shmsync.errors import DataReadError, InvalidInstanceVersionError

if TYPE_CHECKING:
    from shmsync._core.ports import Clock, Segments, SlotWords, Table, Word
    from shmsync._core.slots import Slot

MappingT_co = TypeVar("MappingT_co", covariant=True)

FIRST_PAUSE = 50e-6
"""Seconds of the writer's first pause while it waits for a reader; each further one is twice as long."""


def enter(slot: Slot, version: Word) -> int:
    """Pin the newest version; return its sequence number. Wait-free: at most three read-modify-writes.

    The caller still has to look for EVICTED (rule B).
    """
    seq = version.peek()
    # SYNC POINT scan: this count comes before the second look at the version; the writer's scan comes after its store.
    slot.enter[(seq + 1) & 1]()
    # Rule A. The writer starts on this segment only after it has published the version that follows `seq`, and it
    # scans the slots after that publish. Two cases:
    #   1. The version is still `seq`: that publish comes after this load, its scan after that, and the scan sees our
    #      count. It will wait for us, or evict us and replace the inode.
    #   2. It is not: the scan may already have passed over our slot, so this count protects nothing yet.
    if version.load() == seq:
        return seq
    return _announce(slot, version, index_of(seq))


def _announce(slot: Slot, version: Word, index: int) -> int:
    # The count for `index` becomes an announcement. While it stands no scan lets the writer start on either segment;
    # it can at most finish the publish it is in, which fills the segment that is not current. So what the load returns
    # is current at that moment and stays whole: to overwrite it the writer would have to publish once more and then
    # scan, and that scan sees the announcement, or the count that it turns into.
    slot.words.pin.adder(ANNOUNCE - ONE[index])()
    seq = version.load()
    slot.words.pin.adder(ONE[index_of(seq)] - ANNOUNCE)()
    return seq


class Holder(Protocol[MappingT_co]):
    """What a reader brings to `hold`."""

    def slot(self) -> Slot:
        """Return its slot; claim one if it has none."""

    def map(self, seq: int) -> MappingT_co:
        """Return the mapping of the segment that holds `seq`: by generation if it is mapped already, else by name."""

    def retire(self, slot: Slot) -> None:
        """Stop entering through a slot."""


def hold(reader: Holder[MappingT_co], version: Word) -> tuple[Slot, int, MappingT_co]:
    """Pin and map the newest version; return slot, sequence number and mapping. The caller counts out.

    It goes round again only if the writer evicted this very slot between the count and the look: at most once for
    each grace duration that ends meanwhile.
    """
    while True:
        slot = reader.slot()
        try:
            seq = enter(slot, version)
            try:
                mapping = reader.map(seq)
            except DataReadError:
                # An evicted reader may have found the name between two inodes. That is no error of the segment.
                if not slot.words.pin.load() & EVICTED:
                    raise
            else:
                # Rule B. SYNC POINT evict: not set now means not set while we opened the name, and our count stood
                # before that. So the writer had not given the name away, and what we mapped is what we pinned.
                if not slot.words.pin.load() & EVICTED:
                    return slot, seq, mapping
            slot.leave[index_of(seq)]()
        except BaseException:
            reader.retire(slot)  # the count may stand or not: the slot is freed as a whole
            raise
        # Cleared only if nobody counts here any more. Otherwise other threads' snapshots still rely on the bit
        # (rule C), and the slot is left to them: a thread never waits for another's snapshot.
        if not slot.words.pin.compare_exchange(EVICTED, 0):
            reader.retire(slot)


class Published(NamedTuple):
    """What a publish did.

    Attributes:
        seq: the new sequence number.
        idx: the data segment that holds it.
        reset: a dead reader's slot was zeroed, or a reader was evicted when the grace duration was over.
        replaced: the data segment got a new inode.
        generation: of that inode.
        held: it got one because a reader was evicted there, or keeps it.
    """

    seq: int
    idx: int
    reset: bool
    replaced: bool
    generation: int
    held: bool


class Publisher:
    """The writer's side.

    It must be able to lose its thread at any instruction (an exception from a signal handler) and go on at the next
    call: the sequence number and the generations are read back from the shared words each time, and what it remembers
    itself is only ever forgotten too early, which costs one replacement, never too late.
    """

    def __init__(
        self,
        version: Word,
        generations: tuple[Word, Word],
        table: Table,
        segments: Segments,
        clock: Clock,
        longest_pause: float,
    ) -> None:
        self._version = version
        self._advance = version.adder(1)  # bound once, it costs a third of a store
        self._generations = generations
        self._table = table
        self._segments = segments
        self._clock = clock
        self._longest_pause = longest_pause
        self._words: list[SlotWords] = []
        self._replaced_for: set[tuple[int, int]] = set()
        """(slot, index) for which the inode was replaced since the slot's present eviction."""

    def publish(self, grace: float) -> Published:
        """Make the value that `segments.fill` writes the newest version; wait at most `grace` seconds for readers."""
        prepared = self.prepare(grace)
        self.commit(prepared)
        return prepared

    def prepare(self, grace: float) -> Published:
        """Gain the segment that is not current: nobody reads there until `commit`. Return what that will have done.

        Nobody comes to read there later either. Whoever enters from now on counts on that index only until it finds
        that the version is another (rule A), or announces itself and then loads the current version. So the caller may
        write there for as long as it likes, give up, and prepare anew.
        """
        seq = self._version.load() + 1
        if seq > LAST_SEQ:
            raise InvalidInstanceVersionError(f"no version follows {seq - 1:#x}: closed, or a damaged state segment")
        index = index_of(seq)
        word = self._generations[index]
        generation = word.load()
        reset, evicted, kept = self._scan(index, generation, grace)
        # Not usable, among others: what a predecessor left that died between the two stores of a replacement. Its
        # inode carries another generation than the state says, or none.
        held = bool(evicted) or kept
        replaced = held or not self._segments.usable(index, generation)
        if replaced:
            generation += 1
            self._segments.replace(index, generation)
            word.store(generation)
            self._replaced_for |= evicted  # only now: if the replacement failed, it is still owed
        return new(Published, (seq, index, reset, replaced, generation, held))

    def commit(self, prepared: Published) -> None:
        """Fill the segment that was gained, and publish it."""
        seq, index, _, _, generation, _ = prepared
        self._segments.fill(index, generation, seq)
        # SYNC POINT scan, SYNC POINT payload: readers that load `seq` see the payload; our next scan comes after this.
        self._advance()

    def _scan(self, index: int, generation: int, grace: float) -> tuple[bool, frozenset[tuple[int, int]], bool]:
        """Return (reset, evictions that cost this inode, somebody keeps it) once nobody forbids to start on `index`."""
        holds = HOLDS[index]
        reset = kept = False
        evicted: frozenset[tuple[int, int]] = frozenset()
        deadline: float | None = None
        patience: float | None = None
        for number, words in enumerate(self._slots()):
            # Pin word first, keep word second: a reader that turns its pin into a keep stores the keep before it counts
            # out, so whoever sees no count sees the keep.
            if words.pin.load() & holds:
                if deadline is None:
                    deadline = self._clock.now() + grace  # one deadline for all slots together
                fresh, was_reset = self._clear(number, words, index, deadline)
                reset |= was_reset
                evicted |= fresh
            if words.keep[index].load() == generation > 0 and not kept:  # rule D; a keep of 0 is none
                now = self._clock.now()
                deadline = now + grace if deadline is None else deadline
                patience = now + self._segments.price() if patience is None else patience
                kept = self._is_kept(words.keep[index], generation, min(patience, deadline))
        return reset, evicted, kept

    def _clear(self, number: int, words: SlotWords, index: int, deadline: float) -> tuple[set[tuple[int, int]], bool]:
        """Wait until a slot stops holding `index`, or end that: reap it or evict it. Return (evictions, reset)."""
        reset = False
        pause = FIRST_PAUSE
        while (pin := words.pin.load()) & HOLDS[index]:
            if slots.reap(self._table, number):
                return set(), True
            if pin & EVICTED:
                # Rule C. It entered this inode before it was evicted, and nobody enters under EVICTED. So one
                # replacement per eviction and index is enough: what comes after is an inode it has not mapped.
                return {(number, index)} - self._replaced_for, reset
            left = deadline - self._clock.now()
            if left > 0:
                self._clock.sleep(min(pause, left))
                pause = min(2 * pause, self._longest_pause)
            else:
                self._replaced_for -= {(number, 0), (number, 1)}  # a new eviction owes anew; forgotten before it starts
                words.pin.fetch_or(EVICTED)  # SYNC POINT evict: comes before any replacement of the name
                reset = True
        return set(), reset

    def _is_kept(self, keep: Word, generation: int, deadline: float) -> bool:
        """Wait until a keep is taken back; tell whether it was not.

        A reader that asks again and again drops what it had with its next `get`. It cannot keep this generation anew:
        nobody gains this index before `commit`, and there is no count on it.
        """
        pause = FIRST_PAUSE
        while (left := deadline - self._clock.now()) > FIRST_PAUSE:
            self._clock.sleep(min(pause, left))
            pause = min(2 * pause, self._longest_pause)
            if keep.load() != generation:
                return False
        return True

    def _slots(self) -> list[SlotWords]:
        # Loaded after the last publish: a reader that raises it later pins later, and pins what was published.
        high = self._table.high_water.load()
        while len(self._words) < high and len(self._words) < self._table.max_readers:  # readers may scribble there
            self._words.append(self._table.slot(len(self._words)))
        return self._words
