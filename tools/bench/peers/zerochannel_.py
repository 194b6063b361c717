"""zerochannel: a ring of entries of one size. A reader copies the newest into its buffer; any number of them may.

Without the copy only one process could read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from zerochannel import BytesReader, BytesWriter, unlink

from bench.names import new_name
from bench.peers import base

_ENTRIES = 4
_LENGTH = 8


class Writer(base.Writer):
    """Fills the next entry in place: its length, then the value."""

    def __init__(self, _: str, size: int) -> None:
        self.address = f"/{new_name('zerochannel')}"
        self._writer = BytesWriter(self.address, entry_length=base.capacity(size), entry_count=_ENTRIES)

    def write(self, value: Any) -> None:
        buffers = base.encode(value)
        length = sum(map(len, buffers)).to_bytes(_LENGTH, "little")
        handle = self._writer.try_acquire()
        with memoryview(handle.payload) as payload:
            base.copy_into(payload, [length, *buffers])
        handle.commit()

    def close(self) -> None:
        del self._writer
        unlink(self.address)


class Reader(base.Reader):
    """Copies a new entry over the last one: a value is valid until then."""

    def __init__(self, shape: str, address: str) -> None:
        self._shape = shape
        self._reader = BytesReader(address, delayed_connect=False)
        self._read = self._reader.read
        self._out = np.empty(self._reader.entry_length, np.uint8)

    def get(self) -> Any:
        if self._reader.writer_entry_seq != self._seen:
            found = self._read(out=self._out, from_entry_seq=self._reader.writer_entry_seq - 1)
            if found is not None:
                self._seen = found[0]
                length = int.from_bytes(self._out[:_LENGTH], "little")
                self._value = base.decode(self._shape, self._out.data[_LENGTH : _LENGTH + length])
        return self._value

    def close(self) -> None:
        del self._read, self._reader
