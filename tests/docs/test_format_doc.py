"""A reader written from docs/format.md alone reads what the library publishes. See `tests/golden` for more values."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from page_reader import read

from shmsync import ArrayMap, Writer

# --------------------------------------------------------------------------------------------------------- the tests

PLAIN = {
    "none": None,
    "flags": [True, False],
    "ints": [0, 127, -1, -32, 255, -33, 1 << 16, -(1 << 20), 1 << 40, -(1 << 50), (1 << 64) - 1],
    "floats": [1.5, -2.25],
    "texts": ["", "short", "x" * 40, "é" * 300],
    "bytes": b"\0\1\2",
    "list": list(range(20)),
    ("a", 1): {17: "tuple key"},
    "map": {str(number): number for number in range(20)},
}


DAY = dt.date(2026, 1, 1)


def test_extensions(writer: Writer[Any], name: str) -> None:
    utc = dt.timezone.utc
    for beside in (None, np.arange(3)):
        writer.write({
            "when": [dt.datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=utc), dt.datetime(1960, 1, 1, tzinfo=utc)],
            "local": [dt.datetime(2026, 1, 1, 12, 30), dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))],  # noqa: DTZ001, E501
            "day": [DAY, dt.time(12, 30, tzinfo=utc), dt.timedelta(-1, 2, 3)],
            "number": [Decimal("1.50"), 2**64, -(2**63) - 1, 1 + 2j, range(1, 9, 2)],
            "other": [uuid.UUID(int=258), Path("/tmp/x"), PurePosixPath("x"), {(1, 2)}, frozenset({DAY})],
            "beside": beside,
        })  # fmt: skip
        found = read(name)
        assert found["when"] == [(1767225600, 5000), (-315619200, 0)]
        assert found["local"][0] == ("datetime", "2026-01-01T12:30:00")
        assert found["local"][1] == ("datetime", "2026-10-25T02:30:00+01:00", 1, "Europe/Paris")
        assert found["day"] == [("date", "2026-01-01"), ("time", "12:30:00+00:00"), ("timedelta", -1, 2, 3)]
        assert found["number"][:2] == [("decimal", "1.50"), ("int", b"\x01" + bytes(8))]
        assert found["number"][2:] == [("int", b"\xff\x7f" + b"\xff" * 7), ("complex", 1.0, 2.0), ("range", 1, 9, 2)]
        assert found["other"][0] == ("uuid", bytes(14) + b"\x01\x02")
        assert found["other"][1:3] == [("path", b"/tmp/x"), ("purepath", b"x")]
        assert found["other"][3:] == [("set", [[1, 2]]), ("frozenset", [("date", "2026-01-01")])]


def test_msgpack(writer: Writer[Any]) -> None:
    for value in (1, PLAIN, [PLAIN, PLAIN]):
        writer.write(value)
        assert read(writer.name) == value


def test_a_frame_with_arrays_and_large_bytes(writer: Writer[Any]) -> None:
    numbers = np.arange(6, dtype="<f4").reshape(2, 3)
    writer.write({"rows": numbers, "columns": np.asfortranarray(numbers), "blob": b"x" * 5000, "name": "frame"})
    expected = (2, 3, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert read(writer.name) == {"rows": expected, "columns": expected, "blob": b"x" * 5000, "name": "frame"}


def test_isolated_mode(name: str) -> None:
    with Writer(name, mode=0o644) as writer:
        for value in (1, PLAIN, [PLAIN, PLAIN]):
            writer.write(value)
            assert read(name) == value
        writer.unlink()


def test_raw(writer: Writer[Any]) -> None:
    writer.write_raw(b"as it is")
    assert read(writer.name) == b"as it is"


@pytest.mark.parametrize(
    "value",
    [
        PLAIN,
        {"rows": [{"id": number, "name": f"n{number}"} for number in range(5)]},  # structs
        {"pairs": [[1, 2], [3, 4]], "ragged": [[1.0], [], [2.0, 3.0]], "same": ["ab", "cd"], "other": ["a", "bcd"]},
        {"mixed": [1, "a", None, 2.5, True, b"x", [1, "b"], {"k": 1}, 1 << 63]},
        {number - 50: -number for number in range(100)},  # a hash table of integers,
        {f"key {number}": number for number in range(100)},  # of texts,
        {("k", number): number for number in range(100)},  # and of other keys
        {number / 2: number for number in range(100)},
        [{f"{first} {number}": number for number in range(70)} for first in "ab"],  # two of them: chunked
        [None, None],
        3,
    ],
)
def test_archive(name: str, value: Any) -> None:
    with Writer[Any](name, codec="archive") as writer:
        try:
            writer.write(value)
            assert read(name) == value
        finally:
            writer.unlink()


def test_archive_with_arrays(name: str) -> None:
    numbers = np.arange(6, dtype="<i8").reshape(2, 3)
    with Writer[Any](name, codec="archive") as writer:
        try:
            writer.write({"one": numbers, "two": [numbers, numbers + 1]})
            expected, more = (2, 3, [0, 1, 2, 3, 4, 5]), (2, 3, [1, 2, 3, 4, 5, 6])
            assert read(name) == {"one": expected, "two": [expected, more]}
        finally:
            writer.unlink()


@pytest.mark.parametrize("keys", [np.arange(100) * 3 - 50, [f"k{number}" * (number % 3 + 1) for number in range(100)]])
def test_maps_with_a_capacity(name: str, keys: Any) -> None:
    """Also after keys were added and removed in place."""
    listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
    with Writer[Any](name, codec="archive") as writer:
        for rows in (np.arange(100), np.arange(200, dtype="<i8").reshape(100, 2)):
            writer.write({"map": ArrayMap(keys[:60], rows[:60], capacity=80), "beside": 1})
            plain = rows.tolist() if rows.ndim == 1 else [(2, row.tolist()) for row in rows]
            expected = dict(zip(listed[:60], plain, strict=False))
            for turn in range(4):
                with writer.update() as draft:
                    draft["map"].remove(listed[turn * 10 : turn * 10 + 10])
                    draft["map"].update(listed[turn * 10 + 60 : turn * 10 + 70], rows[turn * 10 :][:10])
                for key, added, row in zip(
                    listed[turn * 10 :][:10], listed[turn * 10 + 60 :], plain[turn * 10 :], strict=False
                ):
                    del expected[key]
                    expected[added] = row
                assert read(name) == {"map": expected, "beside": 1}
        writer.unlink()


def test_generations_change_and_versions_follow(writer: Writer[Any]) -> None:
    for size in (10, 100_000, 10, 200_000, 10):
        writer.write_raw(b"x" * size)
        assert read(writer.name) == b"x" * size
