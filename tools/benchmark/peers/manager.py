"""multiprocessing.Manager: a server process holds a dict; each look is a round trip, each value is pickled twice.

Other processes connect to it as under "Using a remote manager" in its documentation.
"""

from __future__ import annotations

from contextlib import nullcontext
from multiprocessing import current_process, get_context
from multiprocessing.managers import ConditionProxy, DictProxy, SyncManager  # type: ignore[attr-defined]
from threading import Condition
from typing import TYPE_CHECKING, Any

from benchmark.peers._values import indexed

if TYPE_CHECKING:
    from benchmark.peers import Shape

_shared: dict[str, Any] = {}
_changed = Condition()


def _get_shared() -> dict[str, Any]:
    return _shared


def _get_changed() -> Condition:
    return _changed


class _Manager(SyncManager):
    """A manager with one dict for all who connect, and a condition."""


_Manager.register("get_shared", _get_shared, DictProxy)
_Manager.register("get_changed", _get_changed, ConditionProxy)


class Writer:
    """Starts the server."""

    def __init__(self, *_: Any) -> None:
        self._manager = _Manager(ctx=get_context("spawn"))
        self._manager.start()
        self._dict = self._manager.get_shared()  # type: ignore[attr-defined]
        self._changed: Any = None
        self._version = 0

    def announce(self) -> None:
        """Notify a condition of each update."""
        self._changed = self._manager.get_changed()  # type: ignore[attr-defined]

    @property
    def address(self) -> tuple[Any, bytes]:
        """Return address and key of the server."""
        return self._manager.address, bytes(current_process().authkey)

    def write(self, value: Any) -> None:
        """Update value and version in one call."""
        self._version += 1
        with self._changed or nullcontext():
            self._dict.update(version=self._version, value=value)
            if self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """End the server."""
        self._manager.shutdown()


class Reader:
    """Asks for the version, and for all if that has changed."""

    def __init__(self, _: Shape, address: tuple[Any, bytes]) -> None:
        current_process().authkey = address[1]
        self._manager = _Manager(*address)
        self._manager.connect()
        self._dict = self._manager.get_shared()  # type: ignore[attr-defined]
        self._changed = self._manager.get_changed()  # type: ignore[attr-defined]
        self._seen = 0
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, fetched if it is another one."""
        if self._dict["version"] != self._seen:
            found = self._dict.copy()
            self._seen = found["version"]
            self._value = indexed(found["value"])
        return self._value

    def wait(self, timeout: float) -> None:
        """Wait for the condition."""
        with self._changed:
            if self._dict["version"] == self._seen:
                self._changed.wait(timeout)

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Disconnect."""
        del self._dict, self._changed
