"""Archives: values round-trip, lookups match those of a dict, and elements are decoded on access."""

from __future__ import annotations

import dataclasses
import enum
import gc
import json
import math
import pickle
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import ArchivedList, ArchivedMap, ArrayMap, EntityWriteError, Reader, Writer, unarchive
from shmsync.codecs import archive, by_name
from shmsync.codecs.archive import _hash_index, _packed_keys
from shmsync.codecs.archive._views import same

if TYPE_CHECKING:
    from collections.abc import Iterator

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=8)
)
KEYS = SCALARS | st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
NUMBERS = st.lists(st.integers(-(2**63), 2**64 - 1)) | st.lists(st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(KEYS, inner, max_size=5)
        | st.lists(st.fixed_dictionaries({"id": SCALARS, "x": inner}), min_size=2, max_size=4)
    ),
    max_leaves=25,
)


def archived(value: Any, *, check: bool = True) -> Any:
    payload = memoryview(bytes(archive.encode(value))).toreadonly()
    if check:
        archive.check(payload)
    return archive.decode(payload)


def same_types(found: Any, value: Any) -> bool:
    """Return whether two plain values are equal, and of the same types all the way down."""
    if isinstance(value, dict):
        return list(map(repr, found)) == list(map(repr, value)) and all(map(same_types, found.values(), value.values()))
    if isinstance(value, list):
        return type(found) is list and len(found) == len(value) and all(map(same_types, found, value))
    return type(found) is type(value) and bool(found == value)


@given(VALUES)
@settings(max_examples=400)
def test_plain_values_round_trip(value: Any) -> None:
    found = archived(value)
    assert same(found, value)
    assert same_types(unarchive(found) if not isinstance(found, np.ndarray) else found.tolist(), value)


@pytest.mark.parametrize("keys", [(False, 0), (1, 1.0), (0.0, -0.0), ((1, "x"), (True, "x"))], ids=repr)
def test_equal_keys_that_are_not_the_same(keys: tuple[Any, Any]) -> None:
    value = [{"id": 1, "x": {keys[0]: None}}, {"id": 2, "x": {keys[1]: None}}]
    assert same_types(unarchive(archived(value)), value)


@given(st.dictionaries(KEYS, SCALARS, max_size=200), st.lists(KEYS, max_size=20))
def test_lookups_match_those_of_the_dict(value: dict[Any, Any], others: list[Any]) -> None:
    for large in (False, True):
        if large:
            value = {**value, **dict.fromkeys(range(1000, 1100))}
        found = archived(value)
        assert len(found) == len(value)
        assert list(map(repr, found)) == list(
            map(repr, value)
        )  # in the same order, and 1, 1.0 and True keep their types
        assert list(found.values()) == list(value.values())
        assert list(reversed(found)) == list(reversed(value))
        for key in [*value, *others]:
            assert (key in found) == (key in value)
            assert found.get(key, "none") == value.get(key, "none")
        assert found == value
        assert not found != value  # noqa: SIM202 - both operators


# ------------------------------------------------------------------------------------------------------ maps and keys


def large(key: Any = int, count: int = 1000) -> dict[Any, int]:
    return {key(number): number for number in range(count)}


class Colour(enum.IntEnum):
    RED = 7


class Name(str, enum.Enum):
    SEVEN = "7"


NUMERIC_TWINS = [7, 7.0, np.int64(7), np.float32(7), np.uint8(7), Fraction(7), Decimal(7), 7 + 0j, Colour.RED]


@pytest.mark.parametrize("count", [10, 1000])
def test_equal_keys_of_different_types_are_the_same_key(count: int) -> None:
    ints = archived(large(count=count))
    floats = archived(large(float, count))
    mixed = archived({**large(count=count), "x": 1})
    for key in NUMERIC_TWINS:
        assert ints[key] == floats[key] == mixed[key] == 7
    assert (ints[True], ints[False], floats[True], mixed[-0.0]) == (1, 0, 1, 0)
    texts = archived(large(str, count))
    for text in ("7", np.str_("7"), Name.SEVEN):
        assert texts[text] == 7
    raw = archived(large(lambda number: str(number).encode(), count))
    for key in (b"7", np.bytes_(b"7"), memoryview(b"7")):
        assert raw[key] == 7
    tuples = archived(large(lambda number: (number, (str(number), None)), count))
    assert tuples[7.0, ("7", None)] == tuples[np.int16(7), ("7", None)] == 7


@pytest.mark.parametrize("kind", [int, float, str, lambda number: str(number).encode(), lambda number: (number,)])
@pytest.mark.parametrize("count", [10, 1000])
def test_missing_keys(kind: Any, count: int) -> None:
    found = archived(large(kind, count))
    absent = [
        *(None, -1, 10**30, 1e300, math.inf, math.nan, 0.5, "", "x", b"x", "\ud800", (), (1, 2), (object(),)),
        *(frozenset(), object(), 1 + 1j, Decimal("0.5"), Fraction(1, 3), np.datetime64("2020-01-01"), int),
    ]
    for key in absent:
        assert key not in found
        assert found.get(key) is None
        with pytest.raises(KeyError):
            found[key]
    unhashable_keys: list[Any] = [[], {}, bytearray(), np.arange(2), ([],)]
    for unhashable in unhashable_keys:
        with pytest.raises(TypeError, match="hashable"):
            found[unhashable]


def test_true_one_and_one_point_zero_are_one_key() -> None:
    value: dict[Any, str] = {True: "a"}
    value[1] = "b"  # a dict keeps the old key with the new value
    found = archived({**value, **dict.fromkeys(range(2, 200), "")})
    assert found[1.0] == "b"
    assert next(iter(found)) is True


@pytest.mark.parametrize("numpy", [True, False])
@pytest.mark.parametrize("count", [65, 499, 500, 5000])
def test_the_table_is_the_same_with_and_without_numpy(
    numpy: bool,  # noqa: FBT001
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not numpy:
        vectorize_from(sys.maxsize, monkeypatch)
    for kind in (int, str, float):
        value = {kind(number * 7919): number for number in range(count)}
        assert archived(value) == value
    monkeypatch.undo()
    one = bytes(archive.encode(value))
    vectorize_from(0 if not numpy else sys.maxsize, monkeypatch)
    assert bytes(archive.encode(value)) == one


@pytest.mark.parametrize("numpy_from", [0, sys.maxsize])
def test_adversarial_keys(numpy_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that all collide under the primes that are tried first, in runs and in strides."""
    vectorize_from(numpy_from, monkeypatch)
    count = 2000
    primes = [_hash_index._prime_from(count + count // 2 + offset) for offset in range(0, count, 100)]
    sets: list[list[int]] = [[number * prime for number in range(count)] for prime in primes[:4]]
    sets += [[number << 40 for number in range(count)], [number * 10**9 for number in range(count)]]
    sets += [[start + number for start in range(0, 2**62, 2**58) for number in range(count // 16)]]
    sets += [[-number for number in range(count)]]
    for keys in sets:
        found = archived(dict.fromkeys(keys, 1))
        assert all(key in found for key in keys)
        assert longest_chain(found) <= _hash_index.MAX_CHAIN


def vectorize_from(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_hash_index, _packed_keys):
        monkeypatch.setattr(module, "PACK_FROM", count)


def longest_chain(found: Any) -> int:
    index = found._find.__self__
    longest = 0
    for head in index._heads:
        length, entry = 0, head
        while entry:
            length, entry = length + 1, index._links[entry - 1]
        longest = max(longest, length)
    return longest


def test_lookups_work_when_every_prime_collides(monkeypatch: pytest.MonkeyPatch) -> None:
    for numpy_from in (0, sys.maxsize):
        vectorize_from(numpy_from, monkeypatch)
        monkeypatch.setattr(_hash_index, "_prime_from", lambda _: 3)
        value = {number: -number for number in range(600)}
        found = archived(value)
        assert found == value
        assert longest_chain(found) == 200


def test_nan_keys_are_only_found_by_iterating() -> None:
    value: dict[Any, Any] = {math.nan: 1, "x": 2, (math.nan, 1): 3, **dict.fromkeys(range(100))}
    found = archived(value)
    assert len(found) == len(value)
    assert math.isnan(next(iter(found)))
    assert found.get(float("nan"), "none") == "none"


# ---------------------------------------------------------------------------------------------------------------- views


def test_views_are_mappings_and_sequences() -> None:
    found = archived({"list": [1, "x", None, [2.5]], "map": {"a": 1}})
    assert isinstance(found, Mapping)
    assert isinstance(found["list"], Sequence)
    items = found["list"]
    assert (items[0], items[-1][0], len(items)) == (1, 2.5, 4)
    assert items[1:3] == ["x", None]
    assert items[::-1][1:] == [None, "x", 1]
    assert unarchive(items[::-2]) == [[2.5], "x"]
    assert items.index("x") == 1
    assert items.count(None) == 1
    assert "x" in items
    assert [2.5] in items
    assert next(reversed(items)) == [2.5]
    with pytest.raises(ValueError, match="not in the list"):
        items.index("y")
    with pytest.raises(IndexError):
        items[4]
    assert ("map", {"a": 1}) in found.items()
    assert ("map", {"a": 2}) not in found.items()
    assert {"a": 1} in found.values()
    assert found.keys() == {"list", "map"}
    assert found.keys() | {"x"} == {"list", "map", "x"}
    match found:
        case {"map": {"a": number}, "list": [1, *_]}:
            assert number == 1
        case _:
            raise AssertionError
    for unhashable in (found, items):
        with pytest.raises(TypeError):
            hash(unhashable)
    with pytest.raises(TypeError):
        found["new"] = 1  # type: ignore[index]


def test_equality() -> None:
    value = {"a": [1, 2], "b": [1, "x"], "c": (1, "y"), "d": np.arange(6).reshape(2, 3), "e": b"x" * 5000, "f": {}}
    found = archived(value)
    assert found == value == archived(value)
    assert value == found
    assert found["c"] == (1, "y")
    assert found["b"] == archived([1, "x"])
    for key, other in {"a": [1, 3], "b": [1], "c": "y", "d": np.arange(6), "e": b"", "f": None}.items():
        assert found != {**value, key: other}
    assert found != {**value, "g": 1}
    assert found != 5
    assert found["b"] != {1, "x"}


def test_repr_is_truncated() -> None:
    found = archived({number: [number, "x"] for number in range(1000)})
    assert repr(found).startswith("<ArchivedMap of 1,000 items: {0: <ArchivedList of 2: [0, 'x']>, 1:")
    assert repr(found).endswith("...}>")
    assert len(repr(archived(["x" * 1000] * 1000))) < 300


def test_views_pickle_as_plain_objects() -> None:
    value = {"a": [1, "x"], "b": {"c": [1.5, 2.5]}}
    found = archived(value)
    again = pickle.loads(pickle.dumps(found))
    assert again == value
    assert type(again) is dict
    assert type(pickle.loads(pickle.dumps(found["a"]))) is list
    assert json.dumps(found.unarchive()) == json.dumps(value)


def test_archived_values_can_be_published_again() -> None:
    value = {"a": [1, "x"], "b": {"c": [1.5, 2.5], "d": np.arange(3)}}
    found = archived(value)
    assert archived({"again": found, "list": found["a"]}) == {"again": value, "list": [1, "x"]}


class Point(NamedTuple):
    x: int
    y: float


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, ("a", 2)), [1, ["a", 2]]),
        (Point(1, 2.5), [1, 2.5]),
        (OrderedDict(a=1), {"a": 1}),
        ([Colour.RED, 1], [7, 1]),
        ([Name.SEVEN, "x"], ["7", "x"]),
        ({Name.SEVEN: 1, Colour.RED: 2}, {"7": 1, 7: 2}),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        ([b"x" * 5000], [b"x" * 5000]),
        ({(1, (2.5, None)): 1}, {(1, (2.5, None)): 1}),
        ([np.float32(1.5), np.float64(2)], [1.5, 2.0]),
    ],
)
def test_documented_conversions(value: Any, plain: Any) -> None:
    found = unarchive(archived([value]))[0]
    assert found == plain
    assert type(found) is type(plain)


def test_vectors_are_read_only_arrays_in_place() -> None:
    payload = memoryview(bytes(archive.encode({"f": [1.5, 2.5], "i": [1, 2], "u": [2**63], "m": [1, 2.5], "e": []})))
    found = archive.decode(payload)
    for key, dtype in {"f": "f8", "i": "i8", "u": "u8"}.items():
        assert found[key].dtype == dtype
        assert not found[key].flags.owndata
        assert not found[key].flags.writeable
    assert isinstance(found["m"], ArchivedList)
    assert isinstance(found["e"], ArchivedList)
    assert [type(item) for item in found["m"]] == [int, float]
    ragged = archived({number: [1.5] * number for number in range(100)})
    assert ragged[0].shape == (0,)
    assert ragged[99].tolist() == [1.5] * 99
    assert unarchive(ragged)[0] == []


def test_vectors_do_not_depend_on_neighbouring_lists() -> None:
    for neighbour in ([2.5], [1], ["x"], [None], [[1]], [1, 2.5], [2**63], [-1]):
        found = archived([[1, 2], neighbour, [1.5]])
        assert isinstance(found[0], np.ndarray)
        assert isinstance(found[2], np.ndarray)


def test_limits_of_integers() -> None:
    integers = [2**63, -1, -(2**63), 2**64 - 1, [2**63, 1], [2**63, -1]]
    assert archived(integers) == integers
    assert archived({2**63: 1, -1: 2, **dict.fromkeys(range(100), 0)}) == {
        2**63: 1,
        -1: 2,
        **dict.fromkeys(range(100), 0),
    }
    for number in (2**64, -(2**63) - 1):
        for value in (number, [number], {number: 1}, {"a": [1.5, number]}, {(number,): 1}):
            with pytest.raises(EntityWriteError, match="64"):
                archive.encode(value)


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), [object()], {"a": {"b": 1j}}, "\ud800", {"\ud800": 1}, {frozenset(): 1}, {"x": Decimal(1)}],
)
def test_unsupported_values_are_rejected(value: Any) -> None:
    with pytest.raises(EntityWriteError, match="cannot publish"):
        archive.encode(value)


def nested(depth: int, kind: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = kind(value)
    return value


@pytest.mark.parametrize("kind", [lambda inner: [inner, "x"], lambda inner: {"k": inner}, lambda inner: [{"k": inner}]])
def test_nesting_limit(kind: Any) -> None:
    value = nested(45, kind)
    assert unarchive(archived(value)) == value
    with pytest.raises(EntityWriteError, match="nested more than 100"):
        archive.encode(nested(101, kind))


def test_cycles_are_rejected() -> None:
    one: list[Any] = []
    one += [one] * 10
    two: dict[str, Any] = {"list": [1]}
    two["list"].append({"again": two})
    for value in (one, two, [two]):
        with pytest.raises(EntityWriteError, match="contains itself"):
            archive.encode(value)
    shared = [1, "x"]
    value = [shared, [shared, {"k": shared}]]
    assert archived(value) == value


def test_values_are_released_without_the_garbage_collector() -> None:
    """Neither the encoder nor a decoded value is part of a reference cycle."""

    class Witness(dict[str, Any]):
        pass

    gc.collect()
    gc.disable()
    try:
        value = Witness(a=[1, "x", {"b": [1.5], "c": [{"d": 1}, {"d": 2}]}], **{str(n): n for n in range(100)})
        written = weakref.ref(value)
        payload = memoryview(bytes(archive.encode({"v": value})))
        del value
        assert written() is None
        exporter = np.frombuffer(payload, "u1")
        read = weakref.ref(exporter)
        found = archive.decode(memoryview(exporter))  # type: ignore[arg-type]
        del exporter
        assert found["v"]["a"][2]["c"][1]["d"] == 2
        repr(found), found.unarchive(), found["v"] == {}
        del found
        assert read() is None
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------------ ArrayMap


@pytest.fixture
def reader(name: str) -> Iterator[tuple[Writer, Reader[Any]]]:
    with Writer(name, codec="archive", grace_duration=0) as writer, Reader(name) as reader:
        yield writer, reader
        writer.unlink()


KEY_SETS = {
    "int64": np.arange(1000) * 7 - 500,
    "uint64": np.arange(1000, dtype="u8") + 2**63,
    "int16": np.arange(1000, dtype="i2"),
    "big-endian": np.arange(1000, dtype=">i4"),
    "strided": np.arange(2000)[::2],
    "strings": np.array([f"key {number}" for number in range(1000)]),
    "bytes": np.array([f"key {number}".encode() for number in range(1000)]),
    "floats": np.arange(1000) / 2,
    "list": [(number, "x") for number in range(1000)],
}


@pytest.mark.parametrize("kind", KEY_SETS)
def test_array_maps(reader: tuple[Writer, Reader[Any]], kind: str) -> None:
    keys = KEY_SETS[kind]
    plain_keys = keys.tolist() if isinstance(keys, np.ndarray) else keys
    values = np.random.default_rng(1).random((1000, 10)).astype("f4")
    writer, handle = reader
    writer.write(ArrayMap(keys, values))
    with handle.read(check_bytes=True) as snapshot:
        found = snapshot.value
        assert list(found) == plain_keys
        for key, row in zip(plain_keys, values, strict=True):
            assert (found[key] == row).all()
        assert found[plain_keys[3]].dtype == "f4"
        assert not found[plain_keys[3]].flags.owndata
        del found


def test_array_maps_with_repeated_keys_match_the_dict() -> None:
    keys = np.array([5, 3, 5, 9, 3] * 30)
    values = np.arange(300).reshape(150, 2)
    for given_keys in (keys, keys.tolist(), keys.astype(str), keys.astype("f4")):
        expected = dict(zip(np.asarray(given_keys).tolist(), values.tolist(), strict=True))
        found = archived(ArrayMap(given_keys, values))
        assert list(found) == list(expected)
        assert {key: row.tolist() for key, row in found.items()} == expected
    for twins in ([1, 1.0, True], [True, 1]):
        found = archived(ArrayMap(twins, np.arange(len(twins) * 2).reshape(-1, 2)))
        assert len(found) == 1
        assert next(iter(found)) is twins[0]
        assert found[1].tolist() == [len(twins) * 2 - 2, len(twins) * 2 - 1]


@pytest.mark.parametrize("values", [np.arange(100), np.arange(100) / 2, np.arange(100).astype(str), np.arange(100) > 5])
def test_array_maps_of_scalars_are_plain(values: Any) -> None:
    found = archived(ArrayMap(np.arange(100), values))
    assert found == dict(enumerate(values.tolist()))
    assert type(found[7]) is type(values.tolist()[7])


@pytest.mark.parametrize("shape", [(0, 3), (70, 0), (70, 2, 2), (3, 4)])
def test_array_maps_of_any_shape(shape: tuple[int, ...]) -> None:
    values = np.asfortranarray(np.random.default_rng(2).random(shape))
    found = archived({"inside": [ArrayMap(np.arange(shape[0]), values), None]})["inside"][0]
    assert len(found) == shape[0]
    assert all((found[number] == values[number]).all() for number in range(shape[0]))


def test_invalid_array_maps_are_rejected() -> None:
    for keys, values, reason in [
        ([1, 2], np.zeros((3, 2)), "2 keys and 3 values"),
        ([1], [[1.0]], "one row for each key, not list"),
        (np.zeros((2, 2)), np.zeros((2, 2)), "one-dimensional"),
        ([1], np.array(5), "one row for each key"),
    ]:
        with pytest.raises(EntityWriteError, match=reason):
            ArrayMap(keys, values)
    with pytest.raises(EntityWriteError, match="references"):
        archive.encode(ArrayMap([1], np.array([[object()]])))
    assert repr(ArrayMap([1, 2], np.zeros((2, 3), "f4"))) == "<ArrayMap of 2 keys, values of (3,) float32>"


def test_opening_takes_constant_time() -> None:
    """Opening a value and getting one item takes a number of calls that does not grow with the value."""

    def calls_to_open(count: int) -> int:
        payload = memoryview(bytes(archive.encode(ArrayMap(np.arange(count), np.zeros((count, 4))))))
        calls = 0

        def count_calls(*_: Any) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count_calls)
        try:
            archive.decode(payload)[count // 2]
        finally:
            sys.setprofile(None)
        return calls

    calls_to_open(100)
    assert calls_to_open(200_000) <= calls_to_open(1000)


def test_lists_of_similar_dicts_are_structs() -> None:
    records = [{"id": number, "name": f"n{number}", "tags": [number], "more": {"x": number}} for number in range(1000)]
    found = archived(records)
    assert isinstance(found[5], ArchivedMap)
    assert found == records
    assert found[5]["more"]["x"] == 5
    assert list(found[5]) == ["id", "name", "tags", "more"]
    assert found[5].get("other") is None
    assert unarchive(found) == records
    assert len(bytes(archive.encode(records))) < 1000 * 100


def test_maps_of_maps_of_every_size() -> None:
    value = {name: dict.fromkeys(range(size), name) for name, size in (("a", 0), ("b", 3), ("c", 64), ("d", 500))}
    found = archived(value)
    assert found == value
    assert found["d"][499] == "d"
    optional = [{"a": 1}, {"a": 1, "b": 2}, {}, {"b": 3}]
    assert archived(optional) == optional


# ------------------------------------------------------------------------------------------------------- regressions


@pytest.mark.parametrize("codec", ["archive", "msgpack"])
def test_values_modified_by_another_thread(codec: str) -> None:
    """The archive is valid, or the value is rejected."""
    chosen = by_name(codec)
    shared: dict[int, Any] = {number: [float(number)] for number in range(200)}
    lists: list[Any] = [[1.5] * 5 for _ in range(50)]
    done = threading.Event()

    def change() -> None:
        number = 0
        while not done.is_set():
            shared[number % 500] = [1.5] * (number % 7)
            shared.pop((number * 7) % 500, None)
            lists[number % 50].append(1.5)
            del lists[(number * 3) % 50][1:]
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            try:
                payload = memoryview(bytes(chosen.encode({"map": shared, "lists": lists})))
            except EntityWriteError:
                continue
            if codec == "archive":
                archive.check(payload)
            unarchive(chosen.decode(payload))
    finally:
        done.set()
        thread.join()


SHARED: dict[str, Any] = {}


@dataclasses.dataclass
class Changes:
    x: Any = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            SHARED[f"new {len(SHARED)}"] = 1
        return object.__getattribute__(self, name)


class Longer(list[str]):
    def __iter__(self) -> Iterator[str]:
        return iter("abc")


def test_values_that_change_during_encoding() -> None:
    SHARED.clear()
    SHARED["changes"] = Changes()
    found = archived(SHARED)
    assert found == {"changes": {"x": 1}}
    assert len(SHARED) > 1
    for value in (Longer("a"), [Longer("a"), 1], [[Longer("a")], [["a"]]]):
        with pytest.raises(EntityWriteError, match="changed while"):
            archive.encode(value)


@pytest.mark.parametrize("numpy_from", [0, sys.maxsize])
def test_another_prime_is_tried(numpy_from: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectorize_from(numpy_from, monkeypatch)
    primes = iter([3, 5, 1501])
    monkeypatch.setattr(_hash_index, "_prime_from", lambda _: next(primes))
    found = archived({number: -number for number in range(1000)})
    assert found._find.__self__._prime == 1501
    assert found == {number: -number for number in range(1000)}


def test_cycle_detection_runs_once() -> None:
    empty: tuple[Any, ...] = ()
    value = {"none": empty, "rows": [{f"k{number}": empty for number in range(70)} for _ in range(300)]}
    calls = 0

    def count(frame: Any, event: str, _: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_name == "has_cycle"

    sys.setprofile(count)
    try:
        archive.encode(value)
    finally:
        sys.setprofile(None)
    assert calls == 1


@dataclasses.dataclass
class Node:
    name: str
    parent: Any = None
    children: list[Any] = dataclasses.field(default_factory=list)


def test_cycles_through_dataclasses_are_rejected() -> None:
    root = Node("root")
    root.children = [Node(str(number), root) for number in range(50)]
    for value in (root, {"a": [root]}, MappingProxyType({"a": root})):
        with pytest.raises(EntityWriteError, match="contains itself"):
            archive.encode(value)
    tree = Node("root", None, [Node(str(number), None, [Node("leaf")] * 50) for number in range(50)])
    assert archived(tree)["children"][7]["children"][3]["name"] == "leaf"


class Own(str):
    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def test_keys_that_become_equal_are_rejected() -> None:
    with pytest.raises(EntityWriteError, match="equal as plain values"):
        archive.encode({Own("a"): 1, "a": 2})
    with pytest.raises(EntityWriteError, match="equal as plain values"):
        archive.encode(ArrayMap([Own("a"), "a"], np.zeros((2, 2))))
    assert archived({Own("a"): 1, "b": 2}) == {"a": 1, "b": 2}


def test_numbers_beyond_64_bits_that_equal_a_float() -> None:
    found = archived({1e300: 1, float(2**64): 2, "x": 3, **dict.fromkeys(range(100))})
    assert found[2**64] == 2
    assert found[int(1e300)] == 1
    assert 2**64 + 1 not in found
    assert 10**400 not in found


NANOSECONDS = np.array(["2020-01-01", "2021-01-01"], "M8[ns]")


def test_array_maps_preserve_dtypes() -> None:
    found = archived(ArrayMap([1, 2], NANOSECONDS))
    assert found[1].dtype == "M8[ns]"
    assert found[2] == NANOSECONDS[1]
    rows = np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")])
    assert archived(ArrayMap([1, 2], rows))[2]["b"] == 4.5
    assert archived(ArrayMap([1, 2], np.array([1j, 2j])))[2] == 2j
    masked = np.ma.masked_array([[1, 2]], [[True, False]])
    for keys, values in [
        ([1], masked),
        (masked[0], np.zeros((2, 2))),
        ([1], np.array([None])),
        (NANOSECONDS, np.zeros((2, 2))),
        (5, np.zeros((2, 2))),
    ]:
        with pytest.raises(EntityWriteError):
            ArrayMap(keys, values)
    for scalar in (NANOSECONDS[0], np.timedelta64(1, "ns"), np.longdouble(1)):
        for value in (scalar, [scalar, 1]):
            with pytest.raises(EntityWriteError):
                archive.encode(value)


def test_comparisons_that_numpy_does_not_support() -> None:
    found = archived({"a": b"x" * 5000, "b": {"c": 1}, "d": [1, "x"], "e": [1.5]})
    for key in "abd":
        assert found != {**found, key: NANOSECONDS}


def test_times_are_not_numbers() -> None:
    found = archived(large())
    assert np.timedelta64(7, "ns") not in found
    with pytest.raises(EntityWriteError):
        archive.encode({np.timedelta64(7, "ns"): 1})


def test_complex_keys_raise_no_warning() -> None:
    found = archived(large())
    assert found[np.complex64(7)] == 7
    assert found.get(7 + 1j) is None
