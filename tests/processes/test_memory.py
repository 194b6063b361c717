"""What holders cost: the dead and the idle, closed snapshots, many open ones, and memory that cannot be had."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import NEVER, SHM, TIMEOUT, Child, State, pins, recorded_waits, slots_locked, without_waiting

import shmsync
from shmsync import CapacityError, DataReadError, DataWriteError, Reader, ShmSyncError, Writer
from shmsync._core import slots
from shmsync._core.layout import HIGH_WATER, HIGH_WATER_AT
from shmsync._handles import reader as reader_module
from shmsync._session import ownership
from shmsync._shm import segment
from shmsync._shm.mapped import mapped_by

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 200_000


def high_water(name: str) -> int:
    raw = (SHM / f"{name}_readers").read_bytes()[HIGH_WATER_AT : HIGH_WATER_AT + 8]
    return int.from_bytes(raw, sys.byteorder) & HIGH_WATER


def held(name: str) -> int:
    """Return how many replaced inodes this process has mapped."""
    mapped = mapped_by(os.getpid())
    assert mapped is not None
    return sum(each.segment.startswith(f"/{name}_") for each in mapped.unlinked)


# ------------------------------------------------------------------------------------------------------------ the dead


def keep_value(state: State, name: str) -> None:
    state.reader = Reader(name)
    state.value = state.reader.get()


def test_a_reader_killed_with_a_value_is_not_waited_for(writer: Writer, name: str) -> None:
    for _ in range(2):
        writer.write_raw(b"x" * LARGE)
    with Child() as child:
        child.call(keep_value, name)
        child.kill()
    with recorded_waits() as waits:
        results = [writer.write_raw(b"x" * LARGE, grace_duration=NEVER) for _ in range(3)]
    assert [result.reset for result in results] == [False, True, False]
    assert not waits
    assert writer.stats().replaced == 2
    assert shmsync.readers(name) == []


def test_a_reader_killed_while_the_writer_waits_for_its_value(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        writer.write_raw(b"x" * LARGE)
    with Child() as child:
        child.call(keep_value, name)
        writer.write_raw(b"x" * LARGE)
        monkeypatch.setattr(ownership._Clock, "sleep", staticmethod(lambda _: child.kill()))
        assert writer.write_raw(b"x" * LARGE, grace_duration=NEVER).reset
    assert writer.stats().replaced == 2


# ---------------------------------------------------------------------------------------------------------- high water


def test_high_water_falls_when_the_slots_are_free(writer: Writer, name: str) -> None:
    writer.write(1)
    readers = [Reader(name) for _ in range(20)]
    assert [reader.get() for reader in readers] == 20 * [1]
    assert high_water(name) == 20
    for reader in readers[5:]:
        reader.close()
    for number in range(64):
        writer.write(number)
    assert high_water(name) == 5
    with Reader(name) as again:  # the first free slot is the next one
        assert again.get() == 63
        assert high_water(name) == 6
        with again.read() as snapshot:
            writer.write(64)
            with without_waiting():
                writer.write(65, grace_duration=0)
            assert snapshot.value == 63
    for reader in readers:
        reader.close()


def test_the_dead_above_high_water_are_reaped(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * LARGE)
    with Child() as child:
        child.call(keep_value, name)
        for _ in range(2):
            writer.write_raw(b"y" * LARGE)  # replaces what it retains: no scan waits for that any more
        child.kill()
    results = [writer.write_raw(b"z" * 10) for _ in range(64)]
    assert sum(result.reset for result in results) == 1
    assert high_water(name) == 0
    assert shmsync.readers(name) == []


# ------------------------------------------------------------------------------------------------- many open snapshots


def test_counts_do_not_overflow(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MAX_REFERENCES", 100)
    monkeypatch.setattr(reader_module, "MAX_REFERENCES", 100)
    writer.write_raw(b"A" * LARGE)
    with Reader(name) as reader:
        snapshots = [reader.read() for _ in range(250)]
        assert max(pin & 0xFFFFFF for pin in pins(name)) <= 100
        assert len(slots_locked(name)) == 3
        for fill in (b"B", b"C", b"D"):
            writer.write_raw(fill * LARGE, grace_duration=0)
        assert {bytes(snapshot.buffer[:1]) for snapshot in snapshots} == {b"A"}
        for snapshot in snapshots:
            snapshot.close()
        del snapshots[:], snapshot
        assert bytes(reader.get()[:1]) == b"D"
        assert len(slots_locked(name)) == 1
        assert not pins(name)


# ----------------------------------------------------------------------------------------------------- closed and idle


def test_a_closed_snapshot_holds_no_memory(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * LARGE)
    with Reader(name) as reader:
        with reader.read() as snapshot:
            assert len(snapshot.buffer) == LARGE
            version = snapshot.version
            for _ in range(2):
                writer.write_raw(b"y" * LARGE, grace_duration=0)
        assert reader.get()[0] == ord("y")
        assert snapshot.closed
        assert held(name) == 0
        assert snapshot.version == version
        assert repr(version.size) in repr(snapshot)


@pytest.mark.parametrize("value", [{"a": 1, "b": "x" * LARGE}, np.zeros(LARGE), b"x" * LARGE], ids=type)
def test_an_idle_reader_that_releases_holds_no_memory(writer: Writer, name: str, value: Any) -> None:
    writer.write(value)
    with Reader(name) as reader:
        reader.get()
        assert reader.wait(timeout=0) is None
        reader.release()
        reader.release()
        assert reader.wait(timeout=0) is None  # the version was returned already
        with without_waiting():
            for _ in range(2):
                assert not writer.write(value, grace_duration=NEVER).reset
        assert writer.stats().replaced == 2
        assert reader.stats().claimed == 1
        np.testing.assert_equal(reader.get(), value)
        assert reader.stats().claimed == 1
        reader.release()
        for _ in range(2):
            writer.write_raw(bytes(20 * LARGE))
        assert writer.stats().replaced == 4
        assert held(name) == 0  # although the handle has not noticed the replacements
    reader.release()


def test_a_value_in_use_is_not_released(writer: Writer, name: str) -> None:
    writer.write(np.full(LARGE, 1.0))
    with Reader(name) as reader:
        value = reader.get()
        reader.release()
        for _ in range(4):
            writer.write(np.full(LARGE, 2.0), grace_duration=0)
        assert (value == 1.0).all()
        assert held(name) == 1
        del value
        assert held(name) == 0


@pytest.mark.parametrize("how", ["get", "read"])
def test_a_value_in_use_is_not_released_with_a_later_one(writer: Writer, name: str, how: str) -> None:
    """The same inode is mapped twice: reading through the second mapping must not clear the hazard of the first."""
    writer.write(np.full(LARGE, 1.0))

    def array(reader: Reader[Any]) -> Any:
        if how == "get":
            return reader.get()
        with reader.read() as snapshot:
            return snapshot.value

    with Reader(name) as reader:
        first = array(reader)
        for _ in range(3):
            reader.release()
            second = array(reader)
            assert (second == 1.0).all()
            reader.release()
            del second
        for _ in range(4):
            writer.write(np.full(LARGE, 2.0), grace_duration=0)
        assert (first == 1.0).all()
        del first
        assert held(name) == 0


# --------------------------------------------------------------------------------------------------------- descriptors


def limit_descriptors(_state: State, most: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def keep_versions(_state: State, name: str, count: int) -> list[float]:
    with Writer(name) as writer, Reader(name) as reader:
        kept = []
        for number in range(count):
            writer.write(np.full(10, number), grace_duration=0)
            kept.append(reader.get())
        return [float(value[0]) for value in kept]


def read_names(_state: State, name: str, count: int) -> int:
    readers = []
    try:
        for number in range(count):
            with Writer(f"{name}-{number}", max_readers=1) as writer:
                writer.write(np.full(10, number))
            readers.append(Reader(f"{name}-{number}"))
            assert readers[-1].get()[0] == number
        return len(readers)
    finally:
        for reader in readers:
            with Writer(reader.name) as writer:
                writer.unlink()
            reader.close()


def test_ten_thousand_versions_need_no_descriptors(name: str) -> None:
    with Child() as child:
        child.call(limit_descriptors, 64)
        assert child.call(keep_versions, name, 10_000) == list(range(10_000))
    with Writer(name) as writer:
        writer.unlink()


def test_a_thousand_names_fit_the_usual_limit(name: str) -> None:
    with Child() as child:
        child.call(limit_descriptors, 1024)
        assert child.call(read_names, name, 1000) == 1000


def test_too_many_mappings_are_an_error_before_the_kernel_refuses(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Reader(name) as reader:
        kept = []
        for number in range(3):
            writer.write(np.full(10, number), grace_duration=0)
            kept.append(reader.get())
        writer.write(np.full(10, 3), grace_duration=0)
        monkeypatch.setattr(segment, "_MAX_MAPPINGS", len(segment._mapped))
        with pytest.raises(DataReadError, match=r"vm\.max_map_count"):
            reader.get()
        del kept[:]
        assert reader.get()[0] == 3


# ---------------------------------------------------------------------------------------------- writes that cannot grow


@pytest.mark.parametrize(
    ("limit", "most", "error", "code"),
    [
        (resource.RLIMIT_NOFILE, 0, DataWriteError, errno.EMFILE),
        (resource.RLIMIT_FSIZE, 2 * LARGE, CapacityError, errno.EFBIG),
    ],
    ids=["descriptors", "file size"],
)
def test_a_write_that_cannot_grow_leaves_the_segment(
    name: str, limit: int, most: int, error: type[ShmSyncError], code: int
) -> None:
    with Child() as child:
        inodes = child.call(grow_within, name, limit, most, error, code)
    assert inodes[0] == inodes[1]


def grow_within(_state: State, name: str, limit: int, most: int, error: type[ShmSyncError], code: int) -> list[int]:
    with Writer(name, codec="raw") as writer:
        for _ in range(2):
            writer.write(b"x" * LARGE)
        inodes = [(SHM / f"{name}_data_0").stat().st_ino]
        soft, hard = resource.getrlimit(limit)
        resource.setrlimit(limit, (most, hard))
        try:
            with pytest.raises(error) as raised:
                writer.write(b"y" * 10 * LARGE)
        finally:
            resource.setrlimit(limit, (soft, hard))
        assert getattr(raised.value, "errno", None) == code
        inodes.append((SHM / f"{name}_data_0").stat().st_ino)
        writer.write(b"z" * LARGE)
        assert writer.stats().replaced == 2
        writer.unlink()
        return inodes


def test_what_a_dead_writer_left_half_done_is_removed(name: str) -> None:
    with Writer(name) as writer:
        writer.write(1)
    left = [SHM / f"{name}_data_{index}.new" for index in range(2)]
    for path in left:
        path.write_bytes(b"x" * 10)
    with Writer(name) as writer:
        writer.write(2)
        writer.write(3)
        assert not any(path.exists() for path in left)
        left[0].write_bytes(b"x")
        writer.unlink()
    assert not left[0].exists()


def test_a_name_that_another_program_took_is_not_needed(writer: Writer, name: str) -> None:
    """Any user may create files in /dev/shm that this one cannot remove."""
    writer.write_raw(b"x")
    for index in range(2):
        (SHM / f"{name}_data_{index}.new").mkdir()
    try:
        for size in (10, LARGE, 2 * LARGE, 3 * LARGE):
            writer.write_raw(b"y" * size)
        with Reader(name) as reader:
            assert len(reader.get()) == 3 * LARGE
        writer.unlink()
        writer.write_raw(b"z")
    finally:
        for index in range(2):
            (SHM / f"{name}_data_{index}.new").rmdir()


def test_an_interrupted_rename_leaves_no_memory(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shmsync._session.data.rename_segment", interrupt)
        with pytest.raises(KeyboardInterrupt):
            writer.write_raw(b"x")
    assert not list(SHM.glob(f"{name}*.new"))
    assert writer.write_raw(b"y").version.seq == 1


def test_memory_is_reserved_in_steps(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that raises between two of them leaves nothing behind."""
    sizes: list[int] = []
    allocate = os.posix_fallocate

    def recorded(fd: int, offset: int, size: int) -> None:
        sizes.append(size)
        allocate(fd, offset, size)
        if len(sizes) == interrupted_at:
            signal.raise_signal(signal.SIGINT)

    interrupted_at = 3
    writer.write_raw(b"x")
    monkeypatch.setattr(os, "posix_fallocate", recorded)
    with pytest.raises(KeyboardInterrupt):
        writer.write_raw(bytes(5 << 20))
    assert sizes == 3 * [segment._STEP]
    assert not list(SHM.glob(f"{name}*.new"))
    assert writer.write_raw(bytes(5 << 20)).version.seq == 2


# ------------------------------------------------------------------------------------------------------ released views


def raw(value: Any) -> memoryview:
    assert isinstance(value, memoryview)
    return value


def blob(value: Any) -> memoryview:
    return raw(value["blob"])


@pytest.mark.parametrize(
    ("value", "part", "options"),
    [
        (b"x" * 5000, raw, {}),
        ({"blob": b"x" * 5000}, blob, {}),
        ({"blob": b"x" * 5000}, blob, {"type": dict[str, Any]}),
    ],
    ids=["raw", "in a container", "typed"],
)
def test_a_released_view_spoils_nothing(
    writer: Writer, name: str, value: Any, part: Callable[[Any], memoryview], options: Any
) -> None:
    writer.write(value)
    with Reader(name, zero_copy_bytes=True, **options) as reader:
        for _ in range(3):
            with part(reader.get()) as view:
                assert view[0] == ord("x")
            assert part(reader.get())[0] == ord("x")
            with reader.read() as snapshot:
                assert part(snapshot.value)[0] == ord("x")
                with part(reader.get()):
                    assert part(snapshot.value)[0] == ord("x")
        with reader.read() as snapshot:
            if part is raw:
                part(snapshot.value).release()
            assert part(snapshot.value)[0] == ord("x")
        assert reader.get() is not None
        assert reader.stats().attached == 1


def test_a_raw_view_is_each_callers_own(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * 5000)
    with Reader(name) as reader:
        mine, others = reader.get(), []
        thread = threading.Thread(target=lambda: others.append(reader.get()))
        thread.start()
        thread.join(TIMEOUT)
        others[0].release()
        assert mine[0] == ord("x")


def test_a_container_with_a_view_is_the_same_until_that_is_released(writer: Writer, name: str) -> None:
    writer.write({"blob": b"x" * 5000, "array": np.zeros(1000)})
    with Reader(name, zero_copy_bytes=True) as reader:
        first = reader.get()
        assert reader.get() is first
        first["blob"].release()
        second = reader.get()
        assert second is not first
        assert second["blob"][0] == ord("x")
        assert reader.get() is second


# ------------------------------------------------------------------------------------------- what old versions take up


def test_replaced_segments_are_counted(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * LARGE)
    with Child() as child, Child() as other:
        for each in (child, other):
            each.call(keep_value, name)
        for _ in range(2):
            writer.write_raw(b"y" * LARGE, grace_duration=0)
        info = shmsync.info(name)
        size = (SHM / f"{name}_data_0").stat().st_size
        (found,) = info.held
        assert (found.segment, found.memory, sorted(found.pids)) == (
            f"/{name}_data_0",
            size,
            sorted([child.pid, other.pid]),
        )
        assert info.memory == sum(each.memory for each in info.segments) + size
        assert [reader.held_memory for reader in info.readers] == [size, size]
        assert info.unexamined == ()


def test_processes_that_cannot_be_examined(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(1)
    with Reader(name) as reader:
        reader.get()
        monkeypatch.setattr("shmsync._inspect.processes.mapped_by", lambda _: None)
        info = shmsync.info(name)
        assert info.unexamined == (os.getpid(),)
        assert info.readers[0].held_memory is None
