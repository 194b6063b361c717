"""Invariant 4: a process that dies or stands still, at any instruction, costs the others next to nothing.

They keep the last value, the next writer goes on from it at once, no count is left behind, and nobody cleans up by
hand. The processes are real, and so are the signals.
"""

from __future__ import annotations

import itertools
import os
import signal
import struct
import sys
import time
import traceback
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import (
    NEVER,
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
from shmsync._core.layout import HIGH_WATER_AT, ONE, checksum_of, slot_offset

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
        with without_waiting():
            assert all(writer.write(number, grace_duration=NEVER).reset for number in range(2))
            assert not pins(name)
            assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))


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
        assert 0 < sum(made) <= grace  # invariant 3: no longer than that, in total
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


# ------------------------------------------------------------------------------------------------- death at each step

PACKAGE = os.path.dirname(shmsync.__file__)  # noqa: PTH120 - compared with file names of frames
GIVE_UP = 5000


def die_at(step: int, action: Callable[[], Any]) -> None:
    """Run an action, but be killed just before the `step`-th line of the package that it runs."""
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
    """Let a forked process prepare an action and die at a step of it; tell whether it died, or got to the end."""
    pid = os.fork()
    if pid == 0:
        try:
            die_at(step, prepare(*args))
            os._exit(0)
        except BaseException:  # noqa: BLE001 - nobody above is there to see it
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


def nobody(_name: str) -> tuple[Any, Any]:
    """Nobody reads."""
    return None, b""


def holding(name: str) -> tuple[Any, Any]:
    """Stay inside a read: the writer has to evict, and to replace the inode."""
    snapshot = Reader(name).read()
    return snapshot, snapshot.buffer


def keeping(name: str) -> tuple[Any, Any]:
    """Keep a view: the writer has to replace the inode."""
    with Reader(name).read() as snapshot:
        return None, snapshot.buffer


def dead(name: str) -> tuple[Any, Any]:
    """Leave the counts of a dead reader: the writer has to reap them."""
    with (SHM / f"{name}_readers").open("r+b") as table:
        table.seek(HIGH_WATER_AT)
        table.write(struct.pack("=Q", 4))
        table.seek(slot_offset(3))
        table.write(struct.pack("=Q", ONE[0] + ONE[1]))
    return nobody(name)


class Case(NamedTuple):
    """A step of a writer's life, and what surrounds it.

    Attributes:
        prepare: called in the process that is to die; returns what it does when it dies.
        writes_before: how many writes of its own the writer has done before that.
        alive: a value was published by somebody else before.
        size: of the values.
        around: what readers do meanwhile; returns what they hold, and a view that must not change.
    """

    prepare: Callable[[str, int, str, str], Callable[[], Any]]
    writes_before: int = 0
    alive: bool = True
    size: int = 10
    around: Callable[[str], tuple[Any, Any]] = nobody


CASES = {
    "first write": Case(to_write, alive=False),
    "takeover": Case(to_write),
    "in place": Case(to_write, writes_before=2),
    "growth": Case(to_write, writes_before=2, size=100_000),
    "eviction": Case(to_write, writes_before=1, around=holding),
    "kept": Case(to_write, writes_before=1, around=keeping),
    "reaping": Case(to_write, around=dead),
    "unlink": Case(to_unlink, writes_before=1),
    "unlink by a writer that never wrote": Case(to_unlink),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_writer_killed_at_each_step(name: str, case: Case) -> None:
    unlinks = case.prepare is to_unlink
    seen = set()
    with Child() as child, Reader(name) as attached:
        for step in itertools.count(1):
            assert step < GIVE_UP
            old, new = f"old {step}", f"new {step}".ljust(case.size)
            if case.alive:
                with Writer(name) as writer:
                    writer.write(old)
                assert attached.get() == old
            held, view = case.around(name)
            before = checksum_of(view)

            died = child.call(fork_and_die, step, case.prepare, name, case.writes_before, old, new)

            value = attached.get(default=None)
            assert value in ((old, None) if unlinks else (old, new) if case.alive else (None, new))
            seen.add(value and value[:3])
            with Reader(name) as late:
                assert late.get(default=None) == value
                seq = late.version().seq if value else 0
            grace = 0 if case.around is holding else NEVER
            with Writer(name, grace_duration=grace) as successor, without_waiting():
                for number in range(1, 5):
                    assert successor.write(number).version.seq == seq + number
                    with Reader(name) as late:
                        assert attached.get() == late.get() == number
                assert checksum_of(view) == before
                del held, view
                assert not pins(name)
                if not case.alive:
                    successor.unlink()
            if not died:
                break
        with Writer(name) as last:
            last.unlink()
    print(f"died at each of {step - 1} steps, stride 1")
    assert step > 10
    assert seen == ({"old", None} if unlinks else {"old", "new"} if case.alive else {None, "new"})


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
    counted = False
    with Child() as child:
        for step in itertools.count(1):
            assert step < GIVE_UP
            writer.write_raw(b"value")
            died = child.call(fork_and_die, step, to_read, name, reads_before)
            counted |= bool(pins(name))
            with without_waiting():
                for _ in range(3):
                    writer.write_raw(b"value", grace_duration=NEVER)
            assert not pins(name)
            if not died:
                break
    print(f"died at each of {step - 1} steps, stride 1")
    assert counted


def test_a_writer_killed_leaves_its_lock(name: str) -> None:
    with Child() as child, Writer(name) as successor:
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


def test_one_reader_among_many_dies(writer: Writer, name: str) -> None:
    """The others keep what they hold."""
    held = writer.write_raw(os.urandom(1000)).version.checksum
    with Child() as mortal, Child() as survivor:
        mortal.call(open_snapshot, name)
        survivor.call(open_snapshot, name)
        mortal.kill()
        for _ in range(10):
            writer.write_raw(os.urandom(1000), grace_duration=0)
        assert survivor.call(snapshot_checksum) == held
        survivor.call(close_snapshot)
