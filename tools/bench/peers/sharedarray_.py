"""SharedArray: NumPy arrays in shared memory, by name, without synchronisation.

A reader would see an array that is written in place half-written. So each version is a new array, and a second array of
one element has the number of the newest. `InPlace` has one array, which an update changes in place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SharedArray

from bench.names import new_name
from bench.peers import base


class Writer(base.Writer):
    def __init__(self, *_: Any) -> None:
        self.address = new_name("sharedarray")
        self._newest = SharedArray.create(self.address, 1, np.int64)
        self._version = 0

    def write(self, value: Any) -> None:
        self._version += 1
        SharedArray.create(f"{self.address}-{self._version}", value.shape, value.dtype)[:] = value
        self._newest[0] = self._version
        if self._version > 1:
            SharedArray.delete(f"{self.address}-{self._version - 1}")

    def close(self) -> None:
        if self._version:
            SharedArray.delete(f"{self.address}-{self._version}")
        SharedArray.delete(self.address)


class Reader(base.Reader):
    def __init__(self, _: str, address: str) -> None:
        self._name = address
        self._newest = SharedArray.attach(address, ro=True).data

    def get(self) -> Any:
        while self._newest[0] != self._seen:
            newest = self._newest[0]
            try:
                self._value = SharedArray.attach(f"{self._name}-{newest}", ro=True)
            except FileNotFoundError:
                continue  # there is a newer one
            self._seen = newest
        return self._value

    def close(self) -> None:
        self._newest.release()


class InPlaceWriter(base.Writer):
    """Changes rows of one array; a reader may see any part of that."""

    def __init__(self, *_: Any) -> None:
        self.address = new_name("sharedarray")
        self._array: Any = None

    def write(self, value: Any) -> None:
        if self._array is None:
            self._array = SharedArray.create(self.address, value.values.shape, value.values.dtype)
        self._array[:] = value.values

    def update(self, part: Any) -> None:
        self._array[part.keys] = part.values

    def close(self) -> None:
        if self._array is not None:
            SharedArray.delete(self.address)


class InPlaceReader(base.Reader):
    def __init__(self, _: str, address: str) -> None:
        self._address = address

    def get(self) -> Any:
        if self._value is None:
            self._value = SharedArray.attach(self._address, ro=True)
        return self._value
