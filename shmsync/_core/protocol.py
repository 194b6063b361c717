"""The protocol: enter, pin, scan and publish, as pure steps over the ports.

One writer and many readers share a version word, two data segments with a generation each, and one slot of words per
reader. The writer always fills the segment that is not current and then advances the version word.

Invariant: the writer never writes into an inode that a live reader is reading. The proof relies on five rules. Without
any one of them, an exhaustive search of the protocol's model finds a torn read:

- A. A reader pins, then checks that the version is still the one that it pinned.
- B. A reader checks for EVICTED after it has mapped the segment, and undoes the pin if it is set.
- C. If a reader is evicted while it pins a segment, that segment's inode is replaced, never overwritten.
- D. A segment whose current generation is in the hazard word of a live reader is replaced, never overwritten. The
  writer first waits for the hazard to be cleared, but not longer than a replacement would take.
- E. A segment whose current generation is sealed is replaced, never overwritten: see `shmsync._core.sealing`.

One check for EVICTED, after mapping, is enough. Only the writer sets the bit, and it cannot be cleared while this
reader's own pin is counted (clearing needs a pin word without counts). So the one check sees an eviction from before
the pin as well as one from during the mapping.

The writer scans the slots below the high-water mark, which a claimer raises and the writer lowers when the slots at the
top are free again. Invariant: a slot through which a live reader enters is below the mark. A claimer locks its slot,
then adds a claim to the high-water word, which also raises the mark, and only then pins. The writer loads the word,
queries the locks from the top down, and lowers the mark by compare-exchange with the word it loaded. So for a slot that
the writer found free:

1. It was locked before the query: the query finds it locked, and the mark stays above it.
2. It was locked after the query, and its claim was added before the exchange: the exchange fails.
3. Its claim was added after the exchange: that raises the mark above the slot again, before the first pin.

Orderings: each SYNC POINT is a sequentially consistent operation on a word; both ends carry the same name. Plain reads
of header and payload follow the load that made them visible, and precede the unpin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from shmsync._core import slots
from shmsync._core.layout import ANNOUNCE, CLOSED, EVICTED, HIGH_WATER, HOLDS, LAST_SEQ, ONE, index_of, new
from shmsync._core.lifecycle import StaleIncarnationError
from shmsync._core.sealing import Seals
from shmsync._util.backoff import backoff
from shmsync.errors import DataReadError, InvalidInstanceVersionError

if TYPE_CHECKING:
    from shmsync._core.ports import Clock, Segments, SlotWords, Word, WriterTable
    from shmsync._core.slots import Slot

MappingT_co = TypeVar("MappingT_co", covariant=True)
ValueT = TypeVar("ValueT")

INITIAL_BACKOFF = 50e-6
"""Seconds of the writer's first pause while it waits for a reader."""

LOWER_MASK = 63
"""Which versions try to lower the high-water mark: those whose sequence number has none of these bits."""


def enter(slot: Slot, version: Word) -> int:
    """Pin the newest version; return its sequence number. Wait-free: at most three read-modify-writes.

    The caller still has to check for EVICTED (rule B).
    """
    seq = version.load_relaxed()
    # SYNC POINT scan: this pin precedes the second load of the version; the writer's scan follows its store.
    slot.enter[(seq + 1) & 1]()
    # Rule A. The writer starts on this segment only after it has published the version that follows `seq`, and it
    # scans the slots after that publish. Two cases:
    #   1. The version is still `seq`: that publish comes after this load, its scan after that, and the scan sees our
    #      pin. It will wait for us, or evict us and replace the inode.
    #   2. It is not: the scan may have passed our slot already, so this pin protects nothing yet.
    if version.load() == seq:
        return seq
    return _announce(slot, version, index_of(seq))


def _announce(slot: Slot, version: Word, index: int) -> int:
    # The pin on `index` becomes an announcement. While it is set, no scan lets the writer start on either segment; the
    # writer can at most finish the publish in progress, which fills the segment that is not current. So what the load
    # returns is current at that moment and stays whole: to overwrite it the writer would have to publish once more and
    # then scan, and that scan sees the announcement, or the pin that it turns into.
    slot.words.pin.bind_add(ANNOUNCE - ONE[index])()
    seq = version.load()
    slot.words.pin.bind_add(ONE[index_of(seq)] - ANNOUNCE)()
    return seq


class ReaderPort(Protocol[MappingT_co]):
    """The interface that `pin_and_map` needs from a reader."""

    def slot(self) -> Slot:
        """Return the reader's slot; claim one if it has none."""

    def map(self, seq: int) -> MappingT_co:
        """Return the mapping of the segment that holds `seq`, opening it if its generation is not mapped."""

    def discard(self, slot: Slot) -> None:
        """Poison a slot and stop entering through it."""


def pin_and_map(reader: ReaderPort[MappingT_co], version: Word) -> tuple[Slot, int, MappingT_co]:
    """Pin and map the newest version; return slot, sequence number and mapping. The caller unpins.

    It retries only if the writer evicted this slot between the pin and the check. Each retry takes the writer a whole
    grace duration.
    """
    while True:
        slot = reader.slot()
        try:
            seq = enter(slot, version)
            try:
                mapping = reader.map(seq)
            except DataReadError:
                # An evicted reader may open the name while its inode is being replaced: the segment is not damaged.
                if not slot.words.pin.load() & EVICTED:
                    raise
            else:
                # Rule B. SYNC POINT evict: not set now means not set while we opened the name, and our pin was set
                # before that. So the writer had not replaced the name, and what we mapped is what we pinned.
                if not slot.words.pin.load() & EVICTED:
                    return slot, seq, mapping
            slot.leave[index_of(seq)]()
        except BaseException:
            reader.discard(slot)  # the pin may or may not be counted: the slot is freed as a whole
            raise
        # The bit is cleared only if the slot has no other pins. Otherwise snapshots of other threads still rely on the
        # bit (rule C), and the slot is left to them: a thread never waits for another thread's snapshot.
        if not slot.words.pin.compare_exchange(EVICTED, 0):
            reader.discard(slot)


class PreparedWrite(NamedTuple):
    """A write whose segment is ready to be filled.

    Attributes:
        seq: the new sequence number.
        idx: the data segment that will hold it.
        reset: whether a dead reader's slot was zeroed, or a reader was evicted at the end of the grace duration.
        replaced: whether the data segment got a new inode.
        generation: generation of the segment's inode.
        held: whether it got one because a reader was evicted there or retains it, or a fork has sealed it.
        evicted: (slot, index) of readers that hold the replaced inode since they were evicted.
    """

    seq: int
    idx: int
    reset: bool
    replaced: bool
    generation: int
    held: bool
    evicted: frozenset[tuple[int, int]]


class Publisher(Generic[ValueT]):
    """The writer's side.

    An exception from a signal handler may interrupt it at any instruction, and the next call resumes: it reads the
    sequence number and the generations from the shared words each time. Its own records may be discarded too early,
    which costs one replacement, but never too late.

    Args:
        version: the version word.
        generations: the generation word of each data segment.
        table: the reader table.
        segments: the data segments.
        clock: the monotonic clock.
        max_backoff: the longest pause in seconds while it waits for a reader.
    """

    def __init__(
        self,
        version: Word,
        generations: tuple[Word, Word],
        table: WriterTable,
        segments: Segments[ValueT],
        clock: Clock,
        max_backoff: float,
    ) -> None:
        self._version = version
        self._generations = generations
        self._table = table
        self._seals = Seals(generations, table.sealed)
        self._segments = segments
        self._clock = clock
        self._max_backoff = max_backoff
        self._lower_mask = LOWER_MASK
        self._last_at_once = 0
        """The last version that may be published at once: the next one tries to lower the high-water mark."""
        self._words: list[SlotWords] = []
        self._bind_scans(0)
        self._load_version = version.load  # bound once, as all that `try_publish` calls
        self._exchange_version = version.compare_exchange
        self._load_high_water = table.high_water.load
        self._evictions_settled: set[tuple[int, int]] = set()
        """(slot, index) for which the inode was replaced since the slot's current eviction."""

    def _bind_scans(self, count: int) -> None:
        """Bind the loads of a scan of the first `count` slots.

        By parity of the sequence number: its index, and the loads for that index. They are replaced together with the
        number of slots, so that all agree, even after an interruption.
        """
        pins, hazards = self._table.bind_scan(count)
        sealed, generations = self._table.sealed, self._generations
        self._scans_at_once = tuple(
            (index, count, pins, hazards[index], sealed[index].load, generations[index].load)
            for index in (1, 0)  # as `index_of`
        )

    def try_publish(self, value: ValueT, size: int) -> tuple[int, int, int, int] | None:
        """Publish a value if nothing has to be waited for, reaped or replaced: `prepare` and `commit` in one.

        Args:
            value: the value.
            size: size of its payload in bytes.

        Returns:
            Sequence number, index, size and checksum; None if nothing was published, so that the value has to be
            prepared.
        """
        seq = self._load_version() + 1
        index, count, load_pins, load_hazards, load_sealed, load_generation = self._scans_at_once[seq & 1]
        if self._load_high_water() & HIGH_WATER != count or seq > self._last_at_once:
            return None
        generation = load_generation()
        # The scan of `prepare`, of all slots at once, in the same order: the high-water mark, then of each slot the pin
        # word before the hazard word, then the seal. For each slot there are three cases:
        #   1. Its pin word counts on this index, or an announcement: `prepare` has to wait for that reader.
        #   2. It does not, and the hazard word is this generation: rule D. What a reader retains here without a pin, it
        #      has stored as a hazard before it unpinned, so the load after that of the pin word has seen it.
        #   3. Neither: no reader is here, and one that enters from now on finds that the index is not current (A).
        # EVICTED alone does not matter: until the evicted reader has unpinned, there is a count, which is case 1.
        pins = load_pins()
        if any(pins) and any(map(HOLDS[index].__and__, pins)):
            return None
        # Rule E. A segment that has no inode yet has generation 0, which is covered.
        if generation in load_hazards() or load_sealed() >= generation:
            return None
        checksum = self._segments.try_write(index, generation, seq, value, size)
        # SYNC POINT scan, SYNC POINT payload: as in `commit`. If the incarnation was ended, `prepare` notices it, too.
        if checksum is None or not self._exchange_version(seq - 1, seq):
            return None
        return seq, index, size, checksum

    def prepare(self, size: int, grace: float) -> PreparedWrite:
        """Make the segment that is not current writable: no reader reads it until `commit`.

        No reader starts to read it later either. One that enters from now on pins that index only until it finds that
        the version has changed (rule A), or announces itself and then loads the current version. So the caller may
        write there for any length of time, give up, and prepare again.

        Args:
            size: size of the payload in bytes.
            grace: the longest time to wait for readers, in seconds.

        Raises:
            StaleIncarnationError: the incarnation was ended.
        """
        seq = self._version.load() + 1
        if seq > CLOSED:
            raise StaleIncarnationError
        if seq > LAST_SEQ:
            raise InvalidInstanceVersionError(
                f"no version can follow {seq - 1:#x}: the state segment is damaged; unlink the name"
            )
        index = index_of(seq)
        word = self._generations[index]
        generation = word.load()
        reset, evicted, retained = self._scan(index, generation, size, grace)
        if not seq & self._lower_mask:
            reset |= slots.lower_high_water(self._table, self._words)
        # Also not reusable: the inode of a previous writer that died during a replacement. Its generation differs from
        # that in the state, or it has none.
        held = bool(evicted) or retained or self._seals.cover(index, generation)  # rule E: after the scan
        replaced = held or not self._segments.is_reusable(index, generation, size)
        if replaced:
            if generation >= LAST_SEQ:
                raise InvalidInstanceVersionError(
                    f"no generation can follow {generation:#x}: the state segment is damaged; unlink the name"
                )
            generation += 1
            self._segments.replace(index, generation, size)
            word.store(generation)
            self._evictions_settled |= evicted  # only now: if the replacement fails, the next write has to make it
        self._last_at_once = min(seq | self._lower_mask, LAST_SEQ)
        return new(PreparedWrite, (seq, index, reset, replaced, generation, held, evicted))

    def commit(self, prepared: PreparedWrite, value: ValueT) -> int:
        """Fill the prepared segment with a value and publish it; return the checksum of its payload.

        Raises:
            StaleIncarnationError: the incarnation was ended; nothing was published.
        """
        seq, index, _, _, generation, _, _ = prepared
        checksum = self._segments.write(index, generation, seq, value)
        self._advance(seq)
        return checksum

    def _advance(self, seq: int) -> None:
        # SYNC POINT scan, SYNC POINT payload: readers that load `seq` see the payload; our next scan comes after this.
        # Compared, because a forced removal may have set CLOSED, which a plain store would overwrite.
        if not self._version.compare_exchange(seq - 1, seq):
            raise StaleIncarnationError

    def prepare_update(self, size: int, grace: float) -> PreparedWrite:
        """Prepare the segment that is not current, and make its payload equal to the newest version: see `stale`.

        As after `prepare`, the caller may write to it for any length of time. Raises what `prepare` raises.
        """
        prepared = self.prepare(size, grace)
        self._segments.catch_up(prepared.idx, prepared.seq - 1)  # after the scan: a reader may have been here
        return prepared

    def commit_update(self, prepared: PreparedWrite) -> int:
        """Publish a payload that was changed in place; return its checksum. Raises what `commit` raises."""
        seq, index, _, _, generation, _, _ = prepared
        checksum = self._segments.finish_update(index, generation, seq)
        self._advance(seq)
        self._segments.note_update(seq)  # not before: an interrupted update is not the newest version
        return checksum

    def _scan(
        self, index: int, generation: int, size: int, grace: float
    ) -> tuple[bool, frozenset[tuple[int, int]], bool]:
        """Wait until no slot prevents a write to `index`; return (reset, unsettled evictions there, retained)."""
        holds = HOLDS[index]
        reset = retained = False
        evicted: frozenset[tuple[int, int]] = frozenset()
        deadline: float | None = None
        hazard_deadline: float | None = None
        for number, words in enumerate(self._slots()):
            # Pin word first, hazard word second: a reader that turns its pin into a hazard stores the hazard before it
            # unpins, so a scan that sees no pin sees the hazard.
            if words.pin.load() & holds:
                if deadline is None:
                    deadline = self._clock.now() + grace  # one deadline for all slots together
                unsettled, was_reset = self._clear_pins(number, words, index, deadline)
                reset |= was_reset
                evicted |= unsettled
            if words.hazards[index].load() == generation > 0:  # rule D; 0 means no hazard
                if slots.reap(self._table, number):
                    reset = True
                elif not retained:  # one live reader that retains the segment is enough
                    now = self._clock.now()
                    deadline = now + grace if deadline is None else deadline
                    if hazard_deadline is None:
                        hazard_deadline = now + self._segments.replacement_cost(size)
                    least = min(hazard_deadline, deadline)
                    retained, was_reset = self._wait_for_hazard(number, words.hazards[index], generation, least)
                    reset |= was_reset
        return reset, evicted, retained

    def _clear_pins(
        self, number: int, words: SlotWords, index: int, deadline: float
    ) -> tuple[set[tuple[int, int]], bool]:
        """Wait until a slot no longer pins `index`, reap it, or evict it. Return (unsettled evictions, reset)."""
        reset = False
        pauses = backoff(INITIAL_BACKOFF, self._max_backoff)
        while (pin := words.pin.load()) & HOLDS[index]:
            if slots.reap(self._table, number):
                return set(), True
            if pin & EVICTED:
                # Rule C. It entered this inode before it was evicted, and no reader enters while EVICTED is set. So one
                # replacement per eviction and index is enough: it has not mapped any inode that comes after.
                return {(number, index)} - self._evictions_settled, reset
            left = deadline - self._clock.now()
            if left > 0:
                self._clock.sleep(min(next(pauses), left))
            else:
                self._evictions_settled -= {(number, 0), (number, 1)}  # forgotten before the new eviction starts
                words.pin.fetch_or(EVICTED)  # SYNC POINT evict: comes before any replacement of the name
                reset = True
        return set(), reset

    def _wait_for_hazard(self, number: int, hazard: Word, generation: int, deadline: float) -> tuple[bool, bool]:
        """Wait until a hazard is cleared, or reap its slot. Return (still set at the deadline, reset).

        A polling reader drops its old value at its next `get`. It cannot retain this generation again:
        no reader pins this index before `commit`.
        """
        pauses = backoff(INITIAL_BACKOFF, self._max_backoff)
        while (left := deadline - self._clock.now()) > INITIAL_BACKOFF:
            self._clock.sleep(min(next(pauses), left))
            if hazard.load() != generation:
                return False, False
            if slots.reap(self._table, number):
                return False, True
        return True, False

    def _slots(self) -> list[SlotWords]:
        # Loaded after the last publish: a reader that raises it later pins later, and pins what was published.
        high = self._table.high_water.load() & HIGH_WATER
        if high != len(self._words):
            high = min(high, self._table.max_readers)  # readers can write to that word
            del self._words[high:]
            while len(self._words) < high:
                self._words.append(self._table.slot(len(self._words)))
        if high != self._scans_at_once[0][1]:
            self._bind_scans(high)
        return self._words
