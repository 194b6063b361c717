"""The life cycle of a name in isolated mode: the shipped publisher over the names and locks of `model.lifecycle`.

The words are in the public state, which has the name of the reader table. Here they are still fields of the state
inode, to which its public state refers: each belongs to one incarnation. A process that opens the state segment when
the public state is gone finds no words.

The names from the fifth on are those of inodes that are not published yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model.lifecycle import GENERATION, HANDLERS, LOOK, VERSION, WRITE_LOCK, Process, World
from model.lifecycle_ports import ModelDirectory, ModelState, ModelWord, Reader, Writer
from model.world import Violation
from shmsync._core.isolated import EndableVersion, IsolatedPublisher, Label, can_continue
from shmsync._core.layout import CLOSED
from shmsync._core.lifecycle import READERS, STATE, StaleIncarnationError
from shmsync.errors import CapacityError

if TYPE_CHECKING:
    from model.process import Port

_DATA = 0
_NAMES = 4


class IsolatedWorld(World):
    """The world in isolated mode."""

    def state_of_public(self) -> int:
        """Return the state inode of the named public state; -1 if there is none."""
        public = self.names[READERS]
        return int(self.inodes[public][1]) if public >= 0 else -1

    def named_version(self, state: int) -> list[Any] | None:
        """Return the data inode that the data name leads to, if it is one of this incarnation."""
        inode = self.names[_DATA]
        return self.inodes[inode] if inode >= 0 and self.inodes[inode][1] == state else None

    def has_value(self, inode: int) -> bool:
        """Return whether a state inode belongs to an incarnation that can be read, whatever its version word says."""
        is_open = inode >= 0 and self.inodes[inode][VERSION] != CLOSED
        return super().has_value(inode) or (is_open and self.named_version(inode) is not None)

    def value(self) -> int:
        """Return the value that a new reader gets; 0 if there is none. It looks at the public state only."""
        state = self.state_of_public()
        if state < 0 or self.inodes[state][VERSION] == CLOSED:
            return 0
        data = self.named_version(state)
        return int(data[4]) if data else 0

    def check(self) -> None:
        """Check the invariants of each state."""
        super().check()
        if len(self.names) > _NAMES and max(self.names[:_NAMES]) < 0 and not self.outside:
            raise Violation("d: an unpublished inode is left behind, and no name says so")

    def _is_empty(self, _me: int, _process: Process, _: Any) -> bool:
        return max(self.names[:_NAMES]) < 0

    def _newest(self, _me: int, process: Process, fd: int, _: Any) -> tuple[int, int] | None:
        data = self.named_version(process.fds[fd])
        return (data[2], data[3]) if data else None

    def _create_data(self, _me: int, process: Process, fd: int, _: Any) -> int:
        self.inodes.append([0, process.fds[fd], 0, 0, 0])
        self.names.append(len(self.inodes) - 1)
        return self._opened(process, len(self.inodes) - 1)

    def _discard(self, _me: int, process: Process, fd: int, _: Any) -> None:
        self._forget_name(process.fds[fd])

    def _forget_name(self, inode: int) -> None:
        if inode in self.names[_NAMES:]:
            del self.names[self.names.index(inode, _NAMES)]

    def _unlink(self, me: int, process: Process, segment: int, chance: Any) -> None:
        # A remover died after it had unlinked the public state: its removal is finished.
        process.ended |= segment == STATE and not self.has_table(self._locked(me))
        super()._unlink(me, process, segment, chance)
        if segment == _DATA:
            self._unlink_unpublished(me, process, chance)

    def _unlink_unpublished(self, me: int, process: Process, _: Any) -> None:
        for inode in self.names[_NAMES:]:
            state = self.inodes[inode][1]
            is_live = self.names[STATE] == state and self.inodes[state][WRITE_LOCK] >= 0
            if is_live and self.inodes[state][WRITE_LOCK] != me and process.op != "force" and not process.window:
                raise Violation("a: a process removes what a live writer is about to publish")
        del self.names[_NAMES:]

    def _publish(self, me: int, process: Process, fd: int, _: Any) -> bool:
        inode = process.fds[fd]
        if inode not in self.names[_NAMES:]:
            if not self.outside:
                raise Violation("d: a writer has lost what it is about to publish")
            return False
        state = self.inodes[inode][1]
        if self._locked(me) != state or self.inodes[state][VERSION] == CLOSED:
            raise Violation("e: a writer publishes after a removal, or without the names lock")
        if self.names[STATE] != state:
            if not process.window:
                raise Violation("a: a process gives its inode the name of another incarnation's")
            self._note_removal(_DATA)
        previous = self.named_version(state)
        if previous and previous[3] >= self.inodes[inode][3]:
            raise Violation("f: a sequence number is used twice")
        self._forget_name(inode)
        self.names[_DATA] = inode
        return True

    def _begin_read(self, me: int, process: Process, fd: int | None, kind: str, _: Any) -> bool:
        process.op = kind
        process.expected, process.floor = (0, 0) if self.dirty else (self.published, self.floor)
        state = -1 if fd is None else process.fds[fd]
        other = self.state_of_public()
        orphan = state >= 0 and other != state and self.inodes[state][VERSION] != CLOSED
        superseded = orphan and kind == LOOK and super().has_value(other)
        process.hit = orphan and not superseded
        return superseded

    def _attach(self, _me: int, process: Process, _: Any) -> int | None:
        state = self.state_of_public()
        return self._opened(process, state) if state >= 0 and self.inodes[state][VERSION] != CLOSED else None

    def _open_newest(self, _me: int, process: Process, fd: int, _: Any) -> tuple[int, int] | str:
        """Return generation and value of what the data name leads to; "gone" or "stale" if it is not of this one."""
        state = process.fds[fd]
        data = self.named_version(state)
        if data:
            return data[2], data[4]
        return "gone" if self.state_of_public() in {state, -1} else "stale"

    HANDLERS = {  # noqa: RUF012 - constant
        **HANDLERS,
        "is empty": _is_empty,
        "newest": _newest,
        "create data": _create_data,
        "discard": _discard,
        "unlink": _unlink,
        "unlink unpublished": _unlink_unpublished,
        "publish": _publish,
        "begin read": _begin_read,
        "attach": _attach,
        "open newest": _open_newest,
    }


class NoWord:
    """A word of the state segment, which is not used in isolated mode."""

    value = 0

    def load(self) -> int:
        return self.value

    def store(self, value: int) -> None:
        self.value = value


class IsolatedState(ModelState):
    """The port StateSegment."""

    def __init__(self, port: Port, fd: int) -> None:
        super().__init__(port, fd)
        self.is_mapped: bool | None = None

    def is_initialized(self) -> bool:
        if self.is_mapped is None and super().is_initialized():
            self.use_public()
        return self.is_mapped is not None

    def publish_header(self) -> None:
        super().publish_header()
        self.use_public()

    def use_public(self) -> None:
        self.is_mapped = bool(self.port.do("has table", self.fd))
        words = (ModelWord(self.port, self.fd, VERSION), ModelWord(self.port, self.fd, GENERATION))
        self.version = EndableVersion(*(words if self.is_mapped else (NoWord(), NoWord())))  # type: ignore[assignment]


class IsolatedDirectory(ModelDirectory):
    """The port Directory."""

    def _state(self, fd: int | None) -> IsolatedState | None:
        return None if fd is None else IsolatedState(self.port, fd)

    def can_continue(self, state: ModelState) -> bool:
        assert isinstance(state, IsolatedState)
        if not state.is_mapped or not self.port.do("has table", state.fd):
            return False
        found = self.port.do("newest", state.fd)
        version = self.port.do("load", state.fd, VERSION)
        generation = self.port.do("load", state.fd, GENERATION)
        return can_continue(found and Label(*found), version, generation)

    def unlink_staged(self, index: int) -> None:
        if index == _DATA:
            self.port.do("unlink unpublished")


class NextVersion:
    """The port Register."""

    def __init__(self, port: Port, state: ModelState) -> None:
        self.port = port
        self.state = state
        self.created: int | None = None

    def newest(self) -> Label | None:
        found = self.port.do("newest", self.state.fd)
        return found and Label(*found)

    def create(self, size: int) -> bool:
        self.discard()
        self.created = self.port.do("create data", self.state.fd)
        if self.port.do("reserve data", self.created) is False:
            self.discard()
            raise CapacityError
        return True

    def fill(self, label: Label, value: None) -> int:
        self.port.do("fill", self.created, *label)
        return 0

    def catch_up(self, _: int, newest: int) -> None:
        """Do nothing: see `isolated.Register`."""

    def finish_update(self, _: int, generation: int, seq: int) -> int:
        return self.fill(Label(generation, seq), None)

    def publish(self) -> None:
        if self.port.do("publish", self.created) is False:
            raise StaleIncarnationError
        self.close()

    def discard(self) -> None:
        if self.created is not None:
            self.port.do("discard", self.created)
            self.close()

    def close(self) -> None:
        created, self.created = self.created, None
        self.port.do("close", created)


class IsolatedWriter(Writer):
    """What the shipped Writer does around the life cycle, in isolated mode."""

    directory = IsolatedDirectory

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self.next: NextVersion | None = None
        self.isolated: IsolatedPublisher[None] | None = None

    def publish(self) -> None:
        state = self.hold.acquire()
        if state is not self.state:
            self.forget()
            self.next = NextVersion(self.port, state)
            self.hold.unlink_staged(_DATA)
            words = (ModelWord(self.port, state.fd, VERSION), ModelWord(self.port, state.fd, GENERATION))
            publisher: IsolatedPublisher[None] = IsolatedPublisher(*words, self.next, self.hold, lambda: None)
            publisher.settle()
            self.state, self.isolated = state, publisher
        assert self.isolated is not None
        self.isolated.commit(self.isolated.prepare(0, 1.0), None)
        self.hold.published()
        self.port.do("published", state.fd)

    def forget(self) -> None:
        following, self.next, self.state, self.isolated = self.next, None, None, None
        if following is not None:
            following.discard()


class IsolatedReader(Reader):
    """A reader in isolated mode: see `Reader` and `IsolatedAttachment` of the shipped code."""

    def __init__(self, port: Port) -> None:
        super().__init__(port)
        self.cached: tuple[int, int] | None = None  # generation and value

    def detach(self) -> None:
        self.cached = None
        super().detach()

    def read(self, kind: str) -> None:
        if self.port.do("begin read", self.state, kind):
            self.detach()
        closed = False
        while True:
            if self.state is None and (state := self.port.do("attach")) is not None:
                self.state = state
            if self.state is None:
                self.port.do("finish read", 0, closed)
                return
            if self.cached is not None and self.port.do("load", self.state, GENERATION) == self.cached[0]:
                self.port.do("finish read", self.cached[1], False)  # noqa: FBT003
                return
            if self.port.do("load", self.state, VERSION) == CLOSED:
                closed = True
                self.detach()
            elif (found := self.port.do("open newest", self.state)) == "stale":
                del found
                self.detach()
            else:
                if found != "gone":
                    self.cached = found
                self.port.do("finish read", 0 if found == "gone" else found[1], False)  # noqa: FBT003
                return
