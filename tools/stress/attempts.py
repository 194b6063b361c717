"""Count how often the protocol retries a read."""

from __future__ import annotations

import threading
from typing import Any

from shmsync._core import protocol


class AttemptCounter(threading.local):
    """The attempts of the reads of one thread.

    Attributes:
        maximum: the most attempts that one read needed.
        current: attempts of the read that is in progress.
    """

    maximum = 0
    current = 0


counter = AttemptCounter()


def count_attempts() -> None:
    """Wrap functions of the protocol in this process, so that `counter` counts how often a read enters its slot."""
    enter, hold = protocol.enter, protocol.hold

    def counted_enter(*args: Any) -> int:
        counter.current += 1
        return enter(*args)

    def counted_hold(*args: Any) -> Any:
        counter.current = 0
        try:
            return hold(*args)
        finally:
            counter.maximum = max(counter.maximum, counter.current)

    protocol.enter, protocol.hold = counted_enter, counted_hold  # type: ignore[assignment]
