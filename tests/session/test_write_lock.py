"""Who holds the write lock, as the error says it: only processes that hold it, and what to do about them."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import time
from contextlib import closing, suppress

import pytest
from helpers import SHM, Child, State, publish, until

from shmsync import WriteLockConflictError, Writer
from shmsync._core.layout import WRITER, WRITER_AT
from shmsync._session import write_lock
from shmsync._shm import lock_holders, processes


@pytest.fixture(autouse=True)
def _unlimited_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the holder also on a slow machine: the limit is for hosts with millions of descriptors."""
    monkeypatch.setattr(write_lock, "_SEARCH_LIMIT", 600.0)


def record(name: str, pid: int) -> None:
    """Record another process as the writer of a name."""
    with (SHM / f"{name}_state").open("r+b") as state:
        state.seek(WRITER_AT)
        state.write(WRITER.pack(pid, time.time_ns()))


def message(name: str) -> str:
    with closing(Writer(name)) as writer, pytest.raises(WriteLockConflictError) as raised:
        writer.write(1)
    return str(raised.value)


def fork_in_c(state: State) -> int:
    """Fork as a C library does, without a word to Python; the child sleeps. Return its pid."""
    pid = int(ctypes.PyDLL(None).fork())
    if pid == 0:
        time.sleep(3600)
        os._exit(0)
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # not a child of this process: init reaps it
        until(lambda: not lock_holders.can_see(pid))


def test_another_writer_of_this_process(writer: Writer, name: str) -> None:
    writer.write(1)
    assert re.search(
        rf"already has a writer \(pid {os.getpid()}, since .*, another Writer of this process\)", message(name)
    )


def test_a_writer_in_another_process(name: str) -> None:
    with Child() as child:
        child.call(publish, name, 1)
        assert f"already has a writer (pid {child.pid}, since " in message(name)
        child.call(unlink)


def unlink(state: State) -> None:
    state.writer.unlink()


def test_a_dead_writer_whose_fork_holds_the_lock(name: str) -> None:
    with Child() as child:
        child.call(publish, name, 1)
        forked = child.call(fork_in_c)
        try:
            child.kill()
            text = message(name)
            assert f"its writer (pid {child.pid}, since " in text
            assert f"has ended, but a process that it forked holds the write lock: pid {forked};" in text
        finally:
            end(forked)
    with closing(Writer(name)) as writer:
        until(lambda: takes_over(writer))
        writer.unlink()


def takes_over(writer: Writer) -> bool:
    try:
        writer.write(2)
    except WriteLockConflictError:
        return False
    return True


def test_a_pid_that_another_process_uses_now(name: str) -> None:
    """The recorded process is alive, but holds no lock: it is not named as the holder."""
    with Child() as child, Child() as other:
        child.call(publish, name, 1)
        record(name, other.pid)
        text = message(name)
        assert f"a process that it forked holds the write lock: pid {child.pid};" in text
        assert f"(pid {other.pid}, since" not in text or "has ended" in text
        child.call(unlink)


def test_a_lock_that_was_kept_after_close(name: str) -> None:
    with Child() as child:
        child.call(publish, name, 1)
        record(name, 0)
        assert f"already has a writer (pid {child.pid}), which is opening the name, or was forked" in message(name)
        child.call(unlink)


def test_a_holder_that_cannot_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of another user shows no locks: it is believed if it is as old as the record, else nobody is named."""
    monkeypatch.setattr(lock_holders, "can_see", lambda pid: False)
    monkeypatch.setattr(lock_holders, "holders", lambda fd, offset, limit: [])
    with Child() as child:
        child.call(publish, name, 1)
        assert f"already has a writer (pid {child.pid}, since " in message(name)
        monkeypatch.setattr(processes, "TOLERANCE", -1e9)  # it started later
        text = message(name)
        assert f"pid {child.pid}" not in text
        assert "fuser /dev/shm" in text
        child.call(unlink)


def test_start_times() -> None:
    assert lock_holders.may_have_run_at(os.getpid(), time.time())
    assert not lock_holders.may_have_run_at(os.getpid(), 0.0)
    assert not lock_holders.may_have_run_at(2**22 + 1, time.time())  # above the largest pid


def test_the_search_is_bounded(writer: Writer, name: str) -> None:
    writer.write(1)
    with (SHM / f"{name}_state").open("rb") as state:
        assert os.getpid() in lock_holders.holders(state.fileno(), 0, 60.0)
        assert lock_holders.holders(state.fileno(), 0, -1.0) == []
        assert lock_holders.holders(state.fileno(), 1, 60.0) == []
