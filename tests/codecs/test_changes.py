"""What an update has changed: a record may cover more, never less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmsync.codecs import _changes
from shmsync.codecs._changes import Changes

SIZE = 3000
RANGES = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 50)), max_size=30)
ROWS = st.lists(
    st.tuples(st.integers(0, 100), st.sampled_from([1, 3, 4, 8, 40]), st.lists(st.integers(0, 60), max_size=20)),
    max_size=5,
)


def recorded(ranges: list[tuple[int, int]], rows: list[tuple[int, int, list[int]]]) -> tuple[Changes, set[int]]:
    """Return a record, and the bytes that it has to contain."""
    changes, expected = Changes(), set[int]()
    for start, length in ranges:
        stop = min(start + length, SIZE)
        changes.add(start, stop)
        expected.update(range(start, stop))
    for base, size, numbers in rows:
        changes.add_rows(base, size, np.array(numbers, np.int64))
        for number in numbers:
            expected.update(range(base + size * number, base + size * (number + 1)))
    return changes, expected


def copied(changes: Changes) -> set[int]:
    """Return which bytes are copied."""
    target, source = bytearray(SIZE), bytes([1]) * SIZE
    changes.copy(memoryview(target), memoryview(source))
    return {at for at, byte in enumerate(target) if byte}


@pytest.mark.parametrize("many", [4096, 4])
@given(RANGES, ROWS)
def test_what_is_recorded_is_copied(many: int, ranges: Any, rows: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_changes, "_MANY_RANGES", many)  # with few ranges, they are rounded to blocks
        patch.setattr(_changes, "_MANY_ARRAYS", many // 4)
        patch.setattr(_changes, "_COARSE", 64)
        changes, expected = recorded(ranges, rows)
        found = copied(changes)
        assert found >= expected
        assert many < 30 or found == expected
        assert changes.size >= len(expected)
        assert {at // 128 for at in expected} <= set(changes.blocks(128, SIZE))
        assert all(block * 128 < SIZE for block in changes.blocks(128, SIZE))


@given(RANGES, ROWS, RANGES, ROWS)
def test_a_union(ranges: Any, rows: Any, more: Any, others: Any) -> None:
    one, expected = recorded(ranges, rows)
    other, also = recorded(more, others)
    one.extend(other)
    assert copied(one) == expected | also
    assert copied(other) == also


@pytest.mark.parametrize("row_size", [8, _changes._LARGE_ROW, 5000])
def test_large_rows_are_ranges(row_size: int) -> None:
    changes = Changes()
    changes.add_rows(0, row_size, np.array([3, 1, 3]))
    assert changes.blocks(row_size, 10 * row_size) == [1, 3]
    assert changes.size <= 3 * row_size


@pytest.mark.parametrize("step", [3, 5000])
def test_many_single_changes_are_merged_now_and_then(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    merged = _changes._merged
    sizes: list[int] = []

    def counted(ranges: Any) -> Any:
        found = merged(ranges)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(_changes, "_merged", counted)
    changes = Changes()
    for at in range(0, 40_000 * step, step):
        changes.add(at, at + 1)
    assert len(changes._ranges) <= max(_changes._MANY_RANGES, 40_000 if step > 4096 else 0)
    assert sum(sizes) < 5 * 40_000  # not with each change
