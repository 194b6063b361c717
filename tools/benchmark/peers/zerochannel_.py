"""zerochannel: a ring of entries of one size. A reader copies the newest into a buffer that it has; any number may.

Without a copy only one process could read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from zerochannel import BytesReader, BytesWriter, unlink

from benchmark.measure import new_name
from benchmark.peers._values import fill, loaded, pieces, room

if TYPE_CHECKING:
    from benchmark.peers import Shape

_ENTRIES = 4
_LENGTH = 8


class Writer:
    """Fills the next entry in place: its length, then the value."""

    def __init__(self, _: Shape, size: int) -> None:
        self._name = f"/{new_name('zerochannel')}"
        self._writer = BytesWriter(self._name, entry_length=room(size), entry_count=_ENTRIES)

    @property
    def address(self) -> str:
        """Return the name."""
        return self._name

    def write(self, value: Any) -> None:
        """Write it in place."""
        buffers = pieces(value)
        length = sum(map(len, buffers)).to_bytes(_LENGTH, "little")
        handle = self._writer.try_acquire()
        with memoryview(handle.payload) as payload:
            fill(payload, [length, *buffers])
        handle.commit()

    def close(self) -> None:
        """Remove the ring."""
        del self._writer
        unlink(self._name)


class Reader:
    """Copies a new entry over the last one; what it has handed out must not be used after that."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._shape = shape
        self._reader = BytesReader(address, delayed_connect=False)
        self._read = self._reader.read
        self._out = np.empty(self._reader.entry_length, np.uint8)
        self._seen = 0
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, copied if it is another one."""
        if self._reader.writer_entry_seq != self._seen:
            found = self._read(out=self._out, from_entry_seq=self._reader.writer_entry_seq - 1)
            if found is not None:
                self._seen = found[0]
                length = int.from_bytes(self._out[:_LENGTH], "little")
                self._value = loaded(self._shape, self._out.data[_LENGTH : _LENGTH + length])
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        del self._read, self._reader
