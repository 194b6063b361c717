"""LMDB in /dev/shm: a key-value store in a mapped file; readers see a snapshot of it, in place.

Who keeps a map in LMDB has its items as bytes, and does best to have them sorted: `prepare` does both, untimed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from benchmark.data import Items, database, opened, pack, packed, put

if TYPE_CHECKING:
    import lmdb
    from typing_extensions import Self

    from benchmark.peers import Shape

_KEY = b"value"
_BETWEEN_CHECKS = 0.1  # seconds


class Writer:
    """One item for a config or an array, an item for each key of a map."""

    def __init__(self, *_: Any, place: str | None = None) -> None:
        self._database = database(place)
        self._environment = self._database.__enter__()
        self._checked = 0.0

    @classmethod
    def resume(cls, _: Shape, __: int, address: str) -> Self:
        """Open the same file."""
        return cls(place=address)

    @property
    def address(self) -> str:
        """Return the path."""
        path: str = self._environment.path()
        return path

    def prepare(self, value: Any) -> Any:
        """Return items as bytes in the order of their keys."""
        return packed(value) if isinstance(value, Items) else value

    def write(self, value: Any) -> None:
        """Put all of it in one transaction; look now and then whether readers died in one, as LMDB recommends."""
        if time.monotonic() > self._checked + _BETWEEN_CHECKS:
            self._environment.reader_check()
            self._checked = time.monotonic()
        if isinstance(value, dict):
            items = [(_KEY, msgpack.packb(value))]
        elif isinstance(value, np.ndarray):
            items = [(_KEY, value.data.cast("B"))]
        else:
            items = self.prepare(value)
        put(self._environment, items)

    def close(self) -> None:
        """Remove the file."""
        self._database.__exit__(None, None, None)


class Reader:
    """A read-only transaction for each look; the environment keeps a spare one. Values are not copied."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._take = {"config": _config, "array": _array}.get(shape, _map)
        self._environment: lmdb.Environment = opened(address)
        self._transaction: Any = None
        self._seen = -1
        self._value: Any = None

    def get(self) -> Any:
        """Return what the newest transaction holds. The one in which a value was read stays open while it is used."""
        transaction = self._environment.begin(buffers=True)
        if transaction.id() == self._seen:
            transaction.abort()
        else:
            self._value = self._take(transaction)
            if self._transaction is not None:
                self._transaction.abort()
            self._transaction = transaction
            self._seen = transaction.id()
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in place."""
        return np.frombuffer(found.get(pack(key)), np.float32)

    def close(self) -> None:
        """Detach."""
        self._value = None
        if self._transaction is not None:
            self._transaction.abort()
        self._environment.close()


def _config(transaction: Any) -> Any:
    return msgpack.unpackb(transaction.get(_KEY))


def _array(transaction: Any) -> Any:
    return np.frombuffer(transaction.get(_KEY), np.float32)


def _map(transaction: Any) -> Any:
    return transaction
