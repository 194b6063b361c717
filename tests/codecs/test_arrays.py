"""Arrays and large buffers in plain values: every dtype and shape, read in place and copied once."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgpack import ExtType, Timestamp

from shmsync import ArchivedMap, EntityReadError, EntityWriteError, Reader, Writer
from shmsync.codecs import _frame, archive, msgpack
from shmsync.codecs._extensions import EXTENSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.nested_dtypes(subtype_strategy=hnp.scalar_dtypes(), max_itemsize=200),
)
ARRAYS = hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
LARGE = 16 * 2**20


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with Writer(name, grace_duration=0) as writer:
        yield writer
        writer.unlink()


def round_trip(codec: Any, value: Any) -> Any:
    return codec.decode(memoryview(bytes(codec.encode(value))).toreadonly())


def assert_same(found: Any, array: Any) -> None:
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert not found.flags.writeable


@given(ARRAYS)
def test_arrays_round_trip(array: Any) -> None:
    assert_same(round_trip(msgpack, array), array)
    assert_same(round_trip(archive, array), array)


@given(ARRAYS, st.data())
def test_array_views_round_trip(array: Any, data: st.DataObject) -> None:
    turned = array.T if data.draw(st.booleans()) else array
    cut = turned[data.draw(hnp.basic_indices(turned.shape, allow_ellipsis=True, allow_newaxis=True))]
    if isinstance(cut, np.ndarray):
        assert_same(round_trip(msgpack, [cut])[0], cut)
        assert_same(round_trip(archive, {"cut": cut})["cut"], cut)


SAMPLES = {
    "C order": np.arange(24, dtype="f4").reshape(2, 3, 4),
    "Fortran order": np.asfortranarray(np.arange(24, dtype="f4").reshape(4, 6)),
    "strided": np.arange(100)[::7],
    "backwards": np.arange(10)[::-1],
    "broadcast": np.broadcast_to(np.float32(3), (3, 4)),
    "0-d": np.array(2.5),
    "empty": np.zeros((0, 3)),
    "big-endian": np.arange(5, dtype=">f8"),
    "float16": np.arange(5, dtype="f2"),
    "bool": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "datetime64": np.array(["2020-01-01", "NaT"], dtype="M8[ms]"),
    "timedelta64": np.array([1, 2], dtype="m8[h]"),
    "strings": np.array(["a", "bcd"]),
    "bytes": np.array([b"a", b"bcd"]),
    "void": np.array([b"ab"], dtype="V2"),
    "structured": np.array([(1, 2.5, "x")], dtype=[("id", "<u2"), ("score", "f8"), ("name", "U4")]),
    "aligned": np.zeros(3, dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    "subarrays": np.zeros(2, dtype=[("v", "f4", (3, 2))]),
    "longdouble": np.arange(3, dtype=np.longdouble),
    "matrix": np.array([[1, 2], [3, 4]]).view(np.matrix),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_arrays_in_structured_values(writer: Writer, name: str, kind: str) -> None:
    array = SAMPLES[kind]
    writer.write({"deep": [{"array": array}], "meta": {"lr": 0.5}, "also": array})
    with Reader(name) as reader:
        value = reader.get()
        assert value["meta"] == {"lr": 0.5}
        for found in (value["also"], value["deep"][0]["array"]):
            assert_same(found, np.asarray(array))
        if kind == "Fortran order":
            assert value["also"].flags.f_contiguous
        if array.nbytes:
            with pytest.raises(ValueError, match="WRITEABLE"):
                value["also"].flags.writeable = True


@pytest.mark.parametrize("codec", ["msgpack", "archive", "raw"])
@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([object()]), "references to Python objects"),
        (np.zeros(2, dtype=[("a", "i4"), ("b", "O")]), "references to Python objects"),
        (np.ma.masked_array([1, 2], [True, False]), "mask"),
    ],
    ids=["object", "object field", "masked"],
)
def test_arrays_that_cannot_be_restored_are_rejected(name: str, codec: str, array: Any, reason: str) -> None:
    with Writer(name, codec=codec) as writer:
        writer.write_raw(b"before")
        with pytest.raises(EntityWriteError, match=reason):
            writer.write(array if codec == "raw" else {"a": array})
        with Reader(name) as reader:
            assert bytes(reader.get()) == b"before"
        writer.unlink()


def test_a_dtype_that_would_be_lost_is_rejected() -> None:
    with pytest.raises(EntityWriteError, match="its type would be lost"):
        msgpack.encode(np.zeros(3, dtype=ml_dtypes.bfloat16))


def test_arrays_start_on_cache_lines(writer: Writer, name: str) -> None:
    writer.write({"odd": b"x" * 5001, "a": np.arange(100, dtype="f4"), "b": np.arange(33, dtype="u1"), "c": np.eye(50)})
    with Reader(name) as reader:
        value = reader.get()
        for key in ("a", "c"):
            assert value[key].__array_interface__["data"][0] % 64 == 0


@pytest.mark.parametrize("size", [4095, 4096, 10_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_4_kib_and_more_are_views_on_request(writer: Writer, name: str, size: int, kind: Any) -> None:
    content = bytes(range(256)) * 40
    value = kind(content[:size])
    writer.write([1, {"deep": (value, "x")}, b"small"])
    with Reader(name, zero_copy_bytes=True) as reader:
        number, deep, small = reader.get()
        found = deep["deep"][0]
        assert (number, small) == (1, b"small")
        assert isinstance(found, memoryview if size >= 4096 else bytes)
        assert found == value
        if isinstance(found, memoryview):
            assert found.readonly
        writer.write(value)
        assert reader.get() == value


def test_bytes_that_only_look_like_a_large_buffer() -> None:
    """The packed form contains the type bytes of bin 16 and bin 32, but no large bytes value."""
    value = {"text": "\xc5\xc6" * 2000, "numbers": [0xC5C6C5C6] * 2000, "bytes": [b"\xc6" * 300] * 20}
    assert round_trip(msgpack, value) == value


def test_large_keys_stay_in_the_body() -> None:
    value = {b"k" * 5000: b"v" * 5000}
    assert round_trip(msgpack, value) == value


def test_subclasses_and_tuples_around_large_buffers() -> None:
    class Names(dict[str, Any]):
        pass

    value = Names(a=(b"x" * 5000, [b"y" * 5000, 1]))
    found = round_trip(msgpack, value)
    assert found == {"a": [b"x" * 5000, [b"y" * 5000, 1]]}


@dataclasses.dataclass
class Record:
    blob: bytes
    rest: Any


def test_large_buffers_in_dataclasses() -> None:
    found = round_trip(msgpack, [Record(b"x" * 5000, [Record(b"y" * 5000, 1)])])[0]
    assert found == {"blob": b"x" * 5000, "rest": [{"blob": b"y" * 5000, "rest": 1}]}
    payload = msgpack.encode([Record(b"x" * 5000, [Record(b"y" * 5000, 1)])])
    _, buffers = _frame.unpack(memoryview(bytes(payload)))
    assert list(map(bytes, buffers)) == [b"x" * 5000, b"y" * 5000]


def test_extensions_of_the_caller_round_trip() -> None:
    value = {"array": np.arange(3), "mine": ExtType(64, b"mine"), "other": ExtType(5, b""), "time": Timestamp(1, 2)}
    found = round_trip(msgpack, value)
    assert (found["mine"], found["other"], found["time"]) == (value["mine"], value["other"], value["time"])


def test_numpy_scalars_become_python_scalars() -> None:
    value = {"a": np.float32(1.5), "b": np.int64(-3), "c": np.bool_(1), "d": np.str_("x"), np.int32(7): np.uint8(1)}
    for codec in (msgpack, archive):
        found = round_trip(codec, value)
        assert found == {"a": 1.5, "b": -3, "c": True, "d": "x", 7: 1}
        assert type(found["a"]) is float
        assert found["c"] is True


@pytest.mark.parametrize("value", [np.datetime64("2020-01-01"), np.complex64(1), np.timedelta64(1, "s")])
def test_other_numpy_scalars_are_rejected(value: Any) -> None:
    for codec in (msgpack, archive):
        with pytest.raises(EntityWriteError, match="cannot publish"):
            codec.encode([value])


SOURCES: dict[str, Callable[[], Any]] = {
    "contiguous": lambda: np.ones(LARGE // 8),
    "Fortran": lambda: np.asfortranarray(np.ones((LARGE // 8 // 1024, 1024))),
    "strided": lambda: np.ones((LARGE // 8, 2))[:, 0],
}


@pytest.mark.parametrize(
    ("codec", "source"),
    [*((codec, source) for codec in ("msgpack", "archive", "raw") for source in SOURCES), ("pickle", "contiguous")],
)
def test_arrays_are_copied_once(name: str, codec: str, source: str) -> None:
    array = SOURCES[source]()
    with Writer(name, codec=codec, grace_duration=0) as writer:
        tracemalloc.start()
        try:
            writer.write(array if codec == "raw" else {"array": array})
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            writer.unlink()
    assert peak < LARGE // 8, f"{peak:,} bytes were allocated during the write"


def test_a_copy_of_the_array_is_published(writer: Writer, name: str) -> None:
    array = np.arange(10_000)
    writer.write({"array": array})
    array[:] = 0
    with Reader(name) as reader:
        assert reader.get()["array"][-1] == 9999


def test_lists_of_arrays_in_archives() -> None:
    arrays = {
        "same": [np.full((2, 3), number, "f4") for number in range(5)],
        "mixed": [np.arange(2), np.arange(3), np.zeros((0, 2)), np.array(1.0)],
        "empty": [np.zeros((0,))] * 3,
        "scalars": [np.array(1)] * 2,
    }
    found = round_trip(archive, arrays)
    assert isinstance(found, ArchivedMap)
    for key, expected in arrays.items():
        for one, other in zip(found[key], expected, strict=True):
            assert_same(one, other)
    plain = found.unarchive()
    plain["same"][0][:] = 7  # a copy
    assert found["same"][0][0, 0] == 0


@given(st.binary(max_size=60))
def test_a_damaged_reference_is_rejected(data: bytes) -> None:
    view = memoryview(bytes(100))
    if data[:1] == b"\x91" and data[1:] in {b"\x00", b"\xff"}:
        return
    try:
        found = msgpack.resolve_extension([view], EXTENSION, b"shmsync" + data)
    except EntityReadError:
        return
    assert isinstance(found, (memoryview, np.ndarray))
