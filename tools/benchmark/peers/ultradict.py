"""UltraDict2: a dict in each process, kept up to date by a stream of pickled changes in shared memory.

The value is one item of it: then a reader sees a change as a whole, and a map goes twenty times faster than with an
item for each of its keys. The lock has to be a shared one, as the processes are not forked from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from UltraDict2 import UltraDict

from benchmark.measure import new_name
from benchmark.peers._values import indexed, room

if TYPE_CHECKING:
    from benchmark.peers import Shape

_BUFFERED = 4  # so many large changes fit into the stream before all has to be dumped
_AT_LEAST = 1 << 20


class Writer:
    """Sets the item."""

    def __init__(self, _: Shape, size: int) -> None:
        self._dict = UltraDict(
            name=new_name("ultradict"),
            create=True,
            buffer_size=max(_BUFFERED * room(size), _AT_LEAST),
            shared_lock=True,
            auto_unlink=True,
        )

    @property
    def address(self) -> str:
        """Return the name."""
        name: str = self._dict.name
        return name

    def write(self, value: Any) -> None:
        """Append the change to the stream."""
        self._dict["value"] = value

    def close(self) -> None:
        """Remove all of it."""
        self._dict.close(unlink=True)


class Reader:
    """Looks into its own dict, which catches up with the stream before."""

    def __init__(self, _: Shape, address: str) -> None:
        self._dict = UltraDict(name=address, create=False, shared_lock=True, auto_unlink=False)
        self._seen: Any = None
        self._value: Any = None

    def get(self) -> Any:
        """Return the item."""
        found = self._dict["value"]
        if found is not self._seen:
            self._value, self._seen = indexed(found), found
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        self._value = self._seen = None
        self._dict.close()
