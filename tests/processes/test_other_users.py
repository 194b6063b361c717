"""Readers of another user cannot affect anybody in isolated mode; and a writer that is killed at any step of a publish.

What another user tries here works on a name in shared mode: that shows that the attacks are real.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import platform
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import PACKAGE, SHM, Child, State, is_asleep, open_snapshot, snapshot_checksum, until

import shmsync
from shmsync import Info, Reader, ReadersFullError, WriteLockConflictError, Writer, codecs
from shmsync._core.layout import HIGH_WATER_AT, SLOTS_AT, VERSION_AT
from shmsync._session.state import PublicChannel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NOBODY = 65534

# ------------------------------------------------------------------------------------------- what another user can do


def become_nobody(_state: State) -> None:
    codecs.load()  # now: this user may not be able to read the interpreter's library
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def lock_everything(state: State, name: str) -> set[str]:
    """Take shared locks on all of each segment that can be opened, and keep them; return these segments."""
    state.locks = []
    locked = set()
    for path in SHM.glob(f"{name}_*"):
        try:
            fd = os.open(path, os.O_RDONLY)
        except PermissionError:
            continue
        state.locks.append(fd)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
        locked.add(path.name.removeprefix(f"{name}_"))
    return locked


def writable(_state: State, name: str) -> set[str]:
    """Return the segments that open for writing, or that can be truncated, renamed, removed, or get another mode."""
    found = set()
    for path in SHM.glob(f"{name}_*"):
        for attempt in (
            lambda path=path: os.close(os.open(path, os.O_RDWR)),
            lambda path=path: os.truncate(path, 0),
            lambda path=path: path.chmod(0o666),
            lambda path=path: path.rename(f"{path}.x"),
            lambda path=path: path.unlink(),
        ):
            try:
                attempt()
            except PermissionError:
                continue
            found.add(path.name.removeprefix(f"{name}_"))
    return found


def steal_sleepers(state: State, name: str, segment: str) -> int:
    """Move all who sleep on the version word to a word of this process; return how many there were."""
    fd = os.open(SHM / f"{name}_{segment}", os.O_RDONLY)
    theirs = mmap.mmap(fd, mmap.PAGESIZE, prot=mmap.PROT_READ)
    os.close(fd)
    state.own = mmap.mmap(-1, mmap.PAGESIZE)
    state.theirs = theirs
    address = _address(theirs)
    own = ctypes.addressof(ctypes.c_char.from_buffer(state.own))
    (seen,) = struct.unpack_from("=I", theirs, VERSION_AT)
    libc = ctypes.CDLL(None, use_errno=True)
    number, cmp_requeue = {"x86_64": 202, "aarch64": 98, "riscv64": 98}[platform.machine()], 4
    arguments = (number, address + VERSION_AT, cmp_requeue, 0, 1 << 30, own, seen)
    return int(libc.syscall(*(ctypes.c_ulong(each) for each in arguments)))


def _address(memory: mmap.mmap) -> int:
    """Return the address of a read-only mapping."""
    view = ctypes.py_object(memory)
    buffer = (ctypes.c_ssize_t * 16)()
    ctypes.pythonapi.PyObject_GetBuffer(view, ctypes.byref(buffer), 0)
    return buffer[0]


def fill_slots(state: State, name: str, count: int) -> int:
    """Attach until no slot is free; return how many handles are attached."""
    state.readers = [Reader(name) for _ in range(count)]
    try:
        for number, reader in enumerate(state.readers):
            reader.read()
            state.attached = number + 1
    except ReadersFullError:
        pass
    return int(state.attached)


def erase_counts(_state: State, name: str) -> bool:
    """Zero the reader table; return whether that was possible."""
    try:
        table = (SHM / f"{name}_readers").open("r+b")
    except PermissionError:
        return False
    with table:
        table.seek(HIGH_WATER_AT)
        table.write(bytes(SLOTS_AT - HIGH_WATER_AT + 64))
    return True


def open_reader_of_root(state: State, name: str) -> None:
    state.reader = Reader(name, owner="root")


def get(state: State) -> Any:
    return state.reader.get()


def wait(state: State, since: int) -> int | None:
    result: int | None = state.reader.wait(since)
    return result


def get_info(_state: State, name: str) -> Info:
    return shmsync.info(name)


@pytest.fixture
def isolated(name: str) -> Iterator[Writer]:
    with Writer(name, mode=0o644, max_readers=2) as writer:
        writer.write(1)
        yield writer
    Writer(name).unlink()


@pytest.fixture
def shared(name: str) -> Iterator[Writer]:
    with Writer(name, mode=0o644, reuse_memory=True, max_readers=2, grace_duration=0) as writer:
        writer.write(1)
        yield writer
    Writer(name).unlink()


@pytest.fixture
def nobody() -> Iterator[Child]:
    if os.geteuid() != 0:
        pytest.skip("only root can switch to another user")
    with Child() as child:
        child.call(become_nobody)
        yield child


def test_another_user_reads(isolated: Writer, name: str, nobody: Child) -> None:
    nobody.call(open_reader_of_root, name)
    assert nobody.call(get) == 1
    isolated.write(2)
    assert nobody.call(get) == 2
    nobody.send(wait, 2)
    until(lambda: is_asleep(nobody.pid))
    isolated.write(3)
    assert nobody.receive() == 3
    info = nobody.call(get_info, name)
    assert (info.isolated, info.seq, info.problems, info.readable) == (True, 3, (), True)
    assert (info.writer.state, info.writer.pid) == ("unknown", os.getpid())  # the locks are not for others to look at


def test_another_user_can_change_nothing(isolated: Writer, name: str, nobody: Child) -> None:
    assert nobody.call(writable, name) == set()
    assert not nobody.call(erase_counts, name)
    isolated.write(2)
    assert Reader(name).get() == 2


def test_shared_locks_do_not_stop_the_writer(isolated: Writer, name: str, nobody: Child) -> None:
    assert nobody.call(lock_everything, name) == {"readers", "data_0"}
    isolated.write(2)
    isolated.close()
    with Writer(name, mode=0o644) as successor:
        assert successor.write(3).version.seq == 3
        successor.unlink()
        assert successor.write(4).version.seq == 1
        successor.unlink()
    assert not list(SHM.glob(f"{name}_*"))


def test_shared_locks_stop_a_writer_that_reuses_memory(shared: Writer, name: str, nobody: Child) -> None:
    shared.close()
    assert "state" in nobody.call(lock_everything, name)
    with pytest.raises(WriteLockConflictError):
        Writer(name, mode=0o644, reuse_memory=True).write(2)


@pytest.mark.parametrize(("fixture", "segment"), [("isolated", "readers"), ("shared", "state")])
def test_a_stolen_wake_up(request: pytest.FixtureRequest, name: str, nobody: Child, fixture: str, segment: str) -> None:
    """The sleeper is moved, and the writer's wake does not reach it: it wakes itself."""
    writer: Writer = request.getfixturevalue(fixture)
    with Child() as victim:
        victim.call(open_reader_of_root, name)
        victim.call(get)
        victim.send(wait, 1)
        until(lambda: nobody.call(steal_sleepers, name, segment) == 1)
        writer.write(2)
        assert victim.receive() == 2
    assert PublicChannel.MAX_SLEEP <= 0.05


def test_another_user_takes_no_slots(isolated: Writer, name: str, nobody: Child) -> None:
    assert nobody.call(fill_slots, name, 5) == 5
    with Reader(name) as reader:
        assert reader.get() == 1


def test_another_user_takes_the_slots_of_a_shared_name(shared: Writer, name: str, nobody: Child) -> None:
    assert nobody.call(fill_slots, name, 5) == 2
    with Reader(name) as reader, pytest.raises(ReadersFullError):
        reader.get()
    shared.write(2)


def test_what_others_hold_delays_no_write_and_changes_no_snapshot(isolated: Writer, name: str, nobody: Child) -> None:
    with Child() as victim:
        nobody.call(fill_slots, name, 3)  # with open snapshots
        held = victim.call(open_snapshot, name)
        for value in range(2, 6):
            isolated.write(value)
        assert victim.call(snapshot_checksum) == held
    assert isolated.stats().resets == 0


def test_another_user_erases_the_counts_of_a_shared_name(shared: Writer, name: str, nobody: Child) -> None:
    with Child() as victim:
        held = victim.call(open_snapshot, name)
        assert nobody.call(erase_counts, name)
        shared.write(2)
        shared.write(3)
        assert victim.call(snapshot_checksum) != held  # the memory that it reads was overwritten


# ----------------------------------------------------------------------------------------- a writer that is killed


def write_until(name: str, value: int, last: int) -> None:
    """Publish in a forked process that kills itself before its line number `last` of the library."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    writer = Writer(name, mode=0o644)
    sys.settrace(trace)
    writer.write(value)
    sys.settrace(None)
    os._exit(0)


def in_a_fork(function: Any, *arguments: Any) -> bool:
    """Return whether the process ended by itself."""
    pid = os.fork()
    if not pid:
        try:
            function(*arguments)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    assert status in {0, signal.SIGKILL}, status
    return status == 0


def kill_at_every_step(_state: State, name: str, step: int, offset: int, first: bool) -> int:  # noqa: FBT001
    """Kill a writer at each line of a publish; return how many values were published by those that were killed."""
    published = value = 0
    last = 1 + offset
    reader = Reader(name)
    if not first:
        with Writer(name, mode=0o644) as writer:
            writer.write(value)
    while True:
        before = reader.get(default=None)
        value += 1
        is_complete = in_a_fork(write_until, name, value, last)
        after = reader.get(default=None)
        assert after in {before, value}, (last, before, after)
        assert not is_complete or after == value
        left = list(SHM.glob(f"{name}_data_0.*"))
        assert len(left) <= 1, left  # the next writer removes it
        published += after == value
        with Reader(name) as late:
            assert late.get(default=None) == after
        assert after is None or reader.version().seq == shmsync.info(name).seq
        if first:
            Writer(name, mode=0o644).unlink()
            assert reader.get(default=None) is None
            assert not list(SHM.glob(f"{name}_*"))
        if is_complete:
            break
        last += step
    Writer(name).unlink()
    reader.close()
    return published


STEP = 3


@pytest.mark.parametrize("offset", [pytest.param(each, marks=[pytest.mark.slow] * bool(each)) for each in range(STEP)])
@pytest.mark.parametrize("first", [False, True])
def test_a_writer_killed_at_every_step(name: str, offset: int, first: bool) -> None:  # noqa: FBT001
    with Child() as child:
        assert child.call(kill_at_every_step, name, STEP, offset, first) >= 1
    assert not list(SHM.glob(f"{name}_*"))


def hold_views(state: State, name: str) -> None:
    state.reader = Reader(name)
    state.view = state.reader.get()
    state.snapshot = state.reader.read()


def view_and_next(state: State) -> tuple[bytes, bytes, bytes]:
    return bytes(state.view), bytes(state.snapshot.buffer), bytes(state.reader.get())


@pytest.mark.parametrize("in_c", [False, True])
def test_a_fork_shares_what_its_parent_holds(name: str, in_c: bool) -> None:  # noqa: FBT001
    """Nothing has to be sealed: the memory is not written to again. So a fork in C loses nothing either."""
    with Writer(name, mode=0o644) as writer, Child() as child:
        writer.write_raw(b"old" * 2000)
        child.call(hold_views, name)
        fork = child.fork(in_c=in_c)
        for value in (b"mid", b"new"):
            writer.write_raw(value * 2000)
        for process in (child, fork):
            assert process.call(view_and_next) == (b"old" * 2000, b"old" * 2000, b"new" * 2000)
        fork.close()
        writer.unlink()


def inherited_writer(state: State, name: str) -> None:
    state.writer = Writer(name, mode=0o644)
    state.writer.write(1)
    state.reservation = state.writer.reserve(5)
    state.reservation.__enter__()


def finish(state: State) -> int:
    state.reservation.buffer[:] = b"saved"
    state.reservation.__exit__(None, None, None)
    seq: int = state.reservation.result.version.seq
    state.writer.close()
    return seq


def drop(state: State) -> list[str]:
    del state.reservation
    state.writer.close()
    return [path.name for path in Path("/dev/shm").glob(f"{state.writer.name}_data_0.*")]


def test_a_forked_child_does_not_remove_what_its_parent_prepares(name: str) -> None:
    with Child() as child:
        child.call(inherited_writer, name)
        fork = child.fork()
        assert len(fork.call(drop)) == 1
        assert child.call(finish) == 2
        fork.close()
    with Reader(name) as reader:
        assert bytes(reader.get()) == b"saved"
    Writer(name).unlink()
