"""No resource leaks: after many handles, at exit, after garbage collection, and after signal handlers that raise."""

from __future__ import annotations

import contextlib
import errno
import gc
import itertools
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NEVER, SHM, TIMEOUT, Alarms, Child, State, environment, hazards, pins, slots_locked, without_waiting

from shmsync import Reader, ShmSyncError, Writer
from shmsync._core.layout import EVICTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from shmsync import Snapshot

CYCLES = 10_000


def resources(_state: State) -> tuple[int, int, int]:
    """Count file descriptors, mappings of segments, and all mappings."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len(list(Path("/proc/self/fd").iterdir())), sum(f"{SHM}/" in line for line in maps), len(maps)


def read_often(_state: State, name: str, times: int) -> None:
    for _ in range(times):
        with Reader(name) as reader, reader.read() as snapshot:
            assert snapshot.buffer


def write_often(_state: State, name: str, times: int) -> None:
    for number in range(times):
        with Writer(name) as writer:
            writer.write(number)


@pytest.mark.parametrize("use", [read_often, write_often])
def test_ten_thousand_handles(name: str, use: Any) -> None:
    with Writer(name) as writer:
        writer.write(0)
    with Child() as child:
        child.call(use, name, CYCLES // 100)
        files, mapped, maps = child.call(resources)
        child.call(use, name, CYCLES)
        assert child.call(resources)[:2] == (files, mapped)
        assert child.call(resources)[2] < maps + 50  # the allocator maps and unmaps memory, too
        assert not slots_locked(name)
        assert not pins(name)
    with Writer(name) as writer:
        writer.unlink()


# -------------------------------------------------------------------------------------------------------------- exit

EXITS = {
    "open handles": """
        readers = [Reader(name) for _ in range(3)]
        values = [reader.get() for reader in readers]
    """,
    "live snapshots": """
        reader = Reader(name)
        snapshots = [reader.read() for _ in range(3)]
        snapshots[1].close()
    """,
    "exit inside a block": """
        with Reader(name).read() as snapshot:
            sys.exit()
    """,
    "live views": """
        view = Reader(name).read().buffer[1:]
        kept = Reader(name).get()
        part = kept[2:4]
    """,
    "live arrays": """
        try:
            import numpy
        except ImportError:
            sys.exit()
        array = numpy.frombuffer(Reader(name).get(), dtype="u1")
    """,
    "a live generator": """
        def reads():
            with Reader(name) as reader:
                while True:
                    with reader.read() as snapshot:
                        yield snapshot
        generator = reads()
        first = next(generator)
    """,
    "threads that still read": """
        import threading
        reader, reading = Reader(name), threading.Barrier(4)
        def read():
            held = reader.read()
            reading.wait()
            while True:
                with reader.read() as snapshot:
                    bytes(snapshot.buffer), bytes(reader.get())
        for _ in range(3):
            threading.Thread(target=read, daemon=True).start()
        reading.wait()
    """,
    "an open writer": """
        writer = Writer(name + "x")
        writer.write(1)
        writer.unlink()
        writer.write(2)
        Reader(name + "x").get()
        writer.unlink()
    """,
    "handles in globals of a module": """
        sys.modules["elsewhere"] = elsewhere = type(sys)("elsewhere")
        elsewhere.reader = Reader(name)
        elsewhere.snapshot = elsewhere.reader.read()
        elsewhere.view = elsewhere.snapshot.buffer
    """,
    "a fork": """
        reader = Reader(name)
        snapshot, kept = reader.read(), reader.get()
        if os.fork():
            sys.exit(os.wait()[1])
    """,
    "a cycle": """
        reader = Reader(name)
        cycle = [reader, reader.read(), reader.get()]
        cycle.append(cycle)
    """,
}


@pytest.mark.parametrize("body", EXITS.values(), ids=EXITS.keys())
def test_exit_is_silent(writer: Writer, name: str, body: str) -> None:
    writer.write_raw(b"payload")
    program = f"import os, sys\nfrom shmsync import Reader, Writer\nname = sys.argv[1]\n{textwrap.dedent(body)}"
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, name],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert not slots_locked(name)
    with without_waiting():
        for _ in range(2):
            writer.write_raw(b"next", grace_duration=NEVER)
    assert not pins(name)


# --------------------------------------------------------------------------------------------------------- collector


def attached(name: str) -> Reader:
    reader = Reader(name)
    reader.get()
    return reader


def with_view(snapshot: Snapshot) -> tuple[Snapshot, memoryview]:
    return snapshot, snapshot.buffer


def closed(pair: tuple[Snapshot, memoryview]) -> tuple[Snapshot, memoryview]:
    pair[0].close()
    return pair


def writes(name: str) -> Writer:
    writer = Writer(name)
    writer.write(1)
    writer.unlink()
    writer.write(2)
    writer.unlink()
    return writer


CYCLED: dict[str, Callable[[str], Any]] = {
    "reader": Reader,
    "attached reader": attached,
    "open snapshot": lambda name: Reader(name).read(),
    "open snapshot, view": lambda name: with_view(Reader(name).read()),
    "closed snapshot, view": lambda name: closed(with_view(Reader(name).read())),
    "retained value": lambda name: Reader(name).get(),
    "writer": lambda name: writes(f"{name}x"),
}


def collect(_state: State, name: str, what: str) -> str:
    """Collect a reference cycle; return the errors of its finalizers."""
    errors: list[str] = []
    sys.unraisablehook = lambda unraisable: errors.append(str(unraisable.exc_value))
    gc.disable()
    cycle: list[Any] = [CYCLED[what](name)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    sys.unraisablehook = sys.__unraisablehook__
    return "; ".join(errors)


@pytest.mark.parametrize("what", CYCLED)
def test_a_cycle_is_collected(writer: Writer, name: str, what: str) -> None:
    writer.write_raw(b"payload")
    with Child() as child:
        files, mapped, _ = child.call(resources)
        assert child.call(collect, name, what) == ""
        assert child.call(resources)[:2] == (files, mapped)
        assert not slots_locked(name)
        assert not pins(name)
        assert not hazards(name)


def view_of_a_cycle(state: State, name: str) -> None:
    """Collect a cycle of a reader and its open snapshot, while a view of the snapshot is still referenced."""
    reader = Reader(name)
    snapshot = reader.read()
    state.view = snapshot.buffer
    cycle: list[Any] = [reader, snapshot]
    cycle.append(cycle)
    del reader, snapshot, cycle
    gc.collect()


def test_a_view_outlives_the_cycle_of_its_snapshot(writer: Writer, name: str) -> None:
    writer.write_raw(b"first")
    with Child() as child:
        child.call(view_of_a_cycle, name)
        with without_waiting():
            for _ in range(3):
                writer.write_raw(b"other", grace_duration=NEVER)
        assert child.call(bytes_of_view) == b"first"
        assert not pins(name)


def bytes_of_view(state: State) -> bytes:
    return bytes(state.view)


# ----------------------------------------------------------------------------------------------------------- signals

ATTEMPTS = 2000
SIZE = 2000


class Interrupt(Exception):  # noqa: N818 - as KeyboardInterrupt
    pass


def read_interrupted(_state: State, name: str) -> tuple[int, int, int]:
    """Read while a signal handler raises at any instruction; return the counts of reads, interrupts and torn values."""
    alarms = Alarms(7)
    reader = Reader(name)
    kept: list[memoryview] = []
    torn = 0

    def interrupt(_number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code not in {read_interrupted.__code__, guarded.__code__}:
            alarms.interruption()
            raise Interrupt

    def is_torn(view: memoryview) -> bool:
        raw = bytes(view)
        return raw != raw[:1] * SIZE

    def read() -> None:
        nonlocal torn
        while not alarms.enough(ATTEMPTS):
            alarms.arm()
            with reader.read() as snapshot:
                torn += is_torn(snapshot.buffer)
                kept.append(snapshot.buffer)
            torn += is_torn(reader.get())
            torn += sum(is_torn(view) for view in kept[-3:])
            if len(kept) > 20:
                kept.clear()
            alarms.disarm()
            alarms.success()

    def guarded() -> None:
        try:  # noqa: SIM105 - `suppress` would be interrupted itself
            read()
        except Interrupt:
            pass

    sys.unraisablehook = lambda _: None  # interrupted in a finalizer
    signal.signal(signal.SIGALRM, interrupt)
    while not alarms.enough(ATTEMPTS):
        guarded()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.unraisablehook = sys.__unraisablehook__
    kept.clear()
    reader.close()
    with Reader(name) as another:  # its claim releases slots whose finalizer was interrupted
        another.get()
    return alarms.succeeded, alarms.interrupted, torn


def test_signal_handlers_that_raise(writer: Writer, name: str) -> None:
    writer.write_raw(bytes(SIZE))
    with Child() as child:
        files, mapped, _ = child.call(resources)
        child.send(read_interrupted, name)
        for number in itertools.cycle(range(256)):
            writer.write_raw(bytes([number]) * SIZE, grace_duration=0.001)
            if child.has_result():
                break
        reads, interrupts, torn = child.receive()
        print(f"{reads} reads, {interrupts} interrupts, {writer.stats()}")
        assert torn == 0
        assert child.call(resources)[:2] == (files, mapped)
        assert not slots_locked(name)
        assert set(pins(name)) <= {EVICTED}  # the last reader may just have left its slot when it was evicted


# -------------------------------------------------------------------------------------------------- file descriptors


def _note_error(found: list[tuple[str, int]], act: Callable[[], object]) -> None:
    try:
        act()
    except ShmSyncError as error:
        found.append((type(error).__name__, getattr(error, "errno", 0)))


def with_few_files(_state: State, name: str, free: int) -> list[tuple[str, int]]:
    """Write and read with so many descriptors free; return the name and errno of each error."""
    taken: list[int] = []
    found: list[tuple[str, int]] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.dup(0))
    for fd in taken[:free]:
        os.close(fd)
    try:
        _note_error(found, lambda: Writer(name).write(1))
        _note_error(found, lambda: Reader(name).get(default=None))
    finally:
        for fd in taken[free:]:
            os.close(fd)
    return found


@pytest.mark.parametrize("free", range(9))
def test_too_many_open_files(name: str, free: int) -> None:
    """Every failure raises an error with EMFILE, and a failed first write leaves no segment."""
    with Child() as child:
        found = child.call(with_few_files, name, free)
        assert all(code == errno.EMFILE for _, code in found), found
        if not found:
            assert free > 2  # a mapping takes none
        left = [path.name for path in SHM.glob(f"{name}_*")]
        assert len(left) in {0, 3}
        assert child.call(with_few_files, name, 40) == []
    with Writer(name) as writer:
        writer.unlink()
