"""The logger "shmsync": silent unless the program configures logging.

WARNING: a reader was evicted, memory had to be replaced because of readers, a writer died. DEBUG: attach, claim,
replace. Nothing on the road of an unchanged `get()` or a plain write.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmsync._core.protocol import Published

logger = logging.getLogger("shmsync")
logger.addHandler(logging.NullHandler())

_EVERY = 1.0


class Seldom:
    """Warns at most once a second; the next warning says how many were left out."""

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def warn(self, text: str, *args: object) -> None:
        """Log a warning, unless the last one was less than a second ago."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        self._next = now + _EVERY
        more, self._left_out = self._left_out, 0
        if more:
            text, args = text + " (and %d more since the last message)", (*args, more)
        logger.warning(text, *args)


class WriterLog:
    """What a Writer tells beyond what its writes return."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._of_resets, self._of_replacements = Seldom(), Seldom()

    def took_over(self, predecessor: int) -> None:
        """Tell that a writer of another process had died."""
        text = "%s: took over from process %d, which ended without closing its writer"
        logger.warning(text, self._name, predecessor)

    def published(self, published: Published, evicted: list[int]) -> None:
        """Tell what a write did to readers, and to memory.

        Args:
            published: the write.
            evicted: processes whose readers it evicted.
        """
        if published.reset:
            who = (
                f"evicted readers of process {', '.join(map(str, evicted))}"
                if evicted
                else "cleared a dead reader away"
            )
            self._of_resets.warn("%s: version %d: %s", self._name, published.seq, who)
        if published.held:
            text = "%s: version %d needed new memory: readers are still inside a read, or keep what they got"
            self._of_replacements.warn(text, self._name, published.seq)
        if published.replaced:
            logger.debug("%s: data_%d replaced, generation %d", self._name, published.idx, published.generation)
