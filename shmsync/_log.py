"""The logger "shmsync": silent unless the program configures logging.

WARNING: a reader was evicted, memory had to be replaced because of readers, a writer died. DEBUG: attach, claim,
replace. Nothing on the road of an unchanged `get()` or a plain write.
"""

from __future__ import annotations

import logging
import time

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
