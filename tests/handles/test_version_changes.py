"""What changed between two versions that a reader has seen."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import ArrayMap, ClosedError, InvalidArgumentError, Reader, Writer
from shmsync.codecs._changes import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 20_000


@pytest.fixture(params=[True, False], ids=["shared", "isolated"])
def writer(request: pytest.FixtureRequest, name: str) -> Iterator[Writer]:
    with Writer(name, reuse_memory=request.param) as writer:
        writer.write(table())
        yield writer
        writer.unlink()


@pytest.fixture
def reader(name: str) -> Iterator[Reader]:
    with Reader(name) as reader:
        yield reader


def table() -> dict[str, Any]:
    return {"prices": np.zeros((ROWS, 10)), "counts": np.zeros(ROWS, np.int32), "at": "09:00"}


def test_rows(writer: Writer, reader: Reader) -> None:
    for turn in range(5):
        with writer.update() as draft:
            draft["prices"][[turn, ROWS - 1]] = turn
            draft["counts"][10:13] += 1
            draft["at"] = f"09:0{turn}"
    with reader.read() as snapshot:
        value = snapshot.value
        for since in range(1, 7):
            changes = snapshot.changes(since)
            assert changes is not None
            assert (changes.since, changes.seq, bool(changes)) == (since, 6, since < 6)
            expected = [*range(since - 1, 5), ROWS - 1] if since < 6 else []
            assert changes.rows(value["prices"]).tolist() == expected
            assert changes.rows(value["counts"]).tolist() == ([10, 11, 12] if since < 6 else [])
            assert 0 <= sum(stop - start for start, stop in changes.ranges()) < 2000
        assert snapshot.changes(0) is None
    assert repr(changes) == "<VersionChanges from 6 to 6, up to 0 bytes>"


def test_the_ranges_contain_every_difference(writer: Writer, reader: Reader) -> None:
    payloads = {}
    for turn in range(8):
        with reader.read() as snapshot:
            payloads[snapshot.version.seq] = bytes(snapshot.buffer)
            for since, payload in payloads.items():
                changes = snapshot.changes(since)
                assert changes is not None
                now = bytearray(snapshot.buffer)
                for start, stop in changes.ranges():
                    now[start:stop] = payload[start:stop]
                assert now == payload
        with writer.update() as draft:
            draft["prices"][turn * 7 : turn * 7 + 3] = turn
            draft["counts"][np.arange(0, ROWS, 1000 + turn)] = turn


def test_a_full_write_is_not_known(writer: Writer, reader: Reader) -> None:
    with writer.update() as draft:
        draft["counts"][0] = 1
    writer.write(table())
    with reader.read() as snapshot:
        assert not snapshot.changes(3)
        assert snapshot.changes(3) is not None
        assert snapshot.changes(2) is None
    with writer.update() as draft:
        draft["counts"][0] = 1
    with reader.read() as snapshot:
        assert snapshot.changes(3) is not None
        assert snapshot.changes(2) is None


def test_a_structural_change_is_not_known(writer: Writer, reader: Reader) -> None:
    with writer.update() as draft:
        draft["prices"] = np.zeros((5, 10))
    with reader.read() as snapshot:
        assert snapshot.changes(1) is None


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
def test_another_writer(reader: Reader, name: str, reuse_memory: bool) -> None:  # noqa: FBT001
    for turn in range(2):
        with Writer(name, reuse_memory=reuse_memory) as writer, writer.update(initial=table()) as draft:
            draft["counts"][turn] = 1
    with reader.read() as snapshot:
        changes = snapshot.changes(1)
        assert changes is not None
        assert changes.rows(snapshot.value["counts"]).tolist() == [1]
        assert snapshot.changes(0) is None
    with Writer(name, reuse_memory=reuse_memory) as writer:
        writer.unlink()


def test_an_update_that_was_given_up(writer: Writer, reader: Reader) -> None:
    with writer.update() as draft:
        draft["counts"][0] = 1
    with pytest.raises(ZeroDivisionError), writer.update() as draft:
        draft["counts"][1] = 1
        _ = 1 / 0
    with writer.update() as draft:
        draft["counts"][2] = 1
    with reader.read() as snapshot:
        changes = snapshot.changes(1)
        assert changes is not None
        assert changes.rows(snapshot.value["counts"]).tolist() == [0, 2]


def test_the_log_is_bounded(writer: Writer, reader: Reader) -> None:
    for turn in range(70):
        with writer.update() as draft:
            draft["counts"][turn] = 1
    with reader.read() as snapshot:
        assert snapshot.changes(71 - 64) is not None
        assert snapshot.changes(70 - 64) is None
    with writer.update() as draft:
        draft["counts"][::2] = 5  # its own entry has no room
    with reader.read() as snapshot:
        assert snapshot.changes(71) is None
    with writer.update() as draft:
        draft["counts"][1] = 5
    with reader.read() as snapshot:
        assert snapshot.changes(72) is not None
        assert snapshot.changes(71) is None


@pytest.mark.parametrize("since", [-1, 3, True, 1.0, None])
def test_a_bad_argument(writer: Writer, reader: Reader, since: Any) -> None:
    with writer.update() as draft:
        draft["counts"][0] = 1
    with reader.read() as snapshot, pytest.raises(InvalidArgumentError, match="sequence number of an older version"):
        snapshot.changes(since)


def test_a_closed_snapshot(writer: Writer, reader: Reader) -> None:
    with reader.read() as snapshot:
        pass
    with pytest.raises(ClosedError):
        snapshot.changes(1)


def test_arrays_that_are_not_of_the_snapshot(writer: Writer, reader: Reader) -> None:
    with writer.update() as draft:
        draft["counts"][[5, 9]] = 1
        draft["prices"][3] = 1
    with reader.read() as snapshot:
        value, changes = snapshot.value, snapshot.changes(1)
        assert changes is not None
        assert changes.rows(value["counts"][2:8]).tolist() == [3]
        assert changes.rows(value["prices"].T).tolist() == list(range(10))
        for other in (value["counts"].copy(), value["prices"][:, 2:4], np.float64(1), "09:00", None):
            with pytest.raises(InvalidArgumentError):
                changes.rows(other)


@pytest.mark.parametrize("capacity", [None, 4000])
@pytest.mark.parametrize("shape", [(), (8,)])
def test_keys_of_a_map(name: str, capacity: Any, shape: tuple[int, ...]) -> None:
    keys = np.arange(2000) * 3
    with Writer(name, codec="archive") as writer, Reader(name) as reader:
        writer.write({"map": ArrayMap(keys, np.zeros((2000, *shape)), capacity=capacity), "other": [1, 2]})
        with writer.update() as draft:
            draft["map"].update([30, 3, 300], np.ones((3, *shape)))
            if capacity:
                draft["map"][1] = np.ones(shape)[()]
        with reader.read() as snapshot:
            changes = snapshot.changes(1)
            assert changes is not None
            assert changes.keys(snapshot.value["map"]) == [3, 30, 300, *([1] if capacity else [])]
            for other in (snapshot.value, {3: 1}, snapshot.value["other"]):
                with pytest.raises(InvalidArgumentError, match="keys takes an archived map"):
                    changes.keys(other)
        writer.unlink()


def test_keys_that_were_removed(name: str) -> None:
    with Writer(name, codec="archive") as writer, Reader(name) as reader:
        writer.write(ArrayMap(np.arange(3000), np.zeros((3000, 4)), capacity=4000))
        with writer.update() as draft:
            draft.remove([5, 6])
        with reader.read() as snapshot:
            changes = snapshot.changes(1)
            assert changes is not None
            assert sorted(changes.keys(snapshot.value)) == [2998, 2999]  # they took the places
        writer.unlink()


@pytest.mark.parametrize("order", ["C", "F"])
def test_orders(name: str, order: Any) -> None:
    with Writer(name) as writer, Reader(name) as reader:
        writer.write(np.zeros((5000, 4), order=order))
        with writer.update() as draft:
            draft[[7, 19], 2] = 1.0
        with reader.read() as snapshot:
            changes = snapshot.changes(1)
            assert changes is not None
            found = set(changes.rows(snapshot.value).tolist())
            assert {7, 19} <= found
            assert order == "F" or found == {7, 19}
        writer.unlink()


PART = st.tuples(st.integers(0, 900), st.sampled_from([0, 1, 3, 8, 40]), st.lists(st.integers(0, 12), max_size=6))


@settings(deadline=None)
@given(st.lists(PART, max_size=6), st.integers(0, 100), st.sampled_from([1, 5, 8, 40]))
def test_packed_and_unpacked(parts: list[tuple[int, int, list[int]]], base: int, row_size: int) -> None:
    end = 1000
    changes = Changes()
    expected = set[int]()
    for start, size, rows in parts:
        if size:
            rows = [row for row in rows if start + size * (row + 1) <= end]  # noqa: PLW2901
            changes.add_rows(start, size, np.array(rows, np.int64))
            expected.update(at for row in rows for at in range(start + size * row, start + size * (row + 1)))
        else:
            changes.add(start, start + 10)
            expected.update(range(start, start + 10))
    entry = changes.packed(end)
    assert entry is not None
    assert len(entry) % 8 == 0
    found = Changes.unpacked([memoryview(entry)], end)
    assert {at for start, stop in found.ranges() for at in range(start, stop)} == expected
    count = (end - base) // row_size
    touched = {(at - base) // row_size for at in expected if base <= at < base + count * row_size}
    assert found.rows_in(base, row_size, count).tolist() == sorted(touched)
    for cut in range(1, len(entry)):
        with suppress(ValueError):  # unless it is a whole number of parts
            truncated = Changes.unpacked([memoryview(entry[:cut])], end)
            assert cut % 8 == 0
            assert {at for start, stop in truncated.ranges() for at in range(start, stop)} <= expected
