"""Dates, UUIDs, sets and the like: as other languages see them, and in frozen reads; and errors with a path."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import os
import pathlib
import struct
import uuid
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgpack as plain_msgpack
import numpy as np
import pytest
from msgpack import ExtType, Timestamp

from shmsync import EntityReadError, EntityWriteError, InvalidArgumentError, Reader, Writer, info
from shmsync.codecs import archive, load, msgpack
from shmsync.codecs._extensions import TAG

if TYPE_CHECKING:
    from collections.abc import Callable

UTC = dt.timezone.utc
WHEN = dt.datetime(2026, 11, 24, 12, 30, 1, 250_000, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Route:
    host: str
    port: int = 80


@pytest.mark.parametrize("beside", [None, np.arange(3), b"x" * 5000], ids=["alone", "array", "large"])
def test_every_kind_through_shared_memory(writer: Writer, name: str, beside: Any) -> None:
    values = [
        WHEN, WHEN.replace(tzinfo=None), dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        dt.date(2026, 1, 1), dt.time(12, 30), dt.timedelta(-1, 2, 3), Decimal("1.50"), uuid.UUID(int=7), 1 + 2j,
        range(1, 10, 3), {1, (2, 3)}, frozenset({frozenset({dt.date(2026, 1, 1)})}), 2**70, -(2**70),
        pathlib.Path("/etc/hosts"), {dt.date(2026, 1, 1): 1, (1, uuid.UUID(int=1)): 2},
    ]  # fmt: skip
    writer.write({"values": values, "beside": beside})
    with Reader(name) as reader:
        found = reader.get()["values"]
        assert found == values
        assert list(map(repr, found)) == list(map(repr, values))
        assert found[2].tzinfo is ZoneInfo("Europe/Berlin")
    assert info(name).codec == "msgpack"


def test_a_plain_msgpack_reader_parses_the_rest(writer: Writer, name: str) -> None:
    writer.write({"when": WHEN, "id": uuid.UUID(int=7), "text": "x"})
    with Reader(name) as reader, reader.read() as snapshot:
        found = plain_msgpack.unpackb(snapshot.buffer)
    assert found["when"] == Timestamp.from_datetime(WHEN)
    assert found["id"] == ExtType(64, b"shmsync" + plain_msgpack.packb(["uuid", uuid.UUID(int=7).bytes]))
    assert found["text"] == "x"


@pytest.mark.parametrize(
    "mine",
    [
        ExtType(64, TAG + b"\x91\x00"),
        ExtType(64, TAG + b"\x92\xa4date\xaa2026-01-01"),
        ExtType(5, b"x"),
        Timestamp(1, 2),
    ],
    ids=["reference", "date", "other", "timestamp"],
)
def test_extensions_of_the_callers_own(writer: Writer, name: str, mine: Any) -> None:
    with Reader(name) as reader:
        writer.write({"mine": mine})
        assert reader.get() == {"mine": mine}
        for beside in (np.arange(3), uuid.UUID(int=1), b"x" * 5000):
            try:
                writer.write({"list": [mine], "beside": beside})
            except EntityWriteError as error:
                assert "at ['list'][0]: an ExtType of type 64" in str(error)  # noqa: PT017
                assert mine.code == 64
            else:
                found = reader.get()["list"][0]
                # Beside dates and the like, a timestamp of the caller's own is a datetime.
                assert found == mine or (isinstance(mine, Timestamp) and isinstance(found, dt.datetime))
        writer.write({"text": "shmsync", "id": uuid.UUID(int=1)})
        assert reader.get() == {"text": "shmsync", "id": uuid.UUID(int=1)}


def test_deep_keys_and_sets() -> None:
    def round_trip(value: Any) -> Any:
        payload = msgpack.encode(value)
        return msgpack.decode(memoryview(bytes(payload)), extended=type(payload) is msgpack.ExtendedPayload)

    key: Any = 1
    for _ in range(1000):
        key = (key,)
    (found,) = round_trip({key: 2})
    for _ in range(1000):
        (found,) = found
    assert found == 1
    sets: frozenset[Any] = frozenset({1})
    for _ in range(16):
        sets = frozenset({sets})
    assert round_trip(sets) == sets
    with pytest.raises(EntityWriteError, match="16 sets deep"):
        msgpack.encode(frozenset({sets}))


def test_a_damaged_payload_of_nested_sets_does_not_exhaust_the_stack() -> None:
    data = b"\x01"
    for _ in range(5000):
        packed = b"\x92\xa3set\x91" + data
        data = b"\xc9" + struct.pack(">IB", len(TAG + packed), 64) + TAG + packed
    with pytest.raises(EntityReadError, match="damaged"):
        msgpack.decode(memoryview(data), extended=True)


@pytest.mark.parametrize(
    "fields",
    [
        ["uuid", b"short"],
        ["nothing", 1],
        ["date", "yesterday"],
        ["datetime", 5],
        ["set", 5],
    ],
    ids=str,
)
def test_damaged_extensions(fields: list[Any]) -> None:
    packed = plain_msgpack.packb(ExtType(64, TAG + plain_msgpack.packb(fields)))
    with pytest.raises(EntityReadError, match="not a valid extension"):
        msgpack.decode(memoryview(packed), extended=True)


def test_an_unknown_zone_keeps_the_instant() -> None:
    fields = ["datetime", "2026-01-01T12:00:00+05:00", 0, "Mars/Olympus"]
    packed = plain_msgpack.packb(ExtType(64, TAG + plain_msgpack.packb(fields)))
    load()  # as the first handle of a process does
    found = msgpack.decode(memoryview(packed), extended=True)
    assert found == dt.datetime(2026, 1, 1, 7, tzinfo=UTC)


# ------------------------------------------------------------------------------------------------------- frozen reads


@pytest.mark.parametrize("beside", [None, np.arange(3), b"x" * 5000, {1}], ids=["alone", "array", "large", "set"])
def test_frozen_reads(writer: Writer, name: str, beside: Any) -> None:
    writer.write({"a": [1, {"b": {"c": 2}}], "beside": beside, (1, 2): Timestamp(2**60, 0)})
    with Reader(name, frozen=True) as reader:
        found = reader.get()
        assert type(found) is MappingProxyType
        with pytest.raises(TypeError):
            found["a"] = 99  # type: ignore[index]
        assert type(found["a"]) is tuple
        assert type(found["a"][1]["b"]) is MappingProxyType
        assert type(found["beside"]) in (type(None), np.ndarray, bytes, frozenset)
        assert found[1, 2] == Timestamp(2**60, 0)
        assert reader.get() is found
        with reader.read() as snapshot:
            assert list(snapshot.value) == list(found)
        writer.write(found)
        assert reader.get()["a"] == found["a"]


def test_frozen_is_for_plain_values(name: str) -> None:
    for options in ({"type": dict}, {"allow_pickle": True}):
        with pytest.raises(InvalidArgumentError, match="frozen=True is for plain values"):
            Reader(name, frozen=True, **options)


# --------------------------------------------------------------------------------------------------------------- errors

CASES: list[tuple[Any, str]] = [
    ({"a": {"b": [object()]}}, r"at \['a'\]\['b'\]\[0\]: object is not supported; convert it, "),
    (
        {"jobs": [{"id": 1, "due": Colour.RED}]},
        r"at \['jobs'\]\[0\]\['due'\]: .*Colour is not supported; publish its value",
    ),
    ({"routes": {Route("a"): 1}}, r"at \['routes'\]: .*the key Route\(host='a', port=80\)"),
    ({"x": {(1, Route("a")): 1}}, r"at \['x'\]: .*the key "),
    (Route("a", {"k": [object()]}), r"at \.port\['k'\]\[0\]: object is not supported"),  # type: ignore[arg-type]
    ({"a": ["\ud800"]}, r"at \['a'\]\[0\]: the string '\\ud800' is not valid Unicode"),
    ({"a": [1, {"\ud800": 1}]}, r"at \['a'\]\[1\]: the string '\\ud800' is not valid Unicode"),
    ({"a": np.array([object()])}, r"at \['a'\]: an array of dtype object: it contains references"),
    (
        {"a": np.zeros(1, np.dtype({"names": "ab", "formats": "ii", "offsets": [0, 0]}))},
        r"at \['a'\]: an array of dtype",
    ),
    ({"a": collections.deque()}, r"at \['a'\]: collections.deque is not supported; make a list"),
    ({"a": iter([])}, r"at \['a'\]: list_iterator is not supported; make a list"),
    ({"a": [Route]}, r"at \['a'\]\[0\]: type is not supported"),
]


@pytest.mark.parametrize(("value", "message"), CASES, ids=[case[1] for case in CASES])
@pytest.mark.parametrize("encode", [msgpack.encode, archive.encode], ids=["msgpack", "archive"])
def test_errors_contain_the_path(encode: Callable[[Any], Any], value: Any, message: str) -> None:
    with pytest.raises(EntityWriteError, match=r"^cannot publish this value: ") as caught:
        encode(value)
    caught.match(message.replace(".*the key", ".*(the|a map with the) key"))


def test_archives_name_ints_of_more_than_64_bits() -> None:
    with pytest.raises(EntityWriteError, match=r"at \['a'\]\[1\]: an int of 71 bits does not fit in 64 bits"):
        archive.encode({"a": [1, 2**70]})


def test_a_long_path_is_shortened() -> None:
    value: Any = object()
    for _ in range(50):
        value = {"key": value}
    with pytest.raises(EntityWriteError, match=r"\.\.\.\(38 more\)\.\.\.") as caught:
        msgpack.encode(value)
    assert len(str(caught.value)) < 300


def test_a_repr_that_fails_does_not_hide_the_reason() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise OSError

    with pytest.raises(EntityWriteError, match=r"the key <Odd>"):
        msgpack.encode({"a": {Odd(): 1}})


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames(name: str, library: str) -> None:
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    frame = frames.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    for encode in (msgpack.encode, archive.encode):
        with pytest.raises(
            EntityWriteError, match=r"at \['frame'\]: .*DataFrame is not supported; use codec=\"arrow\""
        ):
            encode({"frame": frame})
    with Writer(name, codec="arrow") as writer, Reader(name) as reader:
        writer.write(frame)
        found = reader.get()
        again = found.to_pandas() if library == "pandas" else frames.from_arrow(found)
        assert again.equals(frame)
        with pytest.raises(EntityWriteError, match="requires a pyarrow Table"):
            writer.write({"frame": frame})
        del found, again
        writer.unlink()


def test_numpy_strings_keep_their_nuls() -> None:
    value = {"a": np.bytes_(b"ab\0\0"), "b": np.str_("ab\0"), np.bytes_(b"k\0"): 1}
    expected = {"a": b"ab\0\0", "b": "ab\0", b"k\0": 1}
    assert archive.decode_plain(memoryview(bytes(archive.encode(value)))) == expected
    assert msgpack.decode(memoryview(bytes(msgpack.encode(value)))) == expected


def test_metadata_of_a_dtype_is_left_out_without_a_warning(writer: Writer, name: str) -> None:
    array = np.arange(3, dtype=np.dtype("i4", metadata={"enum": 1}))  # a warning is an error in these tests
    with Reader(name) as reader:
        writer.write({"array": array})
        assert (reader.get()["array"] == array).all()


def test_paths_of_any_bytes(writer: Writer, name: str) -> None:
    path = pathlib.Path(os.fsdecode(b"/tmp/\xff"))
    with Reader(name) as reader:
        writer.write([path])
        assert reader.get() == [path]
