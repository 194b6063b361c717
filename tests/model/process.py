"""A process of the model: it runs the shipped code and interacts with the world only through port operations.

Each thread is a greenlet. It suspends at every operation of a port and resumes with a result. So what a process does
next depends only on the results it has received: it is an automaton, whose edges are results and whose nodes are found
by running the shipped code. Two histories lead to the same node if they end at the same instructions with the same
local variables and objects.
"""

from __future__ import annotations

import graphlib
import sys
import weakref
from contextlib import nullcontext
from types import FrameType, FunctionType, GeneratorType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import greenlet

from model.world import (
    FIRST_SLOT,
    FIRST_SPARE,
    GENERATION,
    HIGH_WATER,
    MODULUS,
    SEALED,
    TORN,
    VERSION,
    WORDS_PER_SLOT,
    Op,
)
from shmsync._core import slots
from shmsync._core.layout import PAGE, DataHeader, header_prefix, largest_payload, names_of, pack_data_header
from shmsync._core.ports import SlotWords
from shmsync._core.retention import ViewTracker
from shmsync._core.sealing import Seals
from shmsync._core.spares import Spares
from shmsync._session.attachment import Attachment, ReaderCounters
from shmsync._session.mapping import TrackedMapping
from shmsync._session.pinned import PinnedVersion
from shmsync.codecs._unpack import unpack_plain
from shmsync.errors import DataReadError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from shmsync._core.ports import Loads, Word

MSGPACK = 0
RAW = 1
NAMES = names_of("model")
DONE: Op = ("done",)
_MAX_PARKED = 300
_SMALL_INT = 0x7F  # one byte in msgpack


class Port:
    """Requests operations on behalf of a process."""

    def __init__(self) -> None:
        self.scheduler = greenlet.getcurrent()
        self.thread = 0
        self.ignored: frozenset[str] = frozenset()
        """Local variables of the shipped code that do not affect the scenario."""
        self.closing = False
        self.kept: list[Any] = []
        """What is not destroyed at the end of a thread: a digest does not tell what its last finalizers refer to."""

    def do(self, *op: Any) -> Any:
        """Request an operation; return its result."""
        if self.closing:
            return None
        return self.scheduler.switch(op)


Bodies = list["Callable[[], None]"]


class _Thread:
    def __init__(self, body: Callable[[], None], port: Port) -> None:
        self.port = port
        self.greenlet = greenlet.greenlet(lambda: self._run(body))
        self.op: Op = ("start",)

    def _run(self, body: Callable[[], None]) -> Op:
        try:
            body()
        except Exception as error:  # noqa: BLE001 - what the shipped code raises here is a finding
            # Now: finalizers that take steps after a return are not told from those of a thread that ends normally.
            self.port.do("violated", f"{type(error).__name__}: {error}")
        return DONE

    def frames(self) -> Iterable[FrameType]:
        frame = self.greenlet.gr_frame
        while frame is not None:
            yield frame
            frame = frame.f_back


class Process:
    """One run of a process."""

    def __init__(self, spec: Callable[[Port], Bodies]) -> None:
        self._port = Port()
        self._threads = [_Thread(body, self._port) for body in spec(self._port)]

    def ops(self) -> tuple[Op, ...]:
        """Return what each thread is about to do."""
        return tuple(self._op(thread.op) for thread in self._threads)

    @staticmethod
    def _op(op: Op) -> Op:
        if op[0] == "acquire":
            mutex: Mutex = op[1]
            return ("blocked",) if mutex.held else ("acquire",)
        return op

    def resume(self, number: int, result: Any) -> None:
        """Resume one thread with the result of its operation."""
        thread = self._threads[number]
        self._port.thread = number
        thread.op = thread.greenlet.switch(result) if thread.op != ("start",) else thread.greenlet.switch()

    def digest(self) -> Hashable:
        """Return a digest of the state; if it is equal for two runs, they behave the same from here on."""
        seen: dict[int, int] = {}
        return tuple((self._op(thread.op), self._thread_digest(thread, seen)) for thread in self._threads)

    def _thread_digest(self, thread: _Thread, seen: dict[int, int]) -> Hashable:
        frames = list(thread.frames())
        inner = ["", *(frame.f_code.co_name for frame in frames)]
        return tuple(
            _digest_frame(frame, called, self._port.ignored, seen, locks=bool(self._port.kept))
            for frame, called in zip(frames, inner, strict=False)
        )

    def close(self) -> None:
        """Unwind all threads without side effects."""
        self._port.closing = True
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # a finalizer may be under way
        for thread in self._threads:
            if thread.greenlet and not thread.greenlet.dead:
                thread.greenlet.throw(greenlet.GreenletExit)
        sys.unraisablehook = hook
        self._threads.clear()


# ------------------------------------------------------------------------------------------- digests of process states


def _digest_frame(
    frame: FrameType, inner: str, ignored: frozenset[str], seen: dict[int, int], *, locks: bool = False
) -> Hashable:
    if (frame.f_code.co_name, inner) == _LAST_CALL and not locks:
        return (frame.f_code.co_name, frame.f_lasti)
    if frame.f_code.co_filename == slots.__file__:
        ignored = _CLAIM_NUMBERS
    found = frame.f_locals
    known = sorted((name, _without(value, ignored)) for name, value in found.items() if name not in ignored)
    if isinstance(found, dict):
        found.clear()  # before 3.13, the frame keeps this copy, and so all that it refers to, until it is made again
    return (frame.f_code.co_name, frame.f_lasti, tuple((name, _digest(value, seen)) for name, value in known))


def _without(value: Any, ignored: frozenset[str]) -> Any:
    """Return a named tuple with the ignored fields set to None."""
    fields = ignored.intersection(getattr(value, "_fields", ()))
    return value._replace(**dict.fromkeys(fields)) if fields else value


_LAST_CALL = ("read", "_read_changed")
"""`read` returns the result at once: its local variables are dead by then. But they keep locks of mappings."""
_CLAIM_NUMBERS = frozenset({"number"})  # unique, but without effect on behaviour
_SKIPPED = {
    *("_number", "owner", "port", "_port"),
    # Constant for a process, for a slot index, or for a sequence number.
    *("cell", "channel", "codec", "enter", "leave", "name", "_names", "_timeout", "version", "words"),
    *("_advance", "_max_backoff", "_table", "_version"),
}
_PLAIN = (int, str, bytes, bool, type(None))


def _digest(value: Any, seen: dict[int, int]) -> Hashable:  # noqa: PLR0911 - a case for each kind of value
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, tuple | list):
        return tuple(_digest(item, seen) for item in value)
    if isinstance(value, set | frozenset | weakref.WeakSet):
        return ("set", *sorted(repr(_digest(item, seen)) for item in value))
    if isinstance(value, dict):
        return tuple((key, _digest(item, seen)) for key, item in sorted(value.items(), key=repr))
    if isinstance(value, GeneratorType):  # suspended between two slots that a claimer tries
        return "ended" if value.gi_frame is None else _digest_frame(value.gi_frame, "", frozenset(), seen)
    kind = type(value)  # enough for a float: times are constant here, or come from the real clock
    if isinstance(value, FunctionType | MethodType | ModuleType | type) or not kind.__module__.startswith(
        ("shmsync", "model.", "types")
    ):
        return kind.__name__
    if id(value) in seen:
        return ("seen", seen[id(value)])
    seen[id(value)] = len(seen)
    attributes = dict(getattr(value, "__dict__", {}))
    for base in kind.__mro__:
        names = base.__dict__.get("__slots__", ())
        attributes.update({name: getattr(value, name, None) for name in names if not name.startswith("__")})
    known = sorted(
        (name, len(item) if name == "exporters" else item)  # its keys are object ids, which differ between runs
        for name, item in attributes.items()
        if name not in _SKIPPED
    )
    return (kind.__name__, tuple((name, _digest(item, seen)) for name, item in known))


class Node(NamedTuple):
    """A state of a process.

    Attributes:
        ops: the next operation of each thread.
        history: (thread, result) of each step that leads to this node.
        is_done: whether all threads have ended.
    """

    ops: tuple[Op, ...]
    history: tuple[tuple[int, Any], ...]
    is_done: bool


class Automaton:
    """The states of a process, computed on demand."""

    def __init__(self, spec: Callable[[Port], Bodies]) -> None:
        self._spec = spec
        self._numbers: dict[Hashable, int] = {}
        self._edges: dict[tuple[int, int, Any], int] = {}
        self._parked: dict[int, Process] = {}  # suspended processes by node: resuming one avoids a replay
        self.nodes: list[Node] = []
        self._enter(self.replayed(()), ())

    def after(self, node: int, thread: int, result: Any) -> int:
        """Return the node that follows once a thread has received its result."""
        edge = (node, thread, result)
        found = self._edges.get(edge)
        if found is None:
            found = self._edges[edge] = self._run(node, thread, result)
        return found

    def longest(self, counts: Callable[[Op, Any], bool]) -> int:
        """Return the length of the longest path along edges that count.

        Raises:
            graphlib.CycleError: these edges form a cycle.
        """
        before: dict[int, list[int]] = {}
        for (node, thread, result), after in self._edges.items():
            if counts(self.nodes[node].ops[thread], result):
                before.setdefault(after, []).append(node)
        steps: dict[int, int] = {}
        for node in graphlib.TopologicalSorter(before).static_order():
            steps[node] = max((1 + steps[other] for other in before.get(node, ())), default=0)
        return max(steps.values(), default=0)

    def close(self) -> None:
        """Close all suspended processes."""
        while self._parked:
            self._parked.popitem()[1].close()

    def _run(self, node: int, thread: int, result: Any) -> int:
        history = self.nodes[node].history
        process = self._parked.pop(node, None) or self.replayed(history)
        process.resume(thread, result)
        return self._enter(process, (*history, (thread, result)))

    def replayed(self, history: tuple[tuple[int, Any], ...]) -> Process:
        """Return a new process that has replayed a history."""
        process = Process(self._spec)
        for thread in range(len(process.ops())):
            process.resume(thread, None)
        for step in history:
            process.resume(*step)
        return process

    def _enter(self, process: Process, history: tuple[tuple[int, Any], ...]) -> int:
        number = self._numbers.setdefault(process.digest(), len(self.nodes))
        if number == len(self.nodes):
            ops = process.ops()
            self.nodes.append(Node(ops, history, all(op == DONE for op in ops)))
        if self._parked.setdefault(number, process) is not process:
            process.close()
        elif len(self._parked) > _MAX_PARKED:
            self._parked.pop(next(iter(self._parked))).close()
        return number


# --------------------------------------------------------------------------------------------- ports and their adapters


class ModelWord:
    """The port Word."""

    __slots__ = ("port", "word")

    def __init__(self, port: Port, word: int) -> None:
        self.port = port
        self.word = word

    def load(self) -> int:
        return self.port.do("load", self.word) or 0

    load_relaxed = load

    def store(self, value: int) -> None:
        self.port.do("store", self.word, value)

    store_release = store

    def bind_add(self, delta: int) -> Callable[[], None]:
        def add() -> None:
            self.port.do("add", self.word, delta)

        return add

    def fetch_or(self, bits: int) -> int:
        return self.port.do("or", self.word, bits) or 0

    def compare_exchange(self, expected: int, desired: int) -> bool:
        return bool(self.port.do("exchange", self.word, expected, desired))


class ModelLoads:
    """The port Loads: each load is a step, and other processes may run in between."""

    __slots__ = ("port", "words")

    def __init__(self, port: Port, words: Sequence[int]) -> None:
        self.port = port
        self.words = words

    def __call__(self) -> list[int]:
        loaded: list[int] = []
        for word in self.words:
            loaded.append(self.port.do("load", word) or 0)  # noqa: PERF401 - a digest sees what was loaded before
        return loaded


class ModelLock:
    """The port SlotLock."""

    __slots__ = ("port", "slot")

    def __init__(self, port: Port, slot: int) -> None:
        self.port = port
        self.slot = slot

    def close(self) -> None:
        self.port.do("unlock", self.slot)


class ModelTable:
    """The port Table."""

    def __init__(self, port: Port, max_readers: int) -> None:
        self.port = port
        self.max_readers = max_readers
        self.high_water: Word = ModelWord(port, HIGH_WATER)
        self.sealed: tuple[Word, Word] = (ModelWord(port, SEALED[0]), ModelWord(port, SEALED[1]))

    def slot(self, index: int) -> SlotWords:
        pin, *hazards = (ModelWord(self.port, FIRST_SLOT + WORDS_PER_SLOT * index + word) for word in range(3))
        return SlotWords(pin, (hazards[0], hazards[1]))

    def lock_first(self, indexes: Iterable[int]) -> tuple[int, ModelLock] | None:
        for index in indexes:
            lock = self.lock(index)
            if lock is not None:
                return index, lock
        return None

    def lock(self, index: int) -> ModelLock | None:
        return ModelLock(self.port, index) if self.port.do("lock", index) else None

    def is_locked(self, index: int) -> bool:
        return bool(self.port.do("locked", index))

    def bind_scan(self, count: int) -> tuple[Loads, tuple[Loads, Loads]]:
        pins, *hazards = (
            ModelLoads(self.port, range(FIRST_SLOT + word, FIRST_SLOT + WORDS_PER_SLOT * count, WORDS_PER_SLOT))
            for word in range(3)
        )
        return pins, (hazards[0], hazards[1])


class ModelClock:
    """The port Clock: each reading may find the grace duration over or not, and both are explored."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.waiting = False

    def begin(self) -> None:
        """Start a new grace duration."""
        self.waiting = False

    def now(self) -> float:
        if not self.waiting:
            self.waiting = True
            return 0.0
        return 2.0 if self.port.do("clock") else 0.5

    def sleep(self, seconds: float) -> None:
        pass


class ModelSpare:
    """The port SpareInode."""

    def __init__(self, port: Port, inode: int) -> None:
        self.port = port
        self.inode = inode

    def fits(self, _size: int) -> bool:
        return True

    def is_free(self, place: int) -> bool:
        return self.port.do("named", FIRST_SPARE + place) == self.inode and not self.port.do("is mapped", self.inode)

    def wipe(self) -> None:
        self.port.do("fill", self.inode, 0, TORN)


class ModelSegments:
    """The port Segments.

    Args:
        port: the port.
        spares: how many replaced inodes it keeps.
    """

    def __init__(self, port: Port, spares: int = 0) -> None:
        self.port = port
        self.mapped: list[tuple[int, int] | None] = [None, None]  # inode, generation
        self.opened = [False, False]
        self.spares: Spares[ModelSpare] | None = Spares(spares) if spares else None
        self.places = range(spares)

    def is_reusable(self, index: int, generation: int, size: int) -> bool:
        if not self.opened[index]:
            if not any(self.opened):
                self.unlink_spares()
            self.opened[index] = True
            self.mapped[index] = self.port.do("open", index)
        mapped = self.mapped[index]
        return mapped is not None and mapped[1] == generation > 0  # 0: its header has not been written

    def replacement_cost(self, size: int) -> float:
        return 1.0

    def unlink_spares(self) -> None:
        """Remove those of a predecessor."""
        for place in self.places:
            self.port.do("unlink", FIRST_SPARE + place)

    def replace(self, index: int, generation: int, size: int) -> None:
        if not any(self.opened):
            self.unlink_spares()
        self.opened[index] = True
        if self.spares is None:
            self.mapped[index] = None
            self.port.do("unlink", index)
            self.mapped[index] = (self.port.do("create", index), generation)
            return
        place = self.spares.find_free(size)
        if place is None:
            place = self.spares.unused_place(index)
            self.spares.forget(place)
            self.port.do("unlink", FIRST_SPARE + place)
            inode = self.port.do("create", FIRST_SPARE + place)
        else:
            inode = self.spares.take(place).inode
        previous, self.mapped[index] = self.mapped[index], None
        self.port.do("exchange names", FIRST_SPARE + place, index)
        if previous is not None:
            self.spares.put(place, ModelSpare(self.port, previous[0]))
        self.mapped[index] = (inode, generation)

    def spoil(self, index: int) -> None:
        """Write half a version into the prepared segment."""
        mapped = self.mapped[index]
        assert mapped is not None
        self.port.do("fill", mapped[0], mapped[1], TORN)

    def write(self, index: int, generation: int, seq: int, value: None) -> int:
        mapped = self.mapped[index]
        if mapped is not None:
            for content in (TORN, seq):
                self.port.do("fill", mapped[0], generation, content)
        return 0

    def catch_up(self, index: int, newest: int) -> None:
        self.spoil(index)

    def finish_update(self, index: int, generation: int, seq: int) -> int:
        return self.write(index, generation, seq, None)

    def note_update(self, seq: int) -> None:
        """Do nothing: see `test_updates`."""

    def try_write(self, index: int, generation: int, seq: int, value: None, size: int) -> int | None:
        mapped = self.mapped[index]
        return self.write(index, generation, seq, value) if mapped is not None and mapped[1] == generation else None


class ModelView:
    """Replaces both a memoryview and its exporter."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return 1


class ModelMemory:
    """The memory of a mapping. The lock on its inode lasts as long."""

    def __init__(self, port: Port, inode: int, companion: ViewTracker) -> None:
        self.port = port
        self.inode = inode
        self.companion = companion

    def __del__(self) -> None:
        self.port.do("unmap", self.inode)


class ModelMapping(TrackedMapping):
    """A mapped inode; the shipped tracker decides when it is retained and released."""

    __slots__ = ("_codec", "port")

    def __init__(self, inode: int, index: int, generation: int, reader: ModelAttachment) -> None:
        self.inode = inode
        self.index = index
        self.generation = generation
        self.size = reader.size
        self.views = ViewTracker(index, generation, reader._lock, reader.missed)
        self.copy_page = self._copy_page if self.size == PAGE else None
        if reader.locks:
            self.memory = ModelMemory(reader.port, inode, self.views)  # type: ignore[assignment]
        else:
            self.memory = SimpleNamespace(companion=self.views, inode=inode)  # type: ignore[assignment]
        self.prefix = header_prefix(0, generation)
        self.largest = largest_payload(self.size)
        self.port = reader.port  # not the reader: what it holds is released without the collector
        self._codec = reader.codec

    def copy_header(self) -> bytes:
        return _header(self.port.do("header", self.inode), self._codec)

    def _copy_page(self) -> bytes:
        # If the page is overwritten during the copy, its parts may differ: one from before the write, one from after.
        header = _header(self.port.do("content", self.inode), self._codec)
        return header + bytes(self.view())

    def view(self, start: int = 0, end: int | None = None) -> Any:
        # In msgpack, the number of the version that is found.
        version, _ = self.port.do("content", self.inode) or (0, 0)
        return bytes([version & _SMALL_INT])

    def export(self, start: int, end: int) -> Any:
        view = ModelView(self.memory)
        self.views.track(view)
        return view


def _header(content: tuple[int, int] | None, codec: int) -> bytes:
    """Return the header of a data segment with this content: version and generation."""
    version, generation = content or (0, 0)
    return pack_data_header(0, generation, version % MODULUS, 1, 0, codec, 0)


class ModelCell:
    """The version word as `get` reads it."""

    def __init__(self, version: ModelWord) -> None:
        self.version = version

    def __getitem__(self, _: int) -> int:
        return self.version.load_relaxed()


class ModelAttachment(Attachment):
    """The shipped attachment, over the model's segments."""

    locks = False
    """Whether it locks the inodes that it maps: only if there are spares. A class attribute, for smaller digests."""

    def __init__(self, port: Port, slots: int, lock: Any, size: int, codec: int) -> None:
        self.port = port
        self.size = size
        self.codec = codec
        self._lock = lock
        self.version = ModelWord(port, VERSION)
        self._names = NAMES
        table = ModelTable(port, slots)
        generations = (ModelWord(port, GENERATION[0]), ModelWord(port, GENERATION[1]))
        self.channel = SimpleNamespace(  # type: ignore[assignment]
            version=self.version,
            generations=generations,
            table=table,
            seals=Seals(generations, table.sealed),
            version_cell=ModelCell(self.version),
            is_current=lambda: True,
            is_live=lambda: True,
            is_superseded=lambda: False,
            key=None,
            notifier=SimpleNamespace(futex=SimpleNamespace(wake=lambda: None)),  # no one waits here: see test_notify
        )
        self.cell = self.channel.version_cell
        self._load_version = self.version.load
        self._plain_codec, self._unpack = MSGPACK, unpack_plain
        self._load_words = ModelLoads(port, (VERSION, *GENERATION))
        self._generations = [0, 0]
        self._incarnation = 0
        self.missed = []
        self._slot = None
        self._mappings = [None, None]
        self._released = [None, None]
        self._pinned = None
        self._counters = ReaderCounters()

    def _locks_late(self) -> bool:
        """Return whether an inode is locked only after the look at EVICTED: changed by a mutant."""
        return False

    def _open(self, index: int, generation: int) -> ModelMapping:
        found = self.port.do("open", index)
        if found is None:
            raise DataReadError(f"data_{index} is missing")
        if self.locks and not self._locks_late():
            self.port.do("map", found[0])
        return ModelMapping(found[0], index, generation, self)

    def _new_pinned_version(self, seq: int, mapping: TrackedMapping) -> PinnedVersion:
        if self.locks and self._locks_late():
            self.port.do("map", mapping.inode)
        return PinnedVersion(DataHeader(0, mapping.generation, seq, 1, 0, self.codec), mapping)


class LockingAttachment(ModelAttachment):
    """The attachment of a reader whose writer keeps spares."""

    locks = True


class Mutex:
    """A reentrant lock between the threads of one process."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._owner: int | None = None
        self._depth = 0

    @property
    def held(self) -> bool:
        """Whether a thread holds the lock."""
        return self._owner is not None

    def __enter__(self) -> None:
        if self._owner != self._port.thread:
            self._port.do("acquire", self)
            self._owner = self._port.thread
        self._depth += 1

    def acquire(self, *, blocking: bool) -> bool:
        """Acquire the lock unless another thread holds it; return whether that worked."""
        assert not blocking
        if self._owner not in {None, self._port.thread}:
            return False
        self._owner = self._port.thread
        self._depth += 1
        return True

    def release(self) -> None:
        """Release the lock once."""
        self._depth -= 1
        if not self._depth:
            self._owner = None

    def __exit__(self, *_: object) -> None:
        self.release()


class NoMutex(nullcontext[None]):
    """The lock of a process with one thread."""

    def acquire(self, *, blocking: bool) -> bool:
        """Acquire the lock."""
        return not blocking

    def release(self) -> None:
        """Release the lock."""
