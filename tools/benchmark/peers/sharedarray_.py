"""SharedArray: NumPy arrays in shared memory, by name, with nothing that says when they are complete.

An array that is written in place would be seen half-written. So each version is an array of its own, and a second one,
of one element, says which is the newest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import SharedArray

from benchmark.measure import new_name

if TYPE_CHECKING:
    from benchmark.peers import Shape


class Writer:
    """Creates an array, fills it, and names it the newest."""

    def __init__(self, *_: Any) -> None:
        self._name = new_name("sharedarray")
        self._newest = SharedArray.create(self._name, 1, np.int64)
        self._version = 0

    @property
    def address(self) -> str:
        """Return the name of the second array."""
        return self._name

    def write(self, value: Any) -> None:
        """Copy it into a new array."""
        self._version += 1
        SharedArray.create(f"{self._name}-{self._version}", value.shape, value.dtype)[:] = value
        self._newest[0] = self._version
        if self._version > 1:
            SharedArray.delete(f"{self._name}-{self._version - 1}")

    def close(self) -> None:
        """Delete the arrays."""
        if self._version:
            SharedArray.delete(f"{self._name}-{self._version}")
        SharedArray.delete(self._name)


class Reader:
    """Attaches the newest array."""

    def __init__(self, _: Shape, address: str) -> None:
        self._name = address
        self._newest = SharedArray.attach(address, ro=True).data
        self._seen = 0
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest array, attached if it is another one."""
        while self._newest[0] != self._seen:
            newest = self._newest[0]
            try:
                self._value = SharedArray.attach(f"{self._name}-{newest}", ro=True)
            except FileNotFoundError:
                continue  # there is a newer one
            self._seen = newest
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Claim no maps."""
        raise NotImplementedError

    def close(self) -> None:
        """Detach."""
        self._value = None
        self._newest.release()
