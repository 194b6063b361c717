"""Durations as users give them, and pauses that grow."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shmsync.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator


def seconds(duration: float | timedelta, what: str) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidArgumentError: negative, not a number, or not a duration at all.
    """
    try:
        value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(f"{what} must be seconds or a timedelta, not {duration!r}") from None
    if not value >= 0:
        raise InvalidArgumentError(f"{what} must not be negative: {duration!r}")
    return value


def pauses(first: float, last: float) -> Iterator[float]:
    """Yield pauses between looks in seconds, without end: each twice as long as the one before, at most `last`."""
    pause = first
    while True:
        yield pause
        pause = min(2 * pause, last)
