"""A full /dev/shm is an error with a name, never a SIGBUS; whatever was published stays readable."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
from helpers import SHM, Child, Held, attach, get, possible

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

pytestmark = pytest.mark.skipif(not possible(*SMALL_SHM, "true"), reason="no mount namespaces here")

NAME = "capacity"  # the file system is the child's own


@pytest.fixture
def child() -> Iterator[Child]:
    with Child(SMALL_SHM) as child:
        child.ask(open_writer)
        yield child


def open_writer(held: Held) -> None:
    held.writer = Writer(NAME, codec="raw")


def write(held: Held, size: int, fill: bytes = b"x") -> int:
    seq: int = held.writer.write(fill * size).version.seq
    return seq


def get_anew(_held: Held) -> bytes:
    with Reader(NAME) as reader:
        return bytes(reader.get())


def segments(_held: Held) -> list[str]:
    return sorted(path.name for path in SHM.iterdir())


def free(_held: Held) -> int:
    status = os.statvfs(SHM)
    return status.f_bavail * status.f_frsize


def unlink(held: Held) -> None:
    held.writer.unlink()


def test_a_value_too_large(child: Child) -> None:
    child.ask(attach, NAME)
    assert child.ask(write, 10) == 1
    assert child.ask(get) == b"x" * 10
    for _ in range(3):
        with pytest.raises(CapacityError) as raised:
            child.ask(write, 2 * SIZE)
        assert raised.value.errno == errno.ENOSPC
        text = str(raised.value)
        assert f"{NAME}_data_1 needs 2,101,248 bytes" in text
        assert f" of {SIZE:,} bytes" in text
        assert "--shm-size" in text
        assert child.ask(get) == child.ask(get_anew) == b"x" * 10
    assert child.ask(write, 20) == 2
    assert child.ask(get) == child.ask(get_anew) == b"x" * 20
    child.ask(unlink)
    assert child.ask(segments) == []


def test_no_room_for_two(child: Child) -> None:
    """The value fits, but not beside the one that is published."""
    large = SIZE * 6 // 10
    child.ask(attach, NAME)
    assert child.ask(write, large, b"a") == 1
    for size in (large, large // 10 * 9):
        with pytest.raises(CapacityError):
            child.ask(write, size, b"b")
        assert child.ask(get) == child.ask(get_anew) == b"a" * large
    assert child.ask(write, SIZE // 4, b"c") == 2
    assert child.ask(get) == child.ask(get_anew) == b"c" * (SIZE // 4)


def test_growth_gives_up_its_headroom_first(child: Child) -> None:
    for size in (100_000, 100_000, 900_000):
        child.ask(write, size)
        assert len(child.ask(get_anew)) == size


def test_a_first_write_too_large(child: Child) -> None:
    with pytest.raises(CapacityError):
        child.ask(write, 2 * SIZE)
    assert child.ask(segments) == []
    assert child.ask(free) == SIZE
    with pytest.raises(StateNotFoundError):
        child.ask(get_anew)
    assert child.ask(write, 10) == 1
    assert child.ask(get_anew) == b"x" * 10


@pytest.mark.parametrize("left", [0, 4096, 8192, 16384])
def test_no_room_for_the_state_or_the_table(child: Child, left: int) -> None:
    child.ask(fill_up, left)
    with pytest.raises(CapacityError):
        child.ask(write, 10)
    assert child.ask(segments) == ["filler"]
    assert child.ask(free) == left
    child.ask(remove_filler)
    assert child.ask(write, 10) == 1


def fill_up(held: Held, left: int) -> None:
    with (SHM / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free(held) - left)


def remove_filler(_held: Held) -> None:
    (SHM / "filler").unlink()
