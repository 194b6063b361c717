"""Isolated mode within one process: what is published, found, removed, and switched. See `shmsync._core.isolated`."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SHM
from typer.testing import CliRunner

import shmsync
from shmsync import (
    CapacityError,
    InvalidArgumentError,
    Reader,
    StateNotFoundError,
    StateReadError,
    Synchronizer,
    Writer,
)
from shmsync._session import isolated_ownership
from shmsync._session.notify import Notifier
from shmsync._session.state import PublicChannel
from shmsync._shm import segment
from shmsync.cli import app
from shmsync.errors import DataReadError, DataWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def isolated(name: str) -> Iterator[Writer]:
    with Writer(name, mode=0o644) as writer:
        yield writer
        if not writer.closed:
            writer.unlink()


def permissions(name: str) -> dict[str, int]:
    return {path.name.removeprefix(f"{name}_"): path.stat().st_mode & 0o777 for path in SHM.glob(f"{name}_*")}


def unpublished(name: str) -> list[str]:
    return [path.name for path in SHM.glob(f"{name}_data_0.*")]


# ------------------------------------------------------------------------------------------------------- which mode


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"mode": 0o640}, True),
        ({"mode": 0o644}, True),
        ({"mode": 0o622}, False),  # gives no permission to read
        ({"mode": 0o644, "reuse_memory": True}, False),
        ({"reuse_memory": False}, True),
    ],
)
def test_which_names_are_isolated(name: str, options: dict[str, Any], expected: bool) -> None:  # noqa: FBT001
    with Writer(name, **options) as writer:
        writer.write(1)
        assert shmsync.info(name).isolated == expected
        writer.unlink()


def test_a_synchronizer_passes_it_on(name: str) -> None:
    with Synchronizer[int](name, reuse_memory=False) as both:
        both.write(1)
        assert both.get() == 1
        assert shmsync.info(name).isolated
        both.unlink()


def test_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgumentError, match="reuse_memory must be True, False or None, not 'no'"):
        Writer("never", reuse_memory="no")  # type: ignore[arg-type]


def test_only_the_owner_may_open_what_is_locked(isolated: Writer, name: str) -> None:
    isolated.write(1)
    assert permissions(name) == {"state": 0o600, "readers": 0o644, "data_0": 0o644}


def test_the_mode_of_a_restarted_writer(isolated: Writer, name: str, caplog: pytest.LogCaptureFixture) -> None:
    isolated.write(1)
    incarnation = shmsync.info(name).incarnation
    isolated.close()
    with Writer(name, mode=0o640) as successor, successor:
        assert permissions(name) == {"state": 0o600, "readers": 0o640, "data_0": 0o640}
        assert "mode changed from 0o644 to 0o640" in caplog.text
        assert shmsync.info(name).incarnation == incarnation
    Writer(name).unlink()


@pytest.mark.parametrize("modes", [(0o600, 0o644), (0o644, 0o600)])
def test_switching_begins_a_new_incarnation(name: str, modes: tuple[int, int]) -> None:
    with Writer(name, mode=modes[0]) as writer, Reader(name) as reader:
        writer.write("old")
        assert reader.get() == "old"
        writer.close()
        with Writer(name, mode=modes[1]) as successor:
            with Reader(name) as late:
                assert reader.get() == late.get() == "old"  # until the first write
            assert successor.write("new").version.seq == 1
            assert reader.get() == "new"
            with Reader(name) as late:
                assert late.get() == "new"
            assert shmsync.info(name).problems == ()
            successor.unlink()
        assert not list(SHM.glob(f"{name}_*"))


@pytest.mark.parametrize("modes", [(0o600, 0o644), (0o644, 0o600)])
def test_a_writer_of_the_other_mode_that_writes_nothing(name: str, modes: tuple[int, int]) -> None:
    with Writer(name, mode=modes[0]) as writer:
        writer.write("old")
    before = permissions(name)
    with Writer(name, mode=modes[1]), Reader(name) as reader:
        assert reader.get() == "old"
        assert permissions(name) == before  # others get no access to what is in shared mode
    with Reader(name) as reader:
        assert reader.get() == "old"
    Writer(name).unlink()


# --------------------------------------------------------------------------------------------------- every public call


def test_each_version_is_in_an_inode_of_its_own(isolated: Writer, name: str) -> None:
    inodes = set()
    for value in range(5):
        isolated.write(value)
        inodes.add((SHM / f"{name}_data_0").stat().st_ino)
        assert unpublished(name) == []
    assert shmsync.info(name).replaced == 4
    with Reader(name) as reader:
        views = []
        for value in range(5):  # held, so that no inode number is used again
            isolated.write_raw(bytes([value]) * 5000)
            views.append(reader.get())
        assert [bytes(view) for view in views] == [bytes([value]) * 5000 for value in range(5)]


def test_an_unchanged_get_makes_no_system_call(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    isolated.write({"a": 1})
    with Reader(name) as reader:
        value = reader.get()
        monkeypatch.setattr("shmsync._session.isolated_attachment.open_segment", None)
        assert reader.get() is value
        with reader.read() as snapshot:
            assert snapshot.value is value
        assert reader.version() == shmsync.info(name).version


def test_read_wait_and_watch(isolated: Writer, name: str) -> None:
    with Reader(name) as reader:
        assert reader.get(default=None) is None
        assert reader.wait(timeout=0.001) is None
        isolated.write("one")
        assert reader.wait() == 1
        assert reader.wait(timeout=0.001) is None
        with reader.read(check_bytes=True) as snapshot:
            assert (snapshot.value, snapshot.is_switched) == ("one", True)
            isolated.write("two")
            assert snapshot.value == "one"
        assert [snapshot.value for snapshot in reader.watch(timeout=0.001)] == ["two"]
        assert reader.get() == "two"
        isolated.write("three")
        assert reader.get() == "three"
        assert reader.wait(timeout=0.001) is None  # `get` has returned it
        assert asyncio.run(reader.wait_async(since=2)) == 3
        assert reader.version().idx == 0
        reader.release()
        assert reader.get() == "three"


def test_sleeps_are_short(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user may steal a wake-up: see `tests/processes/test_other_users.py`."""
    isolated.write(1)
    sleeps = []
    monkeypatch.setattr(Notifier, "wait", lambda _self, _seen, timeout: sleeps.append(timeout))
    with Reader(name) as reader:
        assert reader.wait() == 1
        assert reader.wait(timeout=0.2) is None
    assert 0 < max(sleeps) <= PublicChannel.MAX_SLEEP == 0.05


def test_sleeps_of_coroutines_are_short(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    isolated.write(1)
    sleeps: list[tuple[int, float]] = []

    def sleep(words: list[Any], timeout: float) -> bool:
        sleeps.append((len(words), timeout))
        time.sleep(0.01)
        return True

    monkeypatch.setattr("shmsync._shm.futex.wait_for_any", sleep)
    monkeypatch.setattr("shmsync._shm.futex.MANY_AVAILABLE", True)
    with Reader(name) as reader:
        assert reader.get() == 1
        assert asyncio.run(reader.wait_async(timeout=0.1)) is None
    assert {timeout for words, timeout in sleeps if words > 1} == {PublicChannel.MAX_SLEEP}


def test_reserve(isolated: Writer, name: str) -> None:
    with Reader(name) as reader:
        with isolated.reserve(3) as slot:
            slot.buffer[:] = b"abc"
            assert len(unpublished(name)) == 1
        assert bytes(reader.get()) == b"abc"
        with pytest.raises(ZeroDivisionError), isolated.reserve(3) as slot:
            slot.buffer[:] = b"xyz"
            raise ZeroDivisionError
        assert bytes(reader.get()) == b"abc"
        isolated.write(1)
        assert reader.get() == 1
    assert unpublished(name) == []


def test_reserve_during_a_forced_removal(isolated: Writer, name: str) -> None:
    isolated.write(0)
    with isolated.reserve(3) as slot:
        slot.buffer[:] = b"abc"
        assert CliRunner().invoke(app, ["rm", "--force", name]).exit_code == 0
        assert not list(SHM.glob(f"{name}_*"))
    with Reader(name) as reader:
        assert bytes(reader.get()) == b"abc"


@pytest.mark.parametrize("command", ["inspect", "readers", "ls", "doctor", "get"])
def test_commands(isolated: Writer, name: str, command: str) -> None:
    isolated.write([1, 2])
    result = CliRunner().invoke(app, [command, *([name] if command != "doctor" else [])])
    assert result.exit_code == 0 or command == "doctor", result.output
    expected = {"inspect": "isolated mode", "readers": "", "ls": name, "doctor": "permissions", "get": "2"}
    assert expected[command] in result.output
    assert shmsync.readers(name) == []
    assert shmsync.info(name).max_readers == 0


# ------------------------------------------------------------------------------------------------- ends and takeovers


def test_a_removal_is_noticed_at_the_next_call(isolated: Writer, name: str) -> None:
    isolated.write(1)
    with Reader(name) as reader:
        assert reader.get() is reader.get()
        isolated.unlink()
        with pytest.raises(StateNotFoundError):
            reader.get()
        isolated.write(2)
        assert reader.get() == 2


@pytest.mark.parametrize("command", [["rm"], ["rm", "--force"]])
def test_a_removal_includes_what_a_dead_writer_has_not_published(name: str, command: list[str]) -> None:
    with Writer(name, mode=0o644) as writer:
        writer.write(1)
    token = "0123456789abcdef"
    (SHM / f"{name}_data_0.{token}").touch()
    (SHM / f"{name}_data_0.{token[1:]}").touch()  # not of such a name
    assert CliRunner().invoke(app, [*command, name]).exit_code == 0
    assert unpublished(name) == [f"{name}_data_0.{token[1:]}"]
    (SHM / f"{name}_data_0.{token[1:]}").unlink()


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("removed", [(), ("state",), ("state", "readers")])
def test_a_successor_removes_what_a_dead_writer_has_not_published(
    name: str, mode: int, removed: tuple[str, ...]
) -> None:
    with Writer(name, mode=0o644) as writer:
        writer.write(1)
    (SHM / f"{name}_data_0.0123456789abcdef").touch()
    for part in removed:
        (SHM / f"{name}_{part}").unlink()
    with Writer(name, mode=mode) as successor:
        successor.write(2)
        assert unpublished(name) == []
        successor.unlink()


def test_a_shared_name_does_not_list_the_directory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands of segments."""
    monkeypatch.setattr("shmsync._session.data_name.segment_names", None)
    with Writer(name) as writer:
        writer.write(1)
        writer.close()
        with Writer(name) as successor:
            successor.write(2)
            successor.unlink()
            successor.write(3)
            successor.unlink()


@pytest.mark.parametrize("part", ["state", "readers", "data_0"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_segment_that_is_removed_from_outside(isolated: Writer, name: str, part: str, restart: bool) -> None:  # noqa: FBT001
    isolated.write("old")
    with Reader(name) as reader:
        assert reader.get() == "old"
        (SHM / f"{name}_{part}").unlink()
        if restart:
            isolated.close()
            writer = Writer(name, mode=0o644)
        else:
            writer = isolated
            isolated._next_name_check = 0.0  # as after a second
        result = writer.write("new")
        assert result.version.seq == 1
        with Reader(name) as late:
            assert late.get() == "new"
        assert reader.get() in {"old", "new"}
        reader._checked_until = 0.0
        reader._get_checked(None)
        assert reader.get() == "new"
        writer.close()
    Writer(name).unlink()
    assert not list(SHM.glob(f"{name}_*"))


def test_readers_are_told_that_the_data_segment_is_missing(isolated: Writer, name: str) -> None:
    isolated.write("old")
    (SHM / f"{name}_data_0").unlink()
    with Reader(name) as reader:
        with pytest.raises(DataReadError, match="data_0"):
            reader.get()
        assert "data_0 is missing" in shmsync.info(name).problems[0]
        isolated.write("new")
        assert reader.get() == "new"


def test_a_foreign_data_segment_is_refused(isolated: Writer, name: str) -> None:
    isolated.write("old")
    data = (SHM / f"{name}_data_0").read_bytes()
    isolated.unlink()
    isolated.write("new")
    (SHM / f"{name}_data_0").write_bytes(data)
    with Reader(name) as reader, pytest.raises(DataReadError, match="of another incarnation"):
        reader.get()
    assert "belongs to another incarnation" in shmsync.info(name).problems[0]
    isolated.write("next")
    assert Reader(name).get() == "next"


def test_a_publish_that_fails_keeps_the_last_value(
    isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DataWriteError(5, "injected")

    isolated.write("old")
    with Reader(name) as reader:
        assert reader.get() == "old"
        with monkeypatch.context() as patch:
            patch.setattr(isolated_ownership, "rename_segment", fail)
            with pytest.raises(DataWriteError):
                isolated.write("lost")
        assert reader.get() == "old"
        with monkeypatch.context() as patch:  # the generation word has moved, the inode has not: it is not mapped again
            patch.setattr("shmsync._session.isolated_attachment.TrackedMapping", None)
            assert reader.get() == "old"
        assert isolated.write("new").version.seq == 2
        assert reader.get() == "new"
        assert reader.wait(timeout=0.001) is None  # the generation is ahead of the sequence number
        assert unpublished(name) == []


def interrupted(*names: str) -> None:
    segment.rename_segment(*names)
    raise KeyboardInterrupt


def test_no_memory(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    isolated.write("old")
    with monkeypatch.context() as patch, pytest.raises(CapacityError, match=f"/{name}_data_0 needs 8,192 bytes"):
        patch.setattr(segment, "free_bytes", lambda *_: 4096.0)
        isolated.write_raw(bytes(5000))
    assert unpublished(name) == []
    with Reader(name) as reader:
        assert reader.get() == "old"
    assert isolated.write("new").version.seq == 2


def test_an_exception_after_the_first_rename(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a signal handler: the version is published, so the name is not removed as one without a value."""
    with monkeypatch.context() as patch:
        patch.setattr(isolated_ownership, "rename_segment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            isolated.write("first")
    isolated.close()
    with Reader(name) as reader:
        assert reader.get() == "first"
    Writer(name).unlink()


def test_an_exception_after_the_rename(isolated: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is published, and its number is not used again."""
    isolated.write(1)
    with Reader(name) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(isolated_ownership, "rename_segment", interrupted)
            with pytest.raises(KeyboardInterrupt):
                isolated.write(2)
        assert (reader.get(), reader.version().seq) == (2, 2)
        assert isolated.write(3).version.seq == 3
        assert (reader.get(), reader.wait(timeout=0.001)) == (3, None)


def test_waiting_between_the_rename_and_the_version_word(isolated: Writer, name: str) -> None:
    """A writer that died there: the version is returned once, and the reader sleeps instead of spinning."""
    isolated.write(1)
    isolated.write(2)
    assert isolated._ownership is not None
    isolated._ownership.version.store(1)
    with Reader(name) as reader:
        assert reader.wait() == 2
        began = time.process_time()
        assert reader.wait(timeout=0.3) is None
        assert time.process_time() - began < 0.2
        assert shmsync.info(name).seq == 2


def test_an_unpublished_inode_that_another_program_removes(isolated: Writer, name: str) -> None:
    isolated.write("old")
    with isolated.reserve(3) as slot:
        slot.buffer[:] = b"abc"
        (SHM / unpublished(name)[0]).unlink()
    with Reader(name) as reader:
        assert bytes(reader.get()) == b"abc"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give segments away")
@pytest.mark.parametrize("part", ["readers", "data_0"])
def test_a_segment_of_another_user(isolated: Writer, name: str, part: str) -> None:
    """It was removed, and another user has put a copy in its place: it is neither read nor continued."""
    isolated.write("old")
    isolated.close()
    os.chown(SHM / f"{name}_{part}", 65534, 65534)
    with Reader(name) as reader, pytest.raises(StateReadError, match="belongs to user"):
        reader.get()
    with Writer(name, mode=0o644) as successor, Reader(name) as reader:
        assert successor.write("new").version.seq == 1
        assert reader.get() == "new"
        successor.unlink()
    assert not list(SHM.glob(f"{name}_*"))


def test_debug_log(isolated: Writer, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "shmsync")
    isolated.write(1)
    assert re.search(f"{name}: data_0 replaced, generation 1", caplog.text)
