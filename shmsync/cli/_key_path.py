"""The way to a part of a value, and values as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from shmsync.errors import ShmSyncError

_SHOWN = 8  # keys in a message
_BYTES = (bytes, bytearray)


class NoSuchKeyError(ShmSyncError, LookupError):
    """The value has no such part."""


def find(value: Any, keys: Sequence[str]) -> Any:
    """Return the part of a value that keys lead to; each may be several with dots between them.

    Raises:
        NoSuchKeyError: there is none.
    """
    done: list[str] = []
    for key in keys:
        if _has(value, key):  # a key may have dots of its own
            value = _step(value, key, done)
        else:
            for part in key.split("."):
                value = _step(value, part, done)
    return value


def _has(value: Any, key: str) -> bool:
    return isinstance(value, Mapping) and key in value


def _step(value: Any, key: str, done: list[str]) -> Any:
    """Go one step; `done` are the steps before it."""
    where = ".".join(done) or "the value"
    done.append(key)
    if isinstance(value, Mapping):
        for candidate in _readings(key):
            if candidate in value:
                return value[candidate]
        keys = ", ".join(key_text(each) for each in islice(value, _SHOWN))
        raise NoSuchKeyError(f"no key {key!r} in {where}; there are {len(value):,}: {keys}")
    if isinstance(value, str | bytes) or not hasattr(value, "__getitem__"):
        raise NoSuchKeyError(f"{where} is {type(value).__name__}: it has no parts, so no {key!r}")
    try:
        return value[int(key)]
    except ValueError:
        raise NoSuchKeyError(f"{where} is a list: {key!r} is no number") from None
    except IndexError:
        raise NoSuchKeyError(f"no item {key} in {where}; it has {len(value):,}") from None


def _readings(key: str) -> list[Any]:
    """Return what a key may mean: the text; the number, bool or tuple that it looks like."""
    try:
        other = json.loads(key)
    except ValueError:
        return [key]
    if isinstance(other, list) and not any(isinstance(item, list | dict) for item in other):
        other = tuple(other)
    return [key] if isinstance(other, list | dict) else [key, other]


def as_json(value: Any) -> Any:
    """Return a value as what JSON has."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of(value)
    if isinstance(value, _BYTES) or (isinstance(value, memoryview) and value.format in {"B", "c"}):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {key_text(key): as_json(item) for key, item in value.items()}
    for plain in ("tolist", "to_pylist"):  # arrays and what is in them; Arrow tables
        if hasattr(value, plain):
            return as_json(getattr(value, plain)())
    return [as_json(item) for item in value] if isinstance(value, Sequence) else str(value)


def _name_of(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def key_text(key: Any) -> str:
    """Return a key as JSON has it: as text."""
    return key if isinstance(key, str) else json.dumps(as_json(key))
