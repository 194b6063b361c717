"""The bell of a name: readers sleep until the next version, and a writer that nobody waits for pays no system call.

The version word is a futex. Besides, there is a word `awaited`, which says that somebody may be asleep:

    a reader   1. awaited := 1   2. is the version still what it has seen? Then sleep; the kernel looks once more.
    a writer   1. was it awaited? Then awaited := 0   2. publish   3. was it (1), or is it now? Then wake everybody.

Nobody sleeps through a publish. Take the reader's step 1 and what the writer's look before the publish makes of it:

- It comes after the publish's look 3: then it comes after the publish, and step 2 finds another version.
- It comes before look 3 and is not cleared: look 3 sees it, and everybody is woken.
- It is cleared in step 1 of the writer: then this write wakes everybody.

Woken is whoever is asleep by then; whoever is still on its way finds, by itself or through the kernel, that the version
has changed. A reader that dies asleep leaves `awaited` set, which costs the next write one call for nothing. Readers
may write to that word, so a hostile one can make others miss a call: they look up every second by themselves.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync._shm import futex
from shmsync._util.duration import pauses

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.ports import Word

_FIRST_LOOK = 0.0002
_LAST_LOOK = 0.005


def wake(state: mmap, version_at: int) -> None:
    """Wake whoever sleeps on the version word of a mapped state segment."""
    futex.Futex(state, version_at).wake()


class Bell:
    """The bell of one life of a name.

    Args:
        state: the mapped state segment.
        version_at: offset of the version word in it.
        version: that word.
        awaited: the word that says whether somebody may be asleep.

    Attributes:
        futex: of the version word.
    """

    __slots__ = ("_awaited", "_version", "futex")

    def __init__(self, state: mmap, version_at: int, version: Word, awaited: Word) -> None:
        self.futex = futex.Futex(state, version_at)
        self._version = version
        self._awaited = awaited

    # The writer's side.

    def before(self) -> bool:
        """Tell whether somebody may be asleep; call right before a publish, and `after` with the answer after it."""
        if self._awaited.load() == 0:
            return False
        self._awaited.store(0)
        return True

    def after(self, *, owed: bool) -> None:
        """Wake whoever may be asleep."""
        if owed or self._awaited.load():
            self.futex.wake()

    # The reader's side.

    def expect(self, seen: int) -> bool:
        """Announce that somebody is about to sleep; tell whether the version is still `seen`."""
        self._awaited.store(1)  # SYNC POINT bell: before the look at the version
        return self._version.load() == seen

    def wait(self, seen: int, timeout: float) -> None:
        """Sleep while the version is `seen`, for at most `timeout` seconds. May return early."""
        if not futex.AVAILABLE:
            self._poll(seen, timeout)
        elif self.expect(seen):
            self.futex.wait(seen, timeout)

    def _poll(self, seen: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for pause in pauses(_FIRST_LOOK, _LAST_LOOK):
            left = deadline - time.monotonic()
            if left <= 0 or self._version.peek() != seen:
                return
            time.sleep(min(pause, left))
