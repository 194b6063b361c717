"""The life cycle of a name with real segments and processes: creation, takeover, removal from inside and outside."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SHM, TIMEOUT, Child, State, environment

import shmsync
from shmsync import (
    CapacityError,
    ClosedError,
    InvalidArgumentError,
    Reader,
    StateNotFoundError,
    StateReadError,
    WriteLockConflictError,
    Writer,
)
from shmsync._core.layout import names_of
from shmsync._session import attachment, state_file
from shmsync._session.state import Channel
from shmsync._session.unlink import force_unlink_name
from shmsync._shm.segment import Segment, open_segment
from shmsync.codecs import _gather

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEGMENTS = ("state", "readers", "data_0", "data_1")
LARGE = b"x" * 5000  # copied by `_gather.copy_into`


def left(name: str) -> list[str]:
    return sorted(path.name for path in SHM.glob(f"{name}_*"))


def remove(name: str, segment: str) -> None:
    (SHM / f"{name}_{segment}").unlink()


def rename(name: str, segment: str) -> None:
    (SHM / f"{name}_{segment}").rename(SHM / f"{name}_moved")


@pytest.mark.parametrize("segment", SEGMENTS)
@pytest.mark.parametrize("take_away", [remove, rename])
def test_a_segment_taken_away_heals_with_the_next_write_that_checks(
    writer: Writer, name: str, segment: str, take_away: Callable[[str, str], None]
) -> None:
    writer.write("first")
    writer.write("second")
    with Reader(name) as attached:
        assert attached.get() == "second"
        take_away(name, segment)
        assert attached.get() == "second"
        writer._next_name_check = 0.0  # it checks once per second
        writer.write("third")
        with Reader(name) as late:
            assert late.get() == "third"
        assert attached.get() == "third"
        writer.write("fourth")
        assert attached.get() == "fourth"
    (SHM / f"{name}_moved").unlink(missing_ok=True)


def test_readers_keep_the_last_value_while_a_name_heals(writer: Writer, name: str) -> None:
    writer.write("old")
    with Reader(name) as attached:
        assert attached.get() == "old"
        remove(name, "state")
        with Writer(name) as successor:  # a new incarnation without a value
            attached._checked_until = 0.0
            assert attached.read().value == "old"
            successor.write("new")
            attached._checked_until = 0.0
            assert attached.read().value == "new"


def test_a_name_that_is_unlinked_and_created_again_while_a_reader_maps_it(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader opens the segment of the new incarnation with the state of the old one."""
    writer.write("old")

    def open_later(segment: str, *, writable: bool) -> Segment:
        monkeypatch.undo()
        writer.unlink()
        writer.write("new")
        return open_segment(segment, writable=writable)

    monkeypatch.setattr(attachment, "open_segment", open_later)
    with Reader(name) as reader:
        assert reader.get() == "new"


def test_a_writer_that_heals_a_name_tells_the_readers_at_once(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They find CLOSED; they do not have to compare the name."""
    monkeypatch.setattr(Channel, "is_superseded", lambda _: False)
    writer.write("old")
    with Reader(name) as attached:
        assert attached.get() == "old"
        remove(name, "state")
        writer._next_name_check = 0.0
        writer.write("new")
        assert attached.get() == "new"


def test_a_creator_holds_the_lock_before_anything_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def reserve(_: Segment, __: int) -> None:
        with closing(Writer(name)) as other, pytest.raises(WriteLockConflictError):
            other.write("other")
        raise CapacityError

    monkeypatch.setattr(Segment, "reserve", reserve)
    with closing(Writer(name)) as writer, pytest.raises(CapacityError):
        writer.write("value")
    assert not left(name)


def test_a_forced_removal_makes_a_live_writer_start_over(writer: Writer, name: str) -> None:
    writer.write("first")
    with Reader(name) as attached:
        assert attached.get() == "first"
        assert force_unlink_name(names_of(name))
        assert not left(name)
        with pytest.raises(StateNotFoundError):
            attached.get()
        assert writer.write("second").version.seq == 1
        assert attached.get() == "second"
        with closing(Writer(name)) as other, pytest.raises(WriteLockConflictError):
            other.write("other")


def test_a_forced_removal_during_a_write_loses_nothing(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write_raw(LARGE)
    copy_into = _gather.copy_into

    def interrupted(target: memoryview, payload: Any, *arrived: Any) -> None:
        monkeypatch.undo()
        force_unlink_name(names_of(name))
        copy_into(target, payload, *arrived)

    monkeypatch.setattr(_gather, "copy_into", interrupted)
    assert writer.write_raw(bytearray(LARGE)).version.seq == 1
    with Reader(name) as reader:
        assert reader.get() == LARGE


def test_a_forced_removal_during_a_reservation_loses_nothing(writer: Writer, name: str) -> None:
    writer.write("before")
    with writer.reserve(4) as slot:
        slot.buffer[:] = b"spam"
        force_unlink_name(names_of(name))
    assert slot.result is not None
    assert slot.result.version.seq == 1
    with Reader(name) as reader:
        assert reader.get() == b"spam"


def test_close_unlocks_although_a_copy_of_the_descriptor_is_open(writer: Writer, name: str) -> None:
    """As a child has that was forked without hooks."""
    writer.write(1)
    assert writer._owner.state is not None
    copy = os.dup(writer._owner.state._locks.fd)
    writer.close()
    try:
        with Writer(name) as successor:
            assert successor.write(2).version.seq == 2
    finally:
        os.close(copy)


def test_a_stopped_remover_is_reported(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "_NAMES_LOCK_TIMEOUT", 0.0)
    writer.write(1)
    with closing(Writer(name)) as other:
        remover = other._owner._directory.open_state()
        assert remover is not None
        remover.lock_names()
        with pytest.raises(WriteLockConflictError, match="locked by another process that creates or removes them"):
            writer.write(LARGE)  # needs new memory
        remover.unlock_names()
        remover.close()
    assert writer.write(LARGE).version.seq == 2


def modes(name: str) -> set[str]:
    return {oct(path.stat().st_mode & 0o777) for path in SHM.glob(f"{name}_*")}


def test_the_settings_of_a_restarted_writer(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The mode is changed, which is logged; max_readers cannot be, which is logged too."""
    with Writer(name, max_readers=1) as writer:
        writer.write(1)
        writer.write(2)
        assert modes(name) == {"0o600"}
    with Writer(name, max_readers=100, mode=0o644, reuse_memory=True) as writer:
        assert "max_readers stays 1, not 100" in caplog.text
        assert "mode changed from 0o600 to 0o644" in caplog.text
        writer.write(3)
        writer.write(4)
        assert modes(name) == {"0o644", "0o666"}
        writer.unlink()


# ------------------------------------------------------------------------------------------------------------- owners

NOBODY = pwd.getpwnam("nobody")


def give_away(name: str, *segments: str) -> None:
    for segment in segments:
        os.chown(SHM / f"{name}_{segment}", NOBODY.pw_uid, -1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("segment", ["state", "readers", "data_1"])
def test_segments_of_another_user(name: str, segment: str) -> None:
    """As when another user has taken the name first: they could read what is published, or decide what is read."""
    with Writer(name) as writer:
        writer.write("first")
        writer.write("second")
    give_away(name, segment)
    with Reader(name) as reader, pytest.raises(OSError, match=rf"belongs to user nobody \({NOBODY.pw_uid}\)"):
        reader.get()
    for owner in ("nobody", NOBODY.pw_uid, str(NOBODY.pw_uid)):
        with Reader(name, owner=owner) as reader:
            assert reader.get() == "second"
    with closing(Writer(name)) as writer:
        if segment == "data_1":  # replaced before anything is written to it
            writer.write("third")
            writer.write("fourth")
        else:
            with pytest.raises(StateReadError, match="a Writer uses segments of its own user only"):
                writer.write("third")
        if segment == "data_1":
            assert (SHM / f"{name}_data_1").stat().st_uid == 0
    assert force_unlink_name(names_of(name))


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
def test_a_takeover_that_changes_the_mode_may_die_at_any_step(
    name: str, monkeypatch: pytest.MonkeyPatch, *, reuse_memory: bool
) -> None:
    class Died(BaseException):
        pass

    set_mode = Segment.set_mode
    steps = 0

    def dies(segment: Segment, mode: int) -> None:
        nonlocal steps
        if steps == 0:
            raise Died
        steps -= 1
        set_mode(segment, mode)

    for before_death in range(2):
        with Writer(name, mode=0o644, reuse_memory=reuse_memory) as writer:
            writer.write(1)
        steps = before_death
        with monkeypatch.context() as patched, pytest.raises(Died):
            patched.setattr(Segment, "set_mode", dies)
            Writer(name, mode=0o640, reuse_memory=reuse_memory).write(2)
        with Writer(name, mode=0o640, reuse_memory=reuse_memory) as writer:
            writer.write(3)
            writer.write(4)
            assert modes(name) <= {"0o600", "0o640", "0o660"}
            assert shmsync.info(name).seq == 3  # the same incarnation
            writer.unlink()


@pytest.mark.parametrize("owner", ["no such user", True, -1, 1.5])
def test_owners_that_do_not_exist(owner: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="owner"):
        Reader("never", owner=owner)


# ---------------------------------------------------------------------------------------------------------- the lock


def test_a_writer_waits_for_the_lock(writer: Writer, name: str) -> None:
    writer.write(1)
    thread = threading.Timer(0.1, writer.close)
    thread.start()
    with closing(Writer(name, lock_timeout=TIMEOUT)) as successor:
        assert successor.write(2).version.seq == 2
    thread.join()


def test_a_writer_gives_up_waiting(writer: Writer, name: str) -> None:
    writer.write(1)
    started = time.monotonic()
    with pytest.raises(WriteLockConflictError), Writer(name, lock_timeout=0.1):
        pass
    assert time.monotonic() >= started + 0.1


def test_a_block_holds_the_lock(name: str) -> None:
    with Writer(name) as writer:
        with closing(Writer(name)) as other, pytest.raises(WriteLockConflictError):
            other.write(1)
        with Reader(name) as reader:
            assert reader.get(default=None) is None
        assert writer.stats().writes == 0
    assert not left(name)


def count_up(_: State, name: str, times: int) -> None:
    for _number in range(times):
        with Writer(name, lock_timeout=TIMEOUT) as writer, Reader(name) as reader:
            writer.write(reader.get(default=0) + 1)


def test_any_process_may_publish(name: str) -> None:
    """A read and a write inside the block are one step: no update is lost."""
    with Child() as first, Child() as second, Child() as third:
        for child in (first, second, third):
            child.send(count_up, name, 20)
        for child in (first, second, third):
            child.receive()
    with Reader(name) as reader:
        assert reader.get() == 60
    with Writer(name) as writer:
        writer.unlink()


def test_open_writers_are_closed_at_exit(name: str) -> None:
    script = f"from shmsync import Writer; writer = Writer({name!r}); writer.write(1)"
    subprocess.run([sys.executable, "-c", script], check=True, env=environment(), timeout=TIMEOUT)
    assert shmsync.info(name).writer.state == "closed"
    with Writer(name) as successor:
        successor.write(2)
        assert successor.stats().takeovers == 0
        successor.unlink()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_open_writers_are_closed_at_the_end_of_a_worker(name: str, method: str, tmp_path: Path) -> None:
    """A forked worker of multiprocessing ends without the interpreter's exit handlers."""
    script = tmp_path / "script.py"
    script.write_text(f"""
import multiprocessing, shmsync
def publish(name):
    global writer
    writer = shmsync.Writer(name)
    writer.write(1)
if __name__ == "__main__":
    first = shmsync.Writer({name!r} + "_main")
    first.write(1)
    worker = multiprocessing.get_context({method!r}).Process(target=publish, args=({name!r},))
    worker.start()
    worker.join()
    assert shmsync.info(first.name).writer.state == "alive"
    first.unlink()
""")
    subprocess.run([sys.executable, script], check=True, env=environment(), timeout=TIMEOUT)
    assert shmsync.info(name).writer.state == "closed"
    Writer(name).unlink()


# ------------------------------------------------------------------------------------------------------ signal handlers


def test_close_in_the_middle_of_a_write_takes_effect_when_it_ends(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_into = _gather.copy_into

    def interrupted(target: memoryview, payload: Any, *arrived: Any) -> None:
        monkeypatch.undo()
        writer.close()
        assert writer.closed
        with closing(Writer(name)) as other, pytest.raises(WriteLockConflictError):
            other.write("other")
        copy_into(target, payload, *arrived)

    monkeypatch.setattr(_gather, "copy_into", interrupted)
    assert writer.write_raw(bytearray(LARGE)).version.seq == 1
    with pytest.raises(ClosedError):
        writer.write(2)
    with Writer(name) as successor:
        assert successor.write(2).version.seq == 2


def test_unlink_in_the_middle_of_a_write_takes_effect_when_it_ends(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write("before")
    copy_into = _gather.copy_into

    def interrupted(target: memoryview, payload: Any, *arrived: Any) -> None:
        monkeypatch.undo()
        writer.unlink()
        copy_into(target, payload, *arrived)

    monkeypatch.setattr(_gather, "copy_into", interrupted)
    with Reader(name) as reader:
        assert reader.get() == "before"
        assert writer.write_raw(bytearray(LARGE)).version.seq == 2
        assert not left(name)
        with pytest.raises(StateNotFoundError):
            reader.get()
        writer.write("after")
        assert reader.get() == "after"
