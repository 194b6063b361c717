"""LMDB in /dev/shm: a key-value store in a mapped file; readers see a snapshot of it, in place.

A config or an array is one item, a map has an item for each key. An application that keeps a map in LMDB has its items
as bytes, best sorted by key: `prepare` does both.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

import lmdb
import numpy as np

from bench.names import new_folder
from bench.peers import base
from bench.values import Items, pack, packed

_KEY = b"value"
_MAP_SIZE = 8 << 30  # the file is sparse: it takes what is written
_BETWEEN_CHECKS = 0.1  # seconds
_NO_SYNC = {"writemap": True, "sync": False, "metasync": False, "map_async": True, "meminit": False}


class Writer(base.Writer):
    can_replace = True

    def __init__(self, _: str, __: int, address: str | None = None) -> None:
        self.environment = lmdb.open(address or new_folder("lmdb"), map_size=_MAP_SIZE, **_NO_SYNC)
        self.address = self.environment.path()
        self._checked = 0.0

    def prepare(self, value: Any) -> Any:
        return packed(value) if isinstance(value, Items) else value

    def write(self, value: Any) -> None:
        if time.monotonic() > self._checked + _BETWEEN_CHECKS:  # for dead readers, as LMDB recommends
            self.environment.reader_check()
            self._checked = time.monotonic()
        items = self.prepare(value)
        with self.environment.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(items if isinstance(items, list) else [(_KEY, *base.encode(items))])

    def update(self, part: Any) -> None:
        self.write(part)

    def close(self) -> None:
        self.environment.close()
        shutil.rmtree(self.address, ignore_errors=True)


class Reader(base.Reader):
    """Begins a read-only transaction for each `get`. The one of the last value stays open while that is used."""

    _transaction: Any = None

    def __init__(self, shape: str, address: str) -> None:
        self._shape, self._is_map = shape, shape.endswith("map")
        self._environment = lmdb.open(address, map_size=_MAP_SIZE, readonly=True)

    def get(self) -> Any:
        transaction = self._environment.begin(buffers=True)
        if transaction.id() == self._seen:
            transaction.abort()
        else:
            self._value = transaction if self._is_map else base.decode(self._shape, transaction.get(_KEY))
            if self._transaction is not None:
                self._transaction.abort()
            self._transaction = transaction
            self._seen = transaction.id()
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        return np.frombuffer(found.get(pack(key)), np.float32)

    def close(self) -> None:
        self._value = None
        if self._transaction is not None:
            self._transaction.abort()
        self._environment.close()
