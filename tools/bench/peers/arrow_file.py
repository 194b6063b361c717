"""An Arrow IPC file in /dev/shm: replaced by a rename, memory-mapped by readers, mapped again if it has changed.

A map is a table of two columns, sorted by key, searched by bisection. Keys have a fixed width.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa

from bench.peers import base
from bench.peers.standard_library import FileReader
from bench.values import ROW, Items


class Writer(base.FolderWriter):
    def prepare(self, value: Any) -> Any:
        if isinstance(value, Items) and isinstance(value.keys, list):
            return Items(np.array(value.keys, "S"), value.values)
        return value

    def write(self, value: Any) -> None:
        batch = _map(self.prepare(value)) if isinstance(value, Items) else pa.record_batch([value], names=["values"])
        new = f"{self._folder}/new"
        with pa.OSFile(new, "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(new, self.address)  # noqa: PTH105 - faster without a Path


def _map(value: Items) -> Any:
    order = np.argsort(value.keys)
    keys, values = value.keys[order], pa.array(value.values[order].reshape(-1))
    if keys.dtype.kind == "S":
        width = keys.dtype.itemsize
        column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(keys), [None, pa.py_buffer(keys)])
    else:
        column = pa.array(keys)
    return pa.record_batch([column, pa.FixedSizeListArray.from_arrays(values, ROW)], names=["keys", "values"])


class Reader(FileReader):
    def _read(self) -> tuple[Any, os.stat_result]:
        found = os.stat(self._path)  # noqa: PTH116
        with pa.memory_map(self._path) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
        return _columns(batch) if self._shape.endswith("map") else batch.column(0).to_numpy(), found

    def look_up(self, found: Any, key: Any) -> Any:
        keys, values = found
        sought = np.array(key.encode() if isinstance(key, str) else key, keys.dtype)  # another type would copy all keys
        number = np.searchsorted(keys, sought)
        if keys[number] != sought:
            raise KeyError(key)
        return values[number]


def _columns(batch: Any) -> tuple[Any, Any]:
    keys, values = batch.columns
    if pa.types.is_fixed_size_binary(keys.type):
        found = np.frombuffer(keys.buffers()[1], f"S{keys.type.byte_width}")
    else:
        found = keys.to_numpy()
    return found, values.flatten().to_numpy().reshape(-1, ROW)
