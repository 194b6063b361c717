"""What the standard library offers: a manager, shared memory with a lock and pickle, a file, SQLite."""

from __future__ import annotations

import mmap
import os
import pickle
import sqlite3
import struct
from contextlib import nullcontext
from multiprocessing import current_process, get_context, resource_tracker
from multiprocessing.managers import ConditionProxy, DictProxy, SyncManager  # type: ignore[attr-defined]
from multiprocessing.shared_memory import SharedMemory
from threading import Condition
from typing import Any

import numpy as np
import posix_ipc

from bench.names import new_name
from bench.peers import base
from bench.values import Items, pack, packed

_HEAD = struct.Struct("=QQ")  # version, length
_LOCK_TIMEOUT = 30  # seconds; a process that is killed with the lock never releases it
_KEY = b"value"
_PUT = "INSERT INTO items VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_CHANGE = "UPDATE items SET value = ? WHERE key = ?"
_TAKE = "SELECT value FROM items WHERE key = ?"
_shared: dict[str, Any] = {}
_changed = Condition()


def _get_shared() -> dict[str, Any]:
    return _shared


def _get_changed() -> Condition:
    return _changed


class _Manager(SyncManager):
    """A server process with a dict and a condition, as under "Using a remote manager" in the documentation."""


_Manager.register("get_shared", _get_shared, DictProxy)
_Manager.register("get_changed", _get_changed, ConditionProxy)


class ManagerWriter(base.Writer):
    """Updates the dict: a round trip to the server, each value pickled twice."""

    _changed: Any = None
    _version = 0

    def __init__(self, *_: Any) -> None:
        manager: Any = _Manager(ctx=get_context("spawn"))
        manager.start()
        self._manager, self._dict = manager, manager.get_shared()
        self.address = manager.address, bytes(current_process().authkey)

    def notify(self) -> None:
        self._changed = self._manager.get_changed()

    def write(self, value: Any) -> None:
        self._version += 1
        with self._changed or nullcontext():
            self._dict.update(version=self._version, value=value)
            if self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        self._manager.shutdown()


class ManagerReader(base.Reader):
    """A round trip for the version, and another one for a new value."""

    def __init__(self, _: str, address: tuple[Any, bytes]) -> None:
        current_process().authkey = address[1]
        manager: Any = _Manager(*address)
        manager.connect()
        self._dict, self._changed = manager.get_shared(), manager.get_changed()

    def get(self) -> Any:
        if self._dict["version"] != self._seen:
            found = self._dict.copy()
            self._seen = found["version"]
            self._value = base.indexed(found["value"])
        return self._value

    def wait(self, timeout: float) -> None:
        with self._changed:
            if self._dict["version"] == self._seen:
                self._changed.wait(timeout)

    def close(self) -> None:
        del self._dict, self._changed


def _untracked(memory: SharedMemory) -> SharedMemory:
    """Return a segment that the resource tracker leaves alone.

    Before Python 3.13 it takes each process that attaches for an owner, and removes the segment when the first exits.
    """
    resource_tracker.unregister(f"/{memory.name}", "shared_memory")
    return memory


class SharedMemoryWriter(base.Writer):
    """Pickles, and copies under a lock: what is often written by hand.

    The lock is a named POSIX semaphore, as in multiprocessing.Lock, which itself can only be inherited. Readers take it
    to read the version, as the documentation of multiprocessing says of all shared state.
    """

    can_replace = True

    def __init__(self, _: str, size: int, address: str | None = None) -> None:
        self.address = address or new_name("memory")
        if address is None:
            self._lock = posix_ipc.Semaphore(f"/{self.address}", posix_ipc.O_CREX, initial_value=1)
            self._memory = _untracked(SharedMemory(self.address, create=True, size=base.capacity(size)))
        else:
            self._lock = posix_ipc.Semaphore(f"/{address}")
            self._memory = _untracked(SharedMemory(address))

    def write(self, value: Any) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        assert self._memory.buf is not None
        self._lock.acquire(_LOCK_TIMEOUT)
        try:
            version, _ = _HEAD.unpack_from(self._memory.buf)
            self._memory.buf[_HEAD.size : _HEAD.size + len(data)] = data
            _HEAD.pack_into(self._memory.buf, 0, version + 1, len(data))
        finally:
            self._lock.release()

    def close(self) -> None:
        self._memory.close()
        posix_ipc.unlink_shared_memory(f"/{self.address}")
        self._lock.unlink()
        self._lock.close()


class SharedMemoryReader(base.Reader):
    def __init__(self, _: str, address: str) -> None:
        self._lock = posix_ipc.Semaphore(f"/{address}")
        self._memory = _untracked(SharedMemory(address))

    def get(self) -> Any:
        assert self._memory.buf is not None
        self._lock.acquire(_LOCK_TIMEOUT)
        try:
            seen, length = _HEAD.unpack_from(self._memory.buf)
            if seen == self._seen:
                return self._value
            value = pickle.loads(self._memory.buf[_HEAD.size : _HEAD.size + length])
        finally:
            self._lock.release()
        self._value, self._seen = base.indexed(value), seen
        return self._value

    def close(self) -> None:
        self._memory.close()
        self._lock.close()


class FileWriter(base.FolderWriter):
    """Writes msgpack, or arrays, into a file that replaces the last one."""

    def write(self, value: Any) -> None:
        new = f"{self._folder}/new"
        with open(new, "wb", buffering=0) as file:  # noqa: PTH123 - faster without a Path
            file.writelines(base.encode(value))
        os.replace(new, self.address)  # noqa: PTH105


class FileReader(base.Reader):
    """Reads a config, and maps anything else, if inode or mtime have changed."""

    def __init__(self, shape: str, address: str) -> None:
        self._shape, self._path = shape, address

    def get(self) -> Any:
        found = os.stat(self._path)  # noqa: PTH116
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._value, found = self._read()
            self._seen = found.st_ino, found.st_mtime_ns
        return self._value

    def _read(self) -> tuple[Any, os.stat_result]:
        with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123
            is_config = self._shape == "config"
            data = file.read() if is_config else memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
            return base.decode(self._shape, data), os.fstat(file.fileno())


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=16)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA mmap_size = {1 << 30}")
    return connection


class SQLiteWriter(base.FolderWriter):
    """A transaction for each version: one row, or a row for each key of a map."""

    def __init__(self, shape: str, size: int, address: str | None = None) -> None:
        super().__init__(shape, size, address)
        self._connection = _connect(self.address)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS items (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def prepare(self, value: Any) -> Any:
        return packed(value) if isinstance(value, Items) else value

    def write(self, value: Any) -> None:
        rows = self.prepare(value)
        self._execute_all(_PUT, rows if isinstance(rows, list) else [(_KEY, *base.encode(rows))])

    def prepare_part(self, part: Items) -> Any:
        return [(value, key) for key, value in self.prepare(part)]  # as in the statement

    def update(self, part: Any) -> None:
        self._execute_all(_CHANGE, part)

    def _execute_all(self, statement: str, rows: list[Any]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
        super().close()


class SQLiteReader(base.Reader):
    """Selects the row again if another connection has committed; lookups in a map are one transaction."""

    def __init__(self, shape: str, address: str) -> None:
        self._shape, self._is_map = shape, shape.endswith("map")
        self._connection = _connect(address)
        self._execute = self._connection.execute

    def get(self) -> Any:
        if self._is_map:
            if self._connection.in_transaction:
                self._execute("COMMIT")
            self._execute("BEGIN")
            return self._execute
        seen = self._execute("PRAGMA data_version").fetchone()[0]
        if seen != self._seen:
            self._value = base.decode(self._shape, self._execute(_TAKE, (_KEY,)).fetchone()[0])
            self._seen = seen
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        return np.frombuffer(found(_TAKE, (pack(key),)).fetchone()[0], np.float32)

    def close(self) -> None:
        self._connection.close()
