"""The state shared by all processes, as a value, and the effect of each atomic operation on it.

Memory is sequentially consistent. An operation is a tuple: its kind, then its operands. A process may be killed at any
step: its locks are then released, and its writes remain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

ENDED, KILLED, NOT_STARTED = -1, -2, -3
"""Instead of a node: the process has ended, was killed, or has not been forked yet."""
TORN = -1
"""Instead of the version that an inode contains: it is half-written."""
MODULUS = 1 << 64
VERSION = 0
GENERATION = (1, 2)
HIGH_WATER = 3  # the word, which contains the mark and the number of claims
SEALED = (4, 5)
FIRST_SLOT = 6
WORDS_PER_SLOT = 3
FIRST_SPARE = 2
"""The name of the first spare, after those of the data segments."""

Op = tuple[Any, ...]


class Violation(Exception):  # noqa: N818 - a finding, not an error
    """An invariant does not hold."""


class World(NamedTuple):
    """The shared state.

    Attributes:
        words: version, generations, high-water mark, then pin word and hazard words of each slot.
        locks: by slot, the processes that share its lock.
        names: by data segment, then by place of a spare, the inode that its name refers to; None if there is none.
        inodes: by number, the version in it and the generation in its header.
        held: (process, inode, version) for each value being read.
        mapped: (process, inode) for each lock of a mapping that a reader has; kept only if there are spares.
        nodes: by process, its node, or NOT_STARTED, ENDED or KILLED.
        forked: whether a process has forked.
        counters: evictions, replacements, resets, deaths; None if they are not counted.
    """

    words: tuple[int, ...]
    locks: tuple[frozenset[int], ...]
    names: tuple[int | None, ...]
    inodes: tuple[tuple[int, int], ...]
    held: tuple[tuple[int, int, int], ...]
    mapped: tuple[tuple[int, int], ...]
    nodes: tuple[int, ...]
    forked: bool
    counters: tuple[int, ...] | None


def first_world(slots: int, nodes: tuple[int, ...], *, counted: bool, spares: int = 0) -> World:
    """Return a world in which nothing is published."""
    words = (0,) * (FIRST_SLOT + WORDS_PER_SLOT * slots)
    no_locks = (frozenset[int](),) * slots
    counters = (0, 0, 0, 0) if counted else None
    names = (None,) * (FIRST_SPARE + spares)
    return World(words, no_locks, names, inodes=(), held=(), mapped=(), nodes=nodes, forked=False, counters=counters)


def word_name(word: int) -> str:
    """Return the name of a word."""
    if word < FIRST_SLOT:
        return ("version", "generation 0", "generation 1", "high-water mark", "sealed 0", "sealed 1")[word]
    slot, which = divmod(word - FIRST_SLOT, WORDS_PER_SLOT)
    return f"{('pin', 'hazard 0', 'hazard 1')[which]} of slot {slot}"


def is_enabled(world: World, op: Op) -> bool:
    """Return whether an operation can take place now."""
    if op[0] == "after":
        return world.nodes[op[1]] in {ENDED, KILLED}
    return bool(op[0] != "blocked")


def choices(op: Op) -> tuple[Any, ...]:
    """Return the possible results of an operation whose result the state does not determine."""
    return (False, True) if op[0] == "clock" else (None,)


def apply(world: World, me: int, op: Op, choice: Any) -> tuple[World, Any]:
    """Perform one operation; return the new world and the result.

    Raises:
        Violation: the operation breaks an invariant.
    """
    kind = op[0]
    if kind == "load":
        return world, world.words[op[1]]
    if kind == "clock":
        return world, choice
    handler = _HANDLERS.get(kind)
    return (world, None) if handler is None else handler(world, me, *op[1:])


def kill(world: World, me: int) -> World:
    """Kill a process."""
    return _counted(_ended(world, me, KILLED), 3)


def end(world: World, me: int) -> World:
    """End a process normally; the kernel releases its locks."""
    return _ended(world, me, ENDED)


def _ended(world: World, me: int, how: int) -> World:
    return world._replace(
        locks=tuple(holders - {me} for holders in world.locks),
        held=tuple(hold for hold in world.held if hold[0] != me),
        mapped=tuple(each for each in world.mapped if each[0] != me),
        nodes=(*world.nodes[:me], how, *world.nodes[me + 1 :]),
    )


def _counted(world: World, what: int) -> World:
    counters = world.counters
    if counters is None:
        return world
    return world._replace(counters=(*counters[:what], counters[what] + 1, *counters[what + 1 :]))


def _set(world: World, word: int, value: int) -> World:
    # Faster than _replace, and called most often.
    words, locks, names, inodes, held, mapped, nodes, forked, counters = world
    words = (*words[:word], value % MODULUS, *words[word + 1 :])
    return World(words, locks, names, inodes, held, mapped, nodes, forked, counters)


def _store(world: World, _me: int, word: int, value: int) -> tuple[World, None]:
    if word == VERSION and value != world.words[VERSION] + 1:
        raise Violation(f"version {world.words[VERSION]} is followed by {value}")
    return _set(world, word, value), None


def _add(world: World, _me: int, word: int, delta: int) -> tuple[World, None]:
    if word == VERSION and delta != 1:
        raise Violation(f"version {world.words[VERSION]} moves by {delta}")
    return _set(world, word, world.words[word] + delta), None


def _fetch_add(world: World, _me: int, word: int, delta: int) -> tuple[World, int]:
    old = world.words[word]
    return _set(world, word, old + delta), old


def _fetch_or(world: World, _me: int, word: int, bits: int) -> tuple[World, int]:
    old = world.words[word]
    return _counted(_set(world, word, old | bits), 0), old


def _exchange(world: World, _me: int, word: int, expected: int, desired: int) -> tuple[World, bool]:
    same = world.words[word] == expected
    return (_set(world, word, desired) if same else world), same


def _lock(world: World, me: int, slot: int) -> tuple[World, bool]:
    if world.locks[slot]:
        return world, False
    return _with_lock(world, slot, frozenset([me])), True


def _locked(world: World, _me: int, slot: int) -> tuple[World, bool]:
    return world, bool(world.locks[slot])


def _unlock(world: World, me: int, slot: int) -> tuple[World, None]:
    return _with_lock(world, slot, world.locks[slot] - {me}), None


def _with_lock(world: World, slot: int, holders: frozenset[int]) -> World:
    return world._replace(locks=(*world.locks[:slot], holders, *world.locks[slot + 1 :]))


def _open(world: World, _me: int, index: int) -> tuple[World, tuple[int, int] | None]:
    inode = world.names[index]
    return world, None if inode is None else (inode, world.inodes[inode][1])


def _content(world: World, _me: int, inode: int) -> tuple[World, tuple[int, int]]:
    return world, world.inodes[inode]


def _unlink(world: World, _me: int, index: int) -> tuple[World, None]:
    return _with_name(world, index, None), None


def _create(world: World, _me: int, index: int) -> tuple[World, int]:
    inode = len(world.inodes)
    created = world._replace(inodes=(*world.inodes, (TORN, 0)))
    return _counted(_with_name(created, index, inode), 1), inode


def _with_name(world: World, index: int, inode: int | None) -> World:
    return world._replace(names=(*world.names[:index], inode, *world.names[index + 1 :]))


def _exchange_names(world: World, _me: int, index: int, other: int) -> tuple[World, None]:
    first, second = world.names[index], world.names[other]
    return _with_name(_with_name(world, index, second), other, first), None


def _named(world: World, _me: int, index: int) -> tuple[World, int | None]:
    return world, world.names[index]


def _map(world: World, me: int, inode: int) -> tuple[World, None]:
    return world._replace(mapped=tuple(sorted((*world.mapped, (me, inode))))), None


def _unmap(world: World, me: int, inode: int) -> tuple[World, None]:
    mapped = list(world.mapped)
    if (me, inode) not in mapped:
        raise Violation(f"inode {inode} is unmapped, but not mapped")
    mapped.remove((me, inode))
    return world._replace(mapped=tuple(mapped)), None


def _is_mapped(world: World, _me: int, inode: int) -> tuple[World, bool]:
    return world, any(inode == each for _, each in world.mapped)


def _fill(world: World, _me: int, inode: int, generation: int, version: int) -> tuple[World, None]:
    inodes = world.inodes
    world = world._replace(inodes=(*inodes[:inode], (version, generation), *inodes[inode + 1 :]))
    _check(world)
    return world, None


def _hold(world: World, me: int, inode: int, version: int) -> tuple[World, None]:
    world = world._replace(held=tuple(sorted((*world.held, (me, inode, version)))))
    _check(world)
    return world, None


def _release(world: World, me: int, inode: int, version: int) -> tuple[World, None]:
    held = list(world.held)
    held.remove((me, inode, version))
    return world._replace(held=tuple(held)), None


def _check(world: World) -> None:
    """Invariant 1: each inode still contains the version that is being read from it."""
    for _, inode, version in world.held:
        content = world.inodes[inode][0]
        if content != version:
            found = "a half-written version" if content == TORN else f"version {content}"
            raise Violation(f"torn: version {version} is held in inode {inode}, which contains {found}")


def _fork(world: World, me: int, child: int, node: int) -> tuple[World, str]:
    # The child closes the descriptors that it inherits: it holds no lock of its parent.
    shared = [(child, inode, version) for process, inode, version in world.held if process == me]
    nodes = (*world.nodes[:child], node, *world.nodes[child + 1 :])
    held = tuple(sorted([*world.held, *shared]))
    mapped = tuple(sorted([*world.mapped, *((child, inode) for process, inode in world.mapped if process == me)]))
    return world._replace(held=held, mapped=mapped, nodes=nodes, forked=True), "parent"


def _reset(world: World, _me: int) -> tuple[World, None]:
    return _counted(world, 2), None


def _violated(_world: World, _me: int, what: str) -> tuple[World, None]:
    raise Violation(what)


_HANDLERS: dict[str, Any] = {
    "store": _store,
    "add": _add,
    "fetch_add": _fetch_add,
    "or": _fetch_or,
    "exchange": _exchange,
    "lock": _lock,
    "locked": _locked,
    "unlock": _unlock,
    "open": _open,
    "content": _content,
    "header": _content,
    "unlink": _unlink,
    "exchange names": _exchange_names,
    "named": _named,
    "map": _map,
    "unmap": _unmap,
    "is mapped": _is_mapped,
    "create": _create,
    "fill": _fill,
    "hold": _hold,
    "release": _release,
    "fork": _fork,
    "reset": _reset,
    "violated": _violated,
}


def describe(op: Op, choice: Any) -> str:
    """Describe an operation in words."""
    kind, *rest = op
    if kind in {"load", "store", "add", "fetch_add", "or", "exchange"}:
        values = ", ".join(f"{value:#x}" if value >= 0 else f"-{-value:#x}" for value in rest[1:])
        return f"{kind} {word_name(rest[0])} {values}".rstrip()
    if kind == "clock":
        return "reads the clock: the grace period " + ("is over" if choice else "is not over")
    if kind == "fill":
        inode, _, version = rest
        return f"{'starts' if version == TORN else 'finishes'} to write into inode {inode}"
    if kind in {"open", "unlink", "create"}:
        return f"{kind} {_segment(rest[0])}"
    if kind == "exchange names":
        return f"exchanges {_segment(rest[0])} and {_segment(rest[1])}"
    return " ".join(str(part) for part in op)


def _segment(index: int) -> str:
    return f"data_{index}" if index < FIRST_SPARE else f"spare {index - FIRST_SPARE}"
