"""Update in place: leaving the block publishes the changed value as the next version, or publishes nothing."""

from __future__ import annotations

import operator
import os
import random
import signal
import threading
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import SHM, Alarms, Child, State
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import (
    ArrayMap,
    ClosedError,
    DataReadError,
    EntityWriteError,
    InvalidArgumentError,
    Reader,
    ShmSyncError,
    Synchronizer,
    UninitializedStateError,
    WriteLockConflictError,
    Writer,
    info,
    unarchive,
    unlink,
)
from shmsync._core.layout import PAGE
from shmsync._session import updates
from shmsync._session.ownership import Ownership
from shmsync._session.reusable import payload_sizes
from shmsync.codecs import _gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS = 20_000
"""Rows of 80 bytes: large enough for a segment of which the stale bytes are known."""


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with closing(Writer(name, grace_duration=0)) as writer:
        yield writer
    with Writer(name) as last:
        last.unlink()


def table() -> np.ndarray[Any, Any]:
    return np.arange(ROWS * 10, dtype=float).reshape(ROWS, 10)


def checked(name: str) -> Any:
    """Return the newest value; its checksum is verified."""
    with Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        return snapshot.value


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(np.array_equal(found, expected))


def test_rows_of_an_array(writer: Writer, name: str) -> None:
    expected = table()
    writer.write({"prices": expected, "at": "09:00"})
    for turn in range(6):
        rows = np.array([1, 5 + turn, ROWS - 1])
        with writer.update() as draft:
            draft["prices"][rows] = turn
            assert draft.result is None
        expected[rows] = turn
        assert draft.result is not None
        assert draft.result.version.seq == turn + 2
        assert same(checked(name), {"prices": expected, "at": "09:00"})


def test_the_cost_is_that_of_the_change(writer: Writer) -> None:
    """Two copies alternate: from the third version on, an update copies what this and the last one have changed."""
    size = writer.write(table()).size
    copied = []
    for turn in range(5):
        with writer.update() as draft:
            draft[[turn, 100]] = 0.5
        assert draft.result is not None
        copied.append(draft.result.copied)
    assert copied[0] == size + 160
    assert copied[1:] == [320] * 4


def test_an_exception_publishes_nothing(writer: Writer, name: str) -> None:
    expected = table()
    writer.write(expected)
    for turn in range(5):
        with pytest.raises(RuntimeError, match="no"), writer.update() as draft:
            draft[turn : 100 * turn] = -1
            raise RuntimeError("no")
        assert draft.result is None
        with writer.update() as draft:
            draft[3, turn] = turn
        expected[3, turn] = turn
        assert same(checked(name), expected)


def test_a_full_write_and_an_update_take_turns(writer: Writer, name: str) -> None:
    expected = table()
    for turn in range(12):
        if turn % 3 == 0:
            expected += 1
            writer.write(expected)
        else:
            with writer.update() as draft:
                draft[turn] *= 2
            expected[turn] *= 2
        assert same(checked(name), expected)


def test_a_full_write_that_fails_in_the_middle(writer: Writer, name: str) -> None:
    """It has changed memory whose stale bytes were known."""

    expected = table()
    writer.write(expected)
    for turn in range(4):
        with writer.update() as draft:
            draft[turn] = 0
        expected[turn] = 0
        with pytest.raises(ZeroDivisionError), writer.reserve(expected.nbytes) as slot:
            slot.buffer[: expected.nbytes // 2] = bytes(expected.nbytes // 2)
            raise ZeroDivisionError
        assert same(checked(name), expected)


def test_a_full_write_that_is_interrupted(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for `write`: a signal handler raises when half of it is copied."""

    def interrupted(target: memoryview, *_: object) -> None:
        target[: len(target) // 2] = bytes(len(target) // 2)
        raise ZeroDivisionError

    expected = table()
    writer.write(expected)
    for turn in range(4):
        with writer.update() as draft:
            draft[turn] = 0
        expected[turn] = 0
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(_gather, "copy_into", interrupted)
            writer.write(expected + 1)
        assert same(checked(name), expected)


@pytest.mark.parametrize("aborts", [False, True], ids=["published", "aborted"])
def test_the_writer_keeps_no_replaced_memory(name: str, aborts: bool) -> None:  # noqa: FBT001
    """In isolated mode a version is released when the next one is published, and no reader has it."""
    with Writer(name, reuse_memory=False) as writer:
        writer.write(table())
        for _ in range(2):
            with suppress(ZeroDivisionError), writer.update() as draft:
                draft[0] = 1
                if aborts:
                    raise ZeroDivisionError
        writer.write(table())
        mapped = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        assert not [line for line in mapped if f"{name}_data" in line and line.endswith("(deleted)")]
        writer.unlink()


def test_a_draft_is_closed_before_its_version_is_published(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread may still assign to an array of it."""
    writer.write({"a": table()})
    publish, refused = Ownership.commit_update, list[bool]()

    def assigned_too_late(owned: Ownership, prepared: Any) -> int:
        with pytest.raises(ClosedError):
            array[0] = 99
        refused.append(True)
        return publish(owned, prepared)

    monkeypatch.setattr(Ownership, "commit_update", assigned_too_late)
    with writer.update() as draft:
        array = draft["a"]
        array[1] = 5
    assert refused


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
def test_both_modes(name: str, reuse_memory: bool) -> None:  # noqa: FBT001 - a parameter
    expected = {"a": table(), "n": 0}
    with Writer(name, reuse_memory=reuse_memory) as writer, Reader(name) as reader:
        writer.write(expected)
        for turn in range(4):
            with writer.update() as draft:
                draft["a"][turn] = turn
                draft["n"] = turn
            expected["a"][turn] = turn  # type: ignore[index]
            expected["n"] = turn
            assert same(reader.get(), expected)
        assert same(checked(name), expected)
        writer.unlink()


def test_a_reader_keeps_its_version(writer: Writer, name: str) -> None:
    expected = table()
    writer.write(expected)
    kept = []
    with Reader(name) as reader:
        for turn in range(6):
            kept.append((reader.get(), expected.copy()))
            with writer.update() as draft:
                draft[turn : turn + 50] = -turn
            expected[turn : turn + 50] = -turn
        for found, value in kept:
            assert same(found, value)
        assert same(reader.get(), expected)


def test_another_writer_goes_on(name: str) -> None:
    expected = table()
    for turn in range(4):
        with Writer(name) as writer:
            with writer.update(initial=expected) as draft:
                draft[turn] = turn
            expected[turn] = turn
            with writer.update() as draft:
                draft[turn + 100] = turn
            expected[turn + 100] = turn
            assert same(checked(name), expected)
    with Writer(name) as writer:
        writer.unlink()


def publish_and_update(state: State, name: str) -> None:
    writer = state.writer = Writer(name)
    writer.write(table())
    with writer.update() as draft:
        draft[1] = 1
    state.draft = writer.update().__enter__()
    state.draft[2:500] = 2  # not published


def test_a_writer_killed_in_an_update(name: str) -> None:
    expected = table()
    expected[1] = 1
    with Child() as child:
        child.call(publish_and_update, name)
        child.kill()
    assert same(checked(name), expected)
    with Writer(name) as writer:
        for turn in range(3):
            with writer.update() as draft:
                draft[10 + turn] = 10
            expected[10 + turn] = 10
            assert same(checked(name), expected)
        writer.unlink()


# ---------------------------------------------------------------------------------------------------- what is changed


INDEXES: list[Any] = [
    0,
    -1,
    slice(3, 9),
    slice(None, None, 7),
    slice(50, 3, -1),
    slice(5, 5),
    ...,
    [1, 5, 5],
    [-1, 3],
    np.array([], int),
    np.arange(ROWS) % 3 == 0,
    np.array([[1, 2], [3, 4]]),
    (5, 3),
    (slice(2, 5), 1),
    (slice(None), [1, 3]),
    ([1, 2], [3, 4]),
    ([1, 2], slice(None)),
    (..., 0),
    (None, 3),
    np.int32(7),
    np.uint8(9),
    np.arange(ROWS * 10).reshape(ROWS, 10) % 1001 == 0,
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("index", INDEXES, ids=lambda index: repr(index)[:30])
def test_every_index(writer: Writer, name: str, index: Any, order: Any) -> None:
    expected = np.array(table(), order=order)
    writer.write(expected)
    for value in (-1.0, -2.0, -3.0):
        with writer.update() as draft:
            draft[index] = value
            assert same(draft.value, checked_copy(expected, index, value))
        expected[index] = value
        with writer.update() as draft:
            draft[index] += 5
        expected[index] += 5
        assert same(checked(name), expected)


def checked_copy(array: Any, index: Any, value: Any) -> Any:
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    "change", [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.imod]
)
def test_operators(writer: Writer, name: str, change: Callable[[Any, Any], Any]) -> None:
    expected = table() + 1
    writer.write({"a": expected, "b": expected})
    for _ in range(2):
        with writer.update() as draft:
            draft["a"] = change(draft["a"], 2)
            part = draft["b"][3:7]
            change(part, 3)
        expected_a = change(expected.copy(), 2)
        assert same(checked(name)["a"], expected_a)
        writer.write({"a": expected, "b": expected})


def test_functions_with_out(writer: Writer, name: str) -> None:
    expected = table()
    writer.write(expected)
    for _ in range(3):
        with writer.update() as draft:
            np.add(draft.value, 1, out=draft.value)
            np.maximum.at(draft.value, [3, 3], np.full(10, 7.0))
            draft.add([2, 2], 1)
        expected += 1
        np.maximum.at(expected, [3, 3], np.full(10, 7.0))
        np.add.at(expected, [2, 2], 1)
        assert same(checked(name), expected)


def test_what_is_read_is_read_only(writer: Writer) -> None:
    writer.write({"a": table()})
    with writer.update() as draft:
        array = draft["a"]
        for view in (array.view(np.ndarray), np.asarray(array)):
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
        with pytest.raises(ValueError, match=r"read-only|WRITEABLE|writeable"):
            array.sort()
        with pytest.raises(ValueError, match="WRITEABLE"):
            np.asarray(array).flags.writeable = True
        assert type(array + 1) is np.ndarray
        assert array.sum() == table().sum()


def test_a_draft_is_of_no_use_after_the_block(writer: Writer, name: str) -> None:
    writer.write({"a": table(), "m": {"x": 1}})
    with writer.update() as draft:
        array, inner = draft["a"], draft["m"]
    uses: list[Callable[[], Any]] = [
        lambda: draft["a"],
        lambda: array.__setitem__(0, 1),
        lambda: np.add(array, 1, out=array),
        lambda: inner.__setitem__("x", 2),
        lambda: draft.value,
        lambda: draft.buffer,
    ]
    for use in uses:
        with pytest.raises(ClosedError):
            use()
    assert same(checked(name), {"a": table(), "m": {"x": 1}})


def test_plain_parts(writer: Writer, name: str) -> None:
    """Arrays stay where they are, as long as the plain parts fit."""
    value: Any = {"a": table(), "n": 1, "list": [1, {"x": "y"}], "bytes": bytes(10_000)}
    writer.write(value)
    for turn in range(6):
        with writer.update() as draft:
            draft["n"] = value["n"] = turn * 50
            draft["list"][1]["x"] = value["list"][1]["x"] = "z" * turn
            draft["list"][0] += 1
            value["list"][0] += 1
            draft["a"][turn] = value["a"][turn] = turn
        assert draft.result is not None
        assert turn < 1 or draft.result.copied < 2000
        assert same(checked(name), value)


@pytest.mark.parametrize("modes", [(0o600, 0o644), (0o644, 0o600)], ids=["isolated", "shared"])
def test_the_mode_changes(name: str, modes: tuple[int, int]) -> None:
    """As at a write: what was readable for others must not stay so, and the other way round."""
    with Writer(name, mode=modes[0]) as writer:
        writer.write({"a": table()})
    expected = table()
    with Writer(name, mode=modes[1]) as writer, Reader(name) as reader:
        with pytest.raises(ZeroDivisionError), writer.update() as draft:
            draft["a"][0] = -1
            raise ZeroDivisionError
        assert same(checked(name), {"a": expected})
        for turn in range(3):
            with writer.update() as draft:
                draft["a"][turn] = turn
            expected[turn] = turn
            assert same(reader.get(), {"a": expected})
            assert info(name).isolated == (modes[1] == 0o644)
            assert SHM.joinpath(f"{name}_data_0").stat().st_mode & 0o777 == modes[1]
        writer.unlink()


def test_extensions_and_a_hook(name: str) -> None:
    value: Any = {"a": table(), "at": datetime(2026, 1, 1, tzinfo=timezone.utc), "hook": None}
    with Writer(name, enc_hook=lambda value: {"real": value.real} if isinstance(value, complex) else value) as writer:
        writer.write(value)
        for turn in range(3):
            with writer.update() as draft:
                draft["at"] = value["at"] = value["at"] + timedelta(days=turn)
                draft["a"][turn] = value["a"][turn] = turn
            assert same(checked(name), value)
        with writer.update() as draft:
            del draft["at"]
        del value["at"]
        assert same(checked(name), value)
        writer.unlink()


def test_parts_are_assigned_to_themselves(writer: Writer, name: str) -> None:
    writer.write({"list": [1], "map": {"x": 1}, "a": table(), "empty": np.zeros((0, 3))})
    with writer.update() as draft:
        draft["list"] += [2]
        draft["map"] = draft["map"]
        draft.value = draft.value
        draft["empty"][:] = 1
        draft["a"] += 1
    assert same(checked(name), {"list": [1, 2], "map": {"x": 1}, "a": table() + 1, "empty": np.zeros((0, 3))})


def test_small_segments_are_not_tracked() -> None:
    """A small value is written in one step, which does not drop the record of what is stale."""

    for size in range(updates._TRACK_FROM + 1, updates._TRACK_FROM + 3 * PAGE):
        assert PAGE not in payload_sizes(size)


def test_structural_changes(writer: Writer, name: str) -> None:
    value: Any = {"a": table(), "b": {"c": np.zeros(2000)}, "list": [1, 2]}
    writer.write(value)
    for turn in range(3):
        with writer.update() as draft:
            draft["a"][turn] = value["a"][turn] = 7
            draft[f"new {turn}"] = value[f"new {turn}"] = np.ones(3 + turn)
            draft["b"]["c"] = value["b"]["c"] = np.zeros(10 + turn)
            draft["list"].append(turn)
            value["list"].append(turn)
            draft["list"][0:1] = value["list"][0:1] = [turn, turn]
            draft["a"][100] = value["a"][100] = turn  # also after a structural change
            assert len(draft) == len(value)
        assert same(checked(name), value)
        with writer.update() as draft:
            del draft[f"new {turn}"]
            del draft["list"][0]
        del value[f"new {turn}"]
        del value["list"][0]
        assert same(checked(name), value)


def test_arrays_that_change_places(writer: Writer, name: str) -> None:
    """Their new places overlap their old ones."""
    one, other = table(), table()[::-1].copy()
    writer.write({"one": one, "other": other})
    with writer.update() as draft:
        draft["one"], draft["other"] = np.array(draft["other"]), np.array(draft["one"])
    assert same(checked(name), {"one": other, "other": one})
    with writer.update() as draft:
        kept = draft["one"]
        draft.value = {"moved": kept, "x": 1}
    assert same(checked(name), {"moved": other, "x": 1})


def test_the_value_is_replaced(writer: Writer, name: str) -> None:
    writer.write(table())
    with writer.update() as draft:
        draft.value = {"plain": True}
    assert checked(name) == {"plain": True}
    writer.write(table())
    with writer.update() as draft:
        draft.value += 1
    assert same(checked(name), table() + 1)


# ------------------------------------------------------------------------------------------------------------ archives


KEYS: list[Any] = [
    np.arange(5000) * 7 - 100,
    np.arange(5000, dtype=np.uint64) + (1 << 63),
    [f"key {number}" for number in range(5000)],
    [(number, "x") for number in range(1000)],
]


@pytest.mark.parametrize("keys", KEYS, ids=["int", "uint", "str", "tuple"])
@pytest.mark.parametrize("shape", [(10,), ()], ids=["rows", "numbers"])
def test_an_array_map(name: str, keys: Any, shape: tuple[int, ...]) -> None:
    random.seed(1)
    values = np.zeros((len(keys), *shape))
    expected = dict.fromkeys(keys.tolist() if isinstance(keys, np.ndarray) else keys, values[0])
    listed = list(expected)
    with Writer(name, codec="archive") as writer:
        size = writer.write(ArrayMap(keys, values)).size
        for turn in range(1, 5):
            chosen = random.choices(range(len(listed)), k=300)
            rows = np.random.default_rng(turn).random((300, *shape))
            with writer.update() as draft:
                draft.update(keys[chosen] if isinstance(keys, np.ndarray) else [keys[each] for each in chosen], rows)
                draft[listed[3]] = np.full(shape, turn) if shape else float(turn)
                assert np.array_equal(draft[listed[3]], np.full(shape, turn))
            expected.update({listed[each]: row for each, row in zip(chosen, rows, strict=True)})
            expected[listed[3]] = np.full(shape, float(turn))
            assert draft.result is not None
            assert turn == 1 or size < 300_000 or draft.result.copied < size // 3
            found = checked(name)
            assert len(found) == len(expected)
            assert all(np.array_equal(found[key], expected[key]) for key in listed)
        writer.unlink()


def test_a_map_gets_new_keys(name: str) -> None:
    with Writer(name, codec="archive") as writer:
        writer.write(ArrayMap(np.arange(2000), np.zeros((2000, 3))))
        with writer.update() as draft:
            draft[5000] = np.ones(3)
            del draft[7]
            draft.update(np.array([1, 6000]), np.full((2, 3), 4.0))
            draft[3] = np.full(3, 2.0)
        found = checked(name)
        assert sorted(found)[-2:] == [5000, 6000]
        assert 7 not in found
        assert [found[key].tolist() for key in (1, 3, 5000, 6000)] == [[4.0] * 3, [2.0] * 3, [1.0] * 3, [4.0] * 3]
        writer.unlink()


def test_a_structure_in_an_archive(name: str) -> None:
    value: Any = {"table": table(), "scores": {f"k{n}": float(n) for n in range(100)}, "tags": ["a", "b"], "v": [1, 2]}
    with Writer(name, codec="archive") as writer:
        writer.write(value)
        for turn in range(4):
            with writer.update() as draft:
                draft["table"][turn] = value["table"][turn] = -1
                draft["scores"]["k7"] = value["scores"]["k7"] = turn + 0.5
                draft["v"][0] = value["v"][0] = turn
            assert draft.result is not None
            assert turn == 0 or draft.result.copied < 1000
            assert same(checked(name)["table"], value["table"])
            assert checked(name)["scores"] == value["scores"]
            assert checked(name)["v"].tolist() == value["v"]
        with writer.update() as draft:
            draft["tags"].append("c")
            draft["table"][0] = value["table"][0] = 9
        assert list(checked(name)["tags"]) == ["a", "b", "c"]
        assert same(checked(name)["table"], value["table"])
        writer.unlink()


@pytest.mark.parametrize("row", [[1, 2], np.zeros(4), "text", None, [1j, 2, 3], [[1, 2, 3]]], ids=repr)
def test_rows_that_do_not_fit(name: str, row: Any) -> None:
    """They are written as they are, or refused; either way nothing else changes."""
    with Writer(name, codec="archive") as writer:
        writer.write(ArrayMap(np.arange(500), np.zeros((500, 3))))
        written = True
        try:
            with writer.update() as draft:
                draft[7] = row
        except EntityWriteError:
            written = False
        found = unarchive(checked(name))
        assert written == (row != [1j, 2, 3] if isinstance(row, list) else True)
        assert np.array_equal(found[7], row) == written
        assert found[8].tolist() == [0.0] * 3
        writer.unlink()


# ---------------------------------------------------------------------------------------------------------------- raw


def test_raw_bytes(writer: Writer, name: str) -> None:
    expected = bytearray(os.urandom(300_000))
    writer.write_raw(expected)
    for turn in range(5):
        with writer.update() as draft:
            draft.buffer[turn * 1000 : turn * 1000 + 4] = expected[turn * 1000 : turn * 1000 + 4] = b"abcd"
            draft.buffer[-1] = expected[-1] = turn
            assert bytes(draft.buffer[turn * 1000 : turn * 1000 + 4]) == b"abcd"
            assert len(draft.buffer) == len(expected)
        assert bytes(checked(name)) == expected
    with pytest.raises(EntityWriteError, match="3 bytes to 4 bytes"), writer.update() as draft:
        draft.buffer[0:4] = b"abc"
    assert bytes(checked(name)) == expected


# -------------------------------------------------------------------------------------------------------------- errors


def test_nothing_to_update(writer: Writer) -> None:
    with pytest.raises(UninitializedStateError, match="initial="), writer.update():
        pass
    with writer.update(initial={"n": 1}) as draft:
        draft["n"] += 1
    assert checked(writer.name) == {"n": 2}


def test_an_earlier_value_with_another_codec(name: str) -> None:
    with Writer(name, codec="pickle") as writer:
        writer.write({1})
        with pytest.raises(InvalidArgumentError, match="pickle"), writer.update():
            pass
    with Writer(name) as writer:
        with writer.update(initial={"n": 1}) as draft:
            draft["n"] += 1
        assert checked(name) == {"n": 2}
        writer.unlink()


def test_bad_assignments(writer: Writer, name: str) -> None:
    writer.write({"a": table(), "m": {}})
    changes: list[Callable[[Any], Any]] = [
        lambda draft: draft["a"].__setitem__(0, [1, 2]),
        lambda draft: draft["a"].__setitem__(ROWS, 1),
        lambda draft: draft["a"].__setitem__([ROWS], 1),
        lambda draft: draft["a"].__setitem__("x", 1),
        lambda draft: draft["a"].__setitem__(0, "text"),
        lambda draft: draft.__setitem__("x", draft["m"]),
        lambda draft: draft.__setitem__("m", {1, object}),
        lambda draft: draft.buffer,
    ]
    for change in changes:
        with pytest.raises(ShmSyncError), writer.update() as draft:
            change(draft)
        assert same(checked(name), {"a": table(), "m": {}})
    with pytest.raises(KeyError), writer.update() as draft:
        del draft["missing"]


def test_a_write_inside_the_block_takes_precedence(writer: Writer, name: str) -> None:
    writer.write(table())
    with pytest.raises(ClosedError, match="replaced"), writer.update() as draft:
        draft[0] = 1
        writer.write("other")
        draft[1] = 1
    assert checked(name) == "other"


def test_threads_take_turns(writer: Writer, name: str) -> None:
    writer.write(np.zeros(ROWS))

    def count() -> None:
        for _ in range(50):
            with writer.update() as draft:
                draft[7] += 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert checked(name)[7] == 200


def test_a_forked_child_cannot_change_the_draft(name: str) -> None:
    with Child() as child:
        assert child.call(fork_in_the_block, name) == 0
    expected = table()
    expected[1] = 5
    assert same(checked(name), expected)
    unlink(name)


def fork_in_the_block(_state: State, name: str) -> int:
    """Return the exit status of a process that was forked in the block; it is 0 if that could change nothing."""
    with Writer[Any](name) as writer:
        writer.write(table())
        with writer.update() as draft:
            array = draft.value
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    array[0] = 99
                except ClosedError:
                    try:
                        draft.__exit__(None, None, None)
                    except WriteLockConflictError:
                        code = 0
                finally:
                    os._exit(code)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            draft[1] = 5
    return status


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
def test_the_newest_segment_is_removed_by_another_program(name: str, reuse_memory: bool) -> None:  # noqa: FBT001
    with Writer(name, reuse_memory=reuse_memory) as writer:
        writer.write(table())
        (SHM / f"{name}_data_0").unlink()
        with pytest.raises((DataReadError, UninitializedStateError)):
            for _ in range(2):  # the writer may have it mapped, and look at the name later
                writer._next_name_check = 0.0
                with writer.update() as draft:
                    draft[0] = 1
        writer.write(table())
        with writer.update() as draft:
            draft[0] = 1
        assert checked(name)[0].tolist() == [1.0] * 10
        writer.unlink()


def test_removed_by_force_inside_the_block(writer: Writer, name: str) -> None:
    writer.write(table())
    with writer.update() as draft:
        draft[3] = 4
        unlink(name, force=True)
    expected = table()
    expected[3] = 4
    assert same(checked(name), expected)


class Alarm(Exception):  # noqa: N818 - no error
    """Raised by a signal handler."""


def interrupted_updates(_: State, name: str, attempts: int) -> None:
    """Update while a timer raises at any instruction: the value stays as it was, or becomes what was meant."""

    def raise_alarm(*_: object) -> None:
        raise Alarm

    alarms = Alarms(1)
    signal.signal(signal.SIGALRM, raise_alarm)
    expected = table()
    with Writer(name, grace_duration=0) as writer, Reader(name) as reader:
        writer.write(expected)
        turn = 0
        while not alarms.enough(attempts):
            turn += 1
            rows = [turn % 50, turn % 7]
            changed = expected.copy()
            changed[rows] = turn
            try:
                alarms.arm()
                with writer.update() as draft:
                    draft[rows] = turn
                alarms.disarm()
                alarms.success()
            except Alarm:
                alarms.interruption()
            found = reader.get()
            assert same(found, expected) or same(found, changed), turn
            expected = np.array(found)


def test_interrupted_by_signal_handlers(name: str) -> None:
    try:
        with Child() as child:
            child.call(interrupted_updates, name, 500)
        checked(name)
    finally:
        with Writer(name) as last:
            last.unlink()


def test_synchronizer(name: str) -> None:
    with Synchronizer(name) as prices:
        with prices.update(initial={"n": 1}) as draft:
            draft["n"] = 5
        assert prices.get() == {"n": 5}
        prices.unlink()


# -------------------------------------------------------------------------------------------------------- random values


@settings(deadline=None)
@given(st.data())
def test_random_sequences(data: st.DataObject) -> None:
    """Updates, aborted updates, full writes and held versions in any order, compared with the same in plain NumPy."""
    name = f"test-{os.getpid()}-{data.draw(st.integers(0, 1 << 60))}"
    expected: Any = {"a": np.zeros((3000, 4)), "b": np.zeros(9000, np.int16), "n": 0}
    held = []
    with Writer(name, grace_duration=0) as writer, Reader(name) as reader:
        writer.write(expected)
        try:
            for step in data.draw(st.lists(st.sampled_from("uuuuawhs"), max_size=12)):
                rows = data.draw(st.lists(st.integers(-3000, 2999), max_size=20))
                if step == "w":
                    writer.write(expected)
                elif step == "h":
                    held.append((reader.get()["a"], expected["a"].copy()))
                elif step == "a":
                    with pytest.raises(ZeroDivisionError), writer.update() as draft:
                        draft["a"][rows] = -1
                        raise ZeroDivisionError
                else:
                    number = data.draw(st.integers(-(1 << 14), 1 << 14))
                    with writer.update() as draft:
                        draft["a"][rows] = number
                        draft["b"][rows[:5]] += 1
                        draft["n"] = number
                        if step == "s":
                            draft["a"][::3, 1] = number
                            expected["a"][::3, 1] = number
                    expected["a"][rows] = number
                    if step == "s":
                        expected["a"][::3, 1] = number
                    expected["b"][rows[:5]] += 1
                    expected["n"] = number
                assert same(checked(name), expected)
            assert all(same(*pair) for pair in held)
        finally:
            held.clear()
            writer.unlink()
