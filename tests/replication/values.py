"""Values that say which one they are and contain nothing else, so that a wrong byte anywhere is found.

The number is the first detector of a test; the second is the sequence number that the replica reports as the origin.
"""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER = struct.Struct("<Q")
ROWS = 40_000
"""Rows of the table that is changed in place: 320 KB."""
PERIOD = 1000
"""Each number changes every PERIOD-th row."""


def blob(number: int, size: int) -> bytes:
    """Return the bytes with this number: they follow from number and size."""
    return _NUMBER.pack(number) + random.Random(number).randbytes(size - _NUMBER.size)


def table(number: int, rows: int = ROWS, columns: int = 1) -> np.ndarray[Any, Any]:
    """Return the table with this number: each row contains the last number that changed it, in each column."""
    column = np.maximum(number - (number - np.arange(rows)) % PERIOD, 0)
    return column if columns == 1 else np.repeat(column[:, np.newaxis], columns, axis=1)


def rows_of(number: int) -> slice:
    """Return the rows of the table that differ between a number and the one before it."""
    return slice(number % PERIOD, None, PERIOD)


def number_of(value: Any) -> int:
    """Return the number of a value; fail unless it is exactly the value with that number."""
    if isinstance(value, np.ndarray):
        number = int(value.max())
        assert np.array_equal(value, table(number, *value.shape)), f"table {number} contains something else"
        return number
    number = int(_NUMBER.unpack_from(value)[0])
    assert value == blob(number, len(value)), f"blob {number} contains something else"
    return number


def sizes(seed: int) -> Iterator[int]:
    """Yield sizes in bytes, in random order: small ones, which fit into a message, and some that need many."""
    generator = random.Random(seed)
    while True:
        yield generator.choice([8, 100, 5_000, 64 << 10, (64 << 10) + 1, 300_000, 1 << 20, 3_000_000])
