"""Durations as users pass them: seconds or a timedelta."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.errors import InvalidArgumentError

if TYPE_CHECKING:
    from datetime import timedelta


def seconds(duration: float | timedelta, parameter: str) -> float:
    """Return a duration in seconds.

    Args:
        duration: seconds or a timedelta.
        parameter: name of the parameter, for the error message.

    Raises:
        InvalidArgumentError: the duration is negative, NaN, or of another type.
    """
    total_seconds: Any = getattr(duration, "total_seconds", None)  # without an import of datetime, which takes long
    refused = isinstance(duration, (str, bytes, bytearray, memoryview, bool))  # float() accepts them
    try:
        value = 0.0 if refused else float(duration if total_seconds is None else total_seconds())  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        refused = True
    if refused:
        raise InvalidArgumentError(f"{parameter} must be seconds or a timedelta, not {duration!r}")
    if not value >= 0:  # negative or NaN
        raise InvalidArgumentError(f"{parameter} must be 0 seconds or more, not {duration!r}")
    return value
