"""Versions that arrive in parts from elsewhere: published as they are, with their origin, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shmsync import ClosedError, DataReadError, IntegrityError, Origin, Reader, ReadersFullError, Writer, unlink
from shmsync._core.layout import PAGE, PAYLOAD_AT
from shmsync._handles.receiving import Incoming, ReceivingWriter
from shmsync._session.origin import ORIGIN_SIZE
from shmsync.codecs._changes import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync import Snapshot

ROWS = 20_000


@pytest.fixture(params=[0o600, 0o644], ids=["shared", "isolated"])
def copy(request: pytest.FixtureRequest, name: str) -> Iterator[ReceivingWriter]:
    """A writer that receives what `source` publishes."""
    with ReceivingWriter(f"{name}-copy", mode=request.param) as writer:
        yield writer
        writer.unlink()


@pytest.fixture
def source(name: str) -> Iterator[Writer]:
    with Writer(name) as writer:
        yield writer
        writer.unlink()


def described(snapshot: Snapshot[Any], epoch: int = 5) -> Incoming:
    version = snapshot.version
    origin = Origin(epoch, version.seq, 1000.5, 0.0)
    return Incoming(version.size, snapshot._pinned.codec.ID, version.checksum, origin)  # type: ignore[union-attr]


def receive(copy: ReceivingWriter, name: str) -> Incoming:
    with Reader(name) as reader, reader.read() as snapshot:
        version = described(snapshot)
        with copy.receive(version) as block:
            block.memory[:] = snapshot.buffer
    return version


def receive_changes(copy: ReceivingWriter, name: str, since: int) -> None:
    with Reader(name) as reader, reader.read() as snapshot:
        changes = snapshot._pinned.changes_since(since)  # type: ignore[union-attr]
        assert changes is not None
        with copy.receive_changes(described(snapshot), changes) as block:
            changes.copy(block.memory, snapshot.buffer)


@pytest.mark.parametrize(
    ("codec", "value"),
    [
        ("msgpack", {"EURUSD": 1.08}),
        ("msgpack", np.arange(100_000)),
        ("archive", {f"key{number}": number for number in range(1000)}),
        ("raw", b""),
        ("raw", b"spam" * 50_000),
    ],
    ids=["plain", "array", "archive", "empty", "raw"],
)
def test_a_version_is_published_as_it_is(copy: ReceivingWriter, name: str, codec: str, value: Any) -> None:
    with Writer(name, codec=codec) as writer:
        writer.write(value)
        received = receive(copy, name)
        with Reader(name) as reader, Reader(copy.name) as other:
            with reader.read() as snapshot, other.read(check_bytes=True) as arrived:
                assert bytes(arrived.buffer) == bytes(snapshot.buffer)
                assert arrived.version.checksum == snapshot.version.checksum
                assert arrived.origin is not None
                assert arrived.origin[:3] == received.origin[:3]
                assert arrived.origin.received > 0
                assert snapshot.origin is None
                assert type(arrived.value) is type(snapshot.value)
            with pytest.raises(ClosedError):
                _ = arrived.origin
        writer.unlink()


@pytest.mark.parametrize("size", [0, 1, *range(PAGE - PAYLOAD_AT - ORIGIN_SIZE - 2, PAGE + 2, 3), 65536, 65537])
def test_there_is_room_for_the_origin_after_any_payload(copy: ReceivingWriter, source: Writer, size: int) -> None:
    for number in (1, 2, 3):
        source.write_raw(bytes([number]) * size)
        received = receive(copy, source.name)
        with Reader(copy.name) as reader, reader.read(check_bytes=True) as snapshot:
            assert bytes(snapshot.buffer) == bytes([number]) * size
            assert snapshot.origin is not None
            assert snapshot.origin.seq == received.origin.seq == number


def test_changes(copy: ReceivingWriter, source: Writer) -> None:
    source.write(np.zeros((ROWS, 4)))
    receive(copy, source.name)
    with Reader(source.name) as reader, Reader(copy.name) as other:
        for turn in range(1, 8):
            with source.update() as draft:
                draft.value[[turn, ROWS - turn]] = turn
            receive_changes(copy, source.name, turn)
            with other.read(check_bytes=True) as snapshot:
                np.testing.assert_array_equal(snapshot.value, reader.get())
                assert snapshot.origin is not None
                assert snapshot.origin.seq == turn + 1
                changes = snapshot.changes(snapshot.version.seq - 1)
                assert changes is not None
                assert changes.rows(snapshot.value).tolist() == [turn, ROWS - turn]
        assert copy.origin() is not None


def test_changes_of_another_version_are_not_published(copy: ReceivingWriter, source: Writer) -> None:
    source.write(np.zeros((ROWS, 4)))
    receive(copy, source.name)
    for turn in (1, 2):
        with source.update() as draft:
            draft.value[turn] = turn
    with Reader(copy.name) as reader:
        with pytest.raises(IntegrityError, match="nothing was published"):
            receive_changes(copy, source.name, 2)  # the first of the two changes is missing
        assert not reader.get().any()
        receive_changes(copy, source.name, 1)
        assert reader.get()[:3, 0].tolist() == [0, 1, 2]


def test_what_does_not_match_its_checksum_is_not_published(copy: ReceivingWriter, source: Writer) -> None:
    source.write_raw(b"spam" * 50_000)
    receive(copy, source.name)
    version = Incoming(4, 1, 55, Origin(5, 9, 0.0, 0.0))
    with pytest.raises(IntegrityError, match="nothing was published"), copy.receive(version) as block:
        block.memory[:] = b"eggs"
    with pytest.raises(ZeroDivisionError), copy.receive(version):
        _ = 1 / 0
    with pytest.raises(ClosedError):
        _ = copy.receive(version).memory
    with Reader(copy.name) as reader, reader.read(check_bytes=True) as snapshot:
        assert bytes(snapshot.buffer) == b"spam" * 50_000
    receive(copy, source.name)


def test_changes_need_a_version(copy: ReceivingWriter) -> None:
    version = Incoming(4, 1, 55, Origin(5, 9, 0.0, 0.0))
    with pytest.raises(DataReadError, match="not the newest"), copy.receive_changes(version, Changes()):
        pass
    assert copy.origin() is None


def test_the_origin_is_that_of_the_newest_version(copy: ReceivingWriter, source: Writer) -> None:
    source.write(np.zeros(ROWS))
    receive(copy, source.name)
    assert copy.origin() is not None
    copy.write(np.zeros(ROWS))  # a local version, of the same bytes
    assert copy.origin() is None
    with Reader(copy.name) as reader, reader.read() as snapshot:
        assert snapshot.origin is None
    receive(copy, source.name)
    copy.unlink()
    assert copy.origin() is None


def test_another_process_continues(name: str, source: Writer) -> None:
    source.write(np.zeros((ROWS, 4)))
    with ReceivingWriter(f"{name}-copy") as first:
        receive(first, name)
        expected = first.origin()
    with source.update() as draft:
        draft.value[7] = 7
    with ReceivingWriter(f"{name}-copy") as second:
        assert second.origin() == expected
        receive_changes(second, name, 1)
        origin = second.origin()
        assert origin is not None
        assert origin.seq == 2
        second.unlink()


def test_the_origin_takes_no_reader_slot(name: str, source: Writer) -> None:
    source.write(1)
    with ReceivingWriter(f"{name}-copy", max_readers=1) as copy, Reader(copy.name) as reader:
        receive(copy, name)
        reader.get()
        with pytest.raises(ReadersFullError), Reader(copy.name) as other:
            other.get()
        assert copy.origin() is not None
        copy.unlink()


def test_a_removed_name_begins_again(copy: ReceivingWriter, source: Writer) -> None:
    source.write(np.zeros((ROWS, 4)))
    receive(copy, source.name)
    copy._next_name_check = 0.0
    unlink(copy.name, force=True)
    assert copy.origin() is None
    receive(copy, source.name)
    assert copy.origin() is not None
