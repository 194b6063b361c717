"""The kinds of extensions: how a value of each type is described, and restored. `codecs.load` imports them.

The modules of these types take longer to import than shmsync, so a program without a handle does without them.
"""

from __future__ import annotations

import os
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PosixPath, PurePath, PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgpack import Timestamp

from shmsync.codecs._extensions import DESCRIBED, RESTORED
from shmsync.errors import EntityWriteError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECONDS_A_DAY = 86400


# ------------------------------------------------------------------------------------------------------ dates and times


def _describe_datetime(value: datetime) -> Timestamp | tuple[Any, ...]:
    if value.tzinfo is timezone.utc:
        since = value - _EPOCH  # not Timestamp.from_datetime: older releases of msgpack round it
        return Timestamp(since.days * _SECONDS_A_DAY + since.seconds, since.microseconds * 1000)
    return ("datetime", *_time_fields(value, value.utcoffset()))


def _describe_time(value: time) -> tuple[Any, ...]:
    return ("time", *_time_fields(value, value.utcoffset()))


def _time_fields(value: Any, offset: timedelta | None) -> tuple[Any, ...]:
    """Return the ISO 8601 text with the UTC offset, then, where they matter, the fold and the key of the time zone."""
    zone = value.tzinfo
    text = value.replace(tzinfo=None if offset is None else timezone(offset)).isoformat()
    key = zone.key if isinstance(zone, ZoneInfo) else None
    return (text, value.fold, key) if key else (text, value.fold) if value.fold else (text,)


def _restore_datetime(text: str, fold: int = 0, key: str | None = None) -> datetime:
    value = datetime.fromisoformat(text).replace(fold=fold)
    zone = _zone(key)
    if zone is None:
        return value
    zoned = value.replace(tzinfo=zone)
    # This host may have other rules for the zone than the writer had.
    return zoned if zoned.utcoffset() == value.utcoffset() else value


def _restore_time(text: str, fold: int = 0, key: str | None = None) -> time:
    value = time.fromisoformat(text).replace(fold=fold)
    zone = _zone(key)
    return value if zone is None else value.replace(tzinfo=zone)


def _zone(key: str | None) -> tzinfo | None:
    try:
        return ZoneInfo(key) if key else None
    except (ValueError, LookupError, OSError):
        return None


def _describe_timedelta(value: timedelta) -> tuple[Any, ...]:
    return ("timedelta", value.days, value.seconds, value.microseconds)


# ----------------------------------------------------------------------------------------------------- numbers and ids


def _describe_int(value: int) -> tuple[Any, ...]:
    return ("int", int(value).to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _restore_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _restore_range(start: int, stop: int, step: int) -> range:
    return range(start, stop, step)


def _restore_uuid(data: bytes) -> UUID:
    return UUID(bytes=bytes(data))


# --------------------------------------------------------------------------------------------------------------- paths


def _describe_path(value: PurePath) -> tuple[Any, ...]:
    return ("path" if isinstance(value, Path) else "purepath", _path_bytes(value))


def _path_bytes(value: PurePath) -> bytes:
    try:
        return os.fsencode(value)
    except UnicodeEncodeError as error:
        raise EntityWriteError(f"the path {str(value)!r:.60} is not valid: {error}") from error


def _restore_path(data: bytes) -> Path:
    return Path(os.fsdecode(data))


def _restore_pure_path(data: bytes) -> PurePosixPath:
    return PurePosixPath(os.fsdecode(data))


# ---------------------------------------------------------------------------------------------------------------- sets


def _restore_set(elements: Any) -> set[Any]:
    return set(elements)


def _restore_frozenset(elements: Any) -> frozenset[Any]:
    return frozenset(elements)


DESCRIBED |= {
    # A subclass before its base.
    datetime: _describe_datetime,
    date: lambda value: ("date", value.isoformat()),
    time: _describe_time,
    timedelta: _describe_timedelta,
    Decimal: lambda value: ("decimal", str(value)),
    UUID: lambda value: ("uuid", value.bytes),
    set: lambda value: ("set", tuple(value)),
    frozenset: lambda value: ("frozenset", tuple(value)),
    int: _describe_int,  # beyond 64 bits
    complex: lambda value: ("complex", value.real, value.imag),
    range: lambda value: ("range", value.start, value.stop, value.step),
    PosixPath: _describe_path,
    PurePosixPath: _describe_path,
}

RESTORED |= {
    "datetime": _restore_datetime,
    "date": date.fromisoformat,
    "time": _restore_time,
    "timedelta": timedelta,
    "decimal": Decimal,
    "uuid": _restore_uuid,
    "set": _restore_set,
    "frozenset": _restore_frozenset,
    "int": _restore_int,
    "complex": complex,
    "range": _restore_range,
    "path": _restore_path,
    "purepath": _restore_pure_path,
}
