"""shmsync itself, with the default codec; maps as an ArrayMap with `codec="archive"`, a row map as an array."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import shmsync
from bench.names import new_name
from bench.peers import base

if TYPE_CHECKING:
    from collections.abc import Iterator


class Writer(base.Writer):
    can_replace = True

    def __init__(self, shape: str, _: int, address: str | None = None) -> None:
        self._is_rows = shape == "row map"
        self._is_map = shape.endswith("map") and not self._is_rows
        self.address = address or new_name("peer")
        self._writer = shmsync.Writer(self.address, codec="archive" if self._is_map else "msgpack")

    def write(self, value: Any) -> None:
        self._writer.write(value.array_map() if self._is_map else value.values if self._is_rows else value)

    def update(self, part: Any) -> None:
        with self._writer.update() as draft:
            if self._is_rows:
                draft[part.keys] = part.values
            else:
                draft.update(part.keys, part.values)

    def close(self) -> None:
        self._writer.unlink()
        self._writer.close()


class FullWriter(Writer):
    """Writes the whole map for each change of it: the one that it was given first, which the caller changes."""

    _whole: Any = None

    def prepare(self, value: Any) -> Any:
        if self._whole is None:
            self._whole = value
        return value

    def update(self, _: Any) -> None:
        self.write(self._whole)


class Reader(base.Reader):
    def __init__(self, _: str, address: str) -> None:
        self._reader = shmsync.Reader[Any](address)
        self.get = self._reader.get  # type: ignore[method-assign]
        self.pin = self._reader.read
        self.close = self._reader.close  # type: ignore[method-assign]

    def wait(self, timeout: float) -> None:
        self._reader.wait(timeout=timeout)


FullReader = Reader


@contextmanager
def channel(kind: str, **options: Any) -> Iterator[tuple[shmsync.Writer, shmsync.Reader[Any]]]:
    """Yield a writer and a reader of a new name."""
    name = new_name(kind)
    with shmsync.Writer(name, grace_duration=0, **options) as writer, shmsync.Reader[Any](name) as reader:
        try:
            yield writer, reader
        finally:
            writer.unlink()
