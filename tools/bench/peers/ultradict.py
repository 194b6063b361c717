"""UltraDict2: a dict in each process, kept up to date by a stream of pickled changes in shared memory.

The value is one item: so a reader sees a change as a whole, and a map is twenty times as fast as with an item for each
of its keys. The lock is a shared one, as the processes are not forked from each other.
"""

from __future__ import annotations

from typing import Any

from UltraDict2 import UltraDict

from bench.names import new_name
from bench.peers import base

_BUFFERED = 4  # changes that fit into the stream before all is dumped
_AT_LEAST = 1 << 20


class Writer(base.Writer):
    def __init__(self, _: str, size: int) -> None:
        self._dict = UltraDict(
            name=new_name("ultradict"),
            create=True,
            buffer_size=max(_BUFFERED * base.capacity(size), _AT_LEAST),
            shared_lock=True,
            auto_unlink=True,
        )
        self.address = self._dict.name

    def write(self, value: Any) -> None:
        self._dict["value"] = value

    def close(self) -> None:
        self._dict.close(unlink=True)


class Reader(base.Reader):
    def __init__(self, _: str, address: str) -> None:
        self._dict = UltraDict(name=address, create=False, shared_lock=True, auto_unlink=False)

    def get(self) -> Any:
        found = self._dict["value"]
        if found is not self._seen:
            self._value, self._seen = base.indexed(found), found
        return self._value

    def close(self) -> None:
        self._value = self._seen = None
        self._dict.close()
