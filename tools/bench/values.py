"""The values that are published, and how a reader recognises the version that it has read.

A config is a dict of 20 keys, an array is float32, a map has a million keys of 10 float32 each. Versions carry a
counter: in two keys of a config, in each page and at the end of an array, in each cell of a row of a map that changes.
A value with two different counters is torn. A "row map" is an array of 64 MiB whose rows are changed and looked up by
their number.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import numpy as np

from bench.settings import LARGE

if TYPE_CHECKING:
    from bench.peers.base import Reader
    from shmsync import ArrayMap

MILLION = 1_000_000
ROW = 10
COLUMNS = 1024  # of a row map
MARK = "setting_00"
_MARKS = MARK, "setting_18"
_CHECKED = 100  # rows of a map that are compared
_PAGE = 1024  # elements of an array


class TornError(Exception):
    """A value has parts of different versions."""


class Items(NamedTuple):
    """A map as arrays. Keys are an array of int64, or a list of str."""

    keys: Any
    values: Any

    def array_map(self) -> ArrayMap:
        """Return it as shmsync takes it."""
        from shmsync import ArrayMap  # noqa: PLC0415 - processes of other peers start without shmsync

        return ArrayMap(self.keys, self.values)

    def as_dict(self) -> dict[Any, list[float]]:
        """Return it as a dict of lists."""
        return dict(zip(list_of(self.keys), self.values.tolist(), strict=True))


def config() -> dict[str, Any]:
    """Return a dict of 20 keys that msgpack packs into 1 KiB."""
    value: dict[str, Any] = {
        f"setting_{number:02d}": [number, number * 1.5, f"value {number}", True] for number in range(19)
    }
    value["text"] = "x" * (1024 - len(msgpack.packb({**value, "text": ""})) - 2)
    return value


def items(kind: str, count: int = MILLION) -> Items:
    """Return a map with keys of the kind "int" or "str", or a row map, "row"; the caller may change its values."""
    keys, values = _items(kind, count)
    return Items(keys, values.copy())


@cache
def _items(kind: str, count: int) -> Items:
    if kind == "row":
        numbers = np.arange(LARGE // 4 // COLUMNS)
        return Items(numbers, np.zeros((len(numbers), COLUMNS), np.float32))
    rng = np.random.default_rng(count)
    if kind == "int":
        keys: Any = np.unique(rng.integers(0, 1 << 63, count + 1000, np.int64))
        keys = rng.permutation(keys)[:count]
    else:
        keys = [f"user:{number}" for number in (MILLION + rng.permutation(count)).tolist()]
    return Items(keys, rng.random((count, ROW), np.float32))


def list_of(keys: Any) -> list[Any]:
    """Return keys as a list of Python objects."""
    return keys if isinstance(keys, list) else keys.tolist()


def some_keys(keys: Any, count: int, seed: int = 0) -> list[Any]:
    """Return random keys as new objects: the caller of a lookup does not have the object that was published."""
    chosen = np.random.default_rng(seed).integers(0, len(keys), count).tolist()
    return [f"{keys[number]} "[:-1] if isinstance(keys, list) else int(keys[number]) for number in chosen]


def size_of(value: Any) -> int:
    """Return the size in bytes: packed, of an array, or of all keys and rows."""
    if isinstance(value, dict):
        return len(msgpack.packb(value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    keys = value.keys
    return int(value.values.nbytes) + (sum(map(len, keys)) if isinstance(keys, list) else int(keys.nbytes))


def pack(key: int | str) -> bytes:
    """Return a key as bytes."""
    return key.encode() if isinstance(key, str) else key.to_bytes(8, "big")


class _Packer:
    """Packs the items of a map, sorted by key; only rows that have changed since the last call are packed again."""

    def __init__(self) -> None:
        self._keys: Any = None
        self._order: Any = None
        self._rows: Any = None
        self._items: list[tuple[bytes, bytes]] = []

    def __call__(self, value: Items) -> list[tuple[bytes, bytes]]:
        if self._keys is not value.keys:
            keys = list_of(value.keys)
            self._keys = value.keys
            self._order = np.argsort(value.keys)
            self._rows = value.values[self._order]
            rows = self._rows.view(f"V{self._rows.strides[0]}").ravel().tolist()  # the bytes of each
            self._items = list(zip([pack(keys[number]) for number in self._order.tolist()], rows, strict=True))
            return self._items
        rows = value.values[self._order]
        for number in np.flatnonzero((rows != self._rows).any(axis=1)).tolist():
            self._items[number] = self._items[number][0], bytes(rows[number])
        self._rows = rows
        return self._items


packed = _Packer()


class Source:
    """Creates one version after the other, in place."""

    def __init__(self, shape: str, size: int = LARGE) -> None:
        self.shape = shape
        self.counter = 0
        self.value = _first(shape, size)
        self._rng = np.random.default_rng(0)
        self._row = 0
        self._changed: list[int] = []  # some rows of the last part

    def some_keys(self, count: int) -> list[Any]:
        """Return random keys of a map, other ones for each version; None for other shapes."""
        if not self.shape.endswith("map"):
            return [None] * count
        return some_keys(self.value.keys, count, self.counter)

    def advance(self, *, other_row: bool = True) -> Any:
        """Increment the counter, and change a row: a random one, or the last one again. Return its key, or None."""
        self.counter += 1
        if self.shape == "config":
            for mark in _MARKS:
                self.value[mark][0] = self.counter
        elif self.shape == "array":
            _stamp(self.value, self.counter)
        else:
            if other_row:
                self._row = int(self._rng.integers(len(self.value.values)))
            self.value.values[self._row] = self.counter
            return self._key_at(self._row)
        return None

    def part(self, count: int) -> tuple[Items, Any]:
        """Increment the counter, and change random rows of a map; return them, and the key of one of them."""
        self.counter += 1
        numbers = self._rng.choice(len(self.value.values), count, replace=False, shuffle=False)
        self.value.values[numbers] = self.counter
        self._row, *self._changed = numbers[-_CHECKED:].tolist()
        return Items(self.value.keys[numbers], self.value.values[numbers]), self._key_at(self._row)

    def expected(self) -> Any:
        """Return what `agrees` compares with: a config, some rows of a map, the counter of an array."""
        if self.shape == "config":
            return self.value
        if self.shape == "array":
            return self.counter
        rows = [self._row, *self._changed, *self._rng.integers(len(self.value.values), size=_CHECKED).tolist()]
        return {self._key_at(row): self.value.values[row].tolist() for row in rows}

    def _key_at(self, row: int) -> Any:
        key = self.value.keys[row]
        return key if isinstance(key, str) else int(key)


def _first(shape: str, size: int) -> Any:
    if shape == "config":
        return config()
    return np.arange(size // 4, dtype=np.float32) if shape == "array" else items(shape.removesuffix(" map"))


def _stamp(array: Any, counter: int) -> None:
    array[::_PAGE] = array[-1] = counter


def counter_of(shape: str, value: Any, row: Any = None) -> int:
    """Return the version of a value, or of the row of a map.

    Raises:
        TornError: it has parts of different versions.
    """
    if shape == "config":
        found: Any = np.array([value[mark][0] for mark in _MARKS])
    else:
        found = row if shape.endswith("map") else value[::_PAGE]
    other = value[-1] if shape == "array" else found[-1]
    if other != found[0] or (found != found[0]).any():
        raise TornError("torn value: it has parts of different versions")
    return int(found[0])


def agrees(shape: str, reader: Reader, expected: Any) -> bool:
    """Return whether the newest value, or some rows of it, are what was written."""
    value = reader.get()
    if shape == "config":
        return bool(value == expected)
    if shape == "array":
        made = _first(shape, value.nbytes)
        _stamp(made, expected)
        return np.array_equal(value, made)
    return all(reader.look_up(value, key).tolist() == row for key, row in expected.items())
