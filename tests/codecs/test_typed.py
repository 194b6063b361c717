"""Typed reads into Structs, dataclasses and TypedDicts: the values, the errors, and the types that mypy infers."""

from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from typing_extensions import assert_type

from shmsync import EntityReadError, InvalidArgumentError, Reader, Snapshot, Synchronizer, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Limits(msgspec.Struct, frozen=True):
    low: int
    high: int | None = None


class Config(msgspec.Struct):
    name: str
    limits: list[Limits]
    weights: dict[str, float] = {}


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog", rename="camel"):
    good_boy: bool


class Row(msgspec.Struct, array_like=True):
    x: int
    y: float


class Model(msgspec.Struct):
    layers: dict[str, np.ndarray[Any, Any]]
    bias: npt.NDArray[np.float32]
    blob: bytes
    view: memoryview


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Entry(TypedDict):
    id: int
    tags: list[str]


class Pair(NamedTuple):
    a: int
    b: str


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with Writer(name) as writer:
        yield writer
        writer.unlink()


CONFIG = {"name": "prod", "limits": [{"low": 1}, {"low": 2, "high": 3}], "weights": {"a": 1}}


def test_structs(writer: Writer, name: str) -> None:
    writer.write(CONFIG)
    with Reader(name, type=Config) as reader:
        value = reader.get()
        assert value == Config("prod", [Limits(1), Limits(2, 3)], {"a": 1.0})
        assert reader.get() is value
        with reader.read() as snapshot:
            assert snapshot.value is value
            assert isinstance(snapshot.value.weights["a"], float)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Point, {"x": 1, "y": 2}, Point(1, 2.0)),
        (Entry, {"id": 1, "tags": ["a"]}, {"id": 1, "tags": ["a"]}),
        (Pair, [1, "x"], Pair(1, "x")),
        (list[Point], [{"x": 1, "y": 2.5}], [Point(1, 2.5)]),
        (dict[tuple[int, int], set[int]], {(1, 2): [3]}, {(1, 2): {3}}),
        (int, 5, 5),
        (tuple[int, ...], [1, 2], (1, 2)),
        (Row, [1, 2.5], Row(1, 2.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("codec", ["msgpack", "archive", "pickle"])
def test_kinds(name: str, codec: str, kind: Any, value: Any, expected: Any) -> None:
    with Writer(name, codec=codec) as writer, Reader(name, type=kind, allow_pickle=True) as reader:
        writer.write(value)
        found = reader.get()
        assert found == expected
        assert type(found) is type(expected)
        writer.unlink()


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_instances_round_trip(name: str, codec: str) -> None:
    values: list[Any] = [
        Config("x", [Limits(1)]), Point(1, 2.5), Cat(9), Dog(good_boy=True), Row(1, 2.5), [Point(1, 1.0)] * 3,
        {"a": Cat(1)}, [Cat(1), Dog(good_boy=False)],
    ]  # fmt: skip
    kinds: list[Any] = [Config, Point, Cat, Dog, Row, list[Point], dict[str, Cat], list[Cat | Dog]]
    with Writer(name, codec=codec) as writer:
        for value, kind in zip(values, kinds, strict=True):
            writer.write(value)
            with Reader(name, type=kind) as reader:
                assert reader.get() == value
        writer.unlink()


def test_arrays_in_structs_are_read_in_place(writer: Writer, name: str) -> None:
    weights = np.random.default_rng(1).random((100, 100))
    content = {"layers": {"one": weights}, "bias": np.ones(3, "f4"), "blob": b"x" * 5000, "view": b"y" * 5000}
    writer.write(content)
    with Reader(name, type=Model) as reader:
        model = reader.get()
        assert not model.layers["one"].flags.owndata
        for number in range(10):
            writer.write({"other": number})
        assert (model.layers["one"] == weights).all()
        assert (model.blob, bytes(model.view)) == (b"x" * 5000, b"y" * 5000)
        with pytest.raises(EntityReadError):
            reader.get()


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
@pytest.mark.parametrize("extra", [{}, {"array": np.arange(3)}], ids=["plain", "with an array"])
def test_a_mismatch_reports_the_path(name: str, codec: str, extra: dict[str, Any]) -> None:
    with Writer(name, codec=codec) as writer, Reader(name, type=Config) as reader:
        writer.write({**CONFIG, "limits": [{"low": 1}, {"low": "two"}], **extra})
        reason = r"not of type Config: Expected `int`, got `str` - at `\$\.limits\[1\]\.low`"
        with pytest.raises(EntityReadError, match=reason):
            reader.get()
        with reader.read() as snapshot, pytest.raises(EntityReadError, match=reason):
            _ = snapshot.value
        writer.write(CONFIG)
        assert reader.get().name == "prod"
        writer.unlink()


def test_invalid_payloads(writer: Writer, name: str) -> None:
    writer.write_raw(b"\xc1")
    with Reader(name, type=int) as reader, pytest.raises(EntityReadError, match="not of type int"):
        reader.get()


def test_tables_and_buffers_of_a_type(name: str) -> None:
    table = pa.table({"a": [1, 2]})
    with Writer(name, codec="arrow") as writer, Reader(name, type=pa.Table) as reader:
        writer.write(table)
        assert reader.get().equals(table)
        writer.write_raw(b"abc")
        with pytest.raises(EntityReadError, match="not of type Table"):
            reader.get()
        with Reader(name, type=bytes) as other:
            assert other.get() == b"abc"
        writer.unlink()


def test_unsupported_types(name: str) -> None:
    class Broken(msgspec.Struct):
        x: Missing  # type: ignore[name-defined]  # noqa: F821

    kinds: list[Any] = [5, Broken, Config("x", [])]
    for kind in kinds:
        with pytest.raises(InvalidArgumentError, match="cannot decode into"):
            Reader(name, type=kind)


def test_pickled_readers_keep_their_type(writer: Writer, name: str) -> None:
    writer.write(CONFIG)
    with Reader(name, type=Config) as reader, pickle.loads(pickle.dumps(reader)) as again:
        assert again.get() == reader.get()
    with Synchronizer(name, type=Config) as sync, pickle.loads(pickle.dumps(sync)) as again:
        assert again.get() == sync.get()


def test_inferred_types(writer: Writer, name: str) -> None:
    writer.write(CONFIG)
    with Reader(name, type=Config) as reader:
        assert_type(reader, Reader[Config])
        assert_type(reader.get(), Config)
        assert_type(reader.get(default=None), Config | None)
        assert_type(reader.get(default=5), Config | int)
        with reader.read() as snapshot:
            assert_type(snapshot, Snapshot[Config])
            assert_type(snapshot.value.limits[0].low, int)
    with Reader(name) as untyped:
        assert_type(untyped, Reader[Any])
        assert_type(untyped.get(), Any)
    with Synchronizer(name, type=Config, mode=0o600) as sync:
        assert_type(sync, Synchronizer[Config])
        assert_type(sync.get().name, str)
        if not TYPE_CHECKING:
            return
        sync.write(5)  # type: ignore[arg-type]
    optional: Reader[int | None] = Reader(name, type=int | None)
    assert_type(optional.get(), int | None)
    plain: Reader = untyped  # short for Reader[Any]
    assert_type(plain.get(), Any)
