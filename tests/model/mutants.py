"""Known-bad variants of the shipped code. The explorer must find a violation in each."""

from __future__ import annotations

import inspect
import types
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model import process
from model.process import MSGPACK
from model.scenarios import a_reader, copies, forks, gets, gets_alike, keeps, make_scenario, reads, views
from shmsync._core import protocol, retention, slots
from shmsync._core import spares as spare_inodes
from shmsync._core.layout import PAGE
from shmsync._handles import reader, snapshot
from shmsync._session import attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from model.explore import Scenario


@dataclass(frozen=True)
class Mutant:
    """A change to the shipped code that breaks it.

    Attributes:
        name: the defect.
        module: the module that is changed.
        before, after: source text, which must occur exactly once, and its replacement.
        scenario: a small scenario that exposes the defect.
    """

    name: str
    module: types.ModuleType
    before: str
    after: str
    scenario: Callable[[], Scenario]

    def applied(self) -> AbstractContextManager[None]:
        """Replace the code of the module's functions for the duration of a block."""
        return replaced(self.name, self.module, self.before, self.after)


@contextmanager
def replaced(name: str, module: types.ModuleType, before: str, after: str) -> Iterator[None]:
    """Replace a text in the functions of a module for the duration of a block."""
    source = inspect.getsource(module)
    if source.count(before) != 1:
        raise AssertionError(f"{name}: text to replace occurs {source.count(before)} times in {module.__name__}")
    changed = types.ModuleType(module.__name__)
    exec(compile(source.replace(before, after), str(module.__file__), "exec"), changed.__dict__)
    functions = [
        (function, _functions(changed)[key])
        for key, function in _functions(module).items()
        if function.__code__ != _functions(changed)[key].__code__
    ]
    assert functions
    originals = [function.__code__ for function, _ in functions]
    try:
        for function, other in functions:
            function.__code__ = other.__code__
        yield
    finally:
        for (function, _), code in zip(functions, originals, strict=True):
            function.__code__ = code


def _functions(module: types.ModuleType) -> dict[str, types.FunctionType]:
    found = {}
    for name, item in vars(module).items():
        if getattr(item, "__module__", None) != module.__name__:
            continue
        if isinstance(item, types.FunctionType):
            found[name] = item
        elif isinstance(item, type):
            methods = ((n, m) for n, m in vars(item).items() if isinstance(m, types.FunctionType))
            found.update({f"{name}.{n}": m for n, m in methods})
    return found


def one_read() -> Scenario:
    return make_scenario("one reader, one read", a_reader(reads), last=5)


def two_reads() -> Scenario:
    return make_scenario("one reader, two reads", a_reader(reads, reads), last=6)


def new_reader() -> Scenario:
    return make_scenario("a reader attaches", a_reader(reads, attached=False), last=4)


def killed() -> Scenario:
    return make_scenario("one reader, killed", a_reader(reads, closes=True), last=6, killable=(1,), counted=True)


def two_gets() -> Scenario:
    return make_scenario("one reader gets", a_reader(gets, gets), last=5, retains=True)


def two_gets_alike() -> Scenario:
    return make_scenario(
        "one reader gets values with the same schema", a_reader(gets_alike, gets_alike), last=5, retains=True
    )


def three_views() -> Scenario:
    return make_scenario("one reader takes views", a_reader(views, views, views), last=6, retains=True)


def small_copies() -> Scenario:
    return make_scenario("small values are copied", a_reader(copies, copies, size=PAGE, codec=MSGPACK), last=5)


def two_decodes() -> Scenario:
    return make_scenario("one reader decodes", a_reader(copies, copies, codec=MSGPACK), last=5)


def threads_with_views() -> Scenario:
    return make_scenario("two threads that take views", a_reader(views, threads=2), last=3, slots=3, retains=True)


def two_updates() -> Scenario:
    return make_scenario("values are updated in place", a_reader(reads), last=4, updates=True)


def updates_of_retained() -> Scenario:
    return make_scenario("retained values are updated", a_reader(gets, gets), last=4, retains=True, updates=True)


def spares() -> Scenario:
    return make_scenario(
        "replaced inodes are used again", a_reader(keeps, locks=True), last=6, retains=True, updates=True, spares=1
    )


def spares_of_successor() -> Scenario:
    return make_scenario(
        "replaced inodes, and the writer is killed",
        a_reader(gets, gets, locks=True),
        last=6,
        retains=True,
        killable=(0,),
        successor=True,
        updates=True,
        spares=1,
    )


def successor() -> Scenario:
    return make_scenario("the writer is killed", a_reader(reads), last=4, killable=(0,), successor=True)


def fork() -> Scenario:
    return make_scenario("a fork", lambda slots: forks(slots, 2), last=5, slots=3, forked=True, retains=True)


def retains_and_dies() -> Scenario:
    return make_scenario(
        "a reader that retains, killed", a_reader(gets), last=4, retains=True, killable=(1,), alone=(1,)
    )


def lowered() -> Scenario:
    return make_scenario(
        "the high-water mark is lowered",
        a_reader(reads, closes=True),
        a_reader(reads, attached=False),
        last=4,
        lowers=True,
    )


def fork_and_read() -> Scenario:
    return make_scenario(
        "a fork", lambda slots: forks(slots, 2, both_read=True), last=5, slots=2, forked=True, retains=True
    )


_AT_ONCE = """\
        pins = load_pins()
        if any(pins) and any(map(HOLDS[index].__and__, pins)):
            return None
        # Rule E. A segment that has no inode yet has generation 0, which is covered.
        if generation in load_hazards()"""
_UNPACKED = """\
            return None
        incarnation, found, size, codec, digest = unpack_page(page)
"""
_LOWERS = """\
        if not seq & self._lower_mask:
            reset |= slots.lower_high_water(self._table, self._words)
"""
_NOT_REUSABLE = """\
        # Also not reusable: the inode of a previous writer that died during a replacement. Its generation differs from
        # that in the state, or it has none.
"""

MUTANTS = [
    Mutant(
        "a spare is used again although a reader has mapped it",
        spare_inodes,
        " and inode.is_free(place)",
        "",
        spares,
    ),
    Mutant(
        "a reader locks an inode after it has looked at EVICTED",
        process,
        'is locked only after the look at EVICTED: changed by a mutant."""\n        return False',
        'is locked only after the look at EVICTED: changed by a mutant."""\n        return True',
        spares,
    ),
    Mutant(
        "a spare gets a name while its header is valid",
        spare_inodes,
        "        inode.wipe()\n",
        "",
        spares_of_successor,
    ),
    Mutant(
        "an update copies to the older segment before the scan",
        protocol,
        "        prepared = self.prepare(size, grace)\n        self._segments.catch_up(prepared.idx, prepared.seq - 1)",
        "        self._segments.catch_up(index_of(self._version.load() + 1), self._version.load())\n"
        "        prepared = self.prepare(size, grace)",
        two_updates,
    ),
    Mutant(
        "an update is finished after its version is published",
        protocol,
        "        checksum = self._segments.finish_update(index, generation, seq)\n        self._advance(seq)\n",
        "        self._advance(seq)\n        checksum = self._segments.finish_update(index, generation, seq)\n",
        two_updates,
    ),
    Mutant(
        "an update is made in the segment that is current",
        protocol,
        "        self._segments.catch_up(prepared.idx, prepared.seq - 1)",
        "        self._segments.catch_up(1 - prepared.idx, prepared.seq - 1)",
        updates_of_retained,
    ),
    Mutant(
        "the second load of the version is skipped (rule A)",
        protocol,
        "    if version.load() == seq:\n        return seq\n",
        "    if version.load():\n        return seq\n",
        one_read,
    ),
    Mutant(
        "a pin moves to the other segment without an announcement",
        protocol,
        "    slot.words.pin.bind_add(ANNOUNCE - ONE[index])()\n    seq = version.load()\n"
        "    slot.words.pin.bind_add(ONE[index_of(seq)] - ANNOUNCE)()",
        "    slot.words.pin.bind_add(-ONE[index])()\n    seq = version.load()\n"
        "    slot.words.pin.bind_add(ONE[index_of(seq)])()",
        one_read,
    ),
    Mutant(
        "a cached version is read without a second load of the version (rule A)",
        reader,
        "            if version.load() == pinned.seq and",
        "            if version and",
        one_read,
    ),
    Mutant(
        "a mapped segment is pinned without a second load of the version (rule A)",
        attachment,
        "                self._load_words() == [seq, *self._generations]\n",
        "                self._load_words()[1:] == self._generations\n",
        two_decodes,
    ),
    Mutant(
        "a pin that is of no use is not undone",
        attachment,
        "            slot.leave[index]()\n        except",
        "        except",
        two_gets,
    ),
    Mutant(
        "EVICTED is ignored after mapping (rule B)",
        protocol,
        "                if not slot.words.pin.load() & EVICTED:\n                    return slot",
        "                if slot:\n                    return slot",
        one_read,
    ),
    Mutant(
        "the inode of an evicted reader is not replaced (rule C)",
        protocol,
        "return {(number, index)} - self._evictions_settled, reset",
        "return set(), reset",
        one_read,
    ),
    Mutant(
        "hazards are ignored (rule D)",
        protocol,
        "            if words.hazards[index].load() == generation > 0:  # rule D; 0 means no hazard",
        "            if words.hazards[index].load() == -1:",
        two_gets,
    ),
    Mutant(
        "the hazard word is scanned before the pin word",
        protocol,
        "            if words.pin.load() & holds:\n",
        "            retained |= words.hazards[index].load() == generation\n"
        "            generation_scanned = generation\n"
        "            generation = -1 if generation_scanned else generation_scanned\n"
        "            if words.pin.load() & holds:\n",
        two_gets,
    ),
    Mutant(
        "pins are ignored in a write at once",
        protocol,
        "        if any(pins) and any(map(HOLDS[index].__and__, pins)):\n",
        "        if not pins:\n",
        one_read,
    ),
    Mutant(
        "hazards are ignored in a write at once (rule D)",
        protocol,
        "        if generation in load_hazards() or",
        "        if",
        two_gets,
    ),
    Mutant(
        "the hazard words are loaded before the pin words in a write at once",
        protocol,
        _AT_ONCE,
        _AT_ONCE.replace("        pins =", "        hazards = load_hazards()\n        pins =").replace(
            "in load_hazards()", "in hazards"
        ),
        two_gets,
    ),
    Mutant(
        "the seal is ignored in a write at once (rule E)",
        protocol,
        " or load_sealed() >= generation:",
        ":",
        fork,
    ),
    Mutant(
        "a write at once does not see a slot that was claimed since the last one",
        protocol,
        "        if self._load_high_water() & HIGH_WATER != count or",
        "        if",
        new_reader,
    ),
    Mutant(
        "the version is published before the payload",
        protocol,
        "        checksum = self._segments.write(index, generation, seq, value)\n",
        "        self._version.compare_exchange(seq - 1, seq)\n"
        "        checksum = self._segments.write(index, generation, seq, value)\n"
        "        return checksum\n",
        one_read,
    ),
    Mutant(
        "a reader is evicted without setting EVICTED",
        protocol,
        "                words.pin.fetch_or(EVICTED)  # SYNC POINT evict: comes before any replacement of the name\n"
        "                reset = True\n",
        "                return {(number, index)}, True\n",
        one_read,
    ),
    Mutant(
        "a new eviction does not require a new replacement",
        protocol,
        "                self._evictions_settled -= {(number, 0), (number, 1)}",
        "                self._evictions_settled -= set()",
        two_reads,
    ),
    Mutant(
        "the generation of a new inode is not bumped",
        protocol,
        "            word.store(generation)\n",
        "            generation -= 1\n",
        two_reads,
    ),
    Mutant(
        "the generation is bumped before the new inode has its name",
        protocol,
        "            self._segments.replace(index, generation, size)\n            word.store(generation)\n",
        "            word.store(generation)\n            self._segments.replace(index, generation, size)\n",
        one_read,
    ),
    Mutant(
        "a slot is zeroed without proof of death",
        slots,
        "    if lock is None:\n        return False\n    try:",
        "    if lock is None:\n        _zero(table.slot(index))\n        return True\n    try:",
        one_read,
    ),
    Mutant(
        "the high-water mark does not include a claimed slot",
        slots,
        "    _add_claim(table, index + 1)",
        "    _add_claim(table, index)",
        new_reader,
    ),
    Mutant(
        "a claim is not counted if the mark is high enough",
        slots,
        "        high = max(now & HIGH_WATER, least)\n",
        "        high = max(now & HIGH_WATER, least)\n        if high > least - 1 == (now & HIGH_WATER) - 1:\n"
        "            return\n",
        lowered,
    ),
    Mutant(
        "the mark is lowered even if a slot was claimed since",
        slots,
        "    table.high_water.compare_exchange(now, now & ~HIGH_WATER | least)\n",
        "    table.high_water.store(now & ~HIGH_WATER | least)\n",
        lowered,
    ),
    Mutant(
        "the mark is lowered below a slot in use",
        slots,
        "    while least and not table.is_locked(least - 1):\n",
        "    while least:\n",
        lowered,
    ),
    Mutant(
        "the writer waits for a dead reader that retains a value",
        protocol,
        "                if slots.reap(self._table, number):\n",
        "                if self._table is None:\n",
        retains_and_dies,
    ),
    Mutant(
        "the pins of a dead reader are not cleared",
        slots,
        "            return False  # its reader has released it properly since the writer saw a pin or a hazard\n"
        "        _zero(words)\n",
        "            return False\n",
        killed,
    ),
    Mutant(
        "a value is retained after the unpin",
        reader,
        "                views.retain(slot)  # SYNC POINT hazard",
        "                slot.leave[pinned.index]()\n                views.retain(slot)  #",
        two_gets,
    ),
    Mutant(
        "a value with the schema of the last one is retained after the unpin",
        reader,
        "            mapping.views.retain(slot)  # SYNC POINT hazard: stored before the unpin\n"
        "            slot.leave[mapping.index]()\n",
        "            slot.leave[mapping.index]()\n            mapping.views.retain(slot)\n",
        two_gets_alike,
    ),
    Mutant(
        "a value with the schema of the last one is not retained",
        reader,
        "            mapping.views.retain(slot)  # SYNC POINT hazard",
        "            assert mapping  #",
        two_gets_alike,
    ),
    Mutant(
        "a live value is not retained",
        reader,
        "            if views.exporters:\n",
        "            if not views.exporters:\n",
        two_gets,
    ),
    Mutant(
        "the version is not checked after a copy",
        attachment,
        "        if self._load_words() != expected:\n",
        "        if self._load_words()[1:] != expected[1:]:\n",
        small_copies,
    ),
    Mutant(
        "a copy of another version is returned, from an inode that was replaced",
        attachment,
        f"        if self._load_words() != expected:\n{_UNPACKED}        if found != seq or",
        f"        if self._load_words()[0] != seq:\n{_UNPACKED}        if",
        small_copies,
    ),
    Mutant(
        "the hazard is stored after the unpin",
        snapshot,
        "                if pinned.mapping.views.has_views():\n"
        "                    self._retain(slot, pinned)\n            slot.leave[pinned.index]()\n",
        "                retained = pinned.mapping.views.has_views()\n"
        "            slot.leave[pinned.index]()\n"
        "            if self._viewed and retained:\n                self._retain(slot, pinned)\n",
        three_views,
    ),
    Mutant(
        "a live view is not retained",
        snapshot,
        "                if pinned.mapping.views.has_views():\n                    self._retain",
        "                if not pinned.mapping.views.has_views():\n                    self._retain",
        three_views,
    ),
    Mutant(
        "a hazard is cleared while views are alive",
        retention,
        "        if slot is not None and not self.exporters:",
        "        if slot is not None:",
        threads_with_views,
    ),
    Mutant(
        "a hazard is cleared without the lock",
        retention,
        "        if self._lock.acquire(blocking=False):\n"
        "            try:\n                self.release_if_unused()\n"
        "            finally:\n                self._lock.release()\n"
        "        else:\n            self._missed.append(self._index)\n",
        "        self.release_if_unused()\n",
        threads_with_views,
    ),
    Mutant(
        "an exported view is not tracked",
        retention,
        "        self.exporters[id(reference)] = reference\n",
        "        self.exporters[id(reference)] = reference\n        self.exporters.clear()\n",
        two_gets,
    ),
    Mutant(
        "a pin of another version is not undone",
        reader,
        "            slot.leave[pinned.index]()\n        except",
        "        except",
        one_read,
    ),
    Mutant(
        "a successor trusts an inode of another generation",
        protocol,
        "        replaced = held or not self._segments.is_reusable(index, generation, size)",
        "        replaced = held or "
        "(self._segments.is_reusable(index, generation, size), self._segments.mapped[index] is None)[1]",
        successor,
    ),
    Mutant(
        "a sealed inode is written to (rule E)",
        protocol,
        " or self._seals.cover(index, generation)  # rule E",
        "  # rule E",
        fork,
    ),
    Mutant(
        "the seal is looked at before the slots are scanned",
        protocol,
        "        reset, evicted, retained = self._scan(index, generation, size, grace)\n"
        + _LOWERS
        + _NOT_REUSABLE
        + "        held = bool(evicted) or retained or self._seals.cover(index, generation)  #",
        "        sealed = self._seals.cover(index, generation)\n"
        "        reset, evicted, retained = self._scan(index, generation, size, grace)\n"
        "        held = bool(evicted) or retained or sealed  #",
        fork,
    ),
    Mutant(
        "what is pinned at a fork is not sealed",
        slots,
        "                self._seals.seal(index)\n",
        "                pass\n",
        fork,
    ),
    Mutant(
        "the child takes back what its parent counted",
        slots,
        "        self.poison()\n        self.unprotected = not sealed\n",
        "        self.unprotected = not sealed\n",
        fork_and_read,
    ),
]
