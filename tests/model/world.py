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

Op = tuple[Any, ...]


class Violation(Exception):  # noqa: N818 - a finding, not an error
    """An invariant does not hold."""


class World(NamedTuple):
    """The shared state.

    Attributes:
        words: version, generations, high-water mark, then pin word and hazard words of each slot.
        locks: by slot, the processes that share its lock.
        names: by data segment, the inode that its name refers to; None between two inodes.
        inodes: by number, the version in it and the generation in its header.
        held: (process, inode, version) for each value being read.
        nodes: by process, its node, or NOT_STARTED, ENDED or KILLED.
        forked: whether a process has forked.
        counters: evictions, replacements, resets, deaths; None if they are not counted.
    """

    words: tuple[int, ...]
    locks: tuple[frozenset[int], ...]
    names: tuple[int | None, int | None]
    inodes: tuple[tuple[int, int], ...]
    held: tuple[tuple[int, int, int], ...]
    nodes: tuple[int, ...]
    forked: bool
    counters: tuple[int, ...] | None


def first_world(slots: int, nodes: tuple[int, ...], *, counted: bool) -> World:
    """Return a world in which nothing is published."""
    words = (0,) * (FIRST_SLOT + WORDS_PER_SLOT * slots)
    no_locks = (frozenset[int](),) * slots
    counters = (0, 0, 0, 0) if counted else None
    return World(words, no_locks, (None, None), inodes=(), held=(), nodes=nodes, forked=False, counters=counters)


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
        nodes=(*world.nodes[:me], how, *world.nodes[me + 1 :]),
    )


def _counted(world: World, what: int) -> World:
    counters = world.counters
    if counters is None:
        return world
    return world._replace(counters=(*counters[:what], counters[what] + 1, *counters[what + 1 :]))


def _set(world: World, word: int, value: int) -> World:
    words, locks, names, inodes, held, nodes, forked, counters = world  # faster than _replace, and called most often
    words = (*words[:word], value % MODULUS, *words[word + 1 :])
    return World(words, locks, names, inodes, held, nodes, forked, counters)


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
    names = world.names
    return world._replace(names=(inode, names[1]) if index == 0 else (names[0], inode))


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
    return world._replace(held=held, nodes=nodes, forked=True), "parent"


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
        return f"{kind} data_{rest[0]}"
    return " ".join(str(part) for part in op)
