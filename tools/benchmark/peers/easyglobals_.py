"""EasyGlobals: variables in shared memory, each with one writer. Reads are copies.

It does not say whether a variable has changed unless one waits for it, so a second variable, which is written after the
first, holds the version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from EasyGlobals import Globals

from benchmark.measure import new_name
from benchmark.peers._values import indexed, room

if TYPE_CHECKING:
    from benchmark.peers import Shape

_BESIDES = 4 << 20  # its table of variables


class Writer:
    """Sets the two variables."""

    def __init__(self, _: Shape, size: int) -> None:
        # A name that is no identifier would be hashed, and what is left under it could not be found.
        self._address = new_name("easyglobals").replace("-", "_"), 3 * room(size) + _BESIDES
        self._globals = Globals(self._address[0], capacity=self._address[1])
        self._version = 0

    @property
    def address(self) -> tuple[str, int]:
        """Return name and capacity of the namespace."""
        return self._address

    def write(self, value: Any) -> None:
        """Set the value, then the version."""
        self._version += 1
        self._globals.value = value
        self._globals.version = self._version

    def close(self) -> None:
        """Detach; the last one removes the namespace."""
        self._globals.close()


class Reader:
    """Reads the version, and the value if that is another one."""

    def __init__(self, _: Shape, address: tuple[str, int]) -> None:
        self._globals = Globals(address[0], capacity=address[1])
        self._seen = 0
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, copied if it is another one."""
        seen = self._globals.version
        if seen != self._seen:
            self._value = indexed(self._globals.value)
            self._seen = seen
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        self._globals.close()
