"""SQLite in /dev/shm, with a write-ahead log and without syncing: a table of items, a transaction for each version.

`PRAGMA data_version` tells a connection whether another one has committed.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from benchmark.data import Items, pack, packed
from benchmark.peers._values import FolderWriter

if TYPE_CHECKING:
    from benchmark.peers import Shape

_KEY = b"value"
_PUT = "INSERT INTO items VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_TAKE = "SELECT value FROM items WHERE key = ?"


def _opened(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=16)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA mmap_size = {1 << 30}")
    return connection


class Writer(FolderWriter):
    """One row for a config or an array, a row for each key of a map."""

    file = "value.db"

    def __init__(self, *_: Any, folder: str | None = None) -> None:
        super().__init__(folder=folder)
        self._connection = _opened(self.address)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS items (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def prepare(self, value: Any) -> Any:
        """Return items as bytes in the order of their keys."""
        return packed(value) if isinstance(value, Items) else value

    def write(self, value: Any) -> None:
        """Put all of it in one transaction."""
        if isinstance(value, dict):
            rows: Any = [(_KEY, msgpack.packb(value))]
        elif isinstance(value, np.ndarray):
            rows = [(_KEY, value.data)]
        else:
            rows = self.prepare(value)
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_PUT, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Remove the files."""
        self._connection.close()
        super().close()


class Reader:
    """Selects the row again if another connection has committed."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._is_map, self._is_config = shape.endswith("map"), shape == "config"
        self._connection = _opened(address)
        self._execute = self._connection.execute
        self._seen = -1
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value; of a map a transaction, in which all look-ups see one version."""
        if self._is_map:
            if self._connection.in_transaction:
                self._execute("COMMIT")
            self._execute("BEGIN")
            return self._execute
        seen = self._execute("PRAGMA data_version").fetchone()[0]
        if seen != self._seen:
            data = self._execute(_TAKE, (_KEY,)).fetchone()[0]
            self._value = msgpack.unpackb(data) if self._is_config else np.frombuffer(data, np.float32)
            self._seen = seen
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Select its row."""
        return np.frombuffer(found(_TAKE, (pack(key),)).fetchone()[0], np.float32)

    def close(self) -> None:
        """Detach."""
        self._connection.close()
