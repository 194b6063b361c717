"""Replaced inodes are kept as spares for updates, and used again once no reader has mapped them."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import SHM, Child, State

from shmsync import Reader, Writer, info
from shmsync._session import data
from shmsync._shm import ofd_locks, segment
from shmsync.errors import CapacityError, DataReadError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 20_000
SIZE = ROWS * 80


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with closing(Writer(name, grace_duration=0)) as writer:
        writer.write(table())
        yield writer
    with Writer(name) as last:
        last.unlink()


def table() -> np.ndarray[Any, Any]:
    return np.arange(ROWS * 10, dtype=float).reshape(ROWS, 10)


def segments(name: str) -> list[str]:
    return sorted(path.name.removeprefix(f"{name}_") for path in SHM.iterdir() if path.name.startswith(f"{name}_"))


def spares(name: str) -> list[str]:
    return [each for each in segments(name) if each.endswith(".new")]


def update(writer: Writer, turn: int) -> int:
    """Change a row; return how many bytes were copied."""
    with writer.update() as draft:
        draft[turn % ROWS] = -turn
    assert draft.result is not None
    return draft.result.copied


def checked(reader: Reader, turns: int) -> Any:
    """Return the newest value, after `turns` updates; its checksum is verified."""
    with reader.read(check_bytes=True) as snapshot:
        expected = table()
        for turn in range(turns):
            expected[turn % ROWS] = -turn
        assert np.array_equal(snapshot.value, expected)
        return snapshot.value


def test_readers_that_keep_versions(writer: Writer, name: str) -> None:
    """Each of them is a reader that polls more slowly than the writer publishes. No update copies everything."""
    copied = []
    with Reader(name) as fast, Reader(name) as slow:
        for turn in range(40):
            copied.append(update(writer, turn))
            checked(fast, turn + 1)
            if turn % 10 == 0:
                slow.get()
    # Until both segments and both spares have been written to once.
    assert max(copied[8:]) <= 20 * 80, copied
    assert spares(name)


def test_a_spare_that_a_reader_has_mapped_is_left_alone(writer: Writer, name: str) -> None:
    kept = []
    with Reader(name) as reader:
        for turn in range(8):
            kept.append((reader.get(), reader.get().copy()))
            update(writer, turn)
        for found, value in kept:
            assert np.array_equal(found, value)
        kept.clear()
        checked(reader, 8)
        # All are free now.
        for turn in range(8, 14):
            reader.get()
            update(writer, turn)
        assert update(writer, 14) < SIZE / 2
        checked(reader, 15)


def keep_value(state: State, name: str) -> None:
    state.kept = Reader(name).get()


def keep_in_child(state: State, name: str) -> int:
    """Keep a value in a child that does not run the hooks of a fork."""
    keep_value(state, name)
    ready, done = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(done)
        os.read(ready, 1)
        os._exit(0)
    state.done = done
    return pid


def first_spare(writer: Writer, name: str) -> None:
    """Update until a segment that a reader keeps has become a spare."""
    for turn in range(4):
        update(writer, turn)
    assert spares(name)


def is_mapped(name: str) -> bool:
    """Return whether a reader has mapped the first spare."""
    (spare_name,) = spares(name)
    with segment.open_segment(f"/{name}_{spare_name}", writable=False) as spare:
        return ofd_locks.is_locked(spare.fd, 0)


def test_a_spare_is_free_once_its_reader_is_dead(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Child() as child:
        child.call(keep_value, name)
        first_spare(writer, name)
        assert is_mapped(name)
        child.kill()
    assert not is_mapped(name)


def test_a_spare_is_not_free_while_a_forked_child_has_mapped_it(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Child() as child:
        child.call(keep_in_child, name)
        first_spare(writer, name)
        assert is_mapped(name)
        child.call(drop_value)
        assert is_mapped(name)
        child.call(end_child)
    assert not is_mapped(name)


def drop_value(state: State) -> None:
    del state.kept


def end_child(state: State) -> None:
    os.close(state.done)
    os.wait()


def test_a_full_write_removes_the_spares(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        writer.write(table())
        assert segments(name) == ["data_0", "data_1", "readers", "state"]
        assert value is not reader.get()


def test_a_reservation_removes_the_spares(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        with writer.reserve(SIZE) as slot:
            slot.buffer[:3] = b"abc"
        assert not spares(name)
        assert value is not reader.get()


def test_a_segment_that_cannot_be_locked_is_not_read(writer: Writer, name: str) -> None:
    """Only a program that is not shmsync locks it exclusively. The writer would take what is read for a free spare."""
    with ExitStack() as stack:
        for index in range(2):
            with suppress(FileNotFoundError):
                data_ = stack.enter_context(segment.open_segment(f"/{name}_data_{index}", writable=True))
                assert ofd_locks.try_lock(data_.fd, 0)
        with Reader(name) as reader, pytest.raises(DataReadError, match="is locked by another program"):
            reader.get()
    with Reader(name) as reader:
        assert np.array_equal(reader.get(), table())


def test_a_closed_writer_leaves_no_spare(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        writer.close()
        assert segments(name) == ["data_0", "data_1", "readers", "state"]
        del value


def write_and_keep_spare(state: State, name: str) -> None:
    state.writer = Writer(name, grace_duration=0)
    state.writer.write(table())
    update(state.writer, 0)
    state.reader = Reader(name)
    state.value = state.reader.get()
    first_spare(state.writer, name)


def test_the_next_writer_removes_the_spares_of_a_dead_one(name: str) -> None:
    with Child() as child:
        child.call(write_and_keep_spare, name)
        child.kill()
    assert spares(name)
    with Writer(name) as writer, Reader(name) as reader:
        for turn in range(4, 6):
            update(writer, turn)
        assert segments(name) == ["data_0", "data_1", "readers", "state"]
        checked(reader, 6)
        writer.unlink()


def test_a_spare_that_another_program_removes(writer: Writer, name: str) -> None:
    update(writer, 0)
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        for spare in ("data_0.new", "data_1.new"):
            (SHM / f"{name}_{spare}").unlink(missing_ok=True)
        del value
        kept = []
        for turn in range(4, 12):
            kept.append(reader.get())
            update(writer, turn)
        checked(reader, 12)


def test_a_spare_that_another_program_replaces(writer: Writer, name: str) -> None:
    """Its name leads to a file that no reader has locked: that says nothing of the spare."""
    update(writer, 0)
    with Reader(name) as reader:
        kept = [(reader.get(), reader.get().copy())]
        first_spare(writer, name)
        for spare in spares(name):
            (SHM / f"{name}_{spare}").unlink()
            (SHM / f"{name}_{spare}").write_bytes(bytes(SIZE))
        for turn in range(4, 12):
            kept.append((reader.get(), reader.get().copy()))
            update(writer, turn)
        for found, value in kept:
            assert np.array_equal(found, value)
        checked(reader, 12)


def test_a_kernel_without_the_exchange_of_names(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "exchange_segments", lambda *_: False)
    kept = []
    with Reader(name) as reader:
        for turn in range(6):
            kept.append(reader.get())
            update(writer, turn)
        assert segments(name) == ["data_0", "data_1", "readers", "state"]
        checked(reader, 6)


def test_the_exchange_of_names() -> None:
    with pytest.raises(OSError, match="replace") as raised:
        segment.exchange_segments("/" + "x" * 300, "/y")
    assert raised.value.errno == errno.ENAMETOOLONG
    assert not segment.exchange_segments("/shmsync-missing-a", "/shmsync-missing-b")


def test_the_memory_of_spares_is_reported(writer: Writer, name: str) -> None:
    update(writer, 0)
    before = info(name)
    assert before.spares == ()
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        found = info(name)
        assert [spare.segment for spare in found.spares] == [f"/{name}_{spare}" for spare in spares(name)]
        assert found.memory - before.memory == found.spares[0].memory >= SIZE
        del value


def test_spares_are_removed_when_memory_is_needed(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    update(writer, 0)
    with Reader(name) as reader:
        value = reader.get()
        first_spare(writer, name)
        create = segment.create_segment

        def full(name_: str, size: int, mode: int) -> Any:
            if spares(name):
                raise CapacityError(errno.ENOSPC, "full")
            return create(name_, size, mode)

        monkeypatch.setattr(data, "create_segment", full)
        kept = [value]
        for turn in range(4, 8):
            kept.append(reader.get())
            update(writer, turn)
        checked(reader, 8)
