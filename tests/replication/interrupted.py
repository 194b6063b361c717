"""Connections to a real server to which something happens at a given step of an upload or a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.errors import ReplicationError
from shmsync.replication.redis import RedisEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from shmsync.replication.engine import Location

STEPS = ("first chunk sent", "later chunk sent", "before add", "after add")
"""Steps of an upload. After `after add`, the entry is there, but the answer of the server is lost."""
DOWNLOAD_STEPS = ("first chunk received", "later chunk received")
_LATER = 6  # chunks: more than are requested at a time


class Interruption:
    """Performs an action once, at a step; is what opens connections: the argument `engine` of a Relay or Replica.

    Args:
        step: one of STEPS or DOWNLOAD_STEPS.
        action: what happens, such as that the server is killed.
    """

    def __init__(self, step: str, action: Callable[[], object]) -> None:
        self.step = step
        self.armed = False
        self.happened = False
        self._action = action

    def __call__(self, url: str, name: str, *, password: str | None) -> _InterruptedEngine:
        return _InterruptedEngine(self, url, name, password=password, timeout=5.0)

    def at(self, step: str) -> bool:
        """Perform the action if this is its step and it has not happened; return whether it has happened now."""
        if step != self.step or not self.armed:
            return False
        self.armed = False
        self._action()
        self.happened = True
        return True


class _InterruptedEngine(RedisEngine):
    def __init__(self, interruption: Interruption, *args: Any, **options: Any) -> None:
        self._interruption = interruption
        super().__init__(*args, **options)

    def _each(self, parts: Iterable[Any], direction: str) -> Iterator[Any]:
        for number, part in enumerate(parts):
            if number == 1:
                self._interruption.at(f"first chunk {direction}")
            if number == _LATER:
                self._interruption.at(f"later chunk {direction}")
            yield part

    def put(self, location: Location, chunks: Iterable[Any]) -> None:
        super().put(location, self._each(chunks, "sent"))

    def get(self, location: Location) -> Iterator[bytes | None]:
        yield from self._each(super().get(location), "received")

    def add(self, *args: Any) -> Any:
        self._interruption.at("before add")
        result = super().add(*args)
        if self._interruption.at("after add"):
            raise ReplicationError("the answer was lost")
        return result
