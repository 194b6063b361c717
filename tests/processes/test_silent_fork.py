"""Forks in C, without Python's at-fork hooks: the child finds out by itself, and neither side harms the other."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    NEVER,
    Child,
    State,
    checksum,
    close_reader,
    close_snapshot,
    get_value,
    hazards,
    open_reader,
    open_snapshot,
    pins,
    slots_locked,
    snapshot_checksum,
    without_waiting,
)

from shmsync import ClosedError, Reader, Synchronizer, WriteLockConflictError, Writer


def publish(writer: Writer, times: int) -> int:
    for _ in range(times):
        result = writer.write_raw(os.urandom(10_000), grace_duration=0)
    return result.version.checksum


def keep_value(state: State) -> int:
    state.value = state.reader.get()
    return checksum(state.value)


def value_checksum(state: State) -> int:
    return checksum(state.value)


def test_a_value_that_the_child_gets_is_retained_by_the_child(writer: Writer, name: str) -> None:
    """The version is the one that its parent has cached, so the fast path would return the parent's view."""
    expected = publish(writer, 1)
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(keep_value)
        forked = parent.fork(in_c=True)
        assert forked.call(keep_value) == expected
        assert slots_locked(name) == [0, 1]
        for _ in range(10):
            publish(writer, 1)
            parent.call(keep_value)  # here the parent clears its hazard
            assert forked.call(value_checksum) == expected
        forked.close()


def test_each_side_takes_back_only_its_own(writer: Writer, name: str) -> None:
    expected = publish(writer, 1)
    with Child() as parent:
        parent.call(open_snapshot, name)
        before = pins(name)
        forked = parent.fork(in_c=True)
        forked.call(close_snapshot)
        forked.call(close_reader)
        assert pins(name) == before
        publish(writer, 5)
        assert parent.call(snapshot_checksum) == expected
        parent.call(close_snapshot)
        parent.call(close_reader)
        assert not slots_locked(name)
        assert not pins(name)
        assert not hazards(name)


def drop_snapshot(state: State) -> None:
    del state.snapshot


def test_a_finalizer_takes_back_nothing_of_the_parent(writer: Writer, name: str) -> None:
    publish(writer, 1)
    with Child() as parent:
        parent.call(open_snapshot, name)
        before = pins(name)
        parent.fork(in_c=True).call(drop_snapshot)
        assert pins(name) == before


def use_snapshot(state: State, how: str) -> Any:
    return getattr(state.snapshot, how)


@pytest.mark.parametrize("how", ["value", "buffer"])
def test_an_inherited_snapshot_says_that_it_is_not_protected(writer: Writer, name: str, how: str) -> None:
    publish(writer, 1)
    with Child() as parent:
        parent.call(open_snapshot, name)
        parent.call(keep_value)  # cached: `value` need not decode
        forked = parent.fork(in_c=True)
        for _ in range(2):  # also once the child has noticed that it is one
            with pytest.raises(ClosedError, match="opened before a fork that Python did not announce"):
                forked.call(use_snapshot, how)
        assert forked.call(use_snapshot, "closed")
        assert not parent.call(use_snapshot, "closed")


def open_writer(state: State, name: str, kind: type[Writer[Any] | Synchronizer[Any]]) -> None:
    state.writer = kind(name)
    state.writer.write(1)


def write(state: State, value: int) -> int:
    seq: int = state.writer.write(value).version.seq
    return seq


def close_writer(state: State) -> None:
    state.writer.close()


def drop_writer(state: State) -> None:
    del state.writer


def test_a_writer_is_not_inherited(name: str) -> None:
    with Child() as parent:
        parent.call(open_writer, name, Writer)
        forked = parent.fork(in_c=True)
        with pytest.raises(WriteLockConflictError, match="inherited by a fork"):
            forked.call(write, 2)
        forked.call(close_writer)
        assert parent.call(write, 2) == 2
        with closing(Writer(name)) as other, pytest.raises(WriteLockConflictError, match="already has a writer"):
            other.write(3)
        parent.call(close_writer)
        with Writer(name) as other:
            assert other.write(3).version.seq == 3
            other.unlink()


def test_a_dropped_writer_does_not_unlock_its_parents(name: str) -> None:
    with Child() as parent, closing(Writer(name)) as other:
        parent.call(open_writer, name, Writer)
        parent.fork(in_c=True).call(drop_writer)
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            other.write(3)
        parent.call(close_writer)
        other.unlink()


def test_a_synchronizer_takes_the_lock_for_itself(name: str) -> None:
    with Child() as parent:
        parent.call(open_writer, name, Synchronizer)
        forked = parent.fork(in_c=True)
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {parent.pid}, "):
            forked.call(write, 2)
        parent.call(close_writer)
        assert forked.call(write, 2) == 2
        forked.call(unlink)


def unlink(state: State) -> None:
    state.writer.unlink()


def test_a_slot_is_free_when_its_reader_closes_although_a_child_has_a_copy(writer: Writer, name: str) -> None:
    """The child never uses shmsync: its copy of the descriptor must not hold the lock after that."""
    writer.write(list(range(3000)))
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        forked = parent.fork(in_c=True)
        parent.call(close_reader)
        assert not slots_locked(name)
        with without_waiting():
            assert not any(writer.write(number, grace_duration=NEVER).reset for number in range(4))
        forked.close()


def descriptors(state: State, name: str) -> list[str]:
    paths = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    return [path for path in paths if path.endswith(f"/{name}_readers")]


def look_at_a_name(state: State, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        Reader(name).get()


def test_the_first_call_closes_what_was_inherited(writer: Writer, name: str) -> None:
    """Any call: here, of a new handle for another name."""
    writer.write(list(range(3000)))
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        forked = parent.fork(in_c=True)
        before = len(forked.call(descriptors, name))
        forked.call(look_at_a_name, f"{name}-other")
        assert len(forked.call(descriptors, name)) < before
        parent.kill()
        assert not slots_locked(name)
        forked.close()


def wait_for_another(state: State, timeout: float) -> int | None:
    found: int | None = asyncio.run(state.reader.wait_async(timeout=timeout))
    return found


@pytest.mark.parametrize("in_c", [True, False])
def test_what_the_parent_has_read_is_not_new_in_the_child(writer: Writer, name: str, in_c: bool) -> None:  # noqa: FBT001
    writer.write(1)
    with Child() as parent:
        parent.call(open_reader, name)
        assert parent.call(get_value) == 1
        forked = parent.fork(in_c=in_c)
        assert forked.call(get_value) == 1
        assert forked.call(wait_for_another, 0.01) is None
        forked.close()


def test_a_coroutine_waits_in_the_child(writer: Writer, name: str) -> None:
    """The thread that sleeps for all coroutines is not there."""
    writer.write(1)
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        assert parent.call(wait_for_another, 0.01) is None
        forked = parent.fork(in_c=True)
        assert forked.call(get_value) == 1
        forked.send(wait_for_another, NEVER)
        writer.write(2)
        assert forked.receive() == 2
        forked.close()
