"""Removals from outside, recorded in shared memory, and what each of them permits writers and readers to see."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTICE_TIME = 2_000_000_000
"""Nanoseconds that a removal has consequences after the name is complete again.

Another writer may have completed it. The one that was active checks its names once a second, and then has to write.
"""
_RECORDED = 64
_COUNT, _BEGUN, _ENDED, _RECORDS = range(4)
_NOT_HEALED = 1 << 63


class Removals:
    """The removals of a run. The harness records them, all processes ask.

    Removal of the state segment or the reader table, and a forced removal, end an incarnation: the writer that was
    active starts another one at version 1, possibly with the value that it was about to write, and another writer may
    be faster. Until the first one notices, it goes on in the old incarnation, and its attached readers with it. Removal
    of a data segment ends nothing, but a reader that has not mapped it cannot read until the next write.

    Args:
        context: a context of multiprocessing.
    """

    def __init__(self, context: Any) -> None:
        self._words = context.RawArray("Q", _RECORDS + 3 * _RECORDED)

    @contextmanager
    def recorded(self, *, ends_incarnation: bool) -> Iterator[None]:
        """Record the removal that the block makes, before and after."""
        words = self._words
        at = _RECORDS + 3 * (words[_COUNT] % _RECORDED)
        words[at : at + 3] = [time.monotonic_ns(), _NOT_HEALED, ends_incarnation]
        words[_COUNT] += 1
        words[_BEGUN] += ends_incarnation
        try:
            yield
        finally:
            words[_ENDED] += ends_incarnation

    def note_healed(self) -> None:
        """Record that the name is complete again."""
        words, now = self._words, time.monotonic_ns()
        for at in self._positions():
            if words[at + 1] == _NOT_HEALED:
                words[at + 1] = now

    def epoch(self) -> int:
        """Return how many removals that end an incarnation are over. One that is in progress may still end the next."""
        count: int = self._words[_ENDED]
        return count

    def permit_restart(self, epoch: int) -> bool:
        """Return whether an incarnation that began in an epoch may have ended from outside."""
        began: int = self._words[_BEGUN]
        return began > epoch

    def permit_older(self, older: int, newer: int) -> bool:
        """Return whether a value may be read after a newer one, given the times in ns at which their writes began."""
        ending = [(begun, healed) for begun, healed, ends in self._recorded() if ends]
        return any(begun <= newer and older <= healed + _NOTICE_TIME for begun, healed in ending)

    def permit_error(self, started: int) -> bool:
        """Return whether a call that started at a time in ns, and ends now, may have found a segment missing."""
        return any(started <= healed + _NOTICE_TIME for _, healed, _ in self._recorded())

    def _positions(self) -> range:
        return range(_RECORDS, _RECORDS + 3 * min(self._words[_COUNT], _RECORDED), 3)

    def _recorded(self) -> Iterator[tuple[int, int, int]]:
        words = self._words[:]
        for at in self._positions():
            yield words[at], words[at + 1], words[at + 2]
