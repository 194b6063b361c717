"""What happens to handles when a process forks.

Everything that holds a lock, a slot or a writer registers here once; at a fork each object is asked to prepare in the
parent and to find itself in the child. References are weak: registering keeps nothing alive.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    """An object that must know about forks."""

    def before_fork(self) -> None:
        """Prepare, in the parent."""

    def after_fork_in_child(self) -> None:
        """Find oneself in the child: other threads are gone, and whatever they were doing is half done."""


_objects: weakref.WeakSet[Forkable] = weakref.WeakSet()
_lock = threading.RLock()  # held across the fork, so that nobody registers in between


def register(item: Forkable) -> None:
    """Tell `item` about every later fork, as long as it lives."""
    with _lock:
        _objects.add(item)


def _before() -> None:
    _lock.acquire()
    for item in list(_objects):
        item.before_fork()


def _after_in_parent() -> None:
    _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 - the old one belongs to a thread of the parent
    _lock = threading.RLock()
    for item in list(_objects):
        item.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
