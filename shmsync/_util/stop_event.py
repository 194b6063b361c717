"""StopEvent: what a signal handler sets, so that a loop ends."""

from __future__ import annotations

import threading


class StopEvent(threading.Event):
    """An Event that a signal handler may set while it interrupts `wait`, `set` or `clear` of the same thread.

    `threading.Event` has a lock that is not reentrant, so such a handler would wait for the call that it interrupts. A
    handler that interrupts `wait` just before it begins to wait may be noticed only when the timeout is over.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_set = False
        self._changed = threading.Condition(threading.RLock())

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all threads that wait for it."""
        self._is_set = True  # first: the handler may have interrupted a `wait` that is about to look at it
        with self._changed:
            self._changed.notify_all()

    def clear(self) -> None:
        """Reset it."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for `timeout` seconds at most; return whether it is set."""
        with self._changed:
            self._changed.wait_for(self.is_set, timeout)
        return self._is_set
