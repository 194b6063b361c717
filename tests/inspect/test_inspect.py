"""Inspection of names from outside: live, dead, damaged and foreign ones, with and without permissions."""

from __future__ import annotations

import os
import random
import re
import struct
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints
from unittest import mock

import pytest
from helpers import (
    SHM,
    TIMEOUT,
    Child,
    State,
    close_reader,
    close_snapshot,
    get_value,
    is_asleep,
    open_reader,
    open_snapshot,
    publish,
    until,
)

import shmsync
from shmsync import (
    Info,
    InvalidArgumentError,
    Reader,
    RetainedInfo,
    StateNotFoundError,
    StateReadError,
    Writer,
    WriterInfo,
)
from shmsync._core.layout import CLOSED, HIGH_WATER_AT, OWNER_AT, VERSION_AT, slot_offset
from shmsync._inspect import inspector, scan
from shmsync._shm import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = ("state", "readers", "data_0", "data_1")
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")


def part(name: str, which: str) -> Path:
    return SHM / f"{name}_{which}"


def patch(name: str, which: str, at: int, data: bytes) -> None:
    with part(name, which).open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.fixture
def closed(name: str) -> Iterator[str]:
    """A name with two versions and no writer; its segments are removed after the test, even if they are damaged."""
    with Writer(name) as writer:
        writer.write([1])
        writer.write([2])
    yield name
    for which in PARTS:
        part(name, which).unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------------- healthy names


def test_a_name(writer: Writer, name: str) -> None:
    before = time.time()
    version = writer.write({"a": 1}).version
    info = shmsync.info(name)
    assert (info.name, info.seq, info.version, info.codec, info.layout) == (name, 1, version, "msgpack", 2)
    assert info.age is not None
    assert 0 <= info.age < TIMEOUT
    assert info.created is not None
    assert abs(info.created - before) < TIMEOUT
    assert (info.writer.state, info.writer.pid, info.max_readers) == ("alive", os.getpid(), 256)
    assert (info.readers, info.problems, info.replaced) == ((), (), 0)
    assert [segment.segment for segment in info.segments] == [f"/{name}_{which}" for which in PARTS]
    assert [segment.generation for segment in info.segments] == [None, None, 1, 0]
    assert [segment.seq for segment in info.segments] == [None, None, 1, None]
    for segment, which in zip(info.segments[:3], PARTS, strict=False):
        status = part(name, which).stat()
        assert (segment.size, segment.inode, segment.mode) == (status.st_size, status.st_ino, 0o600)
    assert info.segments[3].size is None
    assert info.memory == sum(segment.memory for segment in info.segments) > 0


def test_names(writer: Writer, name: str) -> None:
    assert name not in shmsync.names()
    writer.write(1)
    assert name in shmsync.names()
    found = shmsync.names()
    assert found == sorted(found)
    writer.unlink()
    assert name not in shmsync.names()


def test_no_such_name(name: str) -> None:
    for inspect in (shmsync.info, shmsync.readers):
        with pytest.raises(StateNotFoundError):
            inspect(name)
        with pytest.raises(InvalidArgumentError):
            inspect("a/b")


def test_it_changes_nothing(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * 10000)
    with Reader(name) as reader, reader.read():
        before = [part(name, which).read_bytes() for which in PARTS[:3]]
        assert len(shmsync.info(name).readers) == 1
        assert [part(name, which).read_bytes() for which in PARTS[:3]] == before


def test_a_publish_during_a_scan(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(0)
    data_header = scan._data_header

    def publish_first(result: scan.Scan, segment: str, *, newest: bool) -> Any:
        monkeypatch.undo()
        writer.write(1)
        writer.write(2)
        return data_header(result, segment, newest=newest)

    monkeypatch.setattr(scan, "_data_header", publish_first)
    monkeypatch.setattr(inspector, "_ATTEMPTS", 1)
    info = shmsync.info(name)
    assert not info.problems
    assert info.version is not None
    assert info.version.seq == info.seq == 3


def test_a_temporary_problem_is_not_reported(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(0)
    header = part(name, "data_0").read_bytes()[:64]
    patch(name, "data_0", 0, bytes(64))

    def repair(_seconds: float) -> None:
        patch(name, "data_0", 0, header)

    monkeypatch.setattr(time, "sleep", repair)
    assert not shmsync.info(name).problems


def test_a_high_water_word_that_is_too_large(closed: str) -> None:
    patch(closed, "readers", HIGH_WATER_AT, b"\xff" * 8)
    assert shmsync.readers(closed) == []


def test_while_the_writer_is_busy(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "_ATTEMPTS", 1000)  # the writer may be interrupted where a segment is missing
    writer.write(0)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            writer.write_raw(os.urandom(random.choice((10, 100_000))))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        seqs = []
        for _ in range(300):
            info = shmsync.info(name)
            assert not info.problems
            assert info.seq is not None
            seqs.append(info.seq)
    finally:
        done.set()
        thread.join()
    assert seqs == sorted(seqs)


def test_the_writer(name: str) -> None:
    with Child() as child:
        child.call(publish, name, 1)
        writer = shmsync.info(name).writer
        assert (writer.state, writer.pid) == ("alive", child.pid)
        child.kill()
    assert shmsync.info(name).writer == writer._replace(state="dead", process=None)
    with Writer(name) as last:
        last.write(2)
    assert shmsync.info(name).writer == WriterInfo("closed")
    with Writer(name) as last:
        last.unlink()


# ------------------------------------------------------------------------------------------------------------- readers


def states(name: str) -> list[str]:
    return [reader.state for reader in shmsync.readers(name)]


def retain(state: State, name: str) -> None:
    state.reader = Reader(name)
    state.value = state.reader.get()


def release(state: State) -> None:
    del state.value
    state.reader.close()


def test_the_states_of_a_reader(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * 10000)
    assert states(name) == []
    with Child() as child:
        child.call(open_snapshot, name)
        (reader,) = shmsync.readers(name)
        assert (reader.slot, reader.pid, reader.state, reader.counts) == (0, child.pid, "reading", (1, 0))
        assert reader.since is not None
        assert abs(reader.since - time.time()) < TIMEOUT
        child.call(close_snapshot)
        assert states(name) == ["idle"]
        child.call(open_snapshot, name)  # replaces its first handle, which releases the first slot
        for _ in range(3):
            writer.write_raw(b"y", grace_duration=0)
        assert states(name) == ["evicted"]
        child.kill()
        assert states(name) == ["dead"]
    writer.write_raw(b"z")
    writer.write_raw(b"z")
    assert states(name) == []


def test_retained_segments(writer: Writer, name: str) -> None:
    writer.write_raw(b"x" * 10000)
    with Child() as child:
        child.call(retain, name)
        (reader,) = shmsync.readers(name)
        assert (reader.state, reader.retained) == ("retaining", (RetainedInfo(0, 1, current=True),))
        writer.write_raw(b"y" * 10000)
        writer.write_raw(b"z" * 10000)
        (reader,) = shmsync.readers(name)
        assert (reader.state, reader.retained) == ("retaining", (RetainedInfo(0, 1, current=False),))
        assert shmsync.info(name).replaced == 1
        child.call(release)
        assert states(name) == []


def test_how_long_an_outdated_version_has_been_held(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(module: str, seconds: float) -> None:
        clock = SimpleNamespace(time=time.time, monotonic=lambda: time.monotonic() + seconds, sleep=time.sleep)
        monkeypatch.setattr(f"shmsync.{module}.time", clock)

    def published_before(seconds: float) -> None:
        later("_handles.writer", 10_000 - seconds)

    def outdated() -> float | None:
        (reader,) = shmsync.readers(name)
        return reader.outdated

    def about(seconds: float) -> Any:
        return pytest.approx(seconds, abs=2 + TIMEOUT)

    later("_inspect.inspector", 10_000)
    published_before(9000)
    writer.write_raw(b"x" * 5000)
    with Child() as child:
        child.call(open_reader, name)
        child.call(get_value)
        assert outdated() is None
        child.call(open_snapshot, name)
        assert outdated() is None  # it holds the newest version
        published_before(7000)
        writer.write_raw(b"y" * 5000)
        assert outdated() == about(7000)
        for moment in (5000, 3000, 1000):
            published_before(moment)
            writer.write_raw(b"z" * 5000, grace_duration=0)  # evicts it
            assert outdated() == about(7000)  # still that of its first successor
        child.call(close_snapshot)
        assert outdated() is None
        child.call(retain_in_next_slot, name)
        published_before(500)
        writer.write_raw(b"z" * 5000)
        assert outdated() == about(500)  # not that of the earlier eviction
        published_before(200)
        writer.write_raw(b"z" * 5000, grace_duration=0)
        assert outdated() == about(500)
        writer.write_raw(b"z" * 5000, grace_duration=0)
        writer.write_raw(b"z" * 5000, grace_duration=0)
        assert outdated() == about(500)
        child.call(release)


def retain_in_next_slot(state: State, name: str) -> None:
    """Retain a value with the handle that was evicted."""
    state.value = state.reader.get()


def test_a_reservation_that_is_not_published(writer: Writer, name: str) -> None:
    """Its memory was replaced all the same."""
    writer.write_raw(b"x" * 5000)
    with Child() as child:
        child.call(retain, name)
        writer.write_raw(b"y" * 5000)
        with suppress(KeyError), writer.reserve(5000, grace_duration=0):
            raise KeyError
        (reader,) = shmsync.readers(name)
        assert not reader.retained[0].current
        assert reader.outdated is not None
        child.call(release)


# ----------------------------------------------------------------------------------------------------- its processes


def test_the_processes_of_writer_and_reader(name: str) -> None:
    with Child() as writing, Child() as child:
        writing.call(publish, name, 1)
        child.call(open_snapshot, name)
        until(lambda: is_asleep(child.pid))
        info = shmsync.info(name)
        assert info.writer.process is not None
        assert "helpers.py" in info.writer.process.command
        (reader,) = info.readers
        assert reader.process is not None
        assert (reader.process.command, reader.process.state) == (command_of(child), "sleeping")
        child.suspend()
        (reader,) = shmsync.readers(name)
        assert (reader.state, reader.process and reader.process.state) == ("reading", "stopped")
        child.resume()
        child.kill()
        (reader,) = shmsync.readers(name)
        assert (reader.state, reader.process) == ("dead", None)
    with Writer(name) as last:
        last.unlink()


def command_of(child: Child) -> str:
    program, *arguments = Path(f"/proc/{child.pid}/cmdline").read_text().rstrip("\0").split("\0")
    return " ".join((Path(program).name, *arguments))


def test_a_process_with_the_same_id_is_not_the_reader(writer: Writer, name: str) -> None:
    """As in another PID namespace: the process with the recorded ID has not mapped the reader table."""
    writer.write(1)
    with Child() as child, Child() as other:
        child.call(open_snapshot, name)
        patch(name, "readers", slot_offset(0) + OWNER_AT, struct.pack("=Q", other.pid))
        info = shmsync.info(name)
        assert (info.readers[0].process, info.readers[0].held_memory, info.unexamined) == (None, None, (other.pid,))


def test_a_process_id_that_was_used_again(writer: Writer, name: str) -> None:
    writer.write(1)
    with Child() as child:
        child.call(open_snapshot, name)
        patch(name, "readers", slot_offset(0) + OWNER_AT, struct.pack("=QQ", child.pid, 1_000_000_000))
        (reader,) = shmsync.readers(name)
        assert reader.process is None  # it started long after the slot was claimed


@pytest.mark.parametrize("text", [b"\x1b[31mred\x07", b"caf\xc3\xa9 \xff\n"])
def test_a_command_line_contains_no_control_characters(text: bytes) -> None:
    assert processes._printable(text).isprintable()


# --------------------------------------------------------------------------------------------------- again and again


def test_inspecting_again_finds_what_has_changed(writer: Writer, name: str) -> None:
    """Every change is found, although what has not changed is not worked out again."""
    again = inspector.Inspector()

    def same() -> Info:
        (found,) = again.inspect([name])
        once = shmsync.info(name)
        assert found._replace(age=None, readers=plain(found)) == once._replace(age=None, readers=plain(once))
        return found

    def plain(info: Info) -> tuple[Any, ...]:
        commands = [reader.process and reader.process.command for reader in info.readers]
        return (*(reader._replace(outdated=None, process=None) for reader in info.readers), *commands)

    assert again.inspect([name]) == []
    writer.write_raw(b"x" * 5000)
    assert same().seq == 1
    with Child() as child:
        child.call(open_snapshot, name)
        assert same().readers[0].state == "reading"
        child.suspend()
        process = same().readers[0].process
        assert process is not None
        assert process.state == "stopped"
        child.resume()
        for _ in range(3):
            writer.write_raw(b"y" * 5000, grace_duration=0)
        found = same()
        assert (found.readers[0].state, len(found.held)) == ("evicted", 1)
        child.call(close_snapshot)
        child.call(close_reader)
        assert same().held == ()
        child.call(open_reader, name)
        child.call(get_value)
        child.kill()
        assert [reader.state for reader in same().readers] == ["dead"]
    patch(name, "data_0", 0, bytes(64))
    patch(name, "data_1", 0, bytes(64))
    assert same().problems
    writer.unlink()
    assert again.inspect([name]) == []


def calls_of(function: Callable[[], object]) -> int:
    """Return how many functions, of Python and C, a call calls."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_the_steps_of_inspecting_many_names_again(name: str) -> None:
    """Counted, because times depend on the machine: the refresh of a screen with 1,000 names takes 0.1 s at most."""
    names = [f"{name}-{number}" for number in range(20)]
    with ExitStack() as stack:
        for each in names:
            writer = stack.enter_context(Writer(each, max_readers=4))
            stack.callback(writer.unlink)
            for _ in range(3):
                writer.write(1)
            reader = stack.enter_context(Reader(each))
            reader.get()
        again = inspector.Inspector()
        first = calls_of(lambda: again.inspect(names))
        second = calls_of(lambda: again.inspect(names))
        assert second / len(names) < 300
        assert second < first
        with mock.patch("shmsync._inspect.processes.mapped_by") as mapped_by:
            again.inspect(names)
        assert not mapped_by.called  # nothing was replaced since


def test_the_annotations_resolve_at_run_time() -> None:
    for result in (Info, shmsync.ReaderInfo, shmsync.WriterInfo, shmsync.SegmentInfo, shmsync.WriteResult):
        assert set(get_type_hints(result)) == set(result._fields)


def test_the_stats_of_a_reader(writer: Writer, name: str) -> None:
    writer.write(1)
    with Reader(name) as reader:
        assert reader.stats() == (0, 0, 0)
        for _ in range(10):
            reader.get()
        assert reader.stats() == (1, 1, 1)
        writer.write(2)
        with reader.read() as snapshot:
            for _ in range(2):
                writer.write_raw(b"x" * 5000, grace_duration=0)
            del snapshot
        reader.get()
        assert (reader.stats().values, reader.stats().attached) == (3, 1)
        writer.unlink()
        writer.write(3)
        assert reader.get() == 3
        assert (reader.stats().values, reader.stats().attached) == (4, 2)
        assert reader.stats().claimed >= 2


# ----------------------------------------------------------------------------------------------- damaged names


def removed(name: str, which: str) -> None:
    part(name, which).unlink()


def truncated(name: str, which: str) -> None:
    os.truncate(part(name, which), 100)


def foreign(name: str, which: str) -> None:
    part(name, which).write_bytes(b"something else " * 2000)


def damaged(name: str, which: str) -> None:
    patch(name, which, 20, b"\xff" * 8)


@pytest.mark.parametrize(
    ("how", "which", "problem"),
    [
        (truncated, "state", "is truncated"),
        (foreign, "state", "is not a shmsync segment"),
        (damaged, "state", "has a damaged header"),
        (removed, "readers", "is missing"),
        (truncated, "readers", "is truncated"),
        (foreign, "readers", "does not belong"),
        (removed, "data_1", "is missing; the next write creates it again"),
        (truncated, "data_1", None),  # a payload of two bytes still fits
        (foreign, "data_1", "has a damaged header"),
        (damaged, "data_1", "has a damaged header"),
        (removed, "data_0", None),  # not the newest
        (foreign, "data_0", None),
    ],
)
def test_a_damaged_segment(closed: str, how: Any, which: str, problem: str | None) -> None:
    how(closed, which)
    info = shmsync.info(closed)
    if problem is None:
        assert not info.problems
        return
    assert re.search(problem, "\n".join(info.problems))
    if which in {"state", "readers"}:
        with pytest.raises(StateReadError, match=problem):
            shmsync.readers(closed)
    else:
        assert shmsync.readers(closed) == []


def test_another_layout(closed: str) -> None:
    patch(closed, "state", 8, struct.pack("=I", 77))
    info = shmsync.info(closed)
    assert info.layout == 77
    assert "layout version 77" in info.problems[0]


def test_an_empty_state_segment(closed: str) -> None:
    os.truncate(part(closed, "state"), 0)
    assert "0 of 4096 bytes" in shmsync.info(closed).problems[0]


def test_an_unfinished_creation(closed: str) -> None:
    patch(closed, "state", 0, bytes(8))
    info = shmsync.info(closed)
    assert "died while creating it" in info.problems[0]
    assert info.version is None


def test_an_unfinished_removal(closed: str) -> None:
    patch(closed, "state", VERSION_AT, struct.pack("=Q", CLOSED))
    info = shmsync.info(closed)
    assert "marked as removed" in info.problems[0]
    assert info.seq is None


def test_a_state_with_another_version(closed: str) -> None:
    patch(closed, "state", VERSION_AT, struct.pack("=Q", 4))
    assert "contains version 2 of generation 1, but the state says version 4" in shmsync.info(closed).problems[0]


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(closed: str, seed: int) -> None:
    """Whatever the segments contain, info() returns a result."""
    rng = random.Random(seed)
    for _ in range(rng.randrange(1, 40)):
        which = rng.choice(PARTS)
        size = part(closed, which).stat().st_size
        word = rng.choice((rng.randbytes(8), b"\xff" * 8, bytes(8)))
        patch(closed, which, rng.randrange(min(size, 400)) & ~7, word)
    info = shmsync.info(closed)
    assert isinstance(info, Info)
    assert all(isinstance(problem, str) for problem in info.problems)


# ------------------------------------------------------------------------------------------------------- permissions


def change_user(_state: State, user: int) -> None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def get_info(_state: State, name: str) -> Info:
    return shmsync.info(name)


def get_readers(_state: State, name: str) -> list[Any]:
    return shmsync.readers(name)


@by_root
def test_another_user_with_read_permission(name: str) -> None:
    with Writer(name, mode=0o644, reuse_memory=True) as writer, Child() as other, Child() as reader:
        writer.write(1)
        part(name, "readers").chmod(0o644)
        reader.call(open_snapshot, name)
        other.call(change_user, 12345)
        info = other.call(get_info, name)
        assert not info.problems
        assert (info.writer.state, [each.state for each in info.readers]) == ("alive", ["reading"])
        reader.kill()
        assert [each.state for each in other.call(get_readers, name)] == ["dead"]
        writer.unlink()


@by_root
def test_another_user_without_permission(writer: Writer, name: str) -> None:
    writer.write(1)
    with Child() as other:
        other.call(open_reader, name)
        other.call(change_user, 12345)
        info = other.call(get_info, name)
        assert "its mode is 0o600, its owner user 0" in info.problems[0]
        assert (info.writer.state, info.version, info.segments[0].size) == ("unknown", None, 4096)
        with pytest.raises(StateReadError, match="its mode is 0o600"):
            other.call(get_readers, name)
        assert name in other.call(all_names)


def all_names(_state: State) -> list[str]:
    return shmsync.names()
