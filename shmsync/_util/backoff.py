"""Exponential backoff: how long to pause between two polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def backoff(initial: float, maximum: float) -> Iterator[float]:
    """Yield pauses in seconds, without end: `initial`, then each twice as long as the one before, up to `maximum`."""
    pause = min(initial, maximum)
    while True:
        yield pause
        pause = min(2 * pause, maximum)
