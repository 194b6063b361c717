"""The ways in for other values: hooks, codecs that users register, and types of pydantic and attrs."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import pickle
import subprocess
import sys
import uuid
from collections import deque
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import numpy as np
import pydantic
import pytest
from helpers import TIMEOUT, environment

from shmsync import (
    EntityReadError,
    EntityWriteError,
    InvalidArgumentError,
    Reader,
    Synchronizer,
    Writer,
    info,
    register_codec,
)
from shmsync.codecs import _registry

if TYPE_CHECKING:
    from collections.abc import Iterator


class Level(enum.Enum):
    HIGH = "high"


class Job(msgspec.Struct):
    id: uuid.UUID
    due: dt.datetime
    level: Level
    cost: Decimal = Decimal("1.50")
    tags: set[str] = set()
    nested: list[dict[str, Level]] = []
    spare: int | msgspec.UnsetType = msgspec.UNSET


@dataclasses.dataclass
class Task:
    id: uuid.UUID
    due: dt.date
    levels: dict[Level, list[Level]]
    length: dt.timedelta = dt.timedelta(seconds=1)


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int
    b: tuple[int, ...] = (1, 2)


@attrs.define
class Point:
    x: int
    when: dt.date = dt.date(2026, 1, 1)


class Settings(pydantic.BaseModel):
    debug: bool = False
    due: dt.datetime | None = None
    key: bytes = b""


def to_list(value: Any) -> Any:
    if isinstance(value, deque):
        return list(value)
    if isinstance(value, Fraction):
        return {"numerator": value.numerator, "denominator": value.denominator}
    raise NotImplementedError


def to_fraction(kind: type, value: Any) -> Any:
    if kind is Fraction:
        return Fraction(value["numerator"], value["denominator"])
    raise NotImplementedError


# --------------------------------------------------------------------------------------------------------------- hooks


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_hooks(name: str, codec: str) -> None:
    with Writer(name, codec=codec, enc_hook=to_list) as writer:
        writer.write({"a": deque([1, deque([2, Fraction(1, 3)])])})
        kind = dict[str, tuple[int, tuple[int, Fraction]]]
        with Reader(name, type=kind, dec_hook=to_fraction) as reader, pickle.loads(pickle.dumps(reader)) as again:
            assert reader.get() == again.get() == {"a": (1, (2, Fraction(1, 3)))}
        with pytest.raises(EntityWriteError, match=r"at \['a'\]\[0\]: object is not supported; .*enc_hook"):
            writer.write({"a": [object()]})
        writer.close()
        with pickle.loads(pickle.dumps(writer)) as second:
            second.write({"a": deque()})
            second.unlink()


def test_a_hook_may_return_any_supported_value(name: str) -> None:
    class Lazy:
        def __init__(self, value: Any) -> None:
            self.value = value

    values = [np.arange(3), b"x" * 5000, 2**70, uuid.UUID(int=1), Point(1), {"a": Lazy([Lazy({1})])}, None, True, "x"]
    with Writer(name, enc_hook=lambda lazy: lazy.value) as writer, Reader(name) as reader:
        for value in values:
            writer.write([Lazy(value)])
            found = reader.get()[0]
            if isinstance(value, np.ndarray):
                assert (found == value).all()
            elif isinstance(value, Point):
                assert found == {"x": 1, "when": dt.date(2026, 1, 1)}
            elif isinstance(value, dict):
                assert found == {"a": [{1}]}
            else:
                assert found == value
        found = None
        writer.write("before")
        with pytest.raises(EntityWriteError, match="the key"):
            writer.write({Lazy({}): 1})
        with pytest.raises(EntityWriteError, match=r"at \[0\]: enc_hook has returned a .*Lazy again"):
            writer.write([Lazy(Lazy(1))])
        assert reader.get() == "before"
        writer.unlink()


def test_errors_of_a_hook(name: str) -> None:
    def fails(_: Any) -> Any:
        raise ValueError("no")

    with Writer(name, enc_hook=fails) as writer, pytest.raises(EntityWriteError, match=r"at \['a'\]: enc_hook .*: no"):
        writer.write({"a": object()})


def test_hooks_that_no_codec_calls(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not by 'raw'"):
        Writer(name, codec="raw", enc_hook=to_list)
    with pytest.raises(InvalidArgumentError, match="pass type="):
        Reader(name, dec_hook=to_fraction)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgumentError, match="validator"):
        Reader(name, type=Settings, dec_hook=to_fraction)


def test_a_synchronizer_has_both_hooks(name: str) -> None:
    with Synchronizer(name, type=list[Fraction], dec_hook=to_fraction, enc_hook=to_list) as sync:
        sync.write([Fraction(1, 3)])
        assert sync.get() == [Fraction(1, 3)]
        with Synchronizer(name, frozen=True) as other:
            assert other.get()[0]["denominator"] == 3
        sync.unlink()


# --------------------------------------------------------------------------------------------------------------- types


def job() -> Job:
    due = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)
    return Job(uuid.UUID(int=1), due, Level.HIGH, tags={"a"}, nested=[{"x": Level.HIGH}])


TASK = Task(uuid.UUID(int=2), dt.date(2026, 1, 1), {Level.HIGH: [Level.HIGH]})


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
@pytest.mark.parametrize("beside", [None, np.arange(2)], ids=["plain", "array"])
@pytest.mark.parametrize("value", [job(), TASK, Slotted(1), Point(1)], ids=lambda value: type(value).__name__)
def test_records_read_back(name: str, codec: str, beside: Any, value: Any) -> None:
    kind = msgspec.defstruct("Both", [("value", type(value)), ("beside", np.ndarray | None)])
    with Writer(name, codec=codec) as writer, Reader(name, type=kind) as reader:
        writer.write({"value": value, "beside": beside})
        found = reader.get().value  # type: ignore[attr-defined]
        assert type(found) is type(value)
        assert found == value
        writer.unlink()


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_fields_that_are_not_set_are_left_out(name: str, codec: str) -> None:
    @dataclasses.dataclass
    class Login:
        host: str
        token: str = dataclasses.field(init=False)

    with Writer(name, codec=codec) as writer, Reader(name) as reader:
        writer.write({"login": Login("a"), "job": job()})
        found = reader.get()
        assert found["login"] == {"host": "a"}
        assert "spare" not in found["job"]
        writer.unlink()


def test_a_struct_with_a_field_that_is_not_set(name: str) -> None:
    point = job()
    del point.due
    with Writer(name) as writer, pytest.raises(EntityWriteError, match=r"at \[0\]: .*'due'.*: set it before"):
        writer.write([point])


@pytest.mark.parametrize("codec", ["msgpack", "archive", "pickle"])
def test_pydantic_models(name: str, codec: str) -> None:
    """A model takes no memoryview for bytes, so they are copied whatever the reader asked for."""
    settings = Settings(debug=True, due=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), key=b"x" * 5000)
    value = settings.model_dump(mode="json" if codec == "archive" else "python")
    with Writer(name, codec=codec) as writer:
        if codec != "pickle":
            with pytest.raises(EntityWriteError, match="publish its model_dump"):
                writer.write(settings)
        writer.write([value])
        allow_pickle = codec == "pickle"
        with Reader(name, type=list[Settings], allow_pickle=allow_pickle, zero_copy_bytes=True) as in_place:
            assert in_place.get() == [settings]
        with Reader(name, type=list[Settings], allow_pickle=allow_pickle) as reader:
            assert reader.get() == [settings]
            writer.write([{"debug": "perhaps"}])
            with pytest.raises(EntityReadError, match=r"not of type list: 1 validation error.*\n0.debug"):
                reader.get()
        writer.unlink()


class Other:
    pass


@dataclasses.dataclass
class Holder:
    others: list[Other]
    arrays: np.ndarray | None = None


@pytest.mark.parametrize("kind", [Other, list[Other], dict[str, Other | None], Holder, tuple[int, Holder]], ids=str)
def test_a_type_that_no_value_can_have_is_refused_at_once(name: str, kind: Any) -> None:
    with pytest.raises(
        InvalidArgumentError, match="msgspec does not support Other; use a dataclass, or pass dec_hook="
    ):
        Reader(name, type=kind)
    Reader(name, type=kind, dec_hook=lambda *_: Other()).close()
    Reader(name, type=kind, allow_pickle=True).close()


# -------------------------------------------------------------------------------------------------------------- codecs


class Zstd:
    """Text, compressed."""

    def __init__(self) -> None:
        self.zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise EntityWriteError(f'codec="zstd" takes text, not {type(value).__name__}')
        return self.zstandard.compress(value.encode())  # type: ignore[no-any-return]

    def decode(self, payload: memoryview) -> str:
        return self.zstandard.decompress(payload).decode()  # type: ignore[no-any-return]


class View:
    def encode(self, value: Any) -> Any:
        return value

    def decode(self, payload: memoryview) -> Any:
        return payload


@pytest.fixture(autouse=True)
def _forget_registered_codecs() -> Iterator[None]:
    _registry._REGISTERED.clear()  # a page of the documentation may have run in this process
    yield
    _registry._REGISTERED.clear()


def test_a_registered_codec(name: str) -> None:
    register_codec("zstd-text", Zstd())
    with Writer(name, codec="zstd-text") as writer, Reader(name) as reader:
        assert writer.write("text" * 10_000).size < 100
        assert reader.get() == "text" * 10_000
        assert reader.get() is reader.get()
        assert info(name).codec == "zstd-text"
        with pytest.raises(EntityWriteError, match="takes text"):
            writer.write(5)
        assert pickle.loads(pickle.dumps(writer))._codec.NAME == "zstd-text"
        with Reader(name, type=int) as typed, pytest.raises(EntityReadError, match="not of type int"):
            typed.get()
        writer.unlink()


def test_a_codec_may_return_a_view(name: str) -> None:
    register_codec("view", View())
    with Writer(name, codec="view") as writer, Reader(name) as reader:
        writer.write(b"first")
        view = reader.get()
        for number in range(5):
            writer.write(b"%d" % number)
        assert view.readonly
        assert bytes(view) == b"first"
        with pytest.raises(EntityWriteError, match="not a bytes-like object"):
            writer.write("text")
        with pytest.raises(InvalidArgumentError, match="not by 'view'"):
            Writer(name, codec="view", enc_hook=to_list)
        del view
        writer.unlink()


def test_a_reader_without_the_codec_is_told_so(name: str) -> None:
    register_codec("view", View())
    with Writer(name, codec="view") as writer:
        writer.write(b"x")
        code = f"import shmsync; print(shmsync.info({name!r}).codec); shmsync.Reader({name!r}).get()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert "not registered in this process; call register_codec" in done.stderr
        writer.unlink()


def test_what_register_codec_refuses() -> None:
    view = View()
    register_codec("view", view)
    register_codec("view", view)
    register_codec("view", View(), replace=True)
    cases: list[tuple[Any, Any, str]] = [
        ("view", View(), "registered already"), ("msgpack", View(), "shmsync's own"), ("a b", View(), "letters"),
        (5, View(), "letters"), ("class", View, r"pass View\(\)"), ("half", object(), "has no encode"),
    ]  # fmt: skip
    for codec_name, codec, message in cases:
        with pytest.raises(InvalidArgumentError, match=message):
            register_codec(codec_name, codec)
    with pytest.raises(InvalidArgumentError, match="pickle, view, or register it with register_codec"):
        Writer("x", codec="unknown")


def test_protobuf_messages(name: str) -> None:
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    from google.protobuf import wrappers_pb2  # type: ignore[import-untyped]  # noqa: PLC0415

    class Protobuf:
        def encode(self, value: Any) -> Any:
            return value.SerializeToString()

        def decode(self, payload: memoryview) -> Any:
            return wrappers_pb2.StringValue.FromString(bytes(payload))

    message = wrappers_pb2.StringValue(value="EURUSD")
    with Writer(name) as writer, pytest.raises(EntityWriteError, match="SerializeToString"):
        writer.write({"message": message})
    register_codec("protobuf-text", Protobuf())
    with Writer(name, codec="protobuf-text") as writer, Reader(name, type=wrappers_pb2.StringValue) as reader:
        writer.write(message)
        assert reader.get() == message
        writer.unlink()
