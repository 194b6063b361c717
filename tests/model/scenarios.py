"""The casts: who writes, who reads how, who may die."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.explore import Role, Scenario, all_gone
from model.process import ModelAttachment, ModelClock, ModelSegments, ModelTable, ModelWord, Mutex, NoMutex, Port
from model.world import FIRST_SLOT, GENERATION, SEALED, VERSION, WORDS_PER_SLOT, Violation
from shmsync._core.layout import PAGE, index_of
from shmsync._core.protocol import INITIAL_BACKOFF, PreparedWrite, Publisher
from shmsync._handles.reader import Reader
from shmsync._shm.fork import MAX_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.process import Bodies

    Spec = Callable[[int], Callable[[Port], Bodies]]

# ------------------------------------------------------------------------------------------------------------ writers


def publishes(
    slots: int, last: int, after: int | None = None, *, counted: bool = False, gives_up: bool = False
) -> Callable[[Port], Bodies]:
    """Return the spec of a writer that publishes until `last` is the version; with `after`, once that one is gone.

    With `gives_up`, it begins each version once in vain: it gains the segment, writes half of something, and stops.
    """

    def spec(port: Port) -> Bodies:
        version = ModelWord(port, VERSION)
        generations = (ModelWord(port, GENERATION[0]), ModelWord(port, GENERATION[1]))
        clock = ModelClock(port)
        if not counted:
            port.ignored = frozenset({"reset", "was_reset"})  # what a publish reports
        segments = ModelSegments(port)
        table = ModelTable(port, slots)
        publisher: Publisher[None] = Publisher(version, generations, table, segments, clock, INITIAL_BACKOFF)

        def publish() -> PreparedWrite:
            prepared = publisher.prepare(0, 1.0)
            publisher.commit(prepared, None)
            return prepared

        def body() -> None:
            if after is None:
                publish()  # before anybody else is there: readers attach to something
            port.do("ready")
            if after is not None:
                port.do("after", after)
            while version.load() < last:
                clock.begin()
                if gives_up:
                    segments.spoil(index_of(publisher.prepare(0, 1.0).seq))
                    clock.begin()
                published = publish()
                if counted and published.reset:
                    port.do("reset")
                del published

        return [body]

    return spec


# ------------------------------------------------------------------------------------------------------------ readers


def reads(port: Port, reader: Reader) -> int:
    """Read in a block; look at the content while it is held."""
    with reader.read() as snapshot:
        use(port, snapshot._pinned)
        return snapshot._pinned.seq


def gets(port: Port, reader: Reader) -> int:
    """Get without a block; look at the content after the count is gone."""
    value = reader.get()
    seq = reader._cached[1]
    assert reader._fast is not None
    record = reader._fast[2]
    if record.seq != seq:
        raise Violation(f"get says version {seq}, and it is {record.seq}")
    use(port, record)
    del value
    return seq


def copies(port: Port, reader: Reader) -> int:
    """Get what may be copied without a pin; the model compares the parts of the copy."""
    reader.get()
    port.do("use")
    return reader._cached[1]


def views(port: Port, reader: Reader) -> int:
    """Take a view out of a block; look at the content after the count is gone."""
    with reader.read() as snapshot:
        view = snapshot.buffer
    record = snapshot._pinned
    del snapshot
    use(port, record)
    del view
    return record.seq


def stop_clock(handle: Reader) -> None:
    """Never check whether the name was created again: the check depends on the time, and here it never is."""
    handle._checked_until = float("inf")
    handle._check_superseded = lambda: None  # type: ignore[method-assign]
    handle._calls = MAX_CALLS


def use(port: Port, record: object) -> None:
    """Look at the content of an inode that is held."""
    inode, seq = record.mapping.inode, record.seq  # type: ignore[attr-defined]
    port.do("hold", inode, seq)
    port.do("use")
    port.do("let go", inode, seq)


def reader(
    slots: int,
    *uses: Callable[[Port, Reader], int],
    threads: int = 1,
    attached: bool = True,
    closes: bool = False,
    size: int = 0,
) -> Callable[[Port], Bodies]:
    """Return the spec of a process with one handle, which each of its threads uses in turn as `uses` say.

    Segments have a `size` in bytes; those of a page are copied.
    """

    def spec(port: Port) -> Bodies:
        handle = Reader("model")
        handle.lock = Mutex(port) if threads > 1 else NoMutex()  # type: ignore[assignment]
        handle._attachment = ModelAttachment(port, slots, handle.lock, size)
        stop_clock(handle)

        def body(thread: int) -> None:
            if attached and thread == 0:
                handle.read().close()
            port.do("ready")
            newest = 0
            for turn in range(len(uses)):  # a local variable, so that two turns are two places
                seq = uses[turn](port, handle)
                if seq < newest:
                    raise Violation(f"version {seq} is read after version {newest}")
                newest = seq
            if closes:
                handle.close()

        return [lambda thread=thread: body(thread) for thread in range(threads)]  # type: ignore[misc]

    return spec


def forks(slots: int, child: int, *, both_read: bool = False) -> Callable[[Port], Bodies]:
    """Return the spec of a reader that forks while it holds a snapshot; both use it, and the child reads again."""

    def spec(port: Port) -> Bodies:
        handle = Reader("model")
        handle.lock = NoMutex()  # type: ignore[assignment]
        handle._attachment = ModelAttachment(port, slots, handle.lock, 0)
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
                    handle._attachment = ModelAttachment(port, slots, handle.lock, 0)
                    stop_clock(handle)
                del slot
                use(port, snapshot._pinned)
            if forked or both_read:
                reads(port, handle)

        return [body]

    return spec


# -------------------------------------------------------------------------------------------------------------- casts


def a_reader(
    *uses: Callable[[Port, Reader], int],
    threads: int = 1,
    attached: bool = True,
    closes: bool = False,
    size: int = 0,
) -> Spec:
    """Return what `cast` asks for: the spec of a reader, given the number of slots."""
    return lambda slots: reader(slots, *uses, threads=threads, attached=attached, closes=closes, size=size)


def cast(
    name: str,
    *readers: Spec,
    last: int,
    slots: int | None = None,
    mortal: tuple[int, ...] = (),
    successor: bool = False,
    forked: bool = False,
    retains: bool = False,
    counted: bool = False,
    gives_up: bool = False,
) -> Scenario:
    """Return a scenario: one writer, whose first publish is over before anybody attaches, and readers.

    Args:
        name: what it is called.
        readers: their specs, given the number of slots.
        last: the last version.
        slots: size of the reader table; one for each reader if not given.
        mortal: which processes may be killed: 0 is the writer.
        successor: a second writer follows the first.
        forked: the last reader forks.
        retains: whether a reader retains anything; if not, the hazard words need not be scanned.
        counted: whether evictions, replacements, resets and deaths are counted.
        gives_up: whether the writer begins each version once in vain, as a `reserve` that ends in an exception.
    """
    slots = slots or len(readers)
    hazard_words = {FIRST_SLOT + WORDS_PER_SLOT * slot + word for slot in range(slots) for word in (1, 2)}
    constant = frozenset() if retains else frozenset(hazard_words)
    if not forked:
        constant |= {*SEALED}
    writers = constant | {VERSION, *GENERATION}
    roles = [Role("the writer", publishes(slots, last, counted=counted, gives_up=gives_up), 0 in mortal, writers)]
    roles += [
        Role(f"reader {number}", spec(slots), number in mortal, constant, reads=True)
        for number, spec in enumerate(readers, 1)
    ]
    if successor:
        roles.append(Role("the next writer", publishes(slots, last, after=0, counted=counted), own_words=writers))
    if forked:
        roles.append(Role("the forked reader", None, len(readers) + 1 in mortal, constant, reads=True))
    return Scenario(name, roles, slots, all_gone, counted)


def standard() -> list[Scenario]:
    """Return the scenarios that a default run explores to the end."""
    return [
        cast("two readers", a_reader(reads), a_reader(reads), last=4),
        cast("two threads", a_reader(reads, threads=2), last=3, slots=3),
        cast("two reads, the reader killed at any step", a_reader(reads, reads), last=5, mortal=(1,)),
        cast("two gets, the reader killed at any step", a_reader(gets, gets), last=5, retains=True, mortal=(1,)),
        cast("two threads that take views", a_reader(views, threads=2), last=3, slots=3, retains=True),
        cast("small values are copied", a_reader(copies, copies, size=PAGE), last=5, retains=True),
        cast("what is counted", a_reader(reads, closes=True), last=5, mortal=(1,), counted=True),
        cast("the writer killed at any step", a_reader(reads), last=5, mortal=(0,), successor=True),
        cast("writes are given up half-way", a_reader(reads), last=4, mortal=(0,), successor=True, gives_up=True),
        cast(
            "writes are given up half-way, values are kept", a_reader(gets, gets), last=4, retains=True, gives_up=True
        ),
        cast("a fork with a live snapshot", lambda slots: forks(slots, 2), last=4, slots=2, forked=True, retains=True),
        cast(
            "a slot claimed while another is reaped",
            a_reader(reads),
            a_reader(reads, attached=False, closes=True),
            last=3,
            mortal=(1,),
        ),
    ]


def deep() -> list[Scenario]:
    """Return larger scenarios, for as long as there is time."""
    return [
        cast(
            "a reader and one that retains, both mortal",
            a_reader(reads),
            a_reader(gets),
            last=4,
            retains=True,
            mortal=(1, 2),
        ),
        cast("two threads, one publish more", a_reader(reads, threads=2), last=4, slots=3),
        cast("two threads, two reads", a_reader(reads, reads, threads=2), last=4, slots=3),
        cast("two threads that get", a_reader(gets, threads=2), last=4, slots=3, retains=True),
        cast("three reads", a_reader(reads, reads, reads), last=7, mortal=(1,)),
        cast("both may be killed", a_reader(reads, reads), last=5, mortal=(0, 1), successor=True),
        cast("two readers, one publish more", a_reader(reads), a_reader(reads), last=5),
    ]
