"""Sizes, durations, times and numbers as text. Every function returns "-" for None."""

from __future__ import annotations

import time

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_KIB = 1024
_SPANS = ((120, 1, "s"), (120 * 60, 60, "m"), (48 * 3600, 3600, "h"))
_DAY = 86400


def size_text(size: float | None) -> str:
    """Return a size in bytes as text: "512 B", "1.5 MiB"."""
    if size is None:
        return "-"
    for unit in _UNITS:
        if size < _KIB or unit == _UNITS[-1]:
            break
        size /= _KIB
    return f"{size:.0f} B" if unit == _UNITS[0] else f"{size:.1f} {unit}"


def span_text(seconds: float | None) -> str:
    """Return a duration in seconds as text: "45s", "12m", "30h", "4d"."""
    if seconds is None:
        return "-"
    for limit, unit, letter in _SPANS:
        if seconds < limit:
            return f"{max(0, int(seconds)) // unit}{letter}"
    return f"{int(seconds) // _DAY}d"


def since_text(moment: float | None) -> str:
    """Return the time elapsed since a Unix time as text."""
    return "-" if moment is None else span_text(time.time() - moment)


def time_text(moment: float | None) -> str:
    """Return a Unix time as local date and time."""
    return "-" if moment is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def number_text(number: int | None) -> str:
    """Return an integer with thousands separators."""
    return "-" if number is None else f"{number:,}"


def count_text(number: int, noun: str) -> str:
    """Return a count with its noun: "1 name", "2 names"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
