"""Values read back equal or with a documented conversion, or `write` rejects them."""

from __future__ import annotations

import array
import enum
import fractions
import math
import traceback
from collections import OrderedDict
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgpack import ExtType, Timestamp

from shmsync import EntityReadError, EntityWriteError, Reader, WriteLockConflictError, Writer
from shmsync.codecs import _unpack, by_name, msgpack

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
KEYS = SCALARS | st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def unpacked(payload: Payload) -> Any:
    return msgpack.decode(memoryview(bytes(payload)))


@given(VALUES)
@settings(max_examples=300)
def test_plain_values_read_back_equal(value: Any) -> None:
    assert unpacked(msgpack.encode(value)) == value


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (Point(1, 2), [1, 2]),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (OrderedDict(a=1), {"a": 1}),
        (Colour.RED, 1),
        ({(1, ("a", None)): (1,)}, {(1, ("a", None)): [1]}),
        ([{1: {(): 2}}], [{1: {(): 2}}]),
    ],
)
def test_documented_conversions(value: Any, read: Any) -> None:
    decoded = unpacked(msgpack.encode(value))
    assert decoded == read
    assert type(decoded) is type(read)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        [{object}],
        fractions.Fraction(1, 2),
        object(),
        "\ud800",
        {"deep": [{"iterator": iter([])}]},
        array.array("d", [1.0]),
        memoryview(b"abcd")[::2],
        nested(5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rejected_values_leave_the_previous_version(writer: Writer, name: str, value: Any) -> None:
    writer.write("before")
    with pytest.raises(EntityWriteError, match="cannot publish this value"):
        writer.write(value)
    with Reader(name) as reader:
        assert reader.get() == "before"
        assert writer.write("after").version.seq == 2


@pytest.mark.parametrize("depth", range(1015, 1030))
def test_values_that_pack_also_unpack_at_the_nesting_limit(depth: int) -> None:
    try:
        packed = msgpack.encode(nested(depth))
    except EntityWriteError:
        return
    assert bytes(msgpack.encode(unpacked(packed))) == bytes(packed)  # comparing the lists would recurse too deep


def test_a_rejected_first_value_publishes_nothing(name: str) -> None:
    with Writer(name) as writer:
        with pytest.raises(EntityWriteError):
            writer.write(object())
        with Reader(name) as reader:
            assert reader.get(default="nothing") == "nothing"


def test_nan_round_trips() -> None:
    assert math.isnan(unpacked(msgpack.encode(math.nan)))


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x92\x01", b"\x01\x02", b"\xdf\xff\xff\xff\xff", b"\xa1\xff"])
def test_garbage_is_an_entity_read_error(garbage: bytes) -> None:
    with pytest.raises(EntityReadError):
        msgpack.decode(memoryview(garbage))


@pytest.mark.parametrize(
    "data",
    [b"abc", bytearray(b"abc"), memoryview(b"abcdef")[::2], array.array("i", [1, 2]), b"", memoryview(b"")],
    ids=lambda value: type(value).__name__,
)
def test_raw_takes_any_buffer(writer: Writer, name: str, data: Any) -> None:
    with Reader(name) as reader:
        writer.write_raw(data)
        view = reader.get()
        assert view.readonly
        assert bytes(view) == memoryview(data).tobytes()


def test_raw_rejects_values_without_a_buffer(name: str) -> None:
    with Writer(name, codec="raw") as writer:
        for value in ("text", 5, None, {"a": 1}):
            with pytest.raises(EntityWriteError, match="bytes-like"):
                writer.write(value)
        with pytest.raises(EntityWriteError, match="bytes-like"):
            writer.write_raw("text")


def test_the_callers_buffer_is_released(writer: Writer) -> None:
    data = bytearray(b"abc")
    writer.write_raw(data)
    data.append(1)  # raises BufferError while a view of it exists


def test_codec_numbers_are_part_of_the_format() -> None:
    numbers = {name: by_name(name).ID for name in ("msgpack", "raw", "archive", "arrow", "pickle")}
    assert numbers == {"msgpack": 0, "raw": 1, "archive": 2, "arrow": 3, "pickle": 4}


def test_exceptions_of_signal_handlers_propagate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: an exception raised during decoding was converted to EntityReadError."""

    class Alarm(Exception):  # noqa: N818
        pass

    def interrupted(*_: object, **__: object) -> None:
        raise Alarm

    monkeypatch.setattr(_unpack, "unpackb", interrupted)
    with pytest.raises(Alarm):
        msgpack.decode(memoryview(b"\xc0"))


def test_a_stored_exception_does_not_hold_the_callers_buffer(writer: Writer, name: str) -> None:
    writer.write("before")
    data = bytearray(b"x" * 5000)
    stored: list[Exception] = []
    with closing(Writer(name)) as second:
        for write, value in ((second.write_raw, data), (second.write, data), (second.write, {"a": [data]})):
            try:
                write(value)
            except WriteLockConflictError as error:
                stored.append(error)
            data.append(1)  # raises BufferError while a view of it exists
    assert len(stored) == 3
    with pytest.raises(EntityWriteError) as caught:
        writer.write({"a": [data], "refused": object()})
    data.append(1)
    assert caught.value.__cause__


def test_extensions_stay_extensions_beside_large_buffers() -> None:
    value = {"mine": ExtType(5, b"x"), "pad": b"\0" * 5000, "when": Timestamp(2**60, 2)}
    assert unpacked(msgpack.encode(value)) == value
    assert isinstance(unpacked(msgpack.encode(value))["mine"], ExtType)


def test_deep_values_with_the_type_bytes_of_large_buffers() -> None:
    value: list[Any] = [0xC5] * 5000
    for _ in range(900):
        value = [value]
    assert bytes(msgpack.encode(unpacked(msgpack.encode(value)))) == bytes(msgpack.encode(value))


def test_a_cycle_is_named_without_a_line_for_each_level() -> None:
    value: list[Any] = []
    value.append({"a": value})
    with pytest.raises(EntityWriteError, match=r"value: at \[0\]\['a'\]: it contains itself; remove") as caught:
        msgpack.encode(value)
    assert len(traceback.format_exception(caught.value)) < 20
