"""What updates have changed, as C finds it in the change log that Python writes."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled import NEEDS_COMPILER, Driver, xxhash_options
from helpers import SHM

from shmsync import Reader, Writer
from shmsync._core.change_log import LOG_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_COMPILER

INVALID, MISSING, DAMAGED = -10, -12, -4
ROWS = 20_000


@pytest.fixture(params=[0o600, 0o644], ids=["shared", "isolated"])
def writer(request: pytest.FixtureRequest, name: str) -> Iterator[Writer[Any]]:
    with Writer[Any](name, mode=request.param) as writer:
        writer.write({"prices": np.zeros((ROWS, 10)), "counts": np.zeros(ROWS, np.int32), "at": "09:00"})
        yield writer
        writer.unlink()


@pytest.fixture(params=[False, True], ids=["", "xxhash"])
def driver(request: pytest.FixtureRequest, name: str) -> Iterator[Driver]:
    if request.param and xxhash_options() is None:
        pytest.skip("no xxhash.h: neither libxxhash-dev nor pyarrow is installed")
    with Driver(name, xxhash=request.param) as driver:
        yield driver


def update(writer: Writer[Any], turn: int) -> None:
    with writer.update() as draft:
        draft["prices"][[turn, turn + 7, ROWS - 1]] = turn + 1.0
        draft["counts"][list(range(10, 10 + turn))] += 1
        draft["at"] = f"09:0{turn}"


def changes(driver: Driver, since: int) -> tuple[list[tuple[int, int]], int]:
    """Return the ranges, ascending and merged, and the result."""
    *ranges, result = driver.call("changes", 0, since).split()
    merged: list[tuple[int, int]] = []
    for start, end in sorted(tuple(map(int, each.split("-"))) for each in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged, int(result)


def test_the_ranges_are_those_that_python_finds(name: str, writer: Writer[Any], driver: Driver) -> None:
    for turn in range(5):
        update(writer, turn)
    assert driver.result("pin", 0) == 0
    with Reader[Any](name) as reader, reader.read() as snapshot:
        for since in range(1, 7):
            expected = snapshot.changes(since)
            assert expected is not None
            assert changes(driver, since) == (expected.ranges(), 0)
            assert bool(expected) == (since < 6)
    assert changes(driver, 0) == ([], MISSING)  # the first version is not an update
    assert changes(driver, 7) == ([], INVALID)
    driver.call("unpin", 0)
    assert changes(driver, 5) == ([], INVALID)


def test_a_full_write_has_no_changes(name: str, writer: Writer[Any], driver: Driver) -> None:
    update(writer, 1)
    with Reader[Any](name) as reader:
        writer.write(dict(reader.get()))
    update(writer, 2)
    assert driver.result("pin", 0) == 0
    assert changes(driver, 2) == ([], MISSING)
    assert changes(driver, 3)[1] == 0
    driver.call("unpin", 0)


WORDS = [  # offset in the log, and what is there instead
    *((8, 5), (16, 5), (24, 2), (32, 1), (32, 1 << 40)),  # its header
    *((48, 1), (48, 1 << 40), (56, 5)),  # its entry
    *((64, 1 << 40), (72, 3), (72, 1 << 62), (88, 1 << 60)),  # the first part of the entry: ranges
]


@pytest.mark.parametrize(("offset", "word"), WORDS)
def test_a_damaged_log(name: str, writer: Writer[Any], driver: Driver, offset: int, word: int) -> None:
    update(writer, 1)
    (data,) = (path for path in SHM.glob(f"{name}_data_*") if struct.pack("=Q", LOG_MAGIC) in path.read_bytes())
    content = bytearray(data.read_bytes())
    at = content.index(struct.pack("=Q", LOG_MAGIC)) + offset
    with data.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("=Q", word))
    assert driver.result("pin", 0) == 0
    result = changes(driver, 1)[1]
    has_digests = driver.result("has_xxhash")
    assert result == MISSING or (not has_digests and (result == DAMAGED or offset == 56))
    driver.call("unpin", 0)
