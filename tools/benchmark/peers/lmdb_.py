"""LMDB in /dev/shm: a key-value store in a mapped file; readers see a snapshot of it, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lmdb
import msgpack
import numpy as np

from benchmark.data import Items, database, opened, pack, place_of, put

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmark.peers import Shape

_KEY = b"value"


class Writer:
    """One item for a config or an array, an item for each key of a map."""

    def __init__(self, _: Shape, size: int, *, place: str | None = None) -> None:
        self._database = database(size, place)
        self._environment = self._database.__enter__()

    @classmethod
    def resume(cls, shape: Shape, size: int, address: tuple[str, int]) -> Self:
        """Open the same file; readers that died in a transaction are cleared away, as LMDB recommends."""
        made = cls(shape, size, place=address[0])
        made._environment.reader_check()
        return made

    @property
    def address(self) -> tuple[str, int]:
        """Return path and size of the map."""
        return place_of(self._environment)

    def write(self, value: Any) -> None:
        """Put all of it in one transaction; if there is no room, look first whether readers died that hold some."""
        try:
            self._put(value)
        except lmdb.MapFullError:
            self._environment.reader_check()
            self._put(value)

    def _put(self, value: Any) -> None:
        if isinstance(value, dict):
            with self._environment.begin(write=True) as transaction:
                transaction.put(_KEY, msgpack.packb(value))
        elif isinstance(value, Items):
            put(self._environment, value.packed())
        else:
            with self._environment.begin(write=True) as transaction:
                transaction.put(_KEY, value.data.cast("B"))

    def close(self) -> None:
        """Remove the file."""
        self._database.__exit__(None, None, None)


class Reader:
    """A read-only transaction for each look; the environment keeps a spare one. Values are not copied."""

    def __init__(self, shape: Shape, address: tuple[str, int]) -> None:
        self._take = {"config": _config, "array": _array}.get(shape, _map)
        self._environment: lmdb.Environment = opened(*address)
        self._transaction = self._environment.begin(buffers=True)
        self._seen = -1
        self._value: Any = None

    def get(self) -> Any:
        """Return what the newest transaction holds, taken only if it is another one."""
        self._transaction.abort()
        self._transaction = transaction = self._environment.begin(buffers=True)
        if transaction.id() != self._seen or self._take is not _config:
            self._seen = transaction.id()
            self._value = self._take(transaction)
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in place."""
        return np.frombuffer(found.get(pack(key)), np.float32)

    def close(self) -> None:
        """Detach."""
        self._transaction.abort()
        self._environment.close()


def _config(transaction: Any) -> Any:
    return msgpack.unpackb(transaction.get(_KEY))


def _array(transaction: Any) -> Any:
    return np.frombuffer(transaction.get(_KEY), np.float32)


def _map(transaction: Any) -> Any:
    return transaction
