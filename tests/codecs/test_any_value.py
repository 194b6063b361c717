"""What `write` accepts reads back equal, type for type: keys, nesting, subclasses, records and arrays together.

Each value is generated from parts that a codec supports and parts that none does. A codec may reject it. If it does
not, the decoded value has to be what `as_read` says, which knows the documented conversions and nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import pathlib
import uuid
import zoneinfo
from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgpack import ExtType, Timestamp

from shmsync import EntityWriteError
from shmsync.codecs import Decoder, archive, by_id, by_name, id_of

EXAMPLES, SLOW_EXAMPLES = 300, 20_000


class Whole(int):
    pass


class Text(str):
    __slots__ = ()


class Real(float):
    pass


class Octets(bytes):
    def __repr__(self) -> str:
        return f"Octets({len(self)} bytes)"


class Items(list[Any]):
    pass


class Table(dict[Any, Any]):
    pass


class Pair(NamedTuple):
    first: Any
    second: Any


class Level(enum.IntEnum):
    LOW = 1


class Colour(enum.Enum):
    RED = "red"


class Day(dt.date):
    pass


class Money(Decimal):
    pass


@dataclasses.dataclass
class Entry:
    a: Any
    b: Any = None


@dataclasses.dataclass(frozen=True)
class Key:
    a: Any
    b: Any = None


class Struct(msgspec.Struct, frozen=True):
    a: Any
    b: Any = None


class Row(msgspec.Struct, frozen=True, array_like=True):
    a: Any
    b: Any = None


@attrs.frozen
class Frozen:
    a: Any
    b: Any = None


RECORDS = (Entry, Key, Struct, Row, Frozen)
ZONES = [dt.timezone.utc, dt.timezone(dt.timedelta(hours=2, seconds=7)), zoneinfo.ZoneInfo("Europe/Berlin"), None]

# ------------------------------------------------------------------------------------------------------- strategies

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.binary(max_size=8)
)
EXTENDED = (
    st.sampled_from(ZONES).flatmap(lambda zone: st.datetimes(timezones=st.just(zone)))
    | st.dates()
    | st.sampled_from(ZONES).flatmap(lambda zone: st.times(timezones=st.just(zone)))
    | st.timedeltas()
    | st.decimals().filter(lambda number: not number.is_snan())  # which is not hashable
    | st.uuids()
    | st.complex_numbers()
    | st.integers(2**64, 2**80)
    | st.integers(-(2**80), -(2**63) - 1)
    | st.builds(range, st.integers(-5, 5), st.integers(-5, 2**70), st.integers(1, 3))
    | st.sampled_from([pathlib.Path("/tmp/x"), pathlib.PurePosixPath("a/b"), pathlib.Path("/tmp/\udcff")])
)
SUBCLASSES = st.sampled_from(
    [
        Whole(5),
        Whole(2**70),
        Text("text"),
        Real(1.5),
        Octets(b"ab"),
        Level.LOW,
        Day(2026, 1, 2),
        Money("1.50"),
        np.int8(-1),
        np.uint64(2**64 - 1),
        np.float32(0.5),
        np.bool_(1),
        np.str_("x\0"),
        np.bytes_(b"y\0"),
    ]
)
UNSUPPORTED = st.sampled_from(
    [
        "\ud800",
        Colour.RED,
        Fraction(1, 2),
        object,
        np.datetime64(1, "s"),
        np.longdouble(1),
        ExtType(64, b"shmsync\x91\0"),
        ExtType(64, b"shmsync\x92\xa4date\xaa2026-01-01"),
        ExtType(5, b"shmsync"),
        "shmsync",
        Timestamp(2**60, 0),
        Timestamp(-(2**60), 0),
    ]
)
HASHABLE = st.recursive(
    PLAIN | EXTENDED | SUBCLASSES | UNSUPPORTED,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.sampled_from(RECORDS[1:]).flatmap(lambda record: st.builds(record, inner, inner))
    ),
    max_leaves=4,
)
ARRAYS = st.sampled_from(
    [
        np.arange(3),
        np.zeros((2, 0), "f4"),
        np.array(5),
        np.array([b"a", b"bc"]),
        np.zeros(3, [("x", "i4"), ("y", "U2")]),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros(2, np.dtype("i4", metadata={"enum": 1})),
        np.array(["2026-01-01"], "M8[D]"),
        np.array([None]),
        np.arange(8)[::2],
    ]
)
LARGE = Octets(b"\xc5" * 5000)
MUTABLE = (
    ARRAYS
    | st.sets(HASHABLE, max_size=3)
    | st.sampled_from([bytearray(b"ab"), memoryview(b"cd"), memoryview(b"abcd")[::2], LARGE, bytearray(4096)])
    | st.just(Decimal("sNaN"))
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=2).map(OrderedDict)
        | st.dictionaries(HASHABLE, inner, max_size=2).map(Table)
        | st.dictionaries(HASHABLE, inner, max_size=2).map(MappingProxyType)
        | st.lists(inner, max_size=3).map(Items)
        | st.builds(Pair, inner, inner)
        | st.sampled_from(RECORDS).flatmap(lambda record: st.builds(record, inner, inner))
    )


VALUES = st.recursive(HASHABLE | MUTABLE, containers, max_leaves=12)
MOSTLY_SUPPORTED = st.recursive(
    PLAIN | EXTENDED | SUBCLASSES | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(PLAIN | EXTENDED | st.tuples(PLAIN, EXTENDED), inner, max_size=4)
        | st.frozensets(PLAIN | EXTENDED, max_size=3)
        | st.builds(Entry, inner, st.just(Colour.RED))
    ),
    max_leaves=8,
)

# ---------------------------------------------------------------------------------------------- documented conversions


def as_read(value: Any, codec: str) -> Any:  # noqa: PLR0911
    """Return what a reader gets for a value, if the codec accepts it."""
    if isinstance(value, RECORDS):
        fields = {"a": field_as_read(value.a, codec), "b": field_as_read(value.b, codec)}
        return list(fields.values()) if isinstance(value, Row) else fields
    if isinstance(value, ExtType):
        return value
    if isinstance(value, (list, tuple)):
        return [as_read(item, codec) for item in value]
    if isinstance(value, Mapping):
        return {key_as_read(key): as_read(item, codec) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return type(value)(map(key_as_read, value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(value.shape) if codec == "archive" else value
    return base_of(value)


def base_of(value: Any) -> Any:
    if isinstance(value, np.generic) and not isinstance(value, (str, bytes)):
        return value.item()
    for base in (int, float, str, bytes, Decimal):
        if isinstance(value, base) and type(value) not in (base, bool):
            return base.__add__(value, base())  # type: ignore[operator]
    return dt.date(value.year, value.month, value.day) if isinstance(value, Day) else value


def key_as_read(key: Any) -> Any:
    if isinstance(key, RECORDS):
        pytest.fail(f"a record was accepted as a key: {key}")
    if isinstance(key, tuple) and not isinstance(key, ExtType):
        return tuple(map(key_as_read, key))
    return frozenset(map(key_as_read, key)) if isinstance(key, frozenset) else base_of(key)


def field_as_read(value: Any, codec: str) -> Any:  # noqa: PLR0911
    """Return what a reader gets for a field of a record: the value of a member of an enumeration, and see `archive`."""
    if isinstance(value, Colour):
        return value.value
    if type(value) in (list, tuple):
        return [field_as_read(item, codec) for item in value]
    if type(value) is dict:
        return {field_key_as_read(key, codec): field_as_read(item, codec) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        elements = [field_key_as_read(item, codec) for item in value]
        return [as_read(item, codec) for item in elements] if codec == "archive" else type(value)(elements)
    if codec == "archive":
        if isinstance(value, (dt.date, dt.time, dt.datetime)):
            return value.isoformat()
        if isinstance(value, (uuid.UUID, Decimal)):
            return str(value)
        if isinstance(value, dt.timedelta):
            return msgspec.to_builtins(value)
    return as_read(value, codec)


def field_key_as_read(key: Any, codec: str) -> Any:
    read = field_as_read(key, codec)
    return tuple_of(read) if isinstance(read, list) else read


def tuple_of(value: Any) -> Any:
    return tuple(map(tuple_of, value)) if isinstance(value, list) else value


def canonical(value: Any) -> Any:  # noqa: PLR0911
    """Return a value that is equal for values that are equal, type for type; a NaN is equal to a NaN."""
    if isinstance(value, memoryview):
        value = bytes(value)
    if isinstance(value, np.ndarray):
        return "array", str(value.dtype), value.shape, value.tobytes()
    kind = type(value)
    if isinstance(value, RECORDS):
        return kind, canonical(value.a), canonical(value.b)
    if isinstance(value, dict):
        return kind, [(canonical(key), canonical(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, list(map(canonical, value))
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(repr, map(canonical, value)))
    if kind is dt.datetime:
        return kind, repr(value.tzinfo), value.isoformat(), value.fold if value.tzinfo is not dt.timezone.utc else 0
    return kind, repr(value)


def round_trip(codec: str, value: Any, *, frozen: bool = False) -> Any:
    """Return the decoded value."""
    payload = by_name(codec).encode(value)
    if codec == "archive":
        return archive.decode_plain(memoryview(bytes(payload)))  # where lists of numbers are lists
    pinned = Pinned(id_of(by_name(codec), payload), bytes(payload))
    return Decoder(allow_pickle=not frozen, frozen=frozen).decode(pinned)


class Pinned:
    def __init__(self, number: int, payload: bytes) -> None:
        self.codec = by_id(number)
        self.payload = payload

    def view(self) -> memoryview:
        return memoryview(self.payload)

    export = view


def check(codec: str, value: Any) -> None:
    try:
        read = round_trip(codec, value)
    except EntityWriteError as error:
        assert codec not in ("msgpack", "archive") or str(error).startswith("cannot publish this value: ")  # noqa: PT017
        return
    if codec == "raw":
        assert bytes(read) == (value.tobytes("A") if isinstance(value, np.ndarray) else bytes(value))
    elif codec == "arrow":
        assert read.equals(value)
    else:
        assert canonical(read) == canonical(value if codec == "pickle" else as_read(value, codec))


INT64 = st.integers(-(2**63), 2**63 - 1)
COLUMNS = st.lists(INT64 | st.none()) | st.lists(st.text(st.characters(exclude_categories=["Cs"])))
TABLES = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), COLUMNS, max_size=3).map(
    lambda columns: pa.table({name: column[: min(map(len, columns.values()))] for name, column in columns.items()})
)
BUFFERS = ARRAYS | st.binary() | st.binary().map(bytearray) | st.binary().map(lambda data: memoryview(data)[::2])
SUPPORTED = {"raw": BUFFERS, "arrow": TABLES}
CODECS = ["msgpack", "archive", "pickle", "raw", "arrow"]


def values_for(codec: str) -> st.SearchStrategy[Any]:
    return VALUES | SUPPORTED.get(codec, MOSTLY_SUPPORTED)


# --------------------------------------------------------------------------------------------------------- the tests

TRICKY = [{Key(1): 2}, {(1, Row(1)): 2}, {Row(1): 2}, [{(1, 2): 3}, Key(1)], {frozenset([Frozen(1)])}, Row(Row(1))]


@pytest.mark.parametrize("codec", CODECS)
@given(st.data())
@settings(max_examples=EXAMPLES)
def test_what_is_accepted_reads_back(codec: str, data: st.DataObject) -> None:
    check(codec, data.draw(values_for(codec)))


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
@given(st.data())
@settings(max_examples=SLOW_EXAMPLES)
def test_what_is_accepted_reads_back_at_length(codec: str, data: st.DataObject) -> None:
    check(codec, data.draw(values_for(codec)))


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
@pytest.mark.parametrize("key", [np.True_, np.int8(1), np.float32(0.5), np.str_("a"), np.bytes_(b"a")], ids=repr)
def test_numpy_scalars_as_keys(codec: str, key: Any) -> None:
    """Regression: a bool became an int in an archive."""
    value = {key: 1, (key, 2): 3}
    assert canonical(round_trip(codec, value)) == canonical({key.item(): 1, (key.item(), 2): 3})


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
@pytest.mark.parametrize("value", TRICKY, ids=repr)
def test_records_as_keys_are_rejected(codec: str, value: Any) -> None:
    check(codec, value)
