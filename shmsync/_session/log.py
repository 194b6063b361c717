"""The logger "shmsync": silent unless the program configures logging.

WARNING: a reader was evicted, memory was replaced because of readers, a writer died. DEBUG: attach, claim, replace. An
unchanged `get()` or a plain write logs nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmsync._core.protocol import PreparedWrite

logger = logging.getLogger("shmsync")
logger.addHandler(logging.NullHandler())

_INTERVAL = 1.0


class RateLimitedLogger:
    """Logs one warning per second or fewer; the next one contains the number of suppressed ones."""

    def __init__(self) -> None:
        self._next = 0.0
        self._suppressed = 0

    def warn(self, text: str, *args: object) -> None:
        """Log a warning, unless the last one was less than a second ago."""
        now = time.monotonic()
        if now < self._next:
            self._suppressed += 1
            return
        self._next = now + _INTERVAL
        suppressed, self._suppressed = self._suppressed, 0
        if suppressed:
            text, args = text + " (%d similar messages suppressed)", (*args, suppressed)
        logger.warning(text, *args)


class WriterLog:
    """The log messages of a Writer.

    Args:
        name: the user's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._resets, self._replacements = RateLimitedLogger(), RateLimitedLogger()

    def took_over(self, pid: int) -> None:
        """Log that the writer of another process had died."""
        logger.warning("%s: took over from process %d, which exited without closing its writer", self._name, pid)

    def kept_max_readers(self, found: int, wanted: int) -> None:
        """Log that the name has another number of reader slots than this writer asks for."""
        text = "%s: max_readers stays %d, not %d: it is fixed when a name is created; unlink the name to change it"
        logger.warning(text, self._name, found, wanted)

    def changed_mode(self, found: int, wanted: int) -> None:
        """Log that the segments of an earlier writer got this writer's mode."""
        logger.warning("%s: mode changed from %#o to %#o", self._name, found, wanted)

    def published(self, prepared: PreparedWrite, evicted: list[int]) -> None:
        """Log what a write did to readers and memory.

        Args:
            prepared: the write.
            evicted: pids of the readers that are evicted.
        """
        if prepared.reset:
            what = (
                f"evicted readers of process {', '.join(map(str, evicted))}" if evicted else "reclaimed a dead reader"
            )
            self._resets.warn("%s: version %d: %s", self._name, prepared.seq, what)
        if prepared.held:
            text = "%s: version %d needed new memory: readers still read the old one, or retain values from it"
            self._replacements.warn(text, self._name, prepared.seq)
        if prepared.replaced:
            logger.debug("%s: data_%d replaced, generation %d", self._name, prepared.idx, prepared.generation)
