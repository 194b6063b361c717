"""Invariant 4: a process that is killed or stopped at any instruction costs the other processes next to nothing.

They keep the last value, the next writer continues from it at once, no pin is leaked, and no manual cleanup is needed.
The tests use real processes and signals.
"""

from __future__ import annotations

import itertools
import os
import signal
import struct
import sys
import time
import traceback
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import (
    NEVER,
    PACKAGE,
    SHM,
    Child,
    State,
    close_snapshot,
    get_value,
    open_snapshot,
    pins,
    recorded_waits,
    snapshot_checksum,
    without_waiting,
)

import shmsync
from shmsync import Reader, Writer
from shmsync._core.layout import EVICTED, HIGH_WATER_AT, ONE, checksum_of, slot_offset
from stress.ending import _check_counts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def test_readers_killed_inside_read(writer: Writer, name: str) -> None:
    with ExitStack() as stack:
        readers = []
        for number in range(2):  # four in each segment
            writer.write(number)
            for _ in range(4):
                readers.append(stack.enter_context(Child()))
                readers[-1].call(open_snapshot, name)
        assert len(pins(name)) == 8
        for reader in readers:
            reader.kill()
        assert _check_counts(name)
        with without_waiting():
            assert all(writer.write(number, grace_duration=NEVER).reset for number in range(2))
            assert not pins(name)
            assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))


def test_an_evicted_reader_that_leaves_before_it_is_killed(writer: Writer, name: str) -> None:
    """Its slot keeps the bit, which holds nothing: no write waits, no reader is shown, and the next claim clears it."""
    with Child() as reader:
        writer.write(0)
        reader.call(open_snapshot, name)
        assert any(writer.write(number, grace_duration=0).reset for number in range(2))
        reader.call(close_snapshot)
        assert pins(name) == [EVICTED]
        reader.kill()
        assert pins(name) == [EVICTED]
    with without_waiting():
        assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))
    assert shmsync.info(name).readers == ()
    assert _check_counts(name) == []
    with Reader(name) as other:
        assert other.get() == 3
        assert not pins(name)


def test_a_reader_stopped_inside_read(writer: Writer, name: str) -> None:
    grace = 0.5
    held = writer.write_raw(os.urandom(100_000)).version.checksum
    with Child() as reader:
        assert reader.call(open_snapshot, name) == held
        reader.suspend()
        writer.write_raw(os.urandom(100_000))
        start = time.monotonic()
        with recorded_waits() as made:
            assert writer.write_raw(os.urandom(100_000), grace_duration=grace).reset
        assert time.monotonic() - start >= grace
        assert 0 < sum(made) <= grace  # invariant 3: the grace duration bounds the total
        with without_waiting():
            for _ in range(10):
                assert not writer.write_raw(os.urandom(100_000), grace_duration=NEVER).reset
            newest = os.urandom(100_000)
            writer.write_raw(newest)
        reader.resume()
        assert reader.call(snapshot_checksum) == held
        reader.call(close_snapshot)
        assert reader.call(get_value) == newest


def test_grace_zero_never_waits(writer: Writer, name: str) -> None:
    held = writer.write_raw(os.urandom(1000)).version.checksum
    with Child() as reader, recorded_waits() as made:
        assert reader.call(open_snapshot, name) == held
        resets = [writer.write_raw(os.urandom(1000), grace_duration=0).reset for _ in range(20)]
        assert resets == [False, True] + 18 * [False]
        assert made == []
        assert reader.call(snapshot_checksum) == held


# -------------------------------------------------------------------------------------------------- killed at each step

MAX_STEPS = 5000


def die_at(step: int, action: Callable[[], Any]) -> None:
    """Run an action, and kill this process right before the `step`-th line of the package that it executes."""
    left = step

    def on_line(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, _event: str, _arg: Any) -> Any:
        return on_line if frame.f_code.co_filename.startswith(PACKAGE) else None

    sys.settrace(on_call)
    action()
    sys.settrace(None)


def fork_and_die(_state: State, step: int, prepare: Callable[..., Callable[[], Any]], *args: Any) -> bool:
    """Fork a process that prepares an action and dies at a step of it; return False if it completed the action."""
    pid = os.fork()
    if pid == 0:
        try:
            die_at(step, prepare(*args))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - this process has no caller to raise it to
            traceback.print_exc()
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def to_write(name: str, writes_before: int, old: str, new: str) -> Callable[[], Any]:
    writer = Writer(name, grace_duration=0)
    for _ in range(writes_before):
        writer.write(old)
    return partial(writer.write, new)


def to_unlink(name: str, writes_before: int, old: str, _new: str) -> Callable[[], Any]:
    writer = Writer(name, grace_duration=0)
    for _ in range(writes_before):
        writer.write(old)
    return writer.unlink


def no_reader(_name: str) -> tuple[Any, Any]:
    """Do not read."""
    return None, b""


def pinning(name: str) -> tuple[Any, Any]:
    """Keep a version pinned: the writer has to evict the reader and replace the inode."""
    snapshot = Reader(name).read()
    return snapshot, snapshot.buffer


def retaining(name: str) -> tuple[Any, Any]:
    """Retain a view: the writer has to replace the inode."""
    with Reader(name).read() as snapshot:
        return None, snapshot.buffer


def dead_reader(name: str) -> tuple[Any, Any]:
    """Leave the pins of a dead reader: the writer has to reap its slot."""
    with (SHM / f"{name}_readers").open("r+b") as table:
        table.seek(HIGH_WATER_AT)
        table.write(struct.pack("=Q", 4))
        table.seek(slot_offset(3))
        table.write(struct.pack("=Q", ONE[0] + ONE[1]))
    return no_reader(name)


class Case(NamedTuple):
    """An action of a writer, and its circumstances.

    Attributes:
        prepare: called in the process that is to die; returns the action during which it dies.
        writes_before: number of writes by the same writer before the action.
        published: whether another writer has published a value before.
        size: size of the new value in bytes.
        readers: what readers do at the same time; returns an object to keep alive, and a view that must not change.
    """

    prepare: Callable[[str, int, str, str], Callable[[], Any]]
    writes_before: int = 0
    published: bool = True
    size: int = 10
    readers: Callable[[str], tuple[Any, Any]] = no_reader


CASES = {
    "first write": Case(to_write, published=False),
    "takeover": Case(to_write),
    "in place": Case(to_write, writes_before=2),
    "growth": Case(to_write, writes_before=2, size=100_000),
    "eviction": Case(to_write, writes_before=1, readers=pinning),
    "retained value": Case(to_write, writes_before=1, readers=retaining),
    "reaping": Case(to_write, readers=dead_reader),
    "unlink": Case(to_unlink, writes_before=1),
    "unlink by a writer that never wrote": Case(to_unlink),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_writer_killed_at_each_step(name: str, case: Case) -> None:
    unlinks = case.prepare is to_unlink
    seen = set()
    with Child() as child, Reader(name) as attached:
        for step in itertools.count(1):
            assert step < MAX_STEPS
            old, new = f"old {step}", f"new {step}".ljust(case.size)
            if case.published:
                with Writer(name) as writer:
                    writer.write(old)
                assert attached.get() == old
            held, view = case.readers(name)
            before = checksum_of(view)

            died = child.call(fork_and_die, step, case.prepare, name, case.writes_before, old, new)

            value = attached.get(default=None)
            assert value in ((old, None) if unlinks else (old, new) if case.published else (None, new))
            seen.add(value and value[:3])
            with Reader(name) as late:
                assert late.get(default=None) == value
                seq = late.version().seq if value else 0
            grace = 0 if case.readers is pinning else NEVER
            with Writer(name, grace_duration=grace) as successor, without_waiting():
                for number in range(1, 5):
                    assert successor.write(number).version.seq == seq + number
                    with Reader(name) as late:
                        assert attached.get() == late.get() == number
                assert checksum_of(view) == before
                del held, view
                assert not pins(name)
                if not case.published:
                    successor.unlink()
            if not died:
                break
        with Writer(name) as last:
            last.unlink()
    print(f"died at each of {step - 1} steps, stride 1")
    assert step > 10
    assert seen == ({"old", None} if unlinks else {"old", "new"} if case.published else {None, "new"})


def to_read(name: str, reads_before: int) -> Callable[[], Any]:
    reader = Reader(name)
    for _ in range(reads_before):
        reader.get()

    def read() -> None:
        view = reader.get()
        with reader.read() as snapshot:
            assert snapshot.buffer == view
        reader.close()

    return read


@pytest.mark.parametrize("reads_before", [0, 1])
def test_a_reader_killed_at_each_step(writer: Writer, name: str, reads_before: int) -> None:
    was_pinned = False
    with Child() as child:
        for step in itertools.count(1):
            assert step < MAX_STEPS
            writer.write_raw(b"value")
            died = child.call(fork_and_die, step, to_read, name, reads_before)
            was_pinned |= bool(pins(name))
            with without_waiting():
                for _ in range(3):
                    writer.write_raw(b"value", grace_duration=NEVER)
            assert not pins(name)
            if not died:
                break
    print(f"died at each of {step - 1} steps, stride 1")
    assert was_pinned


def test_a_killed_writer_releases_the_write_lock(name: str) -> None:
    with Child() as child, closing(Writer(name)) as successor:
        child.call(write, name, "first")
        with pytest.raises(shmsync.WriteLockConflictError, match=rf"already has a writer \(pid {child.pid}, "):
            successor.write("second")
        child.kill()
        assert successor.write("second").version.seq == 2
        assert successor.stats().takeovers == 1
        successor.unlink()


def write(state: State, name: str, value: str) -> None:
    state.writer = Writer(name)
    state.writer.write(value)


def test_a_killed_reader_does_not_affect_the_others(writer: Writer, name: str) -> None:
    """They keep what they have pinned."""
    held = writer.write_raw(os.urandom(1000)).version.checksum
    with Child() as victim, Child() as survivor:
        victim.call(open_snapshot, name)
        survivor.call(open_snapshot, name)
        victim.kill()
        for _ in range(10):
            writer.write_raw(os.urandom(1000), grace_duration=0)
        assert survivor.call(snapshot_checksum) == held
        survivor.call(close_snapshot)
