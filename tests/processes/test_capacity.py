"""A full /dev/shm raises CapacityError, never SIGBUS, and what was published stays readable."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from helpers import SHM, Child, State, command_works, get_value, open_reader

from shmsync import CapacityError, Reader, StateNotFoundError, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
SIZE = 1 << 20
SMALL_SHM = [
    *("unshare", *AS_ROOT, "--mount", "sh", "-c"),
    f'mount -t tmpfs -o size={SIZE} tmpfs {SHM} && exec "$@"',
    "sh",
]

pytestmark = pytest.mark.skipif(not command_works(*SMALL_SHM, "true"), reason="no mount namespaces here")

NAME = "capacity"  # the file system is the child's own


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(SMALL_SHM) as child:
        child.call(open_writer)
        yield child


def open_writer(state: State) -> None:
    state.writer = Writer(NAME, codec="raw")


def write(state: State, size: int, fill: bytes = b"x") -> int:
    seq: int = state.writer.write(fill * size).version.seq
    return seq


def get_with_new_reader(_state: State) -> bytes:
    with Reader(NAME) as reader:
        return bytes(reader.get())


def segments(_state: State) -> list[str]:
    return sorted(path.name for path in SHM.iterdir())


def free(_state: State) -> int:
    status = os.statvfs(SHM)
    return status.f_bavail * status.f_frsize


def unlink(state: State) -> None:
    state.writer.unlink()


def test_a_value_too_large(child: Child) -> None:
    child.call(open_reader, NAME)
    assert child.call(write, 10) == 1
    assert child.call(get_value) == b"x" * 10
    for _ in range(3):
        with pytest.raises(CapacityError) as raised:
            child.call(write, 2 * SIZE)
        assert raised.value.errno == errno.ENOSPC
        text = str(raised.value)
        assert f"{NAME}_data_1 needs 2,109,440 bytes" in text
        assert f" of {SIZE:,} bytes" in text
        assert "--shm-size" in text
        assert child.call(get_value) == child.call(get_with_new_reader) == b"x" * 10
    assert child.call(write, 20) == 2
    assert child.call(get_value) == child.call(get_with_new_reader) == b"x" * 20
    child.call(unlink)
    assert child.call(segments) == []


def test_a_value_that_does_not_fit_beside_the_published_one(child: Child) -> None:
    """Each value alone would fit."""
    large = SIZE * 6 // 10
    child.call(open_reader, NAME)
    assert child.call(write, large, b"a") == 1
    for size in (large, large // 10 * 9):
        with pytest.raises(CapacityError):
            child.call(write, size, b"b")
        assert child.call(get_value) == child.call(get_with_new_reader) == b"a" * large
    assert child.call(write, SIZE // 4, b"c") == 2
    assert child.call(get_value) == child.call(get_with_new_reader) == b"c" * (SIZE // 4)


def restart_writer(state: State, reuse_memory: bool) -> None:  # noqa: FBT001
    state.writer.close()
    state.writer = Writer(NAME, codec="raw", reuse_memory=reuse_memory)


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["to shared", "to isolated"])
def test_a_new_mode_for_which_there_is_no_room(child: Child, reuse_memory: bool) -> None:  # noqa: FBT001
    """The new incarnation takes the names of the old one: that one must not end before it is sure to begin."""
    large = SIZE * 6 // 10
    child.call(restart_writer, not reuse_memory)
    child.call(open_reader, NAME)
    assert child.call(write, large, b"a") == 1
    child.call(restart_writer, reuse_memory)
    for _ in range(2):
        with pytest.raises(CapacityError, match="changes the mode of the name"):
            child.call(write, large, b"b")
        assert child.call(get_value) == child.call(get_with_new_reader) == b"a" * large
        assert not [name for name in child.call(segments) if "." in name]
    assert child.call(write, SIZE // 4, b"c") == 1  # a new incarnation
    assert child.call(get_with_new_reader) == b"c" * (SIZE // 4)


def test_the_error_says_what_readers_hold(child: Child) -> None:
    large = SIZE // 4
    child.call(open_reader, NAME)
    assert child.call(write, large, b"a") == 1
    child.call(get_value)
    child.call(hold_value)
    assert child.call(write, large, b"b") == 2
    assert child.call(write, large, b"c") == 3
    for _ in range(2):
        with pytest.raises(CapacityError) as raised:
            child.call(write, 2 * large, b"d")
        text = str(raised.value)
        assert "readers still hold 270,336 bytes of older versions, in process " in text
        assert "Reader.release()" in text
    assert child.call(write, large, b"e") == 4  # into the segment that could not grow
    assert child.call(replaced) == 3


def hold_value(state: State) -> None:
    state.value = state.reader.get()


def replaced(state: State) -> int:
    count: int = state.writer.stats().replaced
    return count


def test_growth_omits_its_headroom_if_memory_is_short(child: Child) -> None:
    for size in (100_000, 100_000, 900_000):
        child.call(write, size)
        assert len(child.call(get_with_new_reader)) == size


def test_a_first_write_too_large(child: Child) -> None:
    with pytest.raises(CapacityError):
        child.call(write, 2 * SIZE)
    assert child.call(segments) == []
    assert child.call(free) == SIZE
    with pytest.raises(StateNotFoundError):
        child.call(get_with_new_reader)
    assert child.call(write, 10) == 1
    assert child.call(get_with_new_reader) == b"x" * 10


@pytest.mark.parametrize("left", [0, 4096, 8192, 16384])
def test_too_little_memory_for_the_state_or_the_table(child: Child, left: int) -> None:
    child.call(fill_up, left)
    with pytest.raises(CapacityError):
        child.call(write, 10)
    assert child.call(segments) == ["filler"]
    assert child.call(free) == left
    child.call(remove_filler)
    assert child.call(write, 10) == 1


def fill_up(state: State, left: int) -> None:
    with (SHM / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(state) - left)


def remove_filler(_state: State) -> None:
    (SHM / "filler").unlink()
