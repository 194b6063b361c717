"""shmsync itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import shmsync
from benchmark.measure import new_name

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmark.peers import Shape


class Writer:
    """Publishes with the default codec, maps as an ArrayMap with `codec="archive"`."""

    def __init__(self, shape: Shape, _: int, *, name: str | None = None) -> None:
        self._is_map = shape.endswith("map")
        codec = "archive" if self._is_map else "msgpack"
        self._writer = shmsync.Writer(name or new_name("peer"), codec=codec)

    @classmethod
    def resume(cls, shape: Shape, size: int, address: str) -> Self:
        """Take the name over."""
        return cls(shape, size, name=address)

    @property
    def address(self) -> str:
        """Return the name."""
        return self._writer.name

    def write(self, value: Any) -> None:
        """Publish it."""
        self._writer.write(value.array_map() if self._is_map else value)

    def close(self) -> None:
        """Remove the name."""
        self._writer.unlink()
        self._writer.close()


class Reader:
    """Takes the newest value."""

    def __init__(self, _: Shape, address: str) -> None:
        self._reader = shmsync.Reader[Any](address)
        self.get = self._reader.get
        self.pinned = self._reader.read
        self.close = self._reader.close

    def wait(self, timeout: float) -> None:
        """Wait for another version."""
        self._reader.wait(timeout=timeout)

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in place."""
        return found[key]
