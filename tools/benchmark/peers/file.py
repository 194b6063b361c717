"""A file in /dev/shm that is replaced: written under another name, then renamed; readers look at inode and mtime."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any

from benchmark.peers._values import FolderWriter, loaded, pieces

if TYPE_CHECKING:
    from benchmark.peers import Shape


class Writer(FolderWriter):
    """Writes msgpack, or arrays as they are; a rename shows all of it at once."""

    file = "value"

    def __init__(self, *_: Any, folder: str | None = None) -> None:
        super().__init__(folder=folder)
        self._new = f"{self._folder.path}/new"

    def write(self, value: Any) -> None:
        """Write a file, and put it where the last one was."""
        with open(self._new, "wb", buffering=0) as file:  # noqa: PTH123 - no Path made for each write
            file.writelines(pieces(value))
        os.replace(self._new, self.address)  # noqa: PTH105


class Reader:
    """Reads a config, maps anything else."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._shape = shape
        self._path = address
        self._seen: tuple[int, int] | None = None
        self._value: Any = None

    def get(self) -> Any:
        """Return what the file holds, read only if it is another one."""
        found = os.stat(self._path)  # noqa: PTH116
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            self._take()
        return self._value

    def _take(self) -> None:
        with open(self._path, "rb", buffering=0) as file:  # noqa: PTH123
            found = os.fstat(file.fileno())
            if self._shape == "config":
                data: Any = file.read()
            else:
                data = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
        self._value = loaded(self._shape, data)
        self._seen = found.st_ino, found.st_mtime_ns

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in place."""
        return found[key]

    def close(self) -> None:
        """Let go of the mapping."""
        self._value = None
