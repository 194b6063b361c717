"""Schemas: a version that is opened like the last one is equal to what opening it in full returns, or fails as that."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgpack as plain_msgpack
import numpy as np
import pytest
from helpers import PACKAGE
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import ArchivedList, ArchivedMap, ArrayMap, EntityReadError, Reader, Writer, info, unarchive
from shmsync.codecs import Decoder, _numpy, archive, msgpack
from shmsync.codecs._schema import MAX_SIZE, NO_SCHEMA, Recipe, schema_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs import NumberedCodec

SCALARS = st.none() | st.booleans() | st.integers(0, 99) | st.floats(allow_nan=False) | st.text("ab", max_size=2)
VALUES = st.recursive(
    SCALARS | st.lists(st.integers(0, 9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3),
    max_leaves=8,
)
COUNT = 70  # entries of a map with a hash table
ROWS = np.arange(2.0 * COUNT, dtype="f4").reshape(COUNT, 2)
TEXTS = [f"key {number}" for number in range(COUNT)]
RAGGED = [f"key {'x' * (number % 7)}{number}" for number in range(COUNT)]


class Version:
    """The payload of one version, as a reader passes it to its decoder."""

    def __init__(self, codec: NumberedCodec, payload: Any) -> None:
        self.codec = codec
        self.payload = memoryview(bytes(payload)).toreadonly()
        self.viewed = 0

    def view(self) -> memoryview:
        self.viewed += 1
        return self.payload

    def export(self) -> memoryview:
        return self.payload[:]


def archived(value: Any) -> Version:
    return Version(archive, archive.encode(value))


def packed(value: Any) -> Version:
    return Version(msgpack, msgpack.encode(value))


def warm(version: Version, **options: Any) -> Decoder:
    """Return a decoder that has read this version several times."""
    decoder = Decoder(**options)
    for _ in range(3):
        decoder.decode(version, [])
    return decoder


def outcome(decoder: Decoder, version: Version) -> Any:
    """Return what a caller sees of a version: the value; of a map its keys, and what lookups find; or the error."""
    try:
        value = decoder.decode(version, [])
    except EntityReadError as error:
        return str(error)
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.flags.f_contiguous, value.flags.writeable, value.tobytes()
    try:
        seen = repr(list(value) if isinstance(value, ArchivedMap) else unarchive(value))
    except EntityReadError as error:
        seen = str(error)
    return type(value), seen, [] if not isinstance(value, Mapping) else [looked_up(value, key) for key in KEYS]


KEYS: list[Any] = [0, 7, 1.0, 2**63, TEXTS[5], RAGGED[6], b"key 5", 3.5, "a", "b", b"a", (1, "x"), None, "missing"]


def looked_up(value: Mapping[Any, Any], key: Any) -> Any:
    try:
        return repr(unarchive(value.get(key)))
    except EntityReadError as error:
        return str(error)


# ------------------------------------------------------------------------------------------------- which are recognised

SERIES: dict[str, Callable[[float], Version]] = {
    "array": lambda x: packed(np.full(30, x)),
    "fortran": lambda x: packed(np.asfortranarray(np.full((10, 20), x))),
    "records": lambda x: packed(np.full(10, x).view([("a", "f4"), ("b", "i4")])),
    "zero-dimensional": lambda x: packed(np.array(x)),
    "archived array": lambda x: archived(np.full((3, 4), x)),
    "archived zero-dimensional": lambda x: archived(np.array(x)),
    "floats": lambda x: archived([x] * 50),
    "list": lambda x: archived([[x, "a"], None, {"b": x}]),
    "int keys": lambda x: archived(ArrayMap(np.arange(COUNT) * 7, ROWS + x)),
    "unsigned keys": lambda x: archived(ArrayMap(np.arange(COUNT, dtype="u8") + np.uint64(2**63), ROWS + x)),
    "text keys": lambda x: archived(ArrayMap(TEXTS, ROWS + x)),
    "ragged keys": lambda x: archived(ArrayMap(RAGGED, ROWS + x)),
    "bytes keys": lambda x: archived(ArrayMap([text.encode() for text in TEXTS], ROWS + x)),
    "room": lambda x: archived(ArrayMap(np.arange(COUNT) * 7, ROWS + x, capacity=2 * COUNT)),
    "room for texts": lambda x: archived(ArrayMap(RAGGED, ROWS + x, capacity=2 * COUNT)),
    "room for numbers": lambda x: archived(ArrayMap(TEXTS, np.full(COUNT, x), capacity=2 * COUNT)),
    "mixed keys": lambda x: archived({**{(number, "x"): x for number in range(COUNT)}, None: x, 1: x}),
    "float keys": lambda x: archived({number + 0.5: x for number in range(COUNT)}),
    "scalars": lambda x: archived(ArrayMap(TEXTS, np.full(COUNT, x))),
    "structured": lambda x: archived(ArrayMap(TEXTS, np.full(COUNT, x).view([("a", "f4"), ("b", "i4")]))),
    "texts": lambda x: archived(ArrayMap(TEXTS, np.array([f"{x:.3f}"] * COUNT))),
    "small": lambda x: archived({"a": x, "b": [x, 1], "text": "text", "none": None}),
    "small, bytes keys": lambda x: archived({b"a": x, b"b": x}),
    "small, int keys": lambda x: archived({0: x, 7: x}),
    "small, mixed keys": lambda x: archived({(1, "x"): x, None: x, True: x}),
}
A, B = 0.25, 1.75  # of equal size, in text too


@pytest.mark.parametrize("kind", SERIES)
def test_the_next_version_has_the_same_schema(kind: str) -> None:
    decoder = warm(SERIES[kind](A))
    schema = decoder.schema
    assert schema is not NO_SCHEMA
    other = SERIES[kind](B)
    found = outcome(decoder, other)
    assert not other.viewed
    assert decoder.schema is schema
    assert found == outcome(Decoder(), other) != outcome(Decoder(), SERIES[kind](A))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (packed(np.zeros(8, "i8")), packed(np.zeros(8, "f8"))),
        (packed(np.zeros((2, 4))), packed(np.zeros((4, 2)))),
        (packed(np.zeros((2, 4))), packed(np.asfortranarray(np.zeros((2, 4))))),
        (packed(np.zeros(8)), packed(np.zeros(9))),
        (packed(np.zeros(8)), packed([1, 2, 3])),
        (packed(np.zeros(8)), packed({"a": np.zeros(8)})),
        (packed(np.zeros(8)), archived(np.zeros(8))),
        (archived(np.zeros((2, 4))), archived(np.zeros((4, 2)))),
        (archived(np.zeros(8, "i8")), archived(np.ones(8, "f8"))),
        (archived({"a": 1, "b": 2}), archived({"b": 2, "a": 1})),
        (archived({"a": 1, "b": 2}), archived({"a": 1, "c": 2})),
        (archived({"a": 1, "b": 2}), archived({"a": 1, "b": 2, "c": 3})),
        (archived({"aa": 1, "b": 2}), archived({"a": 1, "bb": 2})),
        (archived({"a": 1, "b": 2}), archived({"a": 1.5, "b": 2.5})),
        (archived({"a": "x", "b": "yyy"}), archived({"a": "xx", "b": "yy"})),
        (archived({"a": [1], "b": [2, 3, 4]}), archived({"a": [1, 2], "b": [3, 4]})),
        (archived({1: "a", 2: "b"}), archived({3: "a", 4: "b"})),
        (archived({(1, "x"): 1, None: 2}), archived({(2, "y"): 1, None: 2})),
        (archived(ArrayMap(np.arange(COUNT), ROWS)), archived(ArrayMap(np.arange(COUNT) + 7, ROWS))),
        (archived(ArrayMap(np.arange(COUNT), ROWS)), archived(ArrayMap(np.arange(COUNT), ROWS.view("i4")))),
        (archived(ArrayMap(np.arange(COUNT), ROWS)), archived(ArrayMap(np.arange(COUNT), ROWS.reshape(COUNT, 1, 2)))),
        (archived(ArrayMap(TEXTS, ROWS)), archived(ArrayMap([text.upper() for text in TEXTS], ROWS))),
        (archived(ArrayMap(RAGGED, ROWS)), archived(ArrayMap(RAGGED[::-1], ROWS))),
        *(
            (
                archived(ArrayMap(keys[:50], ROWS[:50], capacity=90)),
                archived(ArrayMap(keys[:51], ROWS[:51], capacity=90)),
            )
            for keys in (np.arange(COUNT), TEXTS, RAGGED)
        ),
        (archived(ArrayMap(RAGGED, ROWS, capacity=COUNT)), archived(ArrayMap(RAGGED[::-1], ROWS, capacity=COUNT))),
        (archived([1, 2, 3]), archived([1.0, 2.0, 3.0])),
        (archived([[1], [2, 3]]), archived([[1, 2], [3]])),
        (archived([None, True]), archived([True, None])),
    ],
)
def test_another_schema(first: Version, second: Version) -> None:
    decoder = warm(first)
    for version in (second, second, second, first, second):
        assert outcome(decoder, version) == outcome(Decoder(), version)


def test_one_version_of_a_size_is_not_enough() -> None:
    """A reader that reads once does not pay for a schema."""
    decoder = Decoder()
    decoder.decode(packed(np.zeros(8)), [])
    assert decoder.schema is NO_SCHEMA
    decoder.decode(packed(np.zeros(9)), [])
    assert decoder.schema is NO_SCHEMA
    decoder.decode(packed(np.zeros(9)), [])
    assert decoder.schema is not NO_SCHEMA


@pytest.mark.parametrize(
    "version", [archived(1), archived("text"), archived([]), archived(np.zeros(0)), packed(np.zeros((0, 3)))]
)
def test_values_without_a_schema(version: Version) -> None:
    decoder = warm(version)
    assert outcome(decoder, version) == outcome(Decoder(), version)


def test_a_large_schema_is_not_kept() -> None:
    version = archived({f"{number}" * (MAX_SIZE // 64): number for number in range(64)})
    decoder = warm(version)
    assert decoder.schema is NO_SCHEMA
    assert outcome(decoder, version) == outcome(Decoder(), version)


def test_spans_overlap_touch_and_are_empty() -> None:
    payload = memoryview(bytes(range(100)))
    schema = schema_of(
        archive.ID, payload, Recipe(((90, 100), (10, 20), (15, 30), (30, 31), (50, 50), (12, 14)), bytes)
    )
    assert schema.content == (bytes(range(10, 31)), bytes(range(90, 100)))
    assert schema_of(archive.ID, payload, None) is NO_SCHEMA


# ------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", SERIES)
def test_a_damaged_bit(kind: str) -> None:
    """Each byte that opening interprets is part of the schema, so damage is found as without one: one bit per word."""
    version = SERIES[kind](A)
    decoder = warm(version)
    schema = decoder.schema
    rng = random.Random(kind)
    for word in range(0, len(version.payload), 8):
        at = word + rng.choice((0, 0, 0, *range(8))) % len(version.payload[word : word + 8])
        damaged = bytearray(version.payload)
        damaged[at] ^= 1 << rng.randrange(8)
        other = Version(version.codec, damaged)
        decoder.schema = schema
        assert outcome(decoder, other) == outcome(Decoder(), other), at


@pytest.mark.parametrize("kind", SERIES)
def test_another_size(kind: str) -> None:
    version = SERIES[kind](A)
    decoder = warm(version)
    schema = decoder.schema
    for payload in (version.payload[:-1], version.payload[:-8], version.payload[:40], b"", bytes(version.payload) * 2):
        other = Version(version.codec, payload)
        decoder.schema = schema
        assert outcome(decoder, other) == outcome(Decoder(), other)


@pytest.mark.parametrize("kind", SERIES)
def test_a_corrupted_length_raises(kind: str) -> None:
    """The last 64 bytes of a header, or of a frame's head, contain a length or an offset: make each word huge."""
    version = SERIES[kind](A)
    decoder = warm(version)
    schema = decoder.schema
    if version.codec is archive:
        (at,) = np.frombuffer(version.payload[-32:-24], "u8").tolist()  # the root's header
        words = [at + 8, at + 16]
    else:
        words = [8, 16, 24]
    for word in words:
        damaged = bytearray(version.payload)
        damaged[word : word + 8] = (2**62).to_bytes(8, sys.byteorder)
        decoder.schema = schema
        with pytest.raises(EntityReadError, match="damaged"):
            unarchive(decoder.decode(Version(version.codec, damaged), []))


@given(VALUES, VALUES, st.data())
@settings(max_examples=200)
def test_any_values(first: Any, second: Any, data: st.DataObject) -> None:
    decoder = warm(archived(first))
    version = archived(second)
    assert outcome(decoder, version) == outcome(Decoder(), version)
    decoder = warm(version)
    damaged = bytearray(version.payload)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    assert outcome(decoder, Version(archive, damaged)) == outcome(Decoder(), Version(archive, damaged))


# ---------------------------------------------------------------------------------------------- memory, and other rules


@pytest.mark.parametrize("kind", SERIES)
def test_no_payload_is_kept(kind: str) -> None:
    decoder = Decoder()
    versions = [SERIES[kind](x) for x in (A, B, A, B)]
    memories = []
    for version in versions:
        memory = np.frombuffer(bytes(version.payload), "u1").copy()
        version.payload = memory.data.toreadonly()
        memories.append(weakref.ref(memory))
    del memory
    values = [decoder.decode(version, []) for version in versions]
    assert decoder.schema is not NO_SCHEMA
    assert all(memory() is not None for memory in memories)
    gc.disable()
    try:
        versions.clear()
        del version, values
        assert all(memory() is None for memory in memories)  # at once, without the collector
    finally:
        gc.enable()


def test_no_memory_is_retained_once_the_value_is_dropped(name: str) -> None:
    with Writer(name, codec="archive") as writer, Reader(name) as reader:
        for number in range(6):
            writer.write(ArrayMap(TEXTS, ROWS + number))
            value = reader.get()
            assert value[TEXTS[0]][0] == number
        assert reader.decoder.schema is not NO_SCHEMA
        held = [value]
        writer.write(ArrayMap(TEXTS, ROWS))
        assert held[0][TEXTS[0]][0] == 5  # still its own version
        reader.get()
        writer.write(ArrayMap(TEXTS, ROWS + 1))
        assert held[0][TEXTS[0]][0] == 5
        del value, held
        writer.write(None)
        writer.write(None)
        assert reader.get() is None
        assert not [slot for slot in info(name).readers if slot.retained]
        writer.unlink()


def test_plain_values_after_arrays_are_not_exported() -> None:
    decoder = warm(packed(np.zeros(8)))
    assert decoder.decode(packed([1]), []) == [1]
    version = packed([2])
    version.export = None  # type: ignore[assignment, method-assign]
    assert decoder.decode(version, []) == [2]


def test_zero_copy_bytes() -> None:
    versions = [archived({"a": bytes([number]) * 5000, "b": 1}) for number in range(4)]
    decoder = warm(versions[0], zero_copy_bytes=True)
    assert decoder.schema is not NO_SCHEMA
    assert type(decoder.decode(versions[1], [])["a"]) is memoryview
    assert type(warm(versions[0]).decode(versions[1], [])["a"]) is bytes


def test_exposed_views_are_reported_each_time() -> None:
    decoder = Decoder(zero_copy_bytes=True)
    for version in [archived(b"x" * 5000), packed([b"x" * 5000]), packed(b"x" * 5000)] * 4:
        exposed: list[memoryview] = []
        decoder.decode(version, exposed)
        assert exposed


def test_a_vector_without_numpy_is_reported_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_numpy, "numpy_if_installed", lambda: None)
    decoder = Decoder()
    for number in range(4):
        exposed: list[memoryview] = []
        value = decoder.decode(archived([number, 1, 2]), exposed)
        assert type(value) is memoryview
        assert len(exposed) == 1


def test_typed_and_frozen_readers() -> None:
    typed = warm(archived({"a": 1.5}), type_=dict[str, float])
    assert typed.decode(archived({"a": 2.5}), []) == {"a": 2.5}
    assert typed.schema is NO_SCHEMA
    frozen = warm(packed(np.zeros(3)), frozen=True)
    assert frozen.decode(packed(np.ones(3)), []).tolist() == [1, 1, 1]


def test_children_that_were_not_opened() -> None:
    """Arrays in a list are opened on access; to note a schema does not open, and so does not reject, them."""
    version = archived([np.zeros(3), np.ones(3)])
    dtype = bytes(version.payload).index(b"<f8")
    damaged = bytearray(version.payload)
    damaged[dtype : dtype + 3] = b"???"
    decoder = warm(Version(archive, damaged))
    value = decoder.decode(Version(archive, damaged), [])
    assert type(value) is ArchivedList
    with pytest.raises(EntityReadError, match="dtype"):
        value[0]


# --------------------------------------------------------------------------------------------------------------- steps

MOST_CALLS = {"int keys": 12, "text keys": 12, "array": 3, "archived array": 5}


@pytest.mark.parametrize("kind", MOST_CALLS)
def test_how_many_calls_a_known_schema_takes(kind: str) -> None:
    decoder = warm(SERIES[kind](A))
    version = SERIES[kind](B)
    key = {"int keys": 14, "text keys": TEXTS[9]}.get(kind)
    calls = count_calls(lambda: decoder.decode(version, [])[key] if key is not None else decoder.decode(version, []))
    assert calls <= MOST_CALLS[kind]


def test_how_many_calls_a_plain_value_takes() -> None:
    value = {"a": [1, 2.5, "text"], "b": None}
    encoder = msgpack.Encoder()
    for _ in range(msgpack.SEARCHES + 1):
        encoder.encode(value)
    assert count_calls(lambda: encoder.encode(value)) == 1
    decoder, payload = Decoder(), plain_msgpack.packb(value)
    assert count_calls(lambda: decoder.decode_plain(msgpack.ID, payload)) == 1
    assert count_calls(lambda: decoder.decode(packed(value), [])) <= 20


def count_calls(function: Callable[[], object]) -> int:
    """Return how many calls of Python functions in shmsync a call makes."""
    called = []

    def profile(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_name)

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(previous)
    return len(called)
