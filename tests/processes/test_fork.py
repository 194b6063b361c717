"""Invariant 7: after a fork neither side releases what the other holds, and handles work on in both.

The forks happen in a clean interpreter without threads; parent and forked process then do what the test asks each.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from helpers import (
    NEVER,
    PATIENCE,
    Child,
    Held,
    Line,
    at_once,
    attach,
    close,
    get,
    hazards,
    hold,
    leave,
    look,
    pins,
    slots_locked,
    until,
)

from shmsync import Reader, StateNotFoundError, Synchronizer, WriteLockConflictError, Writer
from shmsync._core.layout import checksum_of


def publish(writer: Writer, times: int) -> None:
    for _ in range(times):
        writer.write_raw(os.urandom(1000), grace_duration=0)


def check_clean(writer: Writer, name: str) -> None:
    """No slot is held any more, and what the dead left costs no wait, and nothing from the second write on."""
    until(lambda: not slots_locked(name))
    with at_once():
        for number in range(2):
            writer.write(number, grace_duration=NEVER)
        assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))
    assert not pins(name)


def checksum(writer: Writer) -> int:
    return writer.write_raw(os.urandom(1000)).version.checksum


# ----------------------------------------------------------------------------------------------------------- readers


def test_a_handle_works_on_in_both(writer: Writer, name: str) -> None:
    with Child() as parent:
        parent.ask(attach, name)
        writer.write("before")
        assert parent.ask(get) == "before"
        forked = parent.fork()
        for number in range(10):
            for process in (parent, forked):
                assert process.ask(get) == ("before" if number == 0 else number - 1)
                assert process.ask(read) == process.ask(get)
            assert slots_locked(name) == [0, 1]  # each has one of its own
            assert not writer.write(number, grace_duration=NEVER).reset
        forked.ask(close)
        publish(writer, 3)
        parent.ask(get)
        parent.ask(close)
        assert not slots_locked(name)


def read(held: Held) -> Any:
    with held.reader.read(check_bytes=True) as snapshot:
        return snapshot.value


def test_a_handle_that_never_read(writer: Writer, name: str) -> None:
    with Child() as parent:
        parent.ask(attach, name)
        forked = parent.fork()
        for process in (parent, forked):
            with pytest.raises(StateNotFoundError):
                process.ask(get)
        writer.write("value")
        assert parent.ask(get) == forked.ask(get) == "value"


def parent_first(parent: Child, forked: Line) -> tuple[Line, Line]:
    return parent, forked


def forked_first(parent: Child, forked: Line) -> tuple[Line, Line]:
    return forked, parent


ORDERS = pytest.mark.parametrize("order", [parent_first, forked_first])
Order = Callable[[Child, Line], tuple[Line, Line]]


@ORDERS
def test_a_snapshot_live_at_the_fork(writer: Writer, name: str, order: Order) -> None:
    held = checksum(writer)
    with Child() as parent:
        assert parent.ask(hold, name) == held
        forked = parent.fork()
        publish(writer, 20)
        assert parent.ask(look) == forked.ask(look) == held
        first, last = order(parent, forked)
        first.ask(leave)
        publish(writer, 20)
        assert last.ask(look) == held
        assert first.ask(get) == last.ask(get)
        last.ask(leave)
        publish(writer, 3)
        assert first.ask(get) == last.ask(get)
        first.ask(close)
        last.ask(close)
        check_clean(writer, name)


def test_a_snapshot_live_at_the_fork_and_the_parent_dies(writer: Writer, name: str) -> None:
    held = checksum(writer)
    with Child() as parent:
        parent.ask(hold, name)
        forked = parent.fork()
        parent.kill()
        publish(writer, 20)
        assert forked.ask(look) == held
        forked.ask(leave)
        publish(writer, 3)
        forked.ask(get)
        forked.ask(close)
        check_clean(writer, name)


def test_a_snapshot_live_at_the_fork_and_the_forked_process_ends(writer: Writer, name: str) -> None:
    """Its exit lets go of nothing that the parent reads."""
    held = checksum(writer)
    with Child() as parent:
        parent.ask(hold, name)
        forked = parent.fork()
        assert forked.ask(look) == held
        forked.hang_up()
        parent.ask(wait_for_forked)
        publish(writer, 20)
        assert parent.ask(look) == held
        parent.ask(leave)
        parent.ask(close)
        check_clean(writer, name)


def wait_for_forked(_held: Held) -> None:
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def test_a_fork_while_nothing_is_held_shares_nothing(writer: Writer, name: str) -> None:
    """The parent goes on in its slot: its counts are still counted, its slot is freed at its close."""
    writer.write(1)
    with Child() as parent:
        parent.ask(attach, name)
        parent.ask(get)
        forked = parent.fork()
        forked.ask(hold, name)
        parent.ask(close)
        publish(writer, 5)
        assert len(slots_locked(name)) == 1
        forked.ask(leave)
        forked.ask(close)
        check_clean(writer, name)


def hold_again(held: Held) -> None:
    held.snapshot = held.reader.read()


def test_a_forked_process_does_not_hide_that_its_parent_died(writer: Writer, name: str) -> None:
    writer.write(1)
    with Child() as parent:
        parent.ask(attach, name)
        parent.ask(get)
        forked = parent.fork()
        parent.ask(hold_again)
        assert len(pins(name)) == len(slots_locked(name)) == 1
        parent.kill()
        check_clean(writer, name)
        forked.ask(close)


ENTERS_BETWEEN_HOOK_AND_FORK = """
import os, sys, threading
go, done = threading.Event(), threading.Event()
os.register_at_fork(before=lambda: (go.set(), done.wait()))  # after that of shmsync
from shmsync import Reader, Writer
writer, reader = Writer(sys.argv[1], grace_duration=30.0), Reader(sys.argv[1])
writer.write_raw(b"older")
writer.write_raw(b"other")
fast = reader.read()
fast.close()
def enter():
    global snapshot
    go.wait()
    threading.Timer(0.2, done.set).start()  # in case that the read waits for the fork
    snapshot = reader.read()
    done.set()
snapshot = None
thread = threading.Thread(target=enter)
thread.start()
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.read(read, 1)
    os._exit(int(snapshot is not None and bytes(snapshot.buffer) != b"other"))
thread.join()
snapshot.close()
del snapshot
for value in (b"third", b"forth", b"fifth"):
    writer.write_raw(value, grace_duration=0)
os.write(write, b"x")
_, status = os.waitpid(child, 0)
writer.unlink()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_thread_that_enters_just_before_the_fork(name: str) -> None:
    """Found by a reviewer: its count came after the parent's look at the slot, and the child's copy was torn."""
    command = [sys.executable, "-W", "ignore", "-c", ENTERS_BETWEEN_HOOK_AND_FORK, name]
    path = os.pathsep.join(filter(None, sys.path))
    assert (
        subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, timeout=PATIENCE, check=False).returncode == 0
    )


def keep(held: Held, name: str) -> None:
    held.reader = Reader(name)
    held.value = held.reader.get()


def look_at_value(held: Held) -> int:
    return checksum_of(held.value)


def drop_value(held: Held) -> None:
    held.value = None
    held.reader.get()  # here the keep of what is dropped is taken back


@ORDERS
def test_a_value_kept_at_the_fork(writer: Writer, name: str, order: Order) -> None:
    """From `get`, with no pin on it."""
    held = checksum(writer)
    with Child() as parent:
        parent.ask(keep, name)
        assert hazards(name)
        assert not pins(name)
        forked = parent.fork()
        first, last = order(parent, forked)
        publish(writer, 1)
        first.ask(drop_value)
        publish(writer, 20)
        assert last.ask(look_at_value) == held
        first.ask(close)
        publish(writer, 20)
        assert last.ask(look_at_value) == held
        last.ask(drop_value)
        last.ask(close)
        check_clean(writer, name)


# ----------------------------------------------------------------------------------------------------------- writers


def open_writer(held: Held, name: str) -> None:
    held.writer = Writer(name)


def open_sync(held: Held, name: str) -> None:
    held.writer = held.reader = Synchronizer(name)


def write(held: Held, value: Any) -> int:
    seq: int = held.writer.write(value).version.seq
    return seq


def close_writer(held: Held) -> None:
    held.writer.close()


def test_a_writer_is_not_inherited(name: str) -> None:
    with Child() as parent, Writer(name) as successor:
        parent.ask(open_writer, name)
        assert parent.ask(write, 1) == 1
        forked = parent.fork()
        with pytest.raises(WriteLockConflictError, match="inherited by a fork"):
            forked.ask(write, 2)
        forked.ask(close_writer)
        assert parent.ask(write, 2) == 2  # the forked process has not closed the parent's
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            successor.write(3)
        forked.ask(open_writer, name)
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            forked.ask(write, 3)
        parent.ask(close_writer)
        assert forked.ask(write, 3) == 3
        forked.ask(close_writer)
        successor.unlink()


def test_a_forked_process_does_not_keep_the_lock(name: str) -> None:
    with Child() as parent, Writer(name) as successor:
        parent.ask(open_writer, name)
        parent.ask(write, 1)
        forked = parent.fork()
        parent.kill()
        assert successor.write(2).version.seq == 2
        with pytest.raises(WriteLockConflictError):
            forked.ask(write, 3)
        successor.unlink()


def keep_ownership(held: Held) -> None:
    held.tenure = held.writer._ownership  # as the stack of a thread that is writing does at the fork


def test_a_forked_process_does_not_keep_the_lock_of_another_thread(name: str) -> None:
    with Child() as parent, Writer(name) as successor:
        parent.ask(open_writer, name)
        parent.ask(write, 1)
        parent.ask(keep_ownership)
        forked = parent.fork()
        parent.kill()
        assert successor.write(2).version.seq == 2
        forked.hang_up()
        successor.unlink()


def test_a_synchronizer_works_on_in_both(name: str) -> None:
    with Child() as parent:
        parent.ask(open_sync, name)
        parent.ask(write, "first")
        assert parent.ask(get) == "first"
        forked = parent.fork()
        assert forked.ask(get) == "first"
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            forked.ask(write, "second")
        assert parent.ask(write, "second") == 2
        assert forked.ask(get) == "second"
        parent.ask(close_writer)
        assert forked.ask(write, "third") == 3
        assert forked.ask(get) == "third"
        forked.ask(unlink)


def unlink(held: Held) -> None:
    held.writer.unlink()


# ------------------------------------------------------------------------------------------------------------- pools


def pool(_held: Held, method: str, name: str) -> None:
    """Hand handles to the workers of a pool; each finds its segments by name."""
    with (
        multiprocessing.get_context(method).Pool(2) as workers,
        Writer(name, codec="raw", grace_duration=0) as writer,
        Reader(name) as reader,
    ):
        writer.write(b"from here")
        reader.get()
        assert workers.apply(value_of, (reader,)) == b"from here"
        with reader.read() as snapshot, pytest.raises(TypeError, match="Snapshot"):
            workers.apply(value_of, (snapshot,))
        with pytest.raises(WriteLockConflictError):
            workers.apply(write_there, (writer, b"from there"))
        writer.close()
        assert workers.apply(write_there, (writer_options(name), b"from there")) == 2
        assert bytes(reader.get()) == b"from there"
        assert workers.apply(write_there, (Synchronizer(name, codec="raw"), b"again")) == 3
        assert workers.map(value_of, [reader, Synchronizer(name)] * 4) == [b"again"] * 8
        workers.close()
        workers.join()


def writer_options(name: str) -> Writer:
    return Writer(name, codec="raw")


def value_of(handle: Reader) -> bytes:
    with handle:
        return bytes(handle.get())


def write_there(handle: Writer | Synchronizer, value: bytes) -> int:
    try:
        return handle.write(value).version.seq
    finally:
        handle.close()


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_handles_pickle_by_name(writer: Writer, name: str, method: str) -> None:
    with Child() as child:
        child.ask(pool, method, name)


def inherit(_held: Held, name: str) -> None:
    """Handles that a forked worker finds in its memory."""
    with Writer(name) as writer, Reader(name) as reader:
        writer.write("value")
        reader.get()
        process = multiprocessing.get_context("fork").Process(target=use_inherited, args=(writer, reader))
        process.start()
        process.join()
        assert process.exitcode == 0
        assert writer.write("still mine").version.seq == 2


def use_inherited(writer: Writer, reader: Reader) -> None:
    assert reader.get() == "value"
    with pytest.raises(WriteLockConflictError):
        writer.write("mine")
    assert pickle.loads(pickle.dumps(reader)).get() == "value"


def test_handles_inherited_by_a_worker(writer: Writer, name: str) -> None:
    with Child() as child:
        child.ask(inherit, name)
