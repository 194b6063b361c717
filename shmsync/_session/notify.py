"""Notify waiting readers of a new version. A writer without waiters makes no system call.

The version word is a futex. The word `waiters` says that a reader may be asleep:

    reader, arm      1. waiters := 1   2. if the version is still the one seen: sleep; the kernel compares once more
    writer, disarm   1. if waiters: waiters := 0
            publish  2. version := seq
            notify   3. if waiters was set in 1 or is set now: wake all

No wake-up is lost. There are three cases, by when the reader's step 1 takes place:

- After the load of step 3: then it is after the publish, and the reader's step 2 finds the new version.
- Before the load of step 3, and not cleared by step 1: step 3 finds the word set and wakes all readers.
- Before step 1 of the writer, which clears the word: step 3 wakes all readers, because the word was set.

A wake reaches the readers that are asleep. A reader that is not asleep yet finds that the version has changed, by its
own load or by the kernel's comparison. A reader that dies asleep leaves `waiters` set, which costs the next write one
system call. Readers can write to that word, so a hostile one can suppress a wake; waiters therefore poll once per
second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync._shm import futex, hub
from shmsync._util.backoff import backoff

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.ports import Word

_MIN_POLL = 0.0002
_MAX_POLL = 0.005


def wake(state: mmap, version_at: int) -> None:
    """Wake all readers that sleep on the version word of a mapped state segment."""
    futex.Futex(state, version_at).wake()


class Notifier:
    """The version word as a futex, with the word `waiters`.

    Args:
        state: the mapped state segment.
        version_at: offset of the version word in it, in bytes.
        version: the version word.
        waiters: the word that says whether a reader may be asleep; None in isolated mode, for readers: they cannot
            write to a word, and the writer wakes after each publish.

    Attributes:
        futex: futex of the version word.
    """

    __slots__ = ("_version", "_waiters", "futex")

    def __init__(self, state: mmap, version_at: int, version: Word, waiters: Word | None) -> None:
        self.futex = futex.Futex(state, version_at)
        self._version = version
        self._waiters = waiters

    # The writer's side.

    def disarm(self) -> bool:
        """Return whether a reader may be asleep. Call right before a publish; pass the result to `notify` after it."""
        assert self._waiters is not None
        if self._waiters.load() == 0:
            return False
        self._waiters.store(0)
        return True

    def notify(self, *, had_waiters: bool) -> None:
        """Wake all readers that may be asleep."""
        if had_waiters or (self._waiters is not None and self._waiters.load()):
            self.futex.wake()

    # The reader's side.

    def arm(self, seen: int) -> bool:
        """Announce that a reader is about to sleep; return whether the version is still `seen`."""
        if self._waiters is not None:
            self._waiters.store(1)  # SYNC POINT notify: before the load of the version
        return self._version.load() == seen

    def wait(self, seen: int, timeout: float) -> None:
        """Sleep while the version is `seen`, for at most `timeout` seconds. May return early.

        Polls where the kernel has no futexes for this process, and under gevent and eventlet, where the sleep of one
        greenlet must not stop the others.
        """
        if not futex.AVAILABLE or hub.is_patched() or (self.arm(seen) and not self.futex.wait(seen, timeout)):
            self._poll(seen, timeout)

    def _poll(self, seen: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for pause in backoff(_MIN_POLL, _MAX_POLL):
            left = deadline - time.monotonic()
            if left <= 0 or self._version.load_relaxed() != seen:
                return
            time.sleep(min(pause, left))
