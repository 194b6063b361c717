"""EasyGlobals: variables in shared memory, each with one writer; reads are copies.

A reader learns of a change only by waiting for it, so a second variable, written after the first, has the version.
"""

from __future__ import annotations

from typing import Any

from EasyGlobals import Globals

from bench.names import new_name
from bench.peers import base

_TABLE = 4 << 20  # bytes of its table of variables


class Writer(base.Writer):
    def __init__(self, _: str, size: int) -> None:
        # A name that is not an identifier is replaced by a hash, under which nothing could be found and removed.
        self.address = new_name("easyglobals").replace("-", "_"), 3 * base.capacity(size) + _TABLE
        self._globals = Globals(self.address[0], capacity=self.address[1])
        self._version = 0

    def write(self, value: Any) -> None:
        self._version += 1
        self._globals.value = value
        self._globals.version = self._version

    def close(self) -> None:
        self._globals.close()


class Reader(base.Reader):
    def __init__(self, _: str, address: tuple[str, int]) -> None:
        self._globals = Globals(address[0], capacity=address[1])

    def get(self) -> Any:
        seen = self._globals.version
        if seen != self._seen:
            self._value = base.indexed(self._globals.value)
            self._seen = seen
        return self._value

    def close(self) -> None:
        self._globals.close()
