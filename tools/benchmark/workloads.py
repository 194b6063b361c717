"""What is published in the comparison with the peers: values that carry a counter, so that a reader knows which it has.

W1 is a config of 20 keys, W2 an array of 64 MiB, W3 a map of a million keys. The counter stands in a config under two
keys, at both ends of an array, and in each cell of one row of a map: of the key that is looked up. A value whose
counters differ is torn.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.data import items, some_keys
from benchmark.payloads import LARGE, config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmark.peers import Reader, Shape

_ENDS = "setting_00", "setting_18"
_CHECKED = 100
_DIFFERENT = 5
_BETWEEN_MARKS = 1024


class Torn(Exception):  # noqa: N818 - what the value is
    """Parts of a value are from different versions."""


class Source:
    """Makes one version after the other, in place: no version that has been published is needed again."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.counter = 0
        self.value: Any = _first(shape)
        self.number = 0
        self._chance = np.random.default_rng(0)

    def some_keys(self, count: int) -> list[Any]:
        """Return keys of a map at random, for each counter other ones; None for what is no map."""
        if not self._shape.endswith("map"):
            return [None] * count
        return some_keys(self.value.keys, count, self.counter)

    def advance(self, *, other_row: bool = True) -> Any:
        """Count, and change any row, or the last one again; return its key, or None."""
        self.counter += 1
        if self._shape == "config":
            for end in _ENDS:
                self.value[end][0] = self.counter
        elif self._shape == "array":
            self.value[0] = self.value[-1] = self.counter
        else:
            if other_row:
                self.number = int(self._chance.integers(len(self.value.values)))
            self.value.values[self.number] = self.counter
            return self._key_at(self.number)
        return None

    def expected(self) -> Any:
        """Return what a reader compares to: all of a config, some rows of a map; it can make the array itself."""
        if self._shape == "config":
            return self.value
        if self._shape == "array":
            return self.counter
        numbers = [self.number, *self._chance.integers(len(self.value.values), size=_CHECKED).tolist()]
        return {self._key_at(number): self.value.values[number].tolist() for number in numbers}

    def _key_at(self, number: int) -> Any:
        key = self.value.keys[number]
        return key if isinstance(key, str) else int(key)


def _first(shape: Shape) -> Any:
    if shape == "config":
        return config()
    if shape == "array":
        return np.arange(LARGE // 4, dtype=np.float32)
    return items("int" if shape == "int map" else "str")


def counter_of(shape: Shape, value: Any, row: Any) -> int:
    """Return the version of what was read.

    Raises:
        Torn: it has several.
    """
    if shape == "config":
        found = {value[end][0] for end in _ENDS}
    elif shape == "array":
        found = {int(value[0]), int(value[-1])}
    else:
        found = set(row.tolist())
    if len(found) > 1:
        raise Torn(f"parts of different versions in one value: {sorted(found)[:2]}")
    return int(found.pop())


def agrees(shape: Shape, reader: Reader, expected: Any) -> bool:
    """Tell whether all of the newest value, or some rows of a map, are what was written."""
    value = reader.get()
    if shape == "config":
        return bool(value == expected)
    if shape == "array":
        made = _first(shape)
        made[0] = made[-1] = expected
        return np.array_equal(value, made)
    return all(reader.look_up(value, key).tolist() == row for key, row in expected.items())


def endless(shape: Shape, size: int) -> Iterator[Any]:
    """Yield values of a shape for ever, each other than the one before; no time goes into making an array.

    An array is filled with one number, so that any mixture of two shows.
    """
    if shape == "config":
        value = config()
        for value["setting_00"][0] in itertools.count():
            yield value
    arrays = [np.full(size // 4, number, np.float32) for number in range(1, 1 + _DIFFERENT)]
    yield from itertools.cycle(arrays)


def check_whole(array: Any) -> float:
    """Return the number that an array is filled with; look at one of each page.

    Raises:
        Torn: they are not all the same.
    """
    marks = array[::_BETWEEN_MARKS]
    if array[-1] != marks[0] or (marks != marks[0]).any():
        raise Torn("an array of parts of different versions")
    return float(marks[0])


def mark_of(value: Any) -> float:
    """Return a number that the next one of the `endless` values does not have."""
    return float(value["setting_00"][0] if isinstance(value, dict) else value[0])
