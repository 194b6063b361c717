"""The interface of a peer, and the encodings of peers that carry bytes or picklable objects.

Such a peer carries a config as msgpack, an array as its bytes, and the keys and the rows of a map in one piece each; a
dict of a million arrays would take many times as long. The reader builds an index of the keys.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from bench.names import new_folder
from bench.values import ROW, Items, list_of

_HEAD = struct.Struct("=QQ")


class Writer:
    """Publishes values; created with their shape and their size in bytes.

    If `can_replace`, it is created with the address of a killed writer to replace that one, for the attached readers.
    """

    can_replace = False
    address: Any  # what a Reader takes; it can be pickled

    def prepare(self, value: Any) -> Any:
        """Return a value as the user of this peer would have it at hand; `write` takes either."""
        return value

    def write(self, value: Any) -> None:
        """Publish a dict, an array or `Items`; when this returns, `get` of a reader returns it."""
        raise NotImplementedError

    def prepare_part(self, part: Items) -> Any:
        """Return changed items of a map as the user of this peer would have them at hand, for `update`."""
        return self.prepare(part)

    def update(self, part: Any) -> None:
        """Change items of the map that was written last; when this returns, a reader sees them."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Send the newest value to readers that have attached since the last `write`, if the peer needs that."""

    def notify(self) -> None:
        """Wake the readers that `wait` with each `write` from now on, if the peer does not do so anyway."""

    def close(self) -> None:
        """Remove everything."""


class Reader:
    """Reads in another process; created with a shape and an address.

    One that can block until there is another value has a method `wait(timeout)`.
    """

    _seen: Any = None
    _value: Any = None

    def get(self) -> Any:
        """Return the newest value, ready to use: a dict, an array, or what `look_up` takes.

        As fast as the peer allows if nothing has changed: the same object may be returned again.
        """
        raise NotImplementedError

    def look_up(self, found: Any, key: Any) -> Any:
        """Return the array of a key in a map that `get` returned."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        self._value = None


class FolderWriter(Writer):
    """Writes a file in a folder of its own; the next writer uses the same folder."""

    can_replace = True

    def __init__(self, _: str, __: int, address: str | None = None) -> None:
        self._folder = str(Path(address).parent) if address else new_folder("folder")
        self.address = f"{self._folder}/value"

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class Rows:
    """A map with the rows in place, and an index of the keys."""

    def __init__(self, keys: Any, values: Any) -> None:
        self._numbers = dict(zip(list_of(keys), range(len(keys)), strict=True))
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        return self._values[self._numbers[key]]


def indexed(value: Any) -> Any:
    """Return an unpickled value ready to use."""
    return Rows(*value) if isinstance(value, Items) else value


def encode(value: Any) -> list[Any]:
    """Return the buffers of a value."""
    if isinstance(value, dict):
        return [msgpack.packb(value)]
    if isinstance(value, Items):
        keys = msgpack.packb(value.keys) if isinstance(value.keys, list) else value.keys.data.cast("B")
        rows = value.values.data.cast("B")
        return [_HEAD.pack(len(rows), isinstance(value.keys, list)), rows, keys]
    return [value.data.cast("B")]


def copy_into(target: Any, buffers: list[Any]) -> int:
    """Copy buffers into another one, one after the other; return where they end."""
    at = 0
    for buffer in buffers:
        target[at : at + len(buffer)] = buffer
        at += len(buffer)
    return at


def decode(shape: str, data: Any) -> Any:
    """Return the value in a buffer; arrays are not copied."""
    if shape == "config":
        return msgpack.unpackb(data)
    if shape == "array":
        return np.frombuffer(data, np.float32)
    size, is_text = _HEAD.unpack_from(data)
    rows, keys = data[_HEAD.size : _HEAD.size + size], data[_HEAD.size + size :]
    return Rows(
        msgpack.unpackb(keys) if is_text else np.frombuffer(keys, np.int64),
        np.frombuffer(rows, np.float32).reshape(-1, ROW),
    )


def capacity(size: int) -> int:
    """Return the largest size of an encoded value of `size` bytes, as a multiple of 64."""
    return (size + size // 8 + (1 << 16)) & ~63
