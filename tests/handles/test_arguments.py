"""Arguments of the wrong type or out of range: always an InvalidArgumentError that names the argument and the value."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shmsync import InvalidArgumentError, Reader, ShmSyncError, Synchronizer, Writer, info, readers

if TYPE_CHECKING:
    from collections.abc import Callable

BAD: list[Any] = [
    *("1", b"1", None, True, 1.5, object(), [], -1, {}, float("nan"), 10**400, "\0", "\ud800", (1, 2)),
    *(Fraction(-1, 2), Decimal("NaN"), np.array([1, 2]), bytearray(b"1"), dt.timedelta(-1)),
]


def accepted(call: Callable[[Any], Any], parameter: str) -> list[Any]:
    """Return the values that a call accepts."""
    found = []
    for value in BAD:
        try:
            call(value)
        except ShmSyncError as error:
            assert isinstance(error, InvalidArgumentError)  # noqa: PT017
            assert parameter in str(error)  # noqa: PT017
        else:
            found.append(value)
    return found


@pytest.mark.parametrize("argument", ["grace_duration", "max_backoff", "lock_timeout"])
def test_durations_of_writers(name: str, argument: str) -> None:
    assert accepted(lambda value: Writer(name, **{argument: value}).close(), argument) == [1.5]


@pytest.mark.parametrize("handle", [Reader, Synchronizer])
def test_timeouts(name: str, handle: type[Reader[Any]]) -> None:
    assert accepted(lambda value: handle(name, timeout=value).close(), "timeout") == [1.5]
    for value in (2, 0.5, dt.timedelta(1), Fraction(1, 2), Decimal("0.5"), np.float32(1), np.int64(1), float("inf")):
        handle(name, timeout=value).close()  # type: ignore[arg-type]


@pytest.mark.parametrize("argument", ["mode", "max_readers", "codec"])
def test_other_arguments_of_writers(name: str, argument: str) -> None:
    assert accepted(lambda value: Writer(name, **{argument: value}).close(), argument) == []


@pytest.mark.parametrize("argument", ["allow_pickle", "frozen", "zero_copy_bytes"])
def test_flags(name: str, argument: str) -> None:
    assert accepted(lambda value: Reader(name, **{argument: value}).close(), argument) == [True]


def test_other_arguments_of_readers(name: str) -> None:
    assert accepted(lambda value: Reader(name, owner=value).close(), "owner") == ["1", None]
    assert accepted(lambda value: Reader(name, type=value).close(), "type=") == [None]
    assert accepted(lambda value: Reader(name, type=dict, dec_hook=value).close(), "dec_hook") == [None]
    assert accepted(lambda value: Writer(name, enc_hook=value).close(), "enc_hook") == [None]


def test_arguments_of_calls(writer: Writer, name: str) -> None:
    writer.write(1)
    with Reader(name) as reader:
        reader.get()
        assert accepted(lambda value: reader.read(check_bytes=value).close(), "check_bytes") == [True]
        assert accepted(lambda value: reader.wait(0, timeout=value), "timeout") == [None, 1.5]
        assert accepted(lambda value: list(reader.watch(5, timeout=0, stop_event=value)), "stop_event") == [None]
        assert accepted(lambda value: reader.wait(value, timeout=0), "since") == [None, -1, 10**400]
        assert reader.get() == 1
    assert accepted(lambda value: writer.write(1, grace_duration=value), "grace_duration") == [None, 1.5]
    assert accepted(writer.reserve, "size") == []


@pytest.mark.parametrize("call", [info, readers, Reader, Writer])
def test_names(call: Callable[[Any], Any]) -> None:
    for value in BAD[1:]:
        with pytest.raises(InvalidArgumentError, match="name"):
            call(value)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (0o750, "such as 0o640, not 0o750: the bits 0o110 are others"),
        (640, r"not 0o1200 \(640 in decimal\): the bits 0o1000 are others"),
        (0o440, "let the owner read and write, such as 0o640, not 0o440"),
        ("640", "must be permission bits such as 0o640, not '640'"),
    ],
    ids=str,
)
def test_modes(name: str, mode: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Writer(name, mode=mode)


def test_get_takes_no_key(writer: Writer, name: str) -> None:
    writer.write({"threshold": 0.5})
    with Reader(name) as reader, pytest.raises(TypeError):
        reader.get("threshold")  # type: ignore[call-overload]
