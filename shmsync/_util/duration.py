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
    refused = isinstance(duration, (str, bytes, bytearray, memoryview, bool))  # float() accepts them
    try:
        value = duration.total_seconds() if isinstance(duration, timedelta) else 0.0 if refused else float(duration)
    except (TypeError, ValueError, OverflowError):
        refused = True
    if refused:
        raise InvalidArgumentError(f"{parameter} must be seconds or a timedelta, not {duration!r}")
    if not value >= 0:  # negative or NaN
        raise InvalidArgumentError(f"{parameter} must be 0 seconds or more, not {duration!r}")
    return value
