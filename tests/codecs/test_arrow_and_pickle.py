"""Arrow tables are read in place; pickles are loaded only with allow_pickle=True."""

from __future__ import annotations

import dataclasses
import pickle
import tracemalloc
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import Child, State
from hypothesis import given
from hypothesis import strategies as st

from shmsync import EntityReadError, EntityWriteError, IntegrityError, Reader, Synchronizer, Writer
from shmsync.codecs import arrow
from shmsync.codecs import pickle as pickles

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 100_000


@pytest.fixture
def tables(name: str) -> Iterator[Writer]:
    with Writer(name, codec="arrow", grace_duration=0) as writer:
        yield writer
        writer.unlink()


@pytest.fixture
def objects(name: str) -> Iterator[Writer]:
    with Writer(name, codec="pickle", grace_duration=0) as writer:
        yield writer
        writer.unlink()


def table(rows: int = ROWS) -> Any:
    return pa.table({"id": np.arange(rows), "name": [str(number) for number in range(rows)], "x": np.ones(rows, "f4")})


# --------------------------------------------------------------------------------------------------------------- arrow


def test_tables_are_read_in_place(tables: Writer, name: str) -> None:
    value = table()
    before = pa.total_allocated_bytes()
    tables.write(value)
    with Reader(name) as reader:
        found = reader.get()
        assert found.equals(value)
        assert pa.total_allocated_bytes() - before < value.nbytes // 10
        for number in range(20):
            tables.write(table(number))
        found.validate(full=True)
        assert found.equals(value)


def test_tables_are_copied_once(tables: Writer) -> None:
    value = table()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        tables.write(value)
        assert tracemalloc.get_traced_memory()[1] < value.nbytes // 10
    finally:
        tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < value.nbytes // 10


CELLS = st.one_of(
    *(st.lists(st.none() | kind, min_size=3, max_size=3) for kind in (st.integers(-(2**63), 2**63 - 1), st.text())),
    st.lists(st.none() | st.lists(st.booleans()), min_size=3, max_size=3),
    st.lists(st.none() | st.dictionaries(st.sampled_from("ab"), st.floats(allow_nan=False)), min_size=3, max_size=3),
)


@given(st.lists(CELLS, min_size=1, max_size=4), st.integers(0, 3), st.booleans())
def test_tables_round_trip(columns: list[Any], cut: int, batch: bool) -> None:  # noqa: FBT001
    value = pa.table({str(number): pa.array(column) for number, column in enumerate(columns)}).slice(cut)
    if batch:
        value = value.to_batches()[0] if value.num_rows else pa.RecordBatch.from_pylist([], schema=value.schema)
    payload = memoryview(bytes(arrow.encode(value))).toreadonly()
    arrow.check(payload)
    found = arrow.decode(payload)
    assert type(found) is type(value)
    assert found.equals(value)


@pytest.mark.parametrize(
    "value",
    [
        pa.table({}),
        pa.table({"a": []}),
        pa.table({"a": pa.chunked_array([[1], [2, 3]])}).replace_schema_metadata({"k": "v"}),
        pa.table({"d": pa.array(["x", "y", "x"]).dictionary_encode(), "t": pa.array([1, 2, 3], pa.timestamp("us"))}),
    ],
    ids=["nothing", "no rows", "chunks and metadata", "dictionary and timestamps"],
)
def test_tables_of_all_kinds(tables: Writer, name: str, value: Any) -> None:
    tables.write(value)
    with Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        assert snapshot.value.equals(value)
        assert snapshot.value.schema.equals(value.schema, check_metadata=True)


@pytest.mark.parametrize("value", [{"a": 1}, None, pa.array([1]), b"bytes"], ids=lambda value: type(value).__name__)
def test_other_values_are_rejected(tables: Writer, name: str, value: Any) -> None:
    tables.write(table(1))
    with pytest.raises(EntityWriteError, match="requires a pyarrow Table or RecordBatch"):
        tables.write(value)
    with Reader(name) as reader:
        assert reader.get().num_rows == 1


@given(st.integers(0, 700), st.integers(0, 255))
def test_damaged_tables(at: int, byte: int) -> None:
    payload = bytearray(bytes(arrow.encode(pa.table({"a": [1, 2], "b": ["x", "yz"]}))))
    payload[at % len(payload)] = byte
    view = memoryview(bytes(payload))
    try:
        arrow.check(view)
    except EntityReadError:
        return
    repr(arrow.decode(view))


# -------------------------------------------------------------------------------------------------------------- pickle


@dataclasses.dataclass
class Thing:
    when: datetime
    names: set[str]
    weights: Any


THING = Thing(datetime(2020, 1, 1, tzinfo=timezone.utc), {"a", "b"}, np.arange(10_000.0))


def test_objects_round_trip_with_arrays_in_place(objects: Writer, name: str) -> None:
    objects.write({"thing": THING, "fortran": np.asfortranarray(np.eye(50)), "cut": np.arange(100)[::3]})
    with Reader(name, allow_pickle=True) as reader:
        found = reader.get()
        thing = found["thing"]
        assert (thing.when, thing.names) == (THING.when, THING.names)
        for number in range(10):
            objects.write(number)
        assert (thing.weights == THING.weights).all()
        assert not thing.weights.flags.owndata
        assert not thing.weights.flags.writeable
        assert (found["fortran"] == np.eye(50)).all()
        assert found["cut"].tolist() == list(range(0, 100, 3))
        assert reader.get() == 9


def test_pickles_require_allow_pickle(objects: Writer, name: str) -> None:
    objects.write(THING)
    for handle in (Reader(name), Synchronizer(name), Reader(name, type=Thing)):
        with handle:
            with pytest.raises(EntityReadError, match="allow_pickle=True"):
                handle.get()
            with handle.read(check_bytes=True) as snapshot, pytest.raises(EntityReadError, match="allow_pickle"):
                _ = snapshot.value
    with Synchronizer(name, allow_pickle=True) as sync, pickle.loads(pickle.dumps(sync)) as again:
        assert again.get().names == {"a", "b"}


RAN: list[str] = []


def run() -> None:
    RAN.append("ran")


class Trap:
    def __reduce__(self) -> Any:
        return run, ()


def test_no_code_runs_without_allow_pickle(objects: Writer, name: str) -> None:
    objects.write(Trap())
    with Reader(name) as reader, pytest.raises(EntityReadError):
        reader.get()
    assert not RAN
    with Reader(name, allow_pickle=True) as reader:
        reader.get()
    assert RAN == ["ran"]
    RAN.clear()


def read_thing(_: State, name: str) -> str:
    with Reader(name, allow_pickle=True) as reader:
        try:
            return str(reader.get())
        except EntityReadError as error:
            return str(error)


def test_values_that_cannot_be_pickled_or_unpickled(objects: Writer, name: str) -> None:
    objects.write("before")
    for value in (lambda: None, (number for number in "ab"), memoryview(b"ab")):
        with pytest.raises(EntityWriteError, match="cannot be pickled"):
            objects.write(value)
    with Child() as child:
        assert child.call(read_thing, name) == "before"
    objects.write(NotThere())
    with Child() as child:
        assert "cannot be unpickled in this process" in child.call(read_thing, name)


class NotThere:
    def __reduce__(self) -> Any:
        return __import__, ("no_such_module",)


@given(st.integers(0, 300), st.integers(0, 255))
def test_damaged_pickle_frames(at: int, byte: int) -> None:
    payload = bytearray(bytes(pickles.encode([1, 2.5, "x" * 100, np.arange(5)])))
    header_size = 32
    payload[at % header_size] = byte
    try:
        pickles.decode(memoryview(bytes(payload)))
    except EntityReadError:
        return


@pytest.mark.parametrize("codec", ["msgpack", "archive", "arrow", "pickle"])
def test_check_bytes_detects_any_change_of_the_payload(name: str, codec: str) -> None:
    value: Any = table(10) if codec == "arrow" else {"a": np.arange(1000), "b": [1, 2]}
    with Writer(name, codec=codec, grace_duration=0) as writer, Reader(name, allow_pickle=True) as reader:
        writer.write(value)
        reader.read(check_bytes=True).close()
        with open(f"/dev/shm/{name}_data_0", "r+b") as segment:  # noqa: PTH123
            segment.seek(64 + 200)
            byte = segment.read(1)[0]
            segment.seek(64 + 200)
            segment.write(bytes([byte ^ 1]))
        with pytest.raises(IntegrityError, match="do not match their digests"):
            reader.read(check_bytes=True)
        writer.write(value)
        reader.read(check_bytes=True).close()
        writer.unlink()
