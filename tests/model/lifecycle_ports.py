"""The processes of the life cycle's model: the shipped code over the ports of `model.lifecycle`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.lifecycle import GENERATION, STOP, VERSION
from shmsync._core.lifecycle import NameOwner, StaleIncarnationError, force_unlink
from shmsync._core.protocol import Publisher
from shmsync.errors import CapacityError, WriteLockConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.process import Bodies, Port
    from shmsync._core.ports import Loads


class ModelWord:
    """A word of a state segment."""

    def __init__(self, port: Port, fd: int, word: int) -> None:
        self.port = port
        self.fd = fd
        self.word = word

    def load(self) -> int:
        return self.port.do("load", self.fd, self.word) or 0

    def store(self, value: int) -> None:
        self.port.do("store", self.fd, self.word, value)

    def compare_exchange(self, expected: int, desired: int) -> bool:
        return bool(self.port.do("exchange", self.fd, expected, desired))


class ModelState:
    """The port StateSegment."""

    def __init__(self, port: Port, fd: int) -> None:
        self.port = port
        self.fd = fd
        self.version = ModelWord(port, fd, VERSION)

    def is_named(self) -> bool:
        return bool(self.port.do("is named", self.fd))

    def is_initialized(self) -> bool:
        return bool(self.port.do("is ready", self.fd))

    def try_lock_writer(self) -> bool:
        return bool(self.port.do("lock", self.fd))

    def unlock_writer(self) -> None:
        self.port.do("unlock", self.fd)

    def lock_names(self) -> None:
        self.port.do("lock names", self.fd)

    def unlock_names(self) -> None:
        self.port.do("unlock names", self.fd)

    def reserve(self) -> None:
        if self.port.do("reserve", self.fd) is False:
            raise CapacityError

    def publish_header(self) -> None:
        self.port.do("publish header", self.fd)

    def wake_readers(self) -> None:
        pass

    def close(self) -> None:
        self.port.do("close", self.fd)


class ModelDirectory:
    """The port Directory."""

    def __init__(self, port: Port) -> None:
        self.port = port

    def is_empty(self) -> bool:
        return bool(self.port.do("is empty"))

    def _state(self, fd: int | None) -> ModelState | None:
        return None if fd is None else ModelState(self.port, fd)

    def open_state(self) -> ModelState | None:
        return self._state(self.port.do("open"))

    def create_state(self) -> ModelState | None:
        return self._state(self.port.do("create state"))

    def can_continue(self, state: ModelState) -> bool:
        return bool(self.port.do("has table", state.fd))

    def create_table(self, state: ModelState) -> bool:
        created = self.port.do("create table", state.fd)
        if created is None:
            raise CapacityError
        return bool(created)

    def unlink(self, segment: int) -> None:
        self.port.do("unlink", segment)

    def unlink_staged(self, index: int) -> None:
        pass  # not modelled: nothing but the memory depends on it

    def conflict(self, state: ModelState) -> WriteLockConflictError:
        return WriteLockConflictError()


class ModelSegments:
    """The port Segments, over the names of the life cycle."""

    def __init__(self, port: Port, hold: NameOwner[ModelState], state: ModelState) -> None:
        self.port = port
        self.hold = hold
        self.fd = state.fd
        self.mapped: list[int | None] = [None, None]
        self.opened = [False, False]

    def is_reusable(self, index: int, generation: int, size: int) -> bool:
        if not self.opened[index]:
            self.opened[index] = True
            self.mapped[index] = self.port.do("adopt", self.fd, index, generation)
        mapped = self.mapped[index]
        return mapped is not None and bool(self.port.do("reusable", mapped, index))

    def replacement_cost(self, size: int) -> float:
        return 0.0

    def replace(self, index: int, generation: int, size: int) -> None:
        self.opened[index] = True
        try:
            self.hold.replace(lambda check: self.create(index, check))
        except CapacityError:
            if not self.port.do("old is enough"):
                raise
            self.forget(index)
            self.hold.unlink_data(index)
            self.hold.replace(lambda check: self.create(index, check))

    def create(self, index: int, check: Callable[[], None]) -> bool:
        created = self.port.do("create data", self.fd)
        if self.port.do("reserve data", created) is False:
            self.port.do("close", created)
            raise CapacityError
        try:
            check()
        except StaleIncarnationError:
            self.port.do("close", created)
            raise
        self.forget(index)
        self.port.do("rename data", created, index)
        self.mapped[index] = created
        return True

    def forget(self, index: int) -> None:
        mapped, self.mapped[index] = self.mapped[index], None
        if mapped is not None:
            self.port.do("close", mapped)

    def write(self, index: int, generation: int, seq: int, value: None) -> int:
        self.port.do("fill", self.mapped[index], generation, seq)
        return 0


class Zero:
    """A word of the reader table: no reader pins, retains or seals anything."""

    def load(self) -> int:
        return 0

    load_relaxed = load


class NoReaders:
    """The port Table, without readers."""

    max_readers = 0
    high_water = Zero()
    sealed = (Zero(), Zero())

    def bind_scan(self, _count: int) -> tuple[Loads, tuple[Loads, Loads]]:
        return list, (list, list)


class Writer:
    """What the shipped Writer does around the life cycle."""

    directory = ModelDirectory

    def __init__(self, port: Port) -> None:
        self.port = port
        self.hold = NameOwner(self.directory(port))
        self.state: ModelState | None = None
        self.segments: ModelSegments | None = None
        self.publisher: Publisher[None] | None = None

    def write(self) -> None:
        while True:
            try:
                self.publish()
            except StaleIncarnationError:
                continue
            except WriteLockConflictError:
                self.forget()
                self.port.do("await lock")
                continue
            except CapacityError:
                self.clean_up()
            return

    def publish(self) -> None:
        state = self.hold.acquire()
        if state is not self.state:
            self.forget()
            self.state = state
            self.segments = ModelSegments(self.port, self.hold, state)
            generations = (ModelWord(self.port, state.fd, GENERATION), ModelWord(self.port, state.fd, GENERATION + 1))
            self.publisher = Publisher(state.version, generations, NoReaders(), self.segments, None, 1.0)  # type: ignore[arg-type]
        assert self.publisher is not None
        self.publisher.commit(self.publisher.prepare(0, 1.0), None)
        self.hold.published()
        self.port.do("published", state.fd)

    def clean_up(self) -> None:
        """Leave nothing behind of an incarnation without a value."""
        state = self.hold.state
        if state is not self.state or state is None or state.version.load() == 0:
            self.forget()
            self.hold.abort()

    def forget(self) -> None:
        segments, self.segments, self.state, self.publisher = self.segments, None, None, None
        if segments is not None:
            segments.forget(0)
            segments.forget(1)

    def unlink(self) -> None:
        self.forget()
        while True:
            try:
                self.hold.unlink()
            except WriteLockConflictError:
                self.port.do("await lock")
            else:
                return

    def close(self) -> None:
        self.forget()
        self.hold.abort()

    def rm(self) -> None:
        self.unlink()
        self.hold.release()

    def force(self) -> None:
        force_unlink(self.directory(self.port))


def program(ops: str, kind: type[Writer]) -> Callable[[Port], Bodies]:
    """Return the spec of a process that writes, closes, unlinks or removes, one operation after the other."""

    def spec(port: Port) -> Bodies:
        writer = kind(port)

        def body() -> None:
            steps = ops.split()
            for step in range(len(steps)):  # a local variable, so that two equal operations are two states
                port.do("begin", steps[step])
                getattr(writer, steps[step])()

        return [body]

    return spec


class Reader:
    """A reader, as far as the life cycle concerns it: see `Reader` and `Attachment` of the shipped code."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.state: int | None = None
        self.maps: list[tuple[int, int] | None] = [None, None]  # descriptor and generation

    def detach(self) -> None:
        for index in (0, 1):
            self.unmap(index)
        state, self.state = self.state, None
        if state is not None:
            self.port.do("close", state)

    def unmap(self, index: int) -> None:
        mapped, self.maps[index] = self.maps[index], None
        if mapped is not None:
            self.port.do("close", mapped[0])

    def read(self, kind: str) -> None:
        if self.port.do("begin read", self.state, kind):
            self.detach()
        closed = False
        while True:
            if self.state is None and not self.attach():
                self.port.do("finish read", 0, closed)
                return
            assert self.state is not None
            found, number = self.port.do("current", self.state, *self.maps) or ("closed", 0)
            if found == "closed":
                closed = True
                self.detach()
            elif found == "value" or not self.map(number):
                self.port.do("finish read", number if found == "value" else 0, False)  # noqa: FBT003
                return

    def attach(self) -> bool:
        while True:
            state = self.port.do("attach")
            if state is None:
                return False
            if self.port.do("has table", state):
                self.state = state
                return True
            current = self.port.do("is named", state)
            self.port.do("close", state)
            if current:
                return False

    def map(self, seq: int) -> bool:
        """Map the data segment of a version; return False if another program has removed it."""
        index = (seq + 1) & 1
        self.unmap(index)
        found = self.port.do("map", self.state, seq)
        if found == "stale":
            self.detach()
        elif isinstance(found, tuple):
            self.maps[index] = found
        return bool(found != "gone")


def reads(kind: type[Reader]) -> Callable[[Port], Bodies]:
    """Return the spec of a reader that reads as often as it is told to."""

    def spec(port: Port) -> Bodies:
        reader = kind(port)

        def body() -> None:
            while (order := port.do("idle")) != STOP:
                reader.read(order)
                del order  # so that it is not a part of where the process stands

        return [body]

    return spec
