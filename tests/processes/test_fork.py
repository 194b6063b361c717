"""Invariant 7: after a fork, neither process releases what the other holds, and handles keep working in both.

The forks happen in a clean interpreter without threads; parent and forked process then run what the test requests.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from helpers import (
    NEVER,
    TIMEOUT,
    Child,
    Connection,
    State,
    close_reader,
    close_snapshot,
    environment,
    get_value,
    hazards,
    open_reader,
    open_snapshot,
    pins,
    slots_locked,
    snapshot_checksum,
    until,
    without_waiting,
)

from shmsync import Reader, StateNotFoundError, Synchronizer, WriteLockConflictError, Writer
from shmsync._core.layout import checksum_of


def publish(writer: Writer, times: int) -> None:
    for _ in range(times):
        writer.write_raw(os.urandom(1000), grace_duration=0)


def check_clean(writer: Writer, name: str) -> None:
    """No slot is held any more; slots of dead readers cause no wait, and no reset after the second write."""
    until(lambda: not slots_locked(name))
    with without_waiting():
        for number in range(2):
            writer.write(number, grace_duration=NEVER)
        assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))
    assert not pins(name)


def checksum(writer: Writer) -> int:
    return writer.write_raw(os.urandom(1000)).version.checksum


# ----------------------------------------------------------------------------------------------------------- readers


def test_a_reader_keeps_working_in_both_processes(writer: Writer, name: str) -> None:
    with Child() as parent:
        parent.call(open_reader, name)
        writer.write("before")
        assert parent.call(get_value) == "before"
        forked = parent.fork()
        for number in range(10):
            for process in (parent, forked):
                assert process.call(get_value) == ("before" if number == 0 else number - 1)
                assert process.call(read) == process.call(get_value)
            assert slots_locked(name) == [0, 1]  # each has one of its own
            assert not writer.write(number, grace_duration=NEVER).reset
        forked.call(close_reader)
        publish(writer, 3)
        parent.call(get_value)
        parent.call(close_reader)
        assert not slots_locked(name)


def read(state: State) -> Any:
    with state.reader.read(check_bytes=True) as snapshot:
        return snapshot.value


def test_a_handle_that_never_read(writer: Writer, name: str) -> None:
    with Child() as parent:
        parent.call(open_reader, name)
        forked = parent.fork()
        for process in (parent, forked):
            with pytest.raises(StateNotFoundError):
                process.call(get_value)
        writer.write("value")
        assert parent.call(get_value) == forked.call(get_value) == "value"


def parent_first(parent: Child, forked: Connection) -> tuple[Connection, Connection]:
    return parent, forked


def forked_first(parent: Child, forked: Connection) -> tuple[Connection, Connection]:
    return forked, parent


ORDERS = pytest.mark.parametrize("order", [parent_first, forked_first])
Order = Callable[[Child, Connection], tuple[Connection, Connection]]


@ORDERS
def test_a_snapshot_live_at_the_fork(writer: Writer, name: str, order: Order) -> None:
    held = checksum(writer)
    with Child() as parent:
        assert parent.call(open_snapshot, name) == held
        forked = parent.fork()
        publish(writer, 20)
        assert parent.call(snapshot_checksum) == forked.call(snapshot_checksum) == held
        first, last = order(parent, forked)
        first.call(close_snapshot)
        publish(writer, 20)
        assert last.call(snapshot_checksum) == held
        assert first.call(get_value) == last.call(get_value)
        last.call(close_snapshot)
        publish(writer, 3)
        assert first.call(get_value) == last.call(get_value)
        first.call(close_reader)
        last.call(close_reader)
        check_clean(writer, name)


def test_a_snapshot_live_at_the_fork_and_the_parent_dies(writer: Writer, name: str) -> None:
    held = checksum(writer)
    with Child() as parent:
        parent.call(open_snapshot, name)
        forked = parent.fork()
        parent.kill()
        publish(writer, 20)
        assert forked.call(snapshot_checksum) == held
        forked.call(close_snapshot)
        publish(writer, 3)
        forked.call(get_value)
        forked.call(close_reader)
        check_clean(writer, name)


def test_a_snapshot_live_at_the_fork_and_the_forked_process_ends(writer: Writer, name: str) -> None:
    """Its exit releases nothing that the parent reads."""
    held = checksum(writer)
    with Child() as parent:
        parent.call(open_snapshot, name)
        forked = parent.fork()
        assert forked.call(snapshot_checksum) == held
        forked.close()
        parent.call(wait_for_forked)
        publish(writer, 20)
        assert parent.call(snapshot_checksum) == held
        parent.call(close_snapshot)
        parent.call(close_reader)
        check_clean(writer, name)


def wait_for_forked(_state: State) -> None:
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)


def test_a_fork_while_nothing_is_pinned_shares_nothing(writer: Writer, name: str) -> None:
    """The parent keeps using its slot: it still pins there, and its close frees the slot."""
    writer.write(1)
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        forked = parent.fork()
        forked.call(open_snapshot, name)
        parent.call(close_reader)
        publish(writer, 5)
        assert len(slots_locked(name)) == 1
        forked.call(close_snapshot)
        forked.call(close_reader)
        check_clean(writer, name)


def hold_again(state: State) -> None:
    state.snapshot = state.reader.read()


def test_a_forked_process_does_not_hide_that_its_parent_died(writer: Writer, name: str) -> None:
    writer.write(1)
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        forked = parent.fork()
        parent.call(hold_again)
        assert len(pins(name)) == len(slots_locked(name)) == 1
        parent.kill()
        check_clean(writer, name)
        forked.call(close_reader)


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
    """Regression: its pin came after the parent had checked the slot, and the child's value was torn."""
    command = [sys.executable, "-W", "ignore", "-c", ENTERS_BETWEEN_HOOK_AND_FORK, name]
    assert subprocess.run(command, env=environment(), timeout=TIMEOUT, check=False).returncode == 0


def get_and_retain(state: State, name: str) -> None:
    state.reader = Reader(name)
    state.value = state.reader.get()


def value_checksum(state: State) -> int:
    return checksum_of(state.value)


def drop_value(state: State) -> None:
    state.value = None
    state.reader.get()  # clears the hazard of the dropped value


@ORDERS
def test_a_value_retained_at_the_fork(writer: Writer, name: str, order: Order) -> None:
    """The value comes from `get`, so it is retained without a pin."""
    held = checksum(writer)
    with Child() as parent:
        parent.call(get_and_retain, name)
        assert hazards(name)
        assert not pins(name)
        forked = parent.fork()
        first, last = order(parent, forked)
        publish(writer, 1)
        first.call(drop_value)
        publish(writer, 20)
        assert last.call(value_checksum) == held
        first.call(close_reader)
        publish(writer, 20)
        assert last.call(value_checksum) == held
        last.call(drop_value)
        last.call(close_reader)
        check_clean(writer, name)


# ----------------------------------------------------------------------------------------------------------- writers


def open_writer(state: State, name: str) -> None:
    state.writer = Writer(name)


def open_sync(state: State, name: str) -> None:
    state.writer = state.reader = Synchronizer(name)


def write(state: State, value: Any) -> int:
    seq: int = state.writer.write(value).version.seq
    return seq


def close_writer(state: State) -> None:
    state.writer.close()


def test_a_writer_is_not_inherited(name: str) -> None:
    with Child() as parent, closing(Writer(name)) as successor:
        parent.call(open_writer, name)
        assert parent.call(write, 1) == 1
        forked = parent.fork()
        with pytest.raises(WriteLockConflictError, match="inherited by a fork"):
            forked.call(write, 2)
        forked.call(close_writer)
        assert parent.call(write, 2) == 2  # the forked process has not closed the parent's
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            successor.write(3)
        forked.call(open_writer, name)
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            forked.call(write, 3)
        parent.call(close_writer)
        assert forked.call(write, 3) == 3
        forked.call(close_writer)
        successor.unlink()


def test_a_forked_process_does_not_keep_the_lock(name: str) -> None:
    with Child() as parent, closing(Writer(name)) as successor:
        parent.call(open_writer, name)
        parent.call(write, 1)
        forked = parent.fork()
        parent.kill()
        assert successor.write(2).version.seq == 2
        with pytest.raises(WriteLockConflictError):
            forked.call(write, 3)
        successor.unlink()


def keep_ownership(state: State) -> None:
    state.ownership = state.writer._ownership  # like the stack of a thread that is writing at the fork


def test_a_forked_process_does_not_keep_the_lock_of_another_thread(name: str) -> None:
    with Child() as parent, closing(Writer(name)) as successor:
        parent.call(open_writer, name)
        parent.call(write, 1)
        parent.call(keep_ownership)
        forked = parent.fork()
        parent.kill()
        assert successor.write(2).version.seq == 2
        forked.close()
        successor.unlink()


def test_a_synchronizer_keeps_working_in_both_processes(name: str) -> None:
    with Child() as parent:
        parent.call(open_sync, name)
        parent.call(write, "first")
        assert parent.call(get_value) == "first"
        forked = parent.fork()
        assert forked.call(get_value) == "first"
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            forked.call(write, "second")
        assert parent.call(write, "second") == 2
        assert forked.call(get_value) == "second"
        parent.call(close_writer)
        assert forked.call(write, "third") == 3
        assert forked.call(get_value) == "third"
        forked.call(unlink)


def unlink(state: State) -> None:
    state.writer.unlink()


# ------------------------------------------------------------------------------------------------------------- pools


def pool(_state: State, method: str, name: str) -> None:
    """Pass handles to the workers of a pool; each worker attaches by name."""
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
        child.call(pool, method, name)


def inherit(_state: State, name: str) -> None:
    """Use handles that a forked worker inherits in its memory."""
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
        child.call(inherit, name)
