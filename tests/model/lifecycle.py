"""A world of names, inodes and locks, in which processes run the shipped `shmsync._core.lifecycle`.

It models what that module relies on: directory entries, inodes, the two locks, the shared words and the death of a
process at any step. It does not model pins, contents or time. Memory is sequentially consistent. Another program may
remove any segment, or rename the state segment, at any moment.

A violation is found by an invariant of each state, by a check inside a step, or by one more writer that runs alone from
every state in which the other writers and removers have finished or died:

    a  a process unlinks a segment of a live incarnation that it does not own, except by force
    b  a write returns from an incarnation that the name does not lead to
    c  a published value cannot be read, or a removed one can
    d  the next writer is blocked, or leaves a segment behind
    e  a writer changes names after a forced removal
    f  a version word decreases, or CLOSED is overwritten
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.world import Op, Violation
from shmsync._core.layout import CLOSED
from shmsync._core.lifecycle import READERS, STATE

if TYPE_CHECKING:
    from collections.abc import Hashable

FREE, CHILD = -1, -2
"""Holders of a lock: none; a forked child that inherited the descriptor."""
READ, LOOK, STOP = "read", "look", "stop"
# Fields of a state inode. A table is [READERS, incarnation], a data inode [0, incarnation, generation, seq, value].
VERSION, GENERATION, READY, WRITE_LOCK, NAMES_LOCK, RENAMED = 1, 2, 4, 5, 6, 7

Frozen = tuple[Any, ...]


class Process:
    """What the checks know about a process.

    Attributes:
        op: its current operation, such as "write".
        fds: by descriptor, the inode; -1 if it is closed.
        hit: whether another program has removed a segment since this process compared the name.
        window: whether it has removed the state segment since, while this process changes names.
        ended: whether this process has set CLOSED under the names lock that it holds.
        expected: the value that the current read must find, or a newer one.
        floor: values up to this one were removed on purpose before the current read began.
        value: the value written, or last read.
    """

    __slots__ = ("ended", "expected", "fds", "floor", "hit", "op", "value", "window")

    def __init__(self, fields: tuple[Any, ...]) -> None:
        self.op, self.fds, self.hit, self.window, self.ended, self.expected, self.floor, self.value = fields
        self.fds = list(self.fds)

    def freeze(self, number: dict[int, int]) -> tuple[Any, ...]:
        """Return it as a value."""
        fds = tuple(number[inode] for inode in self.fds)
        return (self.op, fds, self.hit, self.window, self.ended, self.expected, self.floor, self.value)


_NEW_STATE = (0, 0, 0, False, FREE, FREE, False)
NEW_PROCESS: tuple[Any, ...] = ("", (), False, False, False, 0, 0, 0)


class World:
    """A mutable copy of a state: names, inodes, processes, and the variables of the checks.

    Attributes:
        names: by number of the segment, the inode; -1 if the name does not exist.
        inodes: see above.
        newest: the last value that a writer has filled in.
        published: the newest value whose write has returned.
        floor: values up to this one were removed on purpose.
        dirty: whether another program has removed a segment, and no write has healed the name.
        outside: 1 if state or table were ever removed by another program, 2 if data.
        failures: how many more steps may fail for lack of memory.
    """

    HANDLERS: dict[str, Any]

    def __init__(self, frozen: Frozen) -> None:
        names, inodes, processes, checks = frozen
        self.names: list[int] = list(names)
        self.inodes = [list(inode) for inode in inodes]
        self.processes = [Process(fields) for fields in processes]
        self.newest, self.published, self.floor, self.dirty, self.outside, self.failures = checks

    def freeze(self) -> Frozen:
        """Drop unreachable inodes, and number the others in the order in which they are reached, so that equal
        states meet.
        """
        number = {-1: -1}
        order: list[int] = []

        def reach(inode: int) -> None:
            if inode not in number:
                number[inode] = len(order)
                order.append(inode)

        for inode in self.names:
            reach(inode)
        for process in self.processes:
            for inode in process.fds:
                reach(inode)
        for inode in order:  # grows: incarnations
            if self.inodes[inode][0] != STATE:
                reach(self.inodes[inode][1])
        inodes = tuple(self._renumbered(self.inodes[inode], number) for inode in order)
        checks = (self.newest, self.published, self.floor, self.dirty, self.outside, self.failures)
        processes = tuple(process.freeze(number) for process in self.processes)
        return tuple(number[inode] for inode in self.names), inodes, processes, checks

    @staticmethod
    def _renumbered(inode: list[Any], number: dict[int, int]) -> tuple[Any, ...]:
        return tuple(inode) if inode[0] == STATE else (inode[0], number[inode[1]], *inode[2:])

    # ----------------------------------------------------------------------------------------------------- predicates

    def has_value(self, inode: int) -> bool:
        """Return whether a state inode belongs to an incarnation that can be read."""
        return inode >= 0 and bool(self.inodes[inode][READY]) and self.inodes[inode][VERSION] not in {0, CLOSED}

    def has_table(self, state: int) -> bool:
        """Return whether the reader table of an incarnation is under its name."""
        table = self.names[READERS]
        return table >= 0 and bool(self.inodes[table][1] == state)

    def is_data(self, inode: int, index: int, state: int, version: int) -> bool:
        """Return whether an inode contains a version of an incarnation."""
        found = inode >= 0 and self.inodes[inode][1:4]
        return bool(found == [state, self.inodes[state][GENERATION + index], version])

    def value(self) -> int:
        """Return the value that a new reader gets; 0 if there is none."""
        state = self.names[STATE]
        if not self.has_value(state) or not self.has_table(state):
            return 0
        version = self.inodes[state][VERSION]
        index = (version + 1) & 1
        data = self.names[index]
        return int(self.inodes[data][4]) if self.is_data(data, index, state, version) else 0

    def is_enabled(self, me: int, op: Op) -> bool:
        """Return whether an operation can take place now."""
        if op[0] == "lock names":
            return self._state_of(me, op[1])[NAMES_LOCK] in {FREE, me}
        if op[0] == "await lock":
            state = self.names[STATE]
            return state < 0 or self.inodes[state][WRITE_LOCK] == FREE
        return True

    def choices(self, op: Op) -> tuple[Any, ...]:
        """Return the results that only chance decides."""
        if op[0] in {"reserve", "reserve data", "create table"} and self.failures:
            return (True, False)
        return (True, False) if op[0] in {"reusable", "old is enough"} else (True,)

    # ----------------------------------------------------------------------------------------------- what others do

    def remove(self, segment: int, *, rename: bool = False) -> None:
        """Let another program remove a name, or rename the state segment."""
        if segment == STATE:
            self.inodes[self.names[segment]][RENAMED] = rename
        self.names[segment] = -1
        self._note_removal(segment)

    def _note_removal(self, segment: int) -> None:
        self.dirty = True
        self.outside = max(self.outside, 1 if segment in {READERS, STATE} else 2)
        for me, process in enumerate(self.processes):
            process.hit = True
            process.window |= segment == STATE and self._locked(me) >= 0

    def kill(self, me: int) -> None:
        """End a process; the kernel releases its locks."""
        for inode in self.inodes:
            if inode[0] == STATE:
                inode[WRITE_LOCK:RENAMED] = [FREE if lock == me else lock for lock in inode[WRITE_LOCK:RENAMED]]
        self.processes[me] = Process(NEW_PROCESS)

    def _locked(self, me: int) -> int:
        """Return the state inode whose names lock a process holds; -1 if there is none."""
        for number, inode in enumerate(self.inodes):
            if inode[0] == STATE and inode[NAMES_LOCK] == me:
                return number
        return -1

    # --------------------------------------------------------------------------------------------------- operations

    def apply(self, me: int, op: Op, chance: Any) -> Hashable:
        """Do one operation of a process; return its result."""
        self.failures -= not chance and op[0] not in {"reusable", "old is enough"}
        result: Hashable = self.HANDLERS[op[0]](self, me, self.processes[me], *op[1:], chance)
        return result

    def check(self) -> None:
        """Check the invariant of each state."""
        if self.published and not self.dirty and self.value() < self.published:
            raise Violation("c: a new reader does not find the published value")

    def _state_of(self, me: int, fd: int) -> list[Any]:
        return self.inodes[self.processes[me].fds[fd]]

    def _opened(self, process: Process, inode: int) -> int:
        for fd, open_inode in enumerate(process.fds):
            if open_inode < 0:
                process.fds[fd] = inode
                return fd
        process.fds.append(inode)
        return len(process.fds) - 1

    def _create(self, segment: int, *fields: Any) -> int:
        self.names[segment] = len(self.inodes)
        self.inodes.append([max(segment, 1) if segment >= READERS else 0, *fields])
        return self.names[segment]

    def _begin(self, _me: int, process: Process, op: str, _: Any) -> None:
        process.op = op
        process.hit = process.window = False

    def _published(self, _me: int, process: Process, fd: int, _: Any) -> None:
        if not process.hit:
            if self.names[STATE] != process.fds[fd]:
                raise Violation("b: a write returns from an incarnation that the name does not lead to")
            self.published, self.dirty = process.value, False

    def _is_empty(self, _me: int, _process: Process, _: Any) -> bool:
        return max(self.names) < 0

    def _open(self, _me: int, process: Process, _: Any) -> int | None:
        inode = self.names[STATE]
        return None if inode < 0 else self._opened(process, inode)

    def _create_state(self, _me: int, process: Process, _: Any) -> int | None:
        if self.names[STATE] >= 0:
            return None
        return self._opened(process, self._create(STATE, *_NEW_STATE))

    def _close(self, me: int, process: Process, fd: int, _: Any) -> None:
        inode = self.inodes[process.fds[fd]]
        if inode[0] == STATE:  # a child that was forked without hooks may have inherited the descriptor
            inode[WRITE_LOCK:RENAMED] = [CHILD if lock == me else lock for lock in inode[WRITE_LOCK:RENAMED]]
        process.fds[fd] = -1
        while process.fds and process.fds[-1] < 0:
            process.fds.pop()

    def _is_named(self, me: int, process: Process, fd: int, _: Any) -> bool:
        named = bool(self.names[STATE] == process.fds[fd])
        if named and process.op not in {READ, LOOK} and self._locked(me) < 0:
            process.hit = False  # this is the look with which a write begins
        return named

    def _is_ready(self, me: int, _process: Process, fd: int, _: Any) -> bool:
        return bool(self._state_of(me, fd)[READY])

    def _lock(self, me: int, _process: Process, fd: int, _: Any) -> bool:
        state = self._state_of(me, fd)
        if state[WRITE_LOCK] not in {FREE, me}:
            return False
        state[WRITE_LOCK] = me
        return True

    def _lock_names(self, me: int, process: Process, fd: int, _: Any) -> None:
        self._state_of(me, fd)[NAMES_LOCK] = me
        process.window = process.ended = False

    def _unlock(self, me: int, _process: Process, fd: int, _: Any, lock: int = WRITE_LOCK) -> None:
        state = self._state_of(me, fd)
        if state[lock] == me:
            state[lock] = FREE

    def _unlock_names(self, me: int, process: Process, fd: int, _: Any) -> None:
        self._unlock(me, process, fd, _, NAMES_LOCK)
        process.window = False

    def _reserve(self, _me: int, _process: Process, _fd: int, chance: Any) -> bool:
        return bool(chance)

    def _publish_header(self, me: int, _process: Process, fd: int, _: Any) -> None:
        self._state_of(me, fd)[READY] = True

    def _table(self, _me: int, process: Process, fd: int, _: Any) -> bool:
        return self.has_table(process.fds[fd])

    def _create_table(self, _me: int, process: Process, fd: int, chance: Any) -> bool | None:
        if not chance:
            return None
        if self.names[READERS] >= 0:
            return False
        self._create(READERS, process.fds[fd])
        return True

    def _unlink(self, me: int, process: Process, segment: int, _: Any) -> None:
        inode, current = self.names[segment], self.names[STATE]
        if process.op == "write" and not process.ended and self.inodes[self._locked(me)][VERSION] == CLOSED:
            raise Violation("e: a writer changes names after a forced removal")
        if inode >= 0 and current in {inode, self.inodes[inode][1]}:
            live = self.inodes[current][WRITE_LOCK] >= 0 or self.has_value(current)
            may = self.inodes[current][WRITE_LOCK] == me or (process.op == "force" and self._locked(me) == current)
            if not may and (live or process.window):
                if not process.window:
                    raise Violation("a: a process unlinks a segment of an incarnation that it does not own")
                self._note_removal(segment)  # the window: as good as one more removal from outside
        self.names[segment] = -1

    # The words.

    def _load(self, me: int, _process: Process, fd: int, word: int, _: Any) -> int:
        return int(self._state_of(me, fd)[word])

    def _store(self, me: int, process: Process, fd: int, word: int, value: int, _: Any) -> None:
        state = self._state_of(me, fd)
        if word == VERSION:
            self._check_version(state, value)
            if value == CLOSED:
                self._note_closed(me, process, process.fds[fd])
        state[word] = value

    def _exchange(self, me: int, _process: Process, fd: int, expected: int, desired: int, _: Any) -> bool:
        state = self._state_of(me, fd)
        if state[VERSION] != expected:
            return False
        self._check_version(state, desired)
        state[VERSION] = desired
        return True

    def _check_version(self, state: list[Any], value: int) -> None:
        if value != CLOSED and state[VERSION] >= value:
            raise Violation("f: CLOSED is overwritten, or the version word decreases")

    def _note_closed(self, me: int, process: Process, state: int) -> None:
        process.ended = self._locked(me) == state
        if not self.has_value(state):
            return
        if self.names[STATE] == state:
            self.published, self.floor = 0, self.newest
            for other in self.processes:
                other.hit = True
        elif process.op != "write":
            self.outside = 2  # on purpose, but of a name that was removed before

    # The data segments.

    def _adopt(self, _me: int, process: Process, fd: int, index: int, generation: int, _: Any) -> int | None:
        inode = self.names[index]
        if inode < 0 or self.inodes[inode][1:3] != [process.fds[fd], generation]:
            return None
        return self._opened(process, inode)

    def _reusable(self, _me: int, process: Process, fd: int, index: int, chance: Any) -> bool:
        return bool(chance) and self.names[index] == process.fds[fd]

    def _create_data(self, _me: int, process: Process, fd: int, _: Any) -> int:
        """Prepare an inode under another name, which no process but its creator looks at."""
        self.inodes.append([0, process.fds[fd], 0, 0, 0])
        return self._opened(process, len(self.inodes) - 1)

    def _rename_data(self, me: int, process: Process, fd: int, index: int, _: Any) -> None:
        self._unlink(me, process, index, _)  # what has the name is replaced
        current = self.names[STATE]
        if current >= 0 and current != self.inodes[process.fds[fd]][1]:
            if not process.window:
                raise Violation("a: a process gives its segment the name of another incarnation's")
            self._note_removal(index)
        self.names[index] = process.fds[fd]

    def _old_is_enough(self, _me: int, _process: Process, chance: Any) -> bool:
        return bool(chance)

    def _fill(self, _me: int, process: Process, fd: int, generation: int, seq: int, _: Any) -> None:
        self.newest = process.value = self.newest + 1
        self.inodes[process.fds[fd]][2:] = generation, seq, self.newest

    # The readers.

    def _begin_read(self, me: int, process: Process, fd: int | None, kind: str, _: Any) -> bool:
        """Return whether to leave the attachment for another incarnation; only a look compares the name."""
        process.op = kind
        process.expected, process.floor = (0, 0) if self.dirty else (self.published, self.floor)
        state = -1 if fd is None else process.fds[fd]
        other = self.names[STATE]
        orphan = state >= 0 and other != state and self.inodes[state][VERSION] != CLOSED
        superseded = orphan and kind == LOOK and self.has_value(other)
        process.hit = orphan and not superseded  # it stays with what it has: nothing is promised
        return superseded

    def _attach(self, _me: int, process: Process, _: Any) -> int | None:
        state = self.names[STATE]
        return self._opened(process, state) if self.has_value(state) else None

    def _current(self, _me: int, process: Process, fd: int, *maps: Any) -> tuple[str, int]:
        """Look at the version word: return ("value", it), ("map", sequence number), or ("closed", 0)."""
        state = self.inodes[process.fds[fd]]
        seq = state[VERSION]
        index = (seq + 1) & 1
        if seq == CLOSED:
            return "closed", 0
        if maps[index] is None or maps[index][1] != state[GENERATION + index]:
            return "map", seq
        data = self.inodes[process.fds[maps[index][0]]]
        if data[3] != seq:
            raise Violation("c: a mapped segment does not contain the current version")
        return "value", data[4]

    def _map(self, _me: int, process: Process, fd: int, seq: int, _: Any) -> tuple[int, int] | str:
        """Map the data segment of a version; "again", "gone" or "stale" if that is not possible."""
        state = process.fds[fd]
        index = (seq + 1) & 1
        if self.inodes[state][VERSION] != seq:
            return "again"
        if self.is_data(self.names[index], index, state, seq):
            return self._opened(process, self.names[index]), self.inodes[state][GENERATION + index]
        return "gone" if self.names[STATE] in {state, -1} else "stale"

    def _finish_read(self, _me: int, process: Process, value: int, closed: bool, _: Any) -> None:  # noqa: FBT001
        if not process.hit:
            if value < process.expected:
                raise Violation("c: a read does not find the published value")
            if 0 < value <= process.floor:
                raise Violation("c: an attached reader gets a value that was removed on purpose")
        if not value and closed and process.value > self.floor and self.outside < 2:
            raise Violation("c: an attached reader is sent away before there is a newer value")
        process.value = value

    def _violated(self, _me: int, _process: Process, what: str, _: Any) -> None:
        raise Violation(what)


HANDLERS: dict[str, Any] = {
    "begin": World._begin,
    "published": World._published,
    "is empty": World._is_empty,
    "open": World._open,
    "create state": World._create_state,
    "close": World._close,
    "is named": World._is_named,
    "is ready": World._is_ready,
    "lock": World._lock,
    "unlock": World._unlock,
    "lock names": World._lock_names,
    "unlock names": World._unlock_names,
    "await lock": lambda *_: None,
    "reserve": World._reserve,
    "publish header": World._publish_header,
    "has table": World._table,
    "create table": World._create_table,
    "unlink": World._unlink,
    "load": World._load,
    "store": World._store,
    "exchange": World._exchange,
    "adopt": World._adopt,
    "reusable": World._reusable,
    "create data": World._create_data,
    "rename data": World._rename_data,
    "old is enough": World._old_is_enough,
    "reserve data": World._reserve,
    "fill": World._fill,
    "begin read": World._begin_read,
    "attach": World._attach,
    "map": World._map,
    "current": World._current,
    "finish read": World._finish_read,
    "violated": World._violated,
}
World.HANDLERS = HANDLERS
