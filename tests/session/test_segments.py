"""Foreign, damaged, truncated or missing segments raise the documented error; the last value stays readable."""

from __future__ import annotations

import errno
import os
import struct
from contextlib import closing
from pathlib import Path

import pytest

from shmsync import (
    DataReadError,
    IntegrityError,
    LayoutMismatchError,
    Reader,
    ReadersFullError,
    ShmSyncError,
    StateNotFoundError,
    StateReadError,
    Writer,
)
from shmsync._core.layout import EVICTED, HIGH_WATER_AT, PAYLOAD_AT, SLOTS_AT, STATE_SIZE, VERSION_AT
from shmsync._session.pinned import PinnedVersion

SHM = Path("/dev/shm")


def patch(segment: str, at: int, raw: bytes) -> None:
    with (SHM / segment).open("r+b") as file:
        file.seek(at)
        file.write(raw)


def truncate(segment: str, size: int) -> None:
    os.truncate(SHM / segment, size)


def inode(segment: str) -> int:
    return (SHM / segment).stat().st_ino


def refused_by_both(name: str, error: type[ShmSyncError], match: str) -> None:
    before = (SHM / f"{name}_state").read_bytes()
    with Reader(name) as reader, pytest.raises(error, match=match):
        reader.get()
    with closing(Writer(name)) as writer, pytest.raises(error, match=match):
        writer.write(1)
    assert (SHM / f"{name}_state").read_bytes() == before


def test_foreign_segment(name: str) -> None:
    (SHM / f"{name}_state").write_bytes(b"another program's data".ljust(STATE_SIZE))
    refused_by_both(name, LayoutMismatchError, "not a shmsync segment")
    with closing(Writer(name)) as writer, pytest.raises(LayoutMismatchError):
        writer.unlink()
    (SHM / f"{name}_state").unlink()


@pytest.mark.parametrize(
    ("at", "raw", "match"),
    [
        (8, struct.pack("=I", 1), "layout version 1, but this shmsync reads version 2"),
        (8, struct.pack("=I", 3), "layout version 3, but this shmsync reads version 2"),
        (0, b"SHMSYNCS"[::-1], "other byte order"),
        (12, struct.pack("=I", 4), "damaged header"),
        (16, struct.pack("=I", 0), "damaged header"),
    ],
)
def test_other_layout(writer: Writer, name: str, at: int, raw: bytes, match: str) -> None:
    writer.write("attached before")
    good = (SHM / f"{name}_state").read_bytes()
    with Reader(name) as attached:
        assert attached.get() == "attached before"
        patch(f"{name}_state", at, raw)
        writer.close()
        refused_by_both(name, LayoutMismatchError, match)
        assert attached.get() == "attached before"
        patch(f"{name}_state", 0, good[:64])
    with Writer(name) as successor:
        successor.unlink()


@pytest.mark.parametrize("size", [1, 64, STATE_SIZE - 1])
def test_truncated_state(name: str, size: int) -> None:
    with Writer(name) as writer:
        writer.write(1)
    truncate(f"{name}_state", size)
    refused_by_both(name, StateReadError, f"truncated: {size} of {STATE_SIZE} bytes")
    with closing(Writer(name)) as writer:
        writer.unlink()
        assert writer.write(1).version.seq == 1
        writer.unlink()


@pytest.mark.parametrize("size", [0, 64, 128 + 64])
def test_truncated_reader_table(name: str, size: int) -> None:
    with Writer(name) as writer:
        writer.write(1)
    truncate(f"{name}_readers", size)
    with Reader(name) as reader:
        with pytest.raises(StateReadError, match="truncated"):
            reader.get()
        with Writer(name) as writer:
            assert writer.write(2).version.seq == 1  # no reader could attach: the writer has begun a new incarnation
            assert reader.get() == 2
            writer.unlink()


def test_reader_table_of_another_incarnation(writer: Writer, name: str) -> None:
    writer.write(1)
    patch(f"{name}_readers", 16, b"\0" * 8)
    with Reader(name) as reader, pytest.raises(StateReadError, match="does not belong"):
        reader.get()


@pytest.mark.parametrize("size", [0, 1, PAYLOAD_AT - 1, PAYLOAD_AT + 3])
def test_truncated_data(writer: Writer, name: str, size: int) -> None:
    writer.write_raw(b"0123456789")
    truncate(f"{name}_data_0", size)
    with Reader(name) as reader:
        with pytest.raises(DataReadError):
            reader.get()
        with pytest.raises(DataReadError):
            reader.read()
        writer.write_raw(b"next")
        assert bytes(reader.get()) == b"next"


def test_data_segment_missing(writer: Writer, name: str) -> None:
    writer.write("value")
    with Reader(name) as attached, Reader(name) as late:
        assert attached.get() == "value"
        (SHM / f"{name}_data_0").unlink()
        assert attached.get() == "value"
        with pytest.raises(DataReadError) as raised:
            late.get()
        assert raised.value.errno == errno.ENOENT
        writer.write("next")
        assert attached.get() == late.get() == "next"


def test_every_damaged_header_byte_is_noticed(writer: Writer, name: str) -> None:
    writer.write_raw(b"payload")
    good = (SHM / f"{name}_data_0").read_bytes()
    with Reader(name) as reader:
        for at in range(PAYLOAD_AT):
            patch(f"{name}_data_0", at, bytes([good[at] ^ 0x40]))
            with pytest.raises(DataReadError):
                reader.read()
            patch(f"{name}_data_0", at, good[at : at + 1])
        with reader.read() as snapshot:
            assert bytes(snapshot.value) == b"payload"


def test_check_bytes_notices_every_payload_byte(writer: Writer, name: str) -> None:
    payload = bytes(range(50))
    writer.write_raw(payload)
    with Reader(name) as reader:
        for at in range(len(payload)):
            patch(f"{name}_data_0", PAYLOAD_AT + at, bytes([payload[at] ^ 1]))
            with pytest.raises(IntegrityError, match="do not match their digests: 0 to 49;"):
                reader.read(check_bytes=True)
            patch(f"{name}_data_0", PAYLOAD_AT + at, payload[at : at + 1])
        with reader.read(check_bytes=True) as snapshot:
            assert bytes(snapshot.value) == payload


def test_state_removed_from_outside(writer: Writer, name: str) -> None:
    """Within its check interval the writer detects it, closes the orphan and creates an incarnation; readers follow."""
    writer.write("old")
    with Reader(name) as attached:
        assert attached.get() == "old"
        for segment in SHM.glob(f"{name}_*"):
            segment.unlink()
        with Reader(name) as late, pytest.raises(StateNotFoundError):
            late.get()
        writer._next_name_check = 0.0
        assert writer.write("new").version.seq == 1
        assert attached.get() == "new"


def test_data_removed_from_outside_is_created_again(writer: Writer, name: str) -> None:
    for number in range(2):
        writer.write(number)
    for index in range(2):
        (SHM / f"{name}_data_{index}").unlink()
    writer._next_name_check = 0.0
    for number in range(2):
        writer.write(number)
        with Reader(name) as late:
            assert late.get() == number


def test_segments_grow_and_shrink_by_replacement(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        inodes = []
        for size in (10, 10, 10, 10, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 10, 10):
            payload = os.urandom(size)
            writer.write_raw(payload)
            with reader.read() as snapshot:
                assert bytes(snapshot.buffer) == payload
                inodes.append(inode(f"{name}_data_{snapshot.version.idx}"))
    assert inodes[0] == inodes[2]
    assert inodes[1] == inodes[3]
    assert inodes[4] != inodes[2]
    assert inodes[4] == inodes[6]
    assert inodes[8] != inodes[6]
    assert (SHM / f"{name}_data_0").stat().st_size < 1 << 16


def test_readers_full(name: str) -> None:
    with Writer(name, max_readers=2) as writer:
        writer.write("value")
        with Reader(name) as first, Reader(name) as second, Reader(name) as third:
            assert first.get() == second.get() == "value"
            with pytest.raises(
                ReadersFullError, match=r"no reader slot is free: live readers hold all of them \(max_readers=2\)"
            ):
                third.get()
            second.close()
            assert third.get() == "value"
        writer.unlink()


def test_an_incarnation_whose_writer_died_while_unlinking(writer: Writer, name: str) -> None:
    writer.write("value")
    with Reader(name) as reader:
        assert reader.get() == "value"
        patch(f"{name}_state", VERSION_AT, b"\xff" * 8)
        with pytest.raises(StateNotFoundError):
            reader.get()
        with Reader(name) as late, pytest.raises(StateNotFoundError):
            late.get()
        writer.close()
        with Writer(name) as successor:
            assert successor.write("again").version.seq == 1
            assert reader.get() == "again"
            successor.unlink()


@pytest.mark.parametrize("left", ["zeroes", "of another incarnation"])
def test_successor_trusts_no_inode_but_its_generations(name: str, left: str) -> None:
    """As after the predecessor died between the new inode and the new generation, or another program replaced it."""
    with Writer(name) as writer, Reader(name) as reader:
        for number in range(2):
            writer.write(number)
            assert reader.get() == number
        content = b"\0" * 4096
        if left == "of another incarnation":
            with Writer(f"{name}x") as other:
                other.write("foreign")
                content = (SHM / f"{name}x_data_0").read_bytes()
                other.unlink()
        (SHM / f"{name}_data_0").unlink()
        (SHM / f"{name}_data_0").write_bytes(content)
        writer.close()
        with Writer(name) as successor:
            for number in range(3, 6):
                assert successor.write(number).version.seq == number
                assert reader.get() == number
            successor.unlink()


@pytest.mark.parametrize("evicted", [0, EVICTED])
def test_a_claimed_slot_starts_clean(writer: Writer, name: str, evicted: int) -> None:
    """The words that a dead reader left in a slot do not affect its next owner."""
    writer.write(1)
    patch(f"{name}_readers", SLOTS_AT, struct.pack("=QQQ", evicted | 5 | 7 << 24, 1, 1))
    with Reader(name) as reader:
        assert reader.get() == 1
        table = (SHM / f"{name}_readers").read_bytes()
        assert not any(table[SLOTS_AT : SLOTS_AT + 24])
        for number in range(3):
            assert not writer.write(number, grace_duration=60).reset


def test_readers_map_state_and_data_read_only(writer: Writer, name: str) -> None:
    writer.write_raw(b"value")
    with Reader(name) as reader, reader.read() as snapshot:
        attachment = reader._attachment
        assert attachment is not None
        assert attachment.channel.version_cell.readonly
        assert isinstance(snapshot._pinned, PinnedVersion)
        assert snapshot._pinned.mapping.view().readonly
        with pytest.raises(TypeError, match="read-only"):
            snapshot.buffer[0] = 0


def test_a_hostile_high_water_mark_is_clamped(writer: Writer, name: str) -> None:
    writer.write(1)
    with Reader(name) as reader:
        assert reader.get() == 1
        patch(f"{name}_readers", HIGH_WATER_AT, b"\xff" * 8)
        assert writer.write(2).version.seq == 2
        assert reader.get() == 2
