"""How the three shapes travel through peers that carry bytes, or any object that can be pickled.

A config is msgpack. An array is its bytes. A map is what its user has in hand: the keys and the rows, each in one
piece; a dict of a million arrays would cost every such peer many times as much. The reader makes an index of the keys.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar

import msgpack
import numpy as np

from benchmark.data import ROW, Items, list_of
from benchmark.measure import new_name

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmark.peers import Shape

_HEAD = struct.Struct("=QQ")


class Rows:
    """A map as a reader has it after its keys were read: rows where they lie, and the number of each key's."""

    def __init__(self, keys: Any, values: Any) -> None:
        self._numbers = dict(zip(list_of(keys), range(len(keys)), strict=True))
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        return self._values[self._numbers[key]]


def indexed(value: Any) -> Any:
    """Return a value that was pickled as it is ready to be used."""
    return Rows(*value) if isinstance(value, Items) else value


def pieces(value: Any) -> list[Any]:
    """Return the buffers that a value is made of."""
    if isinstance(value, dict):
        return [msgpack.packb(value)]
    if isinstance(value, Items):
        keys = msgpack.packb(value.keys) if isinstance(value.keys, list) else value.keys.data.cast("B")
        rows = value.values.data.cast("B")
        return [_HEAD.pack(len(rows), isinstance(value.keys, list)), rows, keys]
    return [value.data.cast("B")]


def fill(target: Any, buffers: list[Any]) -> int:
    """Write buffers into another one, in one piece; return where they end."""
    at = 0
    for buffer in buffers:
        target[at : at + len(buffer)] = buffer
        at += len(buffer)
    return at


def loaded(shape: Shape, data: Any) -> Any:
    """Return the value in a buffer; arrays lie in it."""
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


def room(size: int) -> int:
    """Return what a value of `size` bytes takes at most, whatever it is packed with; a multiple of 64."""
    return (size + size // 8 + (1 << 16)) & ~63


class Folder:
    """A folder in shared memory, of a name that `measure.sweep` finds; or one that another process has left."""

    def __init__(self, path: str | None = None) -> None:
        self.path = path or tempfile.mkdtemp(prefix=new_name("folder") + "-", dir="/dev/shm")

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


class FolderWriter:
    """The part of a writer that has a file in a folder of its own; another process goes on with what it has left.

    Attributes:
        file: its name.
    """

    file: ClassVar[str]

    def __init__(self, *_: Any, folder: str | None = None) -> None:
        self._folder = Folder(folder)

    @classmethod
    def resume(cls, _: Shape, __: int, address: str) -> Self:
        """Go on in the same folder."""
        return cls(folder=os.path.dirname(address))  # noqa: PTH120

    @property
    def address(self) -> str:
        """Return the path of the file."""
        return f"{self._folder.path}/{self.file}"

    def close(self) -> None:
        """Remove it."""
        self._folder.remove()
