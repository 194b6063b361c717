"""The scenarios: which processes write and read, in which way, and which of them may be killed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from model.explore import Role, Scenario, check_end
from model.process import (
    MSGPACK,
    RAW,
    LockingAttachment,
    ModelAttachment,
    ModelClock,
    ModelSegments,
    ModelTable,
    ModelWord,
    Mutex,
    NoMutex,
    Port,
)
from model.world import FIRST_SLOT, GENERATION, SEALED, VERSION, WORDS_PER_SLOT, Violation
from shmsync._core.layout import PAGE, index_of
from shmsync._core.protocol import INITIAL_BACKOFF, PreparedWrite, Publisher
from shmsync._handles.reader import Reader
from shmsync._shm.fork import MAX_CALLS
from shmsync.codecs._schema import Schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.process import Bodies

    Spec = Callable[[int], Callable[[Port], Bodies]]

LARGE = 2 * PAGE
"""Size in bytes of segments whose values are not copied."""

# ------------------------------------------------------------------------------------------------------------ writers


def publishes(
    slots: int,
    last: int,
    after: int | None = None,
    *,
    counted: bool = False,
    aborts: bool = False,
    updates: bool = False,
    lowers: bool = False,
    alone: tuple[int, ...] = (),
    spares: int = 0,
) -> Callable[[Port], Bodies]:
    """Return the spec of a writer that publishes until `last` is the version.

    With `after`, it starts once that process has ended. With `aborts`, it aborts the first attempt at each version: it
    prepares the segment, writes half a version into it, and gives up. With `updates`, it changes each version but the
    first in place; with both, it aborts an update. With `lowers`, it tries to lower the high-water mark at each
    version. With `alone`, it waits after the first version until these processes have ended, and must then
    find no reason for new memory but the one that creates the second segment. It keeps as many replaced inodes as
    `spares` says.
    """

    def spec(port: Port) -> Bodies:
        version = ModelWord(port, VERSION)
        generations = (ModelWord(port, GENERATION[0]), ModelWord(port, GENERATION[1]))
        clock = ModelClock(port)
        if not counted:
            port.ignored = frozenset({"reset", "was_reset"})  # only reported by a publish
        segments = ModelSegments(port, spares)
        table = ModelTable(port, slots)
        publisher: Publisher[None] = Publisher(version, generations, table, segments, clock, INITIAL_BACKOFF)
        if lowers:
            publisher._lower_mask = 0

        def body() -> None:
            if after is None:
                _publish(publisher)  # before any reader attaches
            port.do("ready")
            for other in alone if after is None else (after,):
                port.do("after", other)
            while version.load() < last:
                clock.begin()
                if aborts and updates:
                    publisher.prepare_update(0, 1.0)
                    clock.begin()
                elif aborts:
                    segments.spoil(index_of(publisher.prepare(0, 1.0).seq))
                    clock.begin()
                prepared = _update(publisher) if updates else _publish(publisher)
                _judge(port, prepared, counted=counted, alone=bool(alone))
                del prepared

        return [body]

    return spec


def _publish(publisher: Publisher[None]) -> PreparedWrite | None:
    """Publish at once or else with all steps, as a Writer does. Return what was prepared."""
    if publisher.try_publish(None, 0) is not None:
        return None
    prepared = publisher.prepare(0, 1.0)
    publisher.commit(prepared, None)
    return prepared


def _update(publisher: Publisher[None]) -> PreparedWrite:
    prepared = publisher.prepare_update(0, 1.0)
    publisher.commit_update(prepared)
    return prepared


def _judge(port: Port, prepared: PreparedWrite | None, *, counted: bool, alone: bool) -> None:
    if prepared is None:
        return
    if alone and prepared.held:
        raise Violation(f"version {prepared.seq} needs new memory, and no reader is left")
    if counted and prepared.reset:
        port.do("reset")


# ------------------------------------------------------------------------------------------------------------ readers


def reads(port: Port, reader: Reader) -> int:
    """Read in a block; check the content while it is pinned."""
    with reader.read() as snapshot:
        use(port, snapshot._pinned)
        return snapshot._pinned.seq


def gets(port: Port, reader: Reader) -> int:
    """Get without a block; check the content after the unpin."""
    value = reader.get()
    seq = reader._cached[1]
    assert reader._attachment is not None
    pinned = reader._attachment._pinned
    assert pinned is not None
    if pinned.seq != seq:
        raise Violation(f"get reports version {seq} but returned version {pinned.seq}")
    use(port, pinned)
    del value
    return seq


def keeps(port: Port, reader: Reader) -> int:
    """Keep a value beyond the next get; check the content of both."""
    value = reader.get()
    kept, inode = reader._cached[1], value.memory.inode
    port.do("hold", inode, kept)
    seq = gets(port, reader)
    port.do("release", inode, kept)
    del value
    return seq


_ALIKE = Schema(RAW, 1, lambda _: (), (), lambda payload: payload)
"""The schema of the model's values, which are views of their payload."""


def gets_alike(port: Port, reader: Reader) -> int:
    """Get a value with the schema of the last one, without a block; check the content after the unpin."""
    reader.decoder.schema = _ALIKE
    value: Any = reader.get()
    seq = reader._cached[1]
    use(port, SimpleNamespace(mapping=value.memory, seq=seq))
    del value
    return seq


def copies(port: Port, reader: Reader) -> int:
    """Get a value that is copied, without a pin or while it is pinned: the number of the version that it is from."""
    value, seq = reader.get(), reader._cached[1]
    if value != seq:
        raise Violation(f"torn: a copy of version {seq} contains version {value}")
    port.do("use")
    return seq


def views(port: Port, reader: Reader) -> int:
    """Keep a view beyond its block; check the content after the unpin."""
    with reader.read() as snapshot:
        view = snapshot.buffer
        pinned = snapshot._pinned
    del snapshot
    use(port, pinned)
    del view
    return pinned.seq


def stop_clock(handle: Reader) -> None:
    """Never check whether the name was created again: the check depends on the time, and here it never is."""
    handle._checked_until = float("inf")
    handle._check_superseded = lambda: None  # type: ignore[method-assign]
    handle._calls = MAX_CALLS


def use(port: Port, pinned: object) -> None:
    """Check the content of a protected inode."""
    inode, seq = pinned.mapping.inode, pinned.seq  # type: ignore[attr-defined]
    port.do("hold", inode, seq)
    port.do("use")
    port.do("release", inode, seq)


def reader(
    slots: int,
    *uses: Callable[[Port, Reader], int],
    threads: int = 1,
    attached: bool = True,
    closes: bool = False,
    size: int = LARGE,
    codec: int = RAW,
    locks: bool = False,
) -> Callable[[Port], Bodies]:
    """Return the spec of a process with one handle; each of its threads performs all `uses` in order.

    `size` is the size of the segments in bytes. Values of the codec MSGPACK are copied from segments of one page, and
    decoded while they are pinned in larger ones. Those of RAW are returned as views.
    """

    def spec(port: Port) -> Bodies:
        handle = Reader("model")
        handle.lock = Mutex(port) if threads > 1 else NoMutex()  # type: ignore[assignment]
        kind = LockingAttachment if locks else ModelAttachment
        handle._attachment = kind(port, slots, handle.lock, size, codec)
        if locks:
            port.kept.append(handle)
        stop_clock(handle)

        def body(thread: int) -> None:
            if attached and thread == 0:
                handle.read().close()
            port.do("ready")
            newest = 0
            for turn in range(len(uses)):  # an index, so that two turns have different digests
                seq = uses[turn](port, handle)
                if seq < newest:
                    raise Violation(f"version {seq} was read after version {newest}")
                newest = seq
            if closes:
                handle.close()

        return [lambda thread=thread: body(thread) for thread in range(threads)]  # type: ignore[misc]

    return spec


def forks(slots: int, child: int, *, both_read: bool = False, locks: bool = False) -> Callable[[Port], Bodies]:
    """Return the spec of a reader that forks while it holds a snapshot; both use it, then the child reads again."""

    def spec(port: Port) -> Bodies:
        kind = LockingAttachment if locks else ModelAttachment
        handle = Reader("model")
        handle.lock = NoMutex()  # type: ignore[assignment]
        handle._attachment = kind(port, slots, handle.lock, LARGE, RAW)
        if locks:
            port.kept.append(handle)
        stop_clock(handle)

        def body() -> None:
            handle.read().close()
            port.do("ready")
            with handle.read() as snapshot:
                use(port, snapshot._pinned)
                slot = snapshot._slots[0]
                slot.before_fork()
                forked = port.do("fork", child) == "child"
                if forked:
                    slot.inherit(sealed=True)
                    handle.after_fork_in_child()
                    handle.lock = NoMutex()  # type: ignore[assignment]
                    port.kept.append(handle._attachment)
                    handle._attachment = kind(port, slots, handle.lock, LARGE, RAW)
                    stop_clock(handle)
                del slot
                use(port, snapshot._pinned)
            if forked or both_read:
                reads(port, handle)

        return [body]

    return spec


# ---------------------------------------------------------------------------------------------------------- scenarios


def a_reader(
    *uses: Callable[[Port, Reader], int],
    threads: int = 1,
    attached: bool = True,
    closes: bool = False,
    size: int = LARGE,
    codec: int = RAW,
    locks: bool = False,
) -> Spec:
    """Return a reader for `make_scenario`: a function from the number of slots to a spec."""
    return lambda slots: reader(
        slots, *uses, threads=threads, attached=attached, closes=closes, size=size, codec=codec, locks=locks
    )


def make_scenario(
    name: str,
    *readers: Spec,
    last: int,
    slots: int | None = None,
    killable: tuple[int, ...] = (),
    successor: bool = False,
    forked: bool = False,
    retains: bool = False,
    counted: bool = False,
    aborts: bool = False,
    updates: bool = False,
    lowers: bool = False,
    alone: tuple[int, ...] = (),
    spares: int = 0,
) -> Scenario:
    """Return a scenario with readers and one writer, whose first publish is complete before any reader attaches.

    Args:
        name: name in messages.
        readers: functions from the number of slots to a spec.
        last: the last version.
        slots: size of the reader table; by default one slot for each reader.
        killable: the processes that may be killed; 0 is the writer.
        successor: whether a second writer follows the first.
        forked: whether the last reader forks.
        retains: whether a reader retains values. If not, loading a hazard word is not a scheduling point.
        counted: whether evictions, replacements, resets and deaths are counted.
        aborts: whether the writer aborts the first attempt at each version, like a `reserve` that raises.
        updates: whether the writer changes each version but the first in place.
        lowers: whether the writer tries to lower the high-water mark at each version.
        alone: processes that have ended before the writer publishes its second version.
        spares: how many replaced inodes the writers keep; the readers have to lock what they map.
    """
    slots = slots or len(readers)
    hazard_words = {FIRST_SLOT + WORDS_PER_SLOT * slot + word for slot in range(slots) for word in (1, 2)}
    constant = frozenset() if retains else frozenset(hazard_words)
    if not forked:
        constant |= {*SEALED}
    writers = constant | {VERSION, *GENERATION}
    first = publishes(
        slots, last, counted=counted, aborts=aborts, updates=updates, lowers=lowers, alone=alone, spares=spares
    )
    roles = [Role("the writer", first, 0 in killable, writers)]
    roles += [
        Role(f"reader {number}", spec(slots), number in killable, constant, reads=True)
        for number, spec in enumerate(readers, 1)
    ]
    if successor:
        successor_spec = publishes(slots, last, after=0, counted=counted, spares=spares)
        roles.append(Role("the next writer", successor_spec, own_words=writers))
    if forked:
        roles.append(Role("the forked reader", None, len(readers) + 1 in killable, constant, reads=True))
    return Scenario(name, roles, slots, check_end, counted, spares)


def standard() -> list[Scenario]:
    """Return the scenarios that are explored completely."""
    return [
        make_scenario("two readers", a_reader(reads), a_reader(reads), last=4),
        make_scenario("two threads", a_reader(reads, threads=2), last=3, slots=3),
        make_scenario("two reads, the reader killed at any step", a_reader(reads, reads), last=5, killable=(1,)),
        make_scenario(
            "two gets, the reader killed at any step", a_reader(gets, gets), last=5, retains=True, killable=(1,)
        ),
        make_scenario(
            "two gets of values with the same schema, the reader killed at any step",
            a_reader(gets_alike, gets_alike),
            last=5,
            retains=True,
            killable=(1,),
        ),
        make_scenario("two threads that take views", a_reader(views, threads=2), last=3, slots=3, retains=True),
        make_scenario("small values are copied", a_reader(copies, copies, size=PAGE, codec=MSGPACK), last=5),
        make_scenario("values are decoded while they are pinned", a_reader(copies, copies, codec=MSGPACK), last=5),
        make_scenario(
            "resets and replacements are counted", a_reader(reads, closes=True), last=5, killable=(1,), counted=True
        ),
        make_scenario("the writer killed at any step", a_reader(reads), last=5, killable=(0,), successor=True),
        make_scenario("aborted writes", a_reader(reads), last=4, killable=(0,), successor=True, aborts=True),
        make_scenario("aborted writes, retained values", a_reader(gets, gets), last=4, retains=True, aborts=True),
        make_scenario("updates in place", a_reader(reads, reads), last=5, killable=(1,), updates=True),
        make_scenario(
            "aborted updates in place, retained values",
            a_reader(gets, gets),
            last=4,
            retains=True,
            killable=(0,),
            successor=True,
            aborts=True,
            updates=True,
        ),
        make_scenario(
            "spares",
            a_reader(keeps, locks=True),
            last=6,
            retains=True,
            killable=(1,),
            updates=True,
            spares=1,
        ),
        make_scenario("spares, pinned values", a_reader(reads, reads, locks=True), last=6, updates=True, spares=1),
        make_scenario(
            "spares, the writer killed at any step",
            a_reader(gets, locks=True),
            last=5,
            retains=True,
            killable=(0,),
            successor=True,
            updates=True,
            spares=1,
        ),
        make_scenario(
            "spares, a fork with a live snapshot",
            lambda slots: forks(slots, 2, locks=True),
            last=4,
            slots=2,
            forked=True,
            retains=True,
            updates=True,
            spares=1,
        ),
        make_scenario(
            "a fork with a live snapshot", lambda slots: forks(slots, 2), last=4, slots=2, forked=True, retains=True
        ),
        make_scenario(
            "a reader that retains ends or is killed",
            a_reader(gets),
            last=4,
            retains=True,
            killable=(1,),
            alone=(1,),
        ),
        make_scenario(
            "the high-water mark is lowered",
            a_reader(reads, closes=True),
            a_reader(reads, attached=False, closes=True),
            last=4,
            lowers=True,
        ),
        make_scenario(
            "the high-water mark is lowered below the dead",
            a_reader(gets),
            a_reader(reads, attached=False),
            last=3,
            retains=True,
            killable=(1,),
            lowers=True,
        ),
        make_scenario(
            "a slot claimed while another is reaped",
            a_reader(reads),
            a_reader(reads, attached=False, closes=True),
            last=3,
            killable=(1,),
        ),
    ]


def deep() -> list[Scenario]:
    """Return larger scenarios, which are explored until a time limit."""
    return [
        make_scenario(
            "a pinning and a retaining reader, each killed at any step",
            a_reader(reads),
            a_reader(gets),
            last=4,
            retains=True,
            killable=(1, 2),
        ),
        make_scenario("two threads, one more publish", a_reader(reads, threads=2), last=4, slots=3),
        make_scenario("two threads, two reads", a_reader(reads, reads, threads=2), last=4, slots=3),
        make_scenario("two threads that get", a_reader(gets, threads=2), last=4, slots=3, retains=True),
        make_scenario("three reads", a_reader(reads, reads, reads), last=7, killable=(1,)),
        make_scenario(
            "writer and reader killed at any step", a_reader(reads, reads), last=5, killable=(0, 1), successor=True
        ),
        make_scenario("two readers, one more publish", a_reader(reads), a_reader(reads), last=5),
    ]
