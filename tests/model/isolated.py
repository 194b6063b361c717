"""A world with one data name, in which processes run the shipped code of isolated mode.

Writers run `shmsync._core.isolated`, one after the other: the next one begins when its predecessor has died. Readers
run `shmsync._session.isolated_attachment`. Memory is sequentially consistent; rename and open are atomic. How the names
are locked and removed is the subject of `model.lifecycle`.

A payload is two words, each with the number of the attempt that wrote it, so that a half-filled payload shows. A
violation is a returned version that is incomplete, was never published, or is older than the newest one at the start of
the call; "nothing published" although something was; an inode that changes while a reader holds it; a sequence number
that is used twice; a sleeper that misses the newest version.
"""

from __future__ import annotations

import errno
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

from model.process import DONE, NAMES, Automaton
from model.world import Violation
from shmsync import codecs
from shmsync._core.isolated import IsolatedPublisher, Label
from shmsync._core.layout import CLOSED, DATA_HEADER, pack_data_header
from shmsync._core.lifecycle import StaleIncarnationError
from shmsync._core.slots import NoSlot
from shmsync._session import isolated_attachment
from shmsync._session.attachment import ReaderCounters
from shmsync.errors import DataReadError, UninitializedStateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from model.process import Bodies, Port
    from model.world import Op
    from shmsync._core.retention import ViewTracker

VERSION, GENERATION = 0, 1
_INCARNATION = 1
_MSGPACK = 0
_ENDED = -1
_NO_INODE = -1


class Inode(NamedTuple):
    """A data inode; the generation is 0 while its header is not complete."""

    generation: int = 0
    seq: int = 0
    first: int = 0
    second: int = 0


class State(NamedTuple):
    """The state of a search.

    Attributes:
        words: version and generation.
        named: the inode that the data name leads to.
        inodes: all inodes.
        attempts: how many inodes were filled or begun.
        published: the attempts that were published, in order.
        floors: by process, how many versions were published when its current call began.
        held: by process, the inode that it holds, and the attempt in it.
        asleep, woken: processes that sleep, or were woken and have not run since.
        nodes: by process.
        deaths: how many writers may still die.
    """

    words: tuple[int, int]
    named: int
    inodes: tuple[Inode, ...]
    attempts: int
    published: tuple[int, ...]
    floors: tuple[int, ...]
    held: tuple[tuple[int, int] | None, ...]
    asleep: frozenset[int]
    woken: frozenset[int]
    nodes: tuple[int, ...]
    deaths: int


class Word:
    """A shared word."""

    def __init__(self, port: Port, word: int) -> None:
        self.port = port
        self.word = word

    def load(self) -> int:
        return self.port.do("load", self.word) or 0

    def store(self, value: int) -> None:
        self.port.do("store", self.word, value)


class Register:
    """The port Register."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.inode = _NO_INODE

    def newest(self) -> Label | None:
        found = self.port.do("open")
        return None if found is None else Label(*found[1:])

    def create(self, size: int) -> bool:
        self.inode = self.port.do("create")
        return True

    def fill(self, label: Label, value: int) -> int:
        for part in ("first", "second", "header"):
            self.port.do("fill", self.inode, part, *label)
        return value

    def catch_up(self, _: int, newest: int) -> None:
        for part in ("first", "second"):
            self.port.do("fill", self.inode, part, 0, newest)

    def finish_update(self, _: int, generation: int, seq: int) -> int:
        return self.fill(Label(generation, seq), 0)

    def publish(self) -> None:
        self.port.do("rename", self.inode)


class Reusing(Register):
    """Wrong: writes to the inode that has the data name, if there is one."""

    def create(self, size: int) -> bool:
        self.inode = self.port.do("create", True)  # noqa: FBT003
        return True


class UnlinkingFirst(Register):
    """Wrong: for a moment, the data name leads to nothing."""

    def publish(self) -> None:
        self.port.do("unlink")
        super().publish()


class HeaderFirst(Register):
    """Wrong: the header is complete before the payload, and the name leads to it."""

    def fill(self, label: Label, value: int) -> int:
        self.port.do("fill", self.inode, "header", *label)
        self.port.do("rename", self.inode)
        return super().fill(label, value)


class Owner:
    """The hold on the name, which no other process wants."""

    def replace(self, create: Callable[[Callable[[], None]], bool]) -> None:
        create(lambda: None)


def writes(register: type[Register], *, updates: bool = False) -> Callable[[Port], Bodies]:
    """Return the spec of a writer that publishes until there are enough versions; with `updates`, by updates."""

    def spec(port: Port) -> Bodies:
        def body() -> None:
            port.do("take over")
            publisher: IsolatedPublisher[int] = IsolatedPublisher(
                Word(port, VERSION),
                Word(port, GENERATION),
                register(port),
                Owner(),  # type: ignore[arg-type]
                lambda: port.do("wake"),
            )
            try:
                publisher.settle()
            except StaleIncarnationError:  # a predecessor died in its first publish, before the rename
                port.do("new incarnation")
                publisher.settle()
            while port.do("more"):
                if updates:
                    publisher.commit_update(publisher.prepare_update(0, 0.0))
                    continue
                publisher.commit(publisher.prepare(0, 0.0), 0)

        return [body]

    return spec


class Segment:
    """An open data inode."""

    name = "/model_data_0"

    def __init__(self, inode: int, generation: int, seq: int) -> None:
        self.inode = inode
        self.label = generation, seq

    def read(self, *_: int) -> bytes:
        return pack_data_header(_INCARNATION, *self.label, 0, 0, _MSGPACK, 0)

    def status(self) -> Any:
        return SimpleNamespace(st_ino=self.inode, st_size=DATA_HEADER.size + 8)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Mapping:
    """A mapped data inode."""

    def __init__(self, segment: Segment, index: int, views: ViewTracker) -> None:
        self.inode = segment.inode
        self.index = index
        self.generation = views.generation
        self.views = views


class Attachment(isolated_attachment.IsolatedAttachment):
    """The shipped attachment, over the model's words and inodes."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.version = Word(port, VERSION)  # type: ignore[assignment]
        self._generation = Word(port, GENERATION)  # type: ignore[assignment]
        self.channel = SimpleNamespace(is_live=lambda: self.version.load() != CLOSED)  # type: ignore[assignment]
        self._incarnation = _INCARNATION
        self._names = NAMES
        self._pinned = None
        self._no_slot = NoSlot()
        self._counters = ReaderCounters()
        self._lock = None  # type: ignore[assignment]
        self.missed = []

    def _open_name(self) -> Any:
        found = self.port.do("open")
        if found is None:
            raise DataReadError(errno.ENOENT, "missing")
        return Segment(*found)


def gets(count: int) -> Callable[[Port], Bodies]:
    """Return the spec of a reader that gets the value some times."""

    def spec(port: Port) -> Bodies:
        attachment = Attachment(port)

        def body() -> None:
            left = count
            while left:
                port.do("begin")
                _get(attachment)
                left -= 1

        return [body]

    return spec


def waits(count: int) -> Callable[[Port], Bodies]:
    """Return the spec of a reader that waits for versions, and gets each: see `waiting`."""

    def spec(port: Port) -> Bodies:
        attachment = Attachment(port)

        def body() -> None:
            left, last = count, 0
            while left:
                port.do("begin")
                try:
                    seq, seen = attachment.newest()
                except UninitializedStateError:
                    port.do("sleep until published")
                    continue
                if seq == last:
                    port.do("sleep", seen)
                    continue
                port.do("begin")
                last = max(seq, _get(attachment))
                left -= 1
            port.do("sleep", _FOR_EVER)

        return [body]

    return spec


_FOR_EVER = -1


def _get(attachment: Attachment) -> int:
    try:
        _, pinned = attachment.pin(check_bytes=False)
    except UninitializedStateError:
        attachment.port.do("finish", _NO_INODE)
        return 0
    except DataReadError:
        attachment.port.do("violated", "a version is missing, although nothing was removed")
    attachment.port.do("finish", pinned.mapping.inode)
    return pinned.seq


class Search:
    """A breadth-first search.

    Args:
        publishes: how many versions are published.
        readers: their specs.
        deaths: how many writers die.
        register: the register of the writers.
        updates: whether they publish by updates.
    """

    def __init__(
        self,
        publishes: int,
        readers: tuple[Callable[[Port], Bodies], ...],
        deaths: int,
        register: type[Register] = Register,
        *,
        updates: bool = False,
    ) -> None:
        codecs.load()
        self._publishes = publishes
        self._writers = deaths + 1
        self._automata = [Automaton(writes(register, updates=updates))] * self._writers + [
            Automaton(spec) for spec in readers
        ]
        count = len(self._automata)
        no_one: frozenset[int] = frozenset()
        first = State((0, 0), _NO_INODE, (), 0, (), (0,) * count, (None,) * count, no_one, no_one, (0,) * count, deaths)
        self._first = first
        self.states = 0
        self.trace: list[str] = []

    def run(self) -> str | None:
        """Search everything; return the violation, or None."""
        try:
            with mock.patch.object(isolated_attachment, "TrackedMapping", Mapping):
                return self._run()
        finally:
            for automaton in self._automata:
                automaton.close()

    def _run(self) -> str | None:
        came_from: dict[State, tuple[State, str]] = {self._first: (self._first, "")}
        queue = deque([self._first])
        while queue:
            state = queue.popleft()
            step = ""
            try:
                is_over = True
                for step, after in self._moves(state):
                    is_over = False
                    if after not in came_from:
                        came_from[after] = (state, step)
                        queue.append(after)
                if is_over:
                    self._check_end(state)
            except Violation as violation:
                while state is not self._first:
                    state, step = came_from[state]
                    self.trace.insert(0, step)
                return str(violation)
            finally:
                self.states = len(came_from)
        return None

    def _check_end(self, state: State) -> None:
        newest = state.published[-1]
        for me in range(self._writers, len(self._automata)):
            if state.nodes[me] != _ENDED and self._op(state, me) != ("sleep", _FOR_EVER):
                held = state.held[me]
                if held is None or held[1] != newest:
                    raise Violation("a sleeper misses the newest version")

    def _op(self, state: State, me: int) -> Op:
        return self._automata[me].nodes[state.nodes[me]].ops[0]

    def _moves(self, state: State) -> Iterator[tuple[str, State]]:
        for me, node in enumerate(state.nodes):
            if node == _ENDED or not self._is_enabled(state, me, op := self._op(state, me)):
                continue
            yield f"{me}: {op}", self._done(state, me, op)
            if me < self._writers and state.deaths and op != ("take over",):
                yield f"{me} dies", state._replace(nodes=_with(state.nodes, me, _ENDED), deaths=state.deaths - 1)

    def _is_enabled(self, state: State, me: int, op: Op) -> bool:
        if op == ("take over",):
            return me == 0 or (state.nodes[me - 1] == _ENDED and len(state.published) <= self._publishes)
        if op == ("sleep until published",):  # it polls
            return bool(state.words[VERSION])
        return op != ("sleep", _FOR_EVER) and me not in state.asleep

    def _done(self, state: State, me: int, op: Op) -> State:
        """Do an operation, and those after it that concern only the process itself."""
        while True:
            state, result = self._apply(state, me, op)
            if me in state.asleep:
                return state
            node = self._automata[me].after(state.nodes[me], 0, result)
            op = self._automata[me].nodes[node].ops[0]
            state = state._replace(nodes=_with(state.nodes, me, _ENDED if op == DONE else node))
            if op[0] not in {"finish", "violated", "more"}:
                return state

    def _apply(self, state: State, me: int, op: Op) -> tuple[State, Any]:  # noqa: C901, PLR0911, PLR0912
        match op:
            case ("load", word):
                return state, state.words[word]
            case ("store", word, value):
                return state._replace(words=_with(state.words, word, value)), None
            case ("more",):
                return state, len(state.published) < self._publishes
            case ("new incarnation",):
                if state.published:
                    raise Violation("an incarnation ends that has a value")
                return state._replace(words=(0, 0)), None
            case ("create", *reuse):
                state = state._replace(attempts=state.attempts + 1)
                if reuse and state.named >= 0:
                    return state, state.named
                return state._replace(inodes=(*state.inodes, Inode())), len(state.inodes)
            case ("fill", inode, part, generation, seq):
                values = {"generation": generation, "seq": seq} if part == "header" else {part: state.attempts}
                filled = state.inodes[inode]._replace(**values)
                state = state._replace(inodes=_with(state.inodes, inode, filled))
                self._check_held(state)
                return state, None
            case ("unlink",):
                return state._replace(named=_NO_INODE), None
            case ("rename", inode):
                if state.named == inode:
                    return state, None
                if state.inodes[inode].seq not in {0, len(state.published) + 1}:
                    raise Violation("a sequence number is repeated or skipped")
                return state._replace(named=inode, published=(*state.published, state.attempts)), None
            case ("open",):
                found = state.named
                return state, None if found < 0 else (found, *state.inodes[found][:2])
            case ("wake",):
                return state._replace(asleep=frozenset(), woken=state.woken | state.asleep), None
            case ("sleep until published",):
                return state, None
            case ("sleep", seen):
                if me in state.woken:
                    return state._replace(woken=state.woken - {me}), True
                if state.words[VERSION] == seen:
                    return state._replace(asleep=state.asleep | {me}), None
                return state, True
            case ("begin",):
                return state._replace(floors=_with(state.floors, me, len(state.published))), None
            case ("finish", inode):
                return self._finished(state, me, inode), None
            case ("violated", what):
                raise Violation(what)
        return state, None

    @staticmethod
    def _finished(state: State, me: int, inode: int) -> State:
        floor = state.floors[me]
        state = state._replace(floors=_with(state.floors, me, 0))
        if inode < 0:
            if floor:
                raise Violation("'nothing published' although something was")
            return state
        data = state.inodes[inode]
        if data.first != data.second or data.first not in state.published:
            raise Violation("a version is returned that is incomplete or was never published")
        if state.published.index(data.first) + 1 < floor:
            raise Violation("a version is returned that was replaced before the call began")
        return state._replace(held=_with(state.held, me, (inode, data.first)))

    @staticmethod
    def _check_held(state: State) -> None:
        for held in state.held:
            if held is not None and state.inodes[held[0]][2:] != (held[1], held[1]):
                raise Violation("an inode changes while a reader holds it")


def _with(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])
