"""Durations as users pass them: seconds or a timedelta."""

from __future__ import annotations

from datetime import timedelta

from shmsync.errors import InvalidArgumentError


def seconds(duration: float | timedelta, parameter: str) -> float:
    """Return a duration in seconds.

    Args:
        duration: seconds or a timedelta.
        parameter: name of the parameter, for the error message.

    Raises:
        InvalidArgumentError: the duration is negative, NaN, or of another type.
    """
    try:
        value = duration.total_seconds() if isinstance(duration, timedelta) else float(duration)
    except (TypeError, ValueError, OverflowError):
        raise InvalidArgumentError(f"{parameter} must be seconds or a timedelta, not {duration!r}") from None
    if not value >= 0:  # negative or NaN
        raise InvalidArgumentError(f"{parameter} must be 0 seconds or more, not {duration!r}")
    return value
