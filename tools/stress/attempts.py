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
    enter, pin_and_map = protocol.enter, protocol.pin_and_map

    def counted_enter(*args: Any) -> int:
        counter.current += 1
        return enter(*args)

    def counted_pin_and_map(*args: Any) -> Any:
        counter.current = 0
        try:
            return pin_and_map(*args)
        finally:
            counter.maximum = max(counter.maximum, counter.current)

    protocol.enter, protocol.pin_and_map = counted_enter, counted_pin_and_map  # type: ignore[assignment]
