"""What the large maps of the benchmark hold, and LMDB as it does best: in memory, and told not to care for the disk.

A million keys, each with 10 float32: random 63-bit integers, or strings of 12 characters, in random order.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark.measure import new_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import lmdb

    from shmsync import ArrayMap

MILLION = 1_000_000
ROW = 10
_SMALL = 1000
_MAP_SIZE = 8 << 30  # the file is sparse: it takes what is written


class Items(NamedTuple):
    """A map as arrays. Keys are an array of int64 or a list of str."""

    keys: Any
    values: Any

    def array_map(self) -> ArrayMap:
        """Return it as shmsync takes it."""
        from shmsync import ArrayMap  # noqa: PLC0415 - processes that know nothing of shmsync start sooner

        return ArrayMap(self.keys, self.values)

    def as_dict(self) -> dict[Any, list[float]]:
        """Return it as a dict of lists."""
        return dict(zip(list_of(self.keys), self.values.tolist(), strict=True))


def items(kind: str, count: int = MILLION) -> Items:
    """Return the items of a map with keys of the kind "int" or "str"; the values are the caller's to change."""
    keys, values = _made(kind, count)
    return Items(keys, values.copy())


@cache
def _made(kind: str, count: int) -> Items:
    chance = np.random.default_rng(count)
    if kind == "int":
        keys: Any = np.unique(chance.integers(0, 1 << 63, count + _SMALL, np.int64))
        keys = chance.permutation(keys)[:count]
    else:
        keys = [f"user:{number}" for number in (MILLION + chance.permutation(count)).tolist()]
    return Items(keys, chance.random((count, ROW), np.float32))


def list_of(keys: Any) -> list[Any]:
    """Return keys as a list of Python objects."""
    return keys if isinstance(keys, list) else keys.tolist()


def pack(key: int | str) -> bytes:
    """Return a key as LMDB takes it."""
    return key.encode() if isinstance(key, str) else key.to_bytes(8, "big")


class _Packer:
    """Packs the items of a map as databases like them best, sorted by key; what has not changed, once for all."""

    def __init__(self) -> None:
        self._keys: Any = None
        self._order: Any = None
        self._rows: Any = None
        self._items: list[tuple[bytes, bytes]] = []

    def __call__(self, value: Items) -> list[tuple[bytes, bytes]]:
        """Return the items, sorted."""
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


def some_keys(keys: Any, count: int, seed: int = 0) -> list[Any]:
    """Return keys at random, as objects of their own: a caller's key is not the object that was published."""
    chosen = np.random.default_rng(seed).integers(0, len(keys), count).tolist()
    return [f"{keys[number]} "[:-1] if isinstance(keys, list) else int(keys[number]) for number in chosen]


@contextmanager
def database(place: str | None = None) -> Iterator[lmdb.Environment]:
    """Yield an environment in shared memory: a new one, or the one that another process has left in `place`."""
    import lmdb  # noqa: PLC0415 - most of what uses this module does without

    path = place or tempfile.mkdtemp(prefix=new_name("lmdb") + "-", dir="/dev/shm")
    try:
        environment = lmdb.open(
            path, map_size=_MAP_SIZE, writemap=True, sync=False, metasync=False, map_async=True, meminit=False
        )
        with environment:
            yield environment
    finally:
        shutil.rmtree(path, ignore_errors=True)


def opened(path: str) -> lmdb.Environment:
    """Open the environment of another process to read it."""
    import lmdb  # noqa: PLC0415

    return lmdb.open(path, map_size=_MAP_SIZE, readonly=True)


def put(environment: lmdb.Environment, packed: Iterable[tuple[bytes, Any]]) -> None:
    """Write all items in one transaction, over what was there."""
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        cursor.putmulti(packed)
