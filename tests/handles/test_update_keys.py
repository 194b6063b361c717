"""Maps with a capacity: updates add and remove keys in place, and write in full when there is no room."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import (
    ArrayMap,
    ClosedError,
    EntityReadError,
    EntityWriteError,
    InvalidArgumentError,
    Reader,
    Writer,
    unarchive,
)
from shmsync.codecs import _numpy, archive
from shmsync.codecs._changes import Changes as Recorded
from shmsync.codecs._draft_memory import DraftMemory
from shmsync.codecs.archive import _format as f
from shmsync.codecs.archive import _hash_index
from shmsync.codecs.archive._mutable_map import MutableArrayMap
from shmsync.codecs.archive._mutable_maps import MutableMaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COUNT = 1000
"""Entries of 48 bytes and more: enough for a segment of which the stale bytes are known."""
ROW = 10


@pytest.fixture
def writer(name: str) -> Iterator[Writer[Any]]:
    with closing(Writer(name, codec="archive", grace_duration=0)) as writer:
        yield writer
    with Writer(name) as last:
        last.unlink()


def checked(name: str) -> Any:
    """Return the newest value as plain objects; the whole archive, and its checksum, are verified."""
    with Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        archive.check(snapshot.buffer)
        return unarchive(snapshot.value)


def payload_of(name: str) -> bytes:
    with Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        return bytes(snapshot.buffer)


def map_header(payload: bytes | bytearray) -> tuple[int, ...]:
    """Return the words of the only map with a capacity in a payload."""
    found = [
        words
        for at in range(0, len(payload) - f.HEADER.size, 8)
        for kind, zero, n, *words in [f.HEADER.unpack_from(payload, at)]
        if kind == f.MAP and not zero and n == 1 and words[5] and words[4]
    ]
    assert len(found) == 1
    return tuple(found[0])


def capacity_of(name: str) -> int:
    return map_header(payload_of(name))[5]


def longest_chain(payload: bytes) -> int:
    _, keys, _, table, buckets, capacity = map_header(payload)
    words = memoryview(payload)[table : table + 4 * (buckets + capacity)].cast("I")
    assert f.HEADER.unpack_from(payload, keys)[2] <= capacity
    longest = 0
    for head in words[:buckets]:
        link, length = head, 0
        while link:
            link, length = words[buckets + link - 1], length + 1
        longest = max(longest, length)
    return longest


def same(found: dict[Any, Any], expected: dict[Any, Any]) -> bool:
    """Compare maps whose order does not matter."""
    return found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in expected)


def table(count: int = COUNT, **options: Any) -> tuple[ArrayMap, dict[Any, Any]]:
    keys, rows = np.arange(count) * 7, np.arange(count * ROW, dtype=float).reshape(count, ROW)
    return ArrayMap(keys, rows, **options), dict(zip(keys.tolist(), rows.copy(), strict=True))


# -------------------------------------------------------------------------------------------------------- a model test


VALUES: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "rows": lambda rng, count: rng.random((count, ROW)),
    "floats": lambda rng, count: rng.random(count),
    "ints": lambda rng, count: rng.integers(-(1 << 40), 1 << 40, count),
    "records": lambda rng, count: rng.integers(0, 99, (count, 2), np.int32).view([("a", "i4"), ("b", "f4")])[:, 0],
}
KEYS: dict[str, Any] = {
    "int": np.arange(-300, 2 * COUNT),
    "uint": np.arange(3 * COUNT, dtype=np.uint64) + (1 << 63),
    "text": np.array(["", *(f"kéy {number}" * (number % 5 + 1) for number in range(3 * COUNT))]),
    "bytes": np.array([b"%d" % number for number in range(3 * COUNT)]),
}


def plain(row: Any) -> Any:
    """Return a row of an array as a value of a dict."""
    return row.item() if isinstance(row, (np.float64, np.int64)) else row


class Changes:
    """Random changes, made to a draft and to a dict.

    Args:
        seed: of the random numbers.
        draft: the map in the draft.
        expected: the dict.
        keys: all keys that are used.
        values: makes values.
    """

    def __init__(self, seed: int, draft: Any, expected: dict[Any, Any], keys: Any, values: Any) -> None:
        self.rng = np.random.default_rng(seed)
        self.draft = draft
        self.expected = expected
        self.keys = keys
        self.make = values

    def some(self, most: int) -> list[Any]:
        """Return some keys of the dict."""
        count = int(self.rng.integers(0, min(most, len(self.expected)) + 1))
        listed = list(self.expected)
        return [listed[at] for at in self.rng.permutation(len(listed))[:count]]

    def assign(self) -> None:
        key = self.rng.choice(self.keys)
        self.draft[key] = self.expected[key.item()] = plain(self.make(self.rng, 1)[0])

    def update(self, most: int = 60) -> None:
        keys = self.rng.choice(self.keys, int(self.rng.integers(0, most)))  # some repeat
        rows = self.make(self.rng, len(keys))
        self.draft.update(keys if self.rng.random() < 0.5 else keys.tolist(), rows)
        self.expected.update(zip(keys.tolist(), map(plain, rows), strict=True))

    def grow(self) -> None:
        self.update(len(self.keys))

    def delete(self) -> None:
        for key in self.some(3):
            del self.draft[key]
            del self.expected[key]

    def remove(self) -> None:
        keys = self.some(100)
        self.draft.remove(keys)
        for key in keys:
            del self.expected[key]

    def pop(self) -> None:
        for key in self.some(2):
            assert np.array_equal(self.draft.pop(key), self.expected.pop(key))
        assert self.draft.pop("missing", 5) == 5

    def discard(self) -> None:
        key = self.rng.choice(self.keys).item()
        self.draft.discard(key)
        self.expected.pop(key, None)

    def clear(self) -> None:
        self.draft.clear()
        self.expected.clear()

    def reserve(self) -> None:
        self.draft.reserve(len(self.expected) + int(self.rng.integers(0, 1500)))

    def read(self) -> None:
        assert len(self.draft) == len(self.expected)
        assert set(self.draft) == set(self.expected)
        for key in (self.rng.choice(self.keys).item(), *self.some(5)):
            assert (key in self.draft) == (key in self.expected)
            assert np.array_equal(self.draft.get(key, -1), self.expected.get(key, -1))


OFTEN = ["assign", "update", "delete", "remove", "pop", "discard", "read"]
STEPS = st.lists(st.sampled_from([*OFTEN, *OFTEN, "grow", "clear", "reserve"]), max_size=4)


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
@pytest.mark.parametrize(("keys", "values"), [(keys, values) for keys in KEYS for values in VALUES])
@settings(deadline=None, max_examples=10)
@given(st.data())
def test_random_changes(reuse_memory: bool, keys: str, values: str, data: st.DataObject) -> None:  # noqa: FBT001
    """Each update follows one that was given up half-way; versions that readers hold stay as they are."""
    name = f"test-{os.getpid()}-{data.draw(st.integers(0, 1 << 60))}"
    given_keys, rows = KEYS[keys][:COUNT], VALUES[values](np.random.default_rng(1), COUNT)
    expected: dict[Any, Any] = dict(zip(given_keys.tolist(), map(plain, rows), strict=True))
    held = []
    with Writer(name, codec="archive", grace_duration=0, reuse_memory=reuse_memory) as writer, Reader(name) as reader:
        writer.write({"map": ArrayMap(given_keys, rows, capacity=COUNT + 50), "n": 0})
        try:
            for number, steps in enumerate(data.draw(st.lists(STEPS, max_size=6)), 1):
                seed = data.draw(st.integers(0, 1000))
                with pytest.raises(ZeroDivisionError), writer.update() as draft:
                    made = Changes(seed + 1, draft["map"], dict(expected), KEYS[keys], VALUES[values])
                    for step in reversed(steps):
                        getattr(made, step)()
                    raise ZeroDivisionError
                with writer.update() as draft:
                    made = Changes(seed, draft["map"], expected, KEYS[keys], VALUES[values])
                    for step in steps:
                        getattr(made, step)()
                    if number % 4 == 3:
                        draft["n"] = number  # not in place
                found = checked(name)
                assert same(found["map"], expected)
                assert found["n"] == (number - 3) // 4 * 4 + 3 if number >= 3 else found["n"] == 0
                if number % 2:
                    held.append((reader.get()["map"], dict(expected)))
            assert all(same(dict(kept), copy) for kept, copy in held)
        finally:
            held.clear()
            writer.unlink()


# --------------------------------------------------------------------------------------------------------------- costs


def test_the_cost_is_that_of_the_change(writer: Writer[Any], name: str) -> None:
    """Per added entry: key, row, link and head. Twice, because two copies alternate. And the number of entries."""
    added, entry = 1000, 8 + 8 * ROW + 4 + 4
    given_map, expected = table(50_000, capacity=60_000)
    writer.write(given_map)
    for turn in range(4):
        keys = np.arange(added) * 7 + 1 + turn * 10_000
        with writer.update() as draft:
            draft.update(keys, np.full((added, ROW), float(turn)))
        expected |= dict.fromkeys(keys.tolist(), np.full(ROW, float(turn)))
        assert draft.result is not None
        assert turn == 0 or draft.result.copied <= 2 * (added * entry + 24)
        assert same(checked(name), expected)
    for turn in range(4):
        keys = np.arange(added) * 7 + 1 + turn * 10_000
        with writer.update() as draft:
            draft.remove(keys)
        for key in keys.tolist():
            del expected[key]
        assert draft.result is not None
        assert turn == 0 or draft.result.copied <= 2 * (added * (entry + 20) + 24)
        assert same(checked(name), expected)


def test_the_cost_with_text_keys(writer: Writer[Any], name: str) -> None:
    """Per added entry: its text, its span, row, link and head."""
    keys = [f"user:{number}" for number in range(20_000)]
    expected: dict[Any, Any] = dict.fromkeys(keys, np.zeros(ROW))
    writer.write(ArrayMap(keys, np.zeros((len(keys), ROW)), capacity=30_000))
    for turn in range(4):
        new = [f"new:{turn}:{number}" for number in range(100)]
        with writer.update() as draft:
            draft.update(new, np.ones((100, ROW)))
            draft.remove(keys[turn * 50 : turn * 50 + 50])
        expected |= dict.fromkeys(new, np.ones(ROW))
        for key in keys[turn * 50 : turn * 50 + 50]:
            del expected[key]
        assert draft.result is not None
        assert turn == 0 or draft.result.copied <= 2 * (150 * (8 + 16 + 8 * ROW + 4 + 4 + 20) + 32)
        assert same(checked(name), expected)


@pytest.mark.parametrize("large", [5_000, 1_000_000])
def test_texts_that_there_is_no_room_for(writer: Writer[Any], name: str, large: int) -> None:
    """A full write, which drops the texts of removed keys. The capacity stays."""
    keys = [f"user:{number}" for number in range(COUNT)]
    expected: dict[Any, Any] = dict.fromkeys(keys, 1.0)
    writer.write(ArrayMap(keys, np.ones(COUNT), capacity=2 * COUNT))
    sizes = []
    for turn in range(10):
        with writer.update() as draft:
            for number in range(3):
                draft[f"{turn} {number} ".ljust(large, "x")] = expected[f"{turn} {number} ".ljust(large, "x")] = 2.0
                assert f"{turn} 0 ".ljust(large, "x") in draft
            draft.remove([key for key in expected if len(key) == large and not key.startswith(str(turn))])
        expected = {key: row for key, row in expected.items() if len(key) < large or key.startswith(str(turn))}
        assert checked(name) == expected
        assert capacity_of(name) == 2 * COUNT
        assert draft.result is not None
        sizes.append(draft.result.size)
    assert max(sizes) < 200_000 + 20 * large
    assert len(set(sizes)) < 8 or large > 5_000  # some updates are in place


def test_one_key(writer: Writer[Any]) -> None:
    writer.write(table(50_000, capacity=60_000)[0])
    for turn in range(4):
        with writer.update() as draft:
            draft[-turn] = np.zeros(ROW)
            del draft[7 * turn]
        assert draft.result is not None
        assert turn == 0 or draft.result.copied < 800


def test_many_integer_keys_take_no_steps_of_python_each(writer: Writer[Any]) -> None:
    def calls(change: Callable[[Any], Any]) -> int:
        count = 0

        def count_calls(*_: Any) -> None:
            nonlocal count
            count += 1

        with writer.update() as draft:
            part = draft.value
            sys.setprofile(count_calls)
            try:
                change(part)
            finally:
                sys.setprofile(None)
        return count

    writer.write(table(100, capacity=100_000)[0])
    rng = np.random.default_rng(1)
    few, many = rng.integers(0, 1 << 60, 500), rng.integers(0, 1 << 60, 50_000)
    for change in (
        lambda part, keys: part.update(keys, np.zeros((len(keys), ROW))),  # new keys
        lambda part, keys: part.update(keys, np.ones((len(keys), ROW))),  # old ones
        lambda part, keys: part.remove(keys),
    ):
        found = [calls(partial(change, keys=keys)) for keys in (few, many)]
        assert found[1] < found[0] + 300


def test_without_changes_of_keys_nothing_else_is_written(writer: Writer[Any]) -> None:
    writer.write(table(capacity=2000)[0])
    for _ in range(3):
        with writer.update() as draft:
            draft[7] = np.ones(ROW)
    assert draft.result is not None
    assert draft.result.copied == 2 * 8 * ROW


def test_no_room_is_a_full_write_with_twice_the_capacity(writer: Writer[Any], name: str) -> None:
    given_map, expected = table(capacity=COUNT)
    writer.write({"map": given_map, "text": "x", "list": [1, 2.5, {"a": np.arange(3)}]})
    sizes = []
    for key in range(-3 * COUNT, 0):
        expected[key] = np.full(ROW, float(key))
    with writer.update() as draft:
        draft["map"][-1] = expected[-1]
        draft["map"][-1][2] = -1.0  # also where the map is now
        assert draft["map"][-1].tolist() == [-1.0] * ROW
    assert capacity_of(name) == 2 * COUNT
    for stop in (COUNT - 1, COUNT, 3 * COUNT):
        with writer.update() as draft:
            draft["map"].update(np.arange(-stop, 0), np.stack([expected[key] for key in range(-stop, 0)]))
        sizes.append(capacity_of(name))
    assert sizes == [2 * COUNT, 2 * COUNT, 4 * COUNT]
    found = checked(name)
    assert same(found["map"], expected)
    assert (found["text"], found["list"][:2], found["list"][2]["a"].tolist()) == ("x", [1, 2.5], [0, 1, 2])


def test_more_than_twice(writer: Writer[Any], name: str) -> None:
    writer.write(ArrayMap([], np.zeros((0, 2)), capacity=3))
    with writer.update() as draft:
        draft.update(np.arange(100), np.zeros((100, 2)))
    assert len(checked(name)) == capacity_of(name) == 100


def test_keys_that_share_a_bucket(writer: Writer[Any], name: str) -> None:
    """A chain that would become long is a full write, with other buckets."""
    given_map, expected = table(capacity=4 * COUNT)
    writer.write(given_map)
    for _ in range(2):
        buckets = map_header(payload_of(name))[4]
        keys = [buckets * number + 5 for number in range(1, 200)]
        with writer.update() as draft:
            draft.update(keys[:20], np.zeros((20, ROW)))
        assert 20 <= longest_chain(payload_of(name)) <= _hash_index.MAX_CHAIN
        with writer.update() as draft:
            for key in keys[20:60]:
                draft[key] = np.zeros(ROW)
            draft.update(keys[60:], np.zeros((len(keys) - 60, ROW)))
        expected |= dict.fromkeys(keys, np.zeros(ROW))
        assert longest_chain(payload_of(name)) <= _hash_index.MAX_CHAIN
        assert capacity_of(name) == 4 * COUNT
        assert same(checked(name), expected)


# ------------------------------------------------------------------------------------------------------------ behaviour


def test_the_order(writer: Writer[Any], name: str) -> None:
    """That of insertion, as in a dict; a removed entry is replaced by the last one."""
    writer.write(ArrayMap(np.array([5, 3, 9]), np.arange(3.0), capacity=10))
    with writer.update() as draft:
        draft[1] = 3.0
        draft.update(np.array([8, 3, 2, 8]), np.array([4.0, 5.0, 6.0, 7.0]))
    assert list(checked(name).items()) == [(5, 0.0), (3, 5.0), (9, 2.0), (1, 3.0), (8, 7.0), (2, 6.0)]
    with writer.update() as draft:
        del draft[3]
        assert list(draft) == [5, 2, 9, 1, 8]
    assert list(checked(name)) == [5, 2, 9, 1, 8]
    with Reader(name) as reader:
        assert repr(reader.get()).startswith("<ArchivedMap of 5 items")


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_lookups_are_those_of_a_map_without_a_capacity(keys: Any) -> None:
    keys = keys[:200]
    payloads = [bytes(archive.encode(ArrayMap(keys, np.arange(200), capacity=each))) for each in (None, 200, 900)]
    maps = [archive.decode(memoryview(payload).toreadonly()) for payload in payloads]
    given_keys = [
        *keys,
        *keys.tolist(),
        5,
        5.0,
        np.int8(5),
        True,
        None,
        "",
        b"",
        "\ud800",
        b"5",
        ("a",),
        memoryview(b"5"),
    ]
    for key in given_keys:
        found = [(each.get(key), key in each) for each in maps]
        assert found[0] == found[1] == found[2]
        with contextlib.suppress(KeyError):
            assert maps[1][key] == found[0][0]
    for each in maps:
        assert dict(each) == each == dict(zip(keys.tolist(), range(200), strict=True))
        assert list(reversed(each)) == keys.tolist()[::-1]
        with pytest.raises(TypeError, match="unhashable"):
            each.get([])


def test_missing_keys(writer: Writer[Any], name: str) -> None:
    given_map, expected = table(capacity=2000)
    writer.write(given_map)
    cases: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda draft: operator.delitem(draft, 1), 1),
        (lambda draft: draft.value.pop(2), 2),
        (lambda draft: draft.remove([7, 3, 4]), 3),
        (lambda draft: draft.remove(np.array([7, 14, 5])), 5),
        (lambda draft: operator.delitem(draft, "text"), "text"),
        (lambda draft: draft.remove([7, "text"]), "text"),
        (lambda draft: draft[1 << 70], 1 << 70),
    ]
    for remove, missing in cases:
        with writer.update() as draft:
            with pytest.raises(KeyError) as caught:
                remove(draft)
            assert caught.value.args == (missing,)
        assert same(checked(name), expected)
    with writer.update() as draft:
        draft.value.discard(1)
        draft.remove([])
        draft.remove([7.0, np.int8(14), 7])  # equal to keys, and one twice
        assert draft.value.popitem()[0] not in draft
    assert len(checked(name)) == COUNT - 3
    with writer.update() as draft:
        draft.value.clear()
        with pytest.raises(KeyError):
            draft.value.popitem()
    assert checked(name) == {}


MISFITS: list[tuple[str, Callable[[Any], Any]]] = [
    ("text", lambda draft: draft.__setitem__("text", np.ones(ROW))),
    ("bool", lambda draft: draft.__setitem__(np.bool_(1), np.ones(ROW))),
    ("float", lambda draft: draft.__setitem__(1.0, np.ones(ROW))),
    ("large", lambda draft: draft.__setitem__(1 << 63, np.ones(ROW))),
    ("short row", lambda draft: draft.__setitem__(3, np.ones(2))),
    ("texts", lambda draft: draft.update(["a", "b"], np.ones((2, ROW)))),
    ("mixed", lambda draft: draft.update([4, "b"], np.ones((2, ROW)))),
    ("larger", lambda draft: draft.update(np.array([1 << 63], np.uint64), np.ones((1, ROW)))),
    ("short rows", lambda draft: draft.update([3, 7], np.ones((2, 2)))),
    ("dict", lambda draft: draft.update({3: np.ones(2), "x": 1})),
]


@pytest.mark.parametrize(("case", "change"), MISFITS, ids=[case for case, _ in MISFITS])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "alone"])
def test_what_does_not_fit(writer: Writer[Any], name: str, case: str, change: Any, inside: bool) -> None:  # noqa: FBT001
    """It is a full write with the same result as in a dict."""
    given_map, expected = table(capacity=2000)
    writer.write([given_map] if inside else given_map)
    with writer.update() as draft:
        part = draft[0] if inside else draft.value
        part[2] = np.zeros(ROW)  # in place, before and after
        change(part)
        part[7] = np.zeros(ROW)
        del part[14]
    expected[2] = expected[7] = np.zeros(ROW)
    del expected[14]
    rows = {"text": ["text"], "bool": [True], "float": [1.0], "large": [1 << 63], "short row": [3]}
    many = {"texts": ["a", "b"], "mixed": [4, "b"], "larger": [1 << 63], "short rows": [3, 7]}
    changed: list[Any] = [*rows.get(case, []), *many.get(case, [])]  # type: ignore[misc]
    for key in changed:
        expected[key] = np.ones(2 if "short" in case else ROW)
    if case == "short rows":
        expected[7] = np.zeros(ROW)
    if case == "dict":
        expected |= {3: np.ones(2), "x": 1}
    found = checked(name)
    found = found[0] if inside else found
    assert same(found, expected)
    assert [type(key) for key in found if key == 1] == [type(key) for key in expected if key == 1]


def test_numbers_that_do_not_fit(writer: Writer[Any], name: str) -> None:
    for values, other in [(np.arange(100.0), 1), (np.arange(100), 1.5), (np.arange(100), 1 << 63)]:
        writer.write(ArrayMap(np.arange(100), values, capacity=200))
        with writer.update() as draft:
            draft[200] = other
        assert list(checked(name).values()) == [*values.tolist(), other]
        assert type(checked(name)[200]) is type(other)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "u2", "u8"])
def test_numbers_are_read_as_from_a_map_without_a_capacity(writer: Writer[Any], name: str, dtype: str) -> None:
    values = np.arange(100).astype(dtype)
    found = []
    for capacity in (None, 100, 300):
        writer.write(ArrayMap(np.arange(100), values, capacity=capacity))
        found.append(checked(name))
    assert repr(found[0]) == repr(found[1]) == repr(found[2])
    writer.write(ArrayMap(np.arange(2), np.array([1, 1 << 63], np.uint64), capacity=9))
    assert checked(name) == {0: 1, 1: 1 << 63}


@pytest.mark.parametrize("reuse_memory", [True, False], ids=["shared", "isolated"])
def test_small_and_empty_maps(name: str, reuse_memory: bool) -> None:  # noqa: FBT001
    with Writer(name, codec="archive", reuse_memory=reuse_memory) as writer:
        empty: list[Any] = [[], np.array([], np.int64), np.array([], np.float64), np.array([], "U3")]
        for keys in empty:
            writer.write(ArrayMap(keys, np.zeros((0, 3)), capacity=0))
            assert checked(name) == {}
            writer.write(ArrayMap(keys, np.zeros((0, 3)), capacity=5))
            assert checked(name) == {}
            for number in range(7):
                with writer.update() as draft:
                    draft[number] = np.full(3, float(number))
                assert same(checked(name), {each: np.full(3, float(each)) for each in range(number + 1)})
            with writer.update() as draft:
                draft.remove(range(7))
            assert checked(name) == {}
        for kind in KEYS.values():
            writer.write({"map": ArrayMap(kind[:0], np.zeros((0, 3)), capacity=90), "text": "x"})
            for turn in range(3):
                with writer.update() as draft:
                    draft["text"] = f"{turn}"  # not in place: the map keeps its kind of keys
                with writer.update() as draft:
                    draft["map"][kind[5]] = np.ones(3)
                with writer.update() as draft:
                    del draft["map"][kind[5]]
            assert capacity_of(name) == 90
            assert checked(name) == {"map": {}, "text": "2"}
        writer.unlink()


def test_several_maps(writer: Writer[Any], name: str) -> None:
    """In lists and dicts, beside maps without a capacity; one of them has no room."""
    expected: Any = {"a": [table()[1], table(100)[1]], "b": {"c": table(300)[1], "plain": {n: n for n in range(100)}}}
    writer.write({
        "a": [table(capacity=2000)[0], table(100)[0]],
        "b": {"c": table(300, capacity=300)[0], "plain": expected["b"]["plain"]},
    })  # fmt: skip
    for turn in range(1, 5):
        with writer.update() as draft:
            for part, goal in ((draft["a"][0], expected["a"][0]), (draft["b"]["c"], expected["b"]["c"])):
                part[-turn] = goal[-turn] = np.full(ROW, float(turn))
                del part[7 * turn]
                del goal[7 * turn]
            draft["a"][1][7] = expected["a"][1][7] = np.full(ROW, float(turn))
            if turn == 3:
                draft["b"]["c"][-100] = expected["b"]["c"][-100] = np.zeros(ROW)
                draft["b"]["plain"][-1] = expected["b"]["plain"][-1] = 1
        found = checked(name)
        assert same(found["a"][0], expected["a"][0])
        assert same(found["a"][1], expected["a"][1])
        assert same(found["b"]["c"], expected["b"]["c"])
        assert found["b"]["plain"] == expected["b"]["plain"]


def test_what_a_row_of_the_draft_is(writer: Writer[Any], name: str) -> None:
    writer.write(table(capacity=COUNT + 1)[0])
    with writer.update() as draft:
        draft[7] += 1
        draft[7][3] = -1.0
        taken = draft.value.pop(14)
        assert taken.tolist() == [float(number) for number in range(20, 30)]
        draft[-1] = taken
        assert taken.tolist() == draft[-1].tolist()
    row = checked(name)[7]
    assert row[3] == -1.0
    assert row[4] == 15.0


def test_a_map_is_of_no_use_after_the_block(writer: Writer[Any], name: str) -> None:
    given_map, expected = table(capacity=2000)
    writer.write({"map": given_map})
    with writer.update() as draft:
        part = draft["map"]
        inside = draft._current().at(("map",))
    changes: list[Callable[[], Any]] = [
        lambda: part.__setitem__(1, np.zeros(ROW)),
        lambda: part.__delitem__(7),
        lambda: part.remove([7]),
        lambda: inside.assign(1, np.zeros(ROW)),
        lambda: inside.assign_many([1], np.zeros((1, ROW))),
        lambda: inside.remove([7]),
        lambda: inside.reserve(9000),
    ]
    for change in changes:
        with pytest.raises(ClosedError):
            change()
    assert same(checked(name)["map"], expected)


# ----------------------------------------------------------------------------------------------------------- capacities


def test_bad_capacities() -> None:
    rows = np.zeros((3, 2))
    for bad in (2, -1, 1 << 32, 5.0, "5", True):
        with pytest.raises(InvalidArgumentError, match="capacity must be an int from 3 to"):
            ArrayMap([1, 2, 3], rows, capacity=bad)  # type: ignore[arg-type]
    given_map = ArrayMap([1, 2, 3], rows)
    assert given_map.capacity is None
    given_map.capacity = 10
    assert repr(given_map) == "<ArrayMap of 3 keys and room for 10, values of (2,) float64>"
    with pytest.raises(InvalidArgumentError, match="from 3"):
        given_map.capacity = 1
    assert given_map.capacity == 10
    given_map.capacity = None


def test_reserve(writer: Writer[Any], name: str) -> None:
    """A map that was published without a capacity is given one, or another."""
    given_map, expected = table()
    writer.write({"map": given_map, "text": {"a": "b"}, "list": {"a": 1, 2: 3}})
    with writer.update() as draft:
        draft["map"].reserve(1500)
        draft["map"][1] = expected[1] = np.zeros(ROW)
    assert capacity_of(name) == 1500
    for capacity in (COUNT + 1, 1500, 1600):
        with writer.update() as draft:
            draft["map"].reserve(capacity)
        assert draft.result is not None
        assert (draft.result.copied > 100_000) == (capacity == 1600 or capacity == COUNT + 1)
    assert capacity_of(name) == 1600
    assert same(checked(name)["map"], expected)
    for bad in (5, None, "x", 1 << 40):
        with pytest.raises(InvalidArgumentError, match="capacity"), writer.update() as draft:
            draft["map"].reserve(bad)
    for bad_map in ("text", "list"):
        with pytest.raises(EntityWriteError, match="ArrayMap with a capacity"), writer.update() as draft:
            draft[bad_map].reserve(5)
    assert same(checked(name)["map"], expected)


def test_reserve_in_a_value_that_is_a_map(writer: Writer[Any], name: str) -> None:
    for values in (np.arange(100.0), np.zeros((100, 3))):
        for keys in KEYS.values():
            writer.write(ArrayMap(keys[:100], values))
            with writer.update() as draft:
                draft.value.reserve(100)
                draft[keys[3]] = plain(values[4])
                draft[keys[100]] = plain(values[5])
            assert capacity_of(name) == 200
            expected = dict(zip(keys[:101].tolist(), map(plain, [*values, values[5]]), strict=True))
            expected[keys[3].item()] = plain(values[4])
            assert same(checked(name), expected)
    writer.write(ArrayMap([(number, 1) for number in range(100)], np.zeros((100, 3))))
    with pytest.raises(EntityWriteError, match="keys that are"), writer.update() as draft:
        draft.value.reserve(500)


@pytest.mark.parametrize("keys", [[(n, 1) for n in range(600)], np.arange(600) / 2, ["a", *range(599)]])
def test_a_capacity_without_effect(writer: Writer[Any], name: str, keys: Any) -> None:
    """The same bytes as without; new keys are a full write."""
    rows = np.zeros((600, 3))
    assert bytes(archive.encode(ArrayMap(keys, rows, capacity=900))) == bytes(archive.encode(ArrayMap(keys, rows)))
    writer.write(ArrayMap(keys, rows, capacity=900))
    with writer.update() as draft:
        draft["new"] = np.ones(3)
        del draft[keys[0]]
    assert len(checked(name)) == 600
    assert checked(name)["new"].tolist() == [1.0] * 3


def test_values_without_a_capacity() -> None:
    for values in (np.array(["a", "b"]), np.array([True, False]), np.zeros((2, 0)), np.zeros((2, 3, 0))):
        given_map = ArrayMap([1, 2], values, capacity=10)
        assert bytes(archive.encode(given_map)) == bytes(archive.encode(ArrayMap([1, 2], values)))


def test_keys_that_repeat(writer: Writer[Any], name: str) -> None:
    writer.write(ArrayMap([5, 6, 5], np.array([1.0, 2.0, 3.0]), capacity=3))
    assert list(checked(name).items()) == [(5, 3.0), (6, 2.0)]
    with writer.update() as draft:
        draft[7] = 4.0
    assert (checked(name), capacity_of(name)) == ({5: 3.0, 6: 2.0, 7: 4.0}, 3)


def test_equal_maps_have_equal_bytes(writer: Writer[Any], name: str) -> None:
    """The room is zero, whatever was in the memory before."""
    found = []
    for _ in range(4):
        writer.write(table(capacity=3000)[0])
        found.append(payload_of(name))
        for _ in range(2):  # the two segments take turns
            writer.write_raw(os.urandom(len(found[0])))
    assert len(set(found)) == 1
    assert found[0] == bytes(archive.encode(table(capacity=3000)[0]))


# --------------------------------------------------------------------------------------------------------------- damage

DAMAGED: list[tuple[str, str, Callable[[tuple[int, ...]], dict[int, int]]]] = [
    ("count", "room for 2000 ", lambda words: {words[0] + 8: 2001, words[1] + 8: 2001, words[2] + 8: 2001}),
    ("huge", "room for 2000 ", lambda words: {words[0] + 8: 1 << 62, words[1] + 8: 1 << 62, words[2] + 8: 1 << 62}),
    ("keys", "999 elements instead of 1000", lambda words: {words[1] + 8: 999}),
    ("values", "1001 elements instead of 1000", lambda words: {words[2] + 8: 1001}),
    ("offset", "1000 elements instead of 1001", lambda words: {words[0] + 8: 1001}),
]


@pytest.mark.parametrize(("message", "change"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_a_damaged_number_of_entries(message: str, change: Any) -> None:
    payload = bytearray(bytes(archive.encode(table(capacity=2000)[0])))
    for at, word in change(map_header(payload)).items():
        payload[at : at + 8] = word.to_bytes(8, "little" if np.little_endian else "big")
    for use in (archive.check, archive.decode_plain, lambda view: archive.decode(view)[7]):
        with pytest.raises(EntityReadError, match=message):
            use(memoryview(payload).toreadonly())
    with pytest.raises(EntityReadError, match=message):
        opened(payload)


def opened(payload: bytearray) -> MutableArrayMap:
    """Open a payload that is a map as an update does."""
    memory = DraftMemory(memoryview(payload), Recorded())
    found = archive.decode_to_update(memory.readable, MutableMaps(memory))
    assert isinstance(found, MutableArrayMap)
    return found


TEXT_KEYS = [f"key {number}" for number in range(COUNT)]
USES: dict[str, Callable[[MutableArrayMap], Any]] = {
    "find": lambda found: [found[key] for key in found],
    "assign": lambda found: found.assign_many(found.keys, found.values),
    "append": lambda found: found.assign_many(
        np.arange(5000) * 11 + 3 if _numpy.is_array(found.keys) else [f"new {n}" for n in range(5000)],
        np.zeros((5000, ROW)),
    ),
    "remove": lambda found: found.remove(list(found)[:900]),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("link", [COUNT + 5, 9_000, (1 << 32) - 1])
@pytest.mark.parametrize("keys", [np.arange(COUNT) * 7, TEXT_KEYS], ids=["int", "text"])
def test_links_beyond_the_map_in_an_update(keys: Any, link: int, use: Callable[[Any], Any]) -> None:
    payload = bytearray(bytes(archive.encode(ArrayMap(keys, np.zeros((COUNT, ROW)), capacity=8000))))
    _, _, _, at, buckets, _ = map_header(payload)
    np.frombuffer(payload, np.uint32, buckets, at)[:] = link
    with pytest.raises((EntityReadError, KeyError)):  # a chain that ends beyond its room may end a search, too
        use(opened(payload))
    for check in (archive.check, lambda view: archive.decode(view)[keys[5]]):
        with pytest.raises((EntityReadError, KeyError)):
            check(memoryview(payload).toreadonly())


@pytest.mark.parametrize("keys", [np.arange(COUNT) * 7, TEXT_KEYS], ids=["int", "text"])
def test_cycles_in_an_update(keys: Any) -> None:
    payload = bytearray(bytes(archive.encode(ArrayMap(keys, np.zeros((COUNT, ROW)), capacity=8000))))
    _, _, _, at, buckets, capacity = map_header(payload)
    np.frombuffer(payload, np.uint32, buckets, at)[:] = COUNT
    np.frombuffer(payload, np.uint32, capacity, at + 4 * buckets)[:] = COUNT
    for use in USES.values():
        with pytest.raises(EntityReadError, match="cycle"):
            use(opened(payload))
    payload = bytearray(bytes(archive.encode(ArrayMap(keys, np.zeros((COUNT, ROW)), capacity=8000))))
    np.frombuffer(payload, np.uint32, capacity, at + 4 * buckets)[COUNT - 1] = COUNT  # of the entry that is moved
    with pytest.raises(EntityReadError, match="cycle"):
        opened(payload).remove(keys[:1])


@pytest.mark.parametrize("word", [8, 16 + 8 * 3, 32])
def test_damaged_texts(word: int) -> None:
    """More keys, less room, or more bytes in use than there are."""
    payload = bytearray(bytes(archive.encode(ArrayMap(TEXT_KEYS, np.zeros((COUNT, ROW)), capacity=2000))))
    keys = map_header(payload)[1]
    payload[keys + word : keys + word + 8] = np.uint64(1500 if word == 8 else 5 if word > 32 else 1 << 20).tobytes()
    with pytest.raises(EntityReadError):
        opened(payload)
    with pytest.raises(EntityReadError):
        archive.check(memoryview(payload).toreadonly())


def test_damaged_spans() -> None:
    for start, end in ((0, 1 << 40), (50, 3), (1 << 63, (1 << 64) - 1)):
        payload = bytearray(bytes(archive.encode(ArrayMap(TEXT_KEYS, np.zeros((COUNT, ROW)), capacity=2000))))
        at = f.HEADER.unpack_from(payload, map_header(payload)[1])[3]
        spans = np.frombuffer(payload, np.uint64, 2 * COUNT, at).reshape(COUNT, 2)
        spans[17] = start, end
        with pytest.raises(EntityReadError, match="bytes of the keys"):
            list(opened(payload))
        with pytest.raises(KeyError):
            opened(payload).remove([TEXT_KEYS[17]])
        view = memoryview(payload).toreadonly()
        for use in (archive.check, archive.decode_plain, lambda view: list(archive.decode(view))):
            with pytest.raises(EntityReadError, match="spans bytes"):
                use(view)
        assert TEXT_KEYS[17] not in archive.decode(view)


def test_room_that_is_not_there() -> None:
    for case in (table(capacity=2000)[0], ArrayMap(TEXT_KEYS, np.zeros(COUNT), capacity=2000)):
        payload = bytearray(bytes(archive.encode(case)))
        words = map_header(payload)
        (at,) = [at for at in range(0, len(payload) - 64, 8) if f.HEADER.unpack_from(payload, at)[3:] == words]
        payload[at + 56 : at + 64] = np.uint64(1 << 20).tobytes()
        with pytest.raises(EntityReadError, match="cannot belong"):
            opened(payload)
        with pytest.raises(EntityReadError, match="cannot belong"):
            archive.check(memoryview(payload).toreadonly())
        assert len(archive.decode(memoryview(payload).toreadonly())) == COUNT
