"""Callbacks before and after the process forks.

An object that holds a lock, a slot or a writer registers here once. It is called in the parent before a fork, or in the
child after it. References are weak: registering does not keep an object alive.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class BeforeFork(Protocol):
    """An object that prepares for a fork in the parent."""

    def before_fork(self) -> None:
        """Prepare."""


class AfterFork(Protocol):
    """An object that has to be reset in the child: no other thread runs there, and their work was interrupted."""

    def after_fork_in_child(self) -> None:
        """Reset."""


_before_objects: weakref.WeakSet[BeforeFork] = weakref.WeakSet()
_after_objects: weakref.WeakSet[AfterFork] = weakref.WeakSet()
_lock = threading.RLock()  # held across the fork, so that no object is registered during it


def call_before(item: BeforeFork) -> None:
    """Call `item.before_fork` before every later fork, as long as it is alive."""
    with _lock:
        _before_objects.add(item)


def call_after(item: AfterFork) -> None:
    """Call `item.after_fork_in_child` after every later fork, as long as it is alive."""
    with _lock:
        _after_objects.add(item)


def _before() -> None:
    _lock.acquire()
    for item in list(_before_objects):
        item.before_fork()


def _after_in_parent() -> None:
    _lock.release()


def _after_in_child() -> None:
    global _lock  # noqa: PLW0603 - the old one may belong to a thread of the parent
    _lock = threading.RLock()
    for item in list(_after_objects):
        item.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
