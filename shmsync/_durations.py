"""Durations as users give them."""

from __future__ import annotations

from datetime import timedelta

from shmsync.errors import InvalidArgumentError


def seconds(duration: float | timedelta, what: str) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidArgumentError: negative, not a number, or not a duration at all.
    """
    try:
        value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"{what} must be seconds or a timedelta, not {duration!r}") from None
    if not value >= 0:
        raise InvalidArgumentError(f"{what} must not be negative: {duration!r}")
    return value
