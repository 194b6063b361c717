"""An Arrow IPC file in /dev/shm, memory-mapped by its readers and replaced by a rename.

A map is a table of two columns, sorted by key, in which keys are searched by bisection. Keys have one width.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from benchmark.data import ROW, Items
from benchmark.peers._values import FolderWriter

if TYPE_CHECKING:
    from benchmark.peers import Shape


class Writer(FolderWriter):
    """Writes one record batch."""

    file = "value.arrow"

    def prepare(self, value: Any) -> Any:
        """Return the same with keys in one piece."""
        if isinstance(value, Items) and isinstance(value.keys, list):
            return Items(np.array(value.keys, "S"), value.values)
        return value

    def write(self, value: Any) -> None:
        """Write a file, and put it where the last one was."""
        batch = _map(self.prepare(value)) if isinstance(value, Items) else pa.record_batch([value], names=["values"])
        new = f"{self._folder.path}/new"
        with pa.OSFile(new, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(new, self.address)  # noqa: PTH105 - no Path made for each write


def _map(value: Items) -> Any:
    order = np.argsort(value.keys)
    keys, values = value.keys[order], pa.array(value.values[order].reshape(-1))
    if keys.dtype.kind == "S":
        width = keys.dtype.itemsize
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(keys), [None, pa.py_buffer(keys)])
    else:
        column = pa.array(keys)
    return pa.record_batch([column, pa.FixedSizeListArray.from_arrays(values, ROW)], names=["keys", "values"])


class Reader:
    """Maps the file again if it is another one."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._is_map = shape.endswith("map")
        self._path = address
        self._seen: tuple[int, int] | None = None
        self._value: Any = None

    def get(self) -> Any:
        """Return the columns as arrays, in place."""
        found = os.stat(self._path)  # noqa: PTH116
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            with pa.memory_map(self._path) as file:
                batch = pa.ipc.open_file(file).get_batch(0)
            self._value = _columns(batch) if self._is_map else batch.column(0).to_numpy()
            self._seen = found.st_ino, found.st_mtime_ns
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Search the key."""
        keys, values = found
        sought = np.array(key.encode() if isinstance(key, str) else key, keys.dtype)  # another type would copy them all
        number = np.searchsorted(keys, sought)
        if keys[number] != sought:
            raise KeyError(key)
        return values[number]

    def close(self) -> None:
        """Let go of the mapping."""
        self._value = None


def _columns(batch: Any) -> tuple[Any, Any]:
    keys, values = batch.columns
    if pa.types.is_fixed_size_binary(keys.type):
        found = np.frombuffer(keys.buffers()[1], f"S{keys.type.byte_width}")
    else:
        found = keys.to_numpy()
    return found, values.flatten().to_numpy().reshape(-1, ROW)
