"""Dotted paths into a value, and values as JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from shmsync.cli._units import count_text
from shmsync.errors import ShmSyncError

_MAX_LISTED = 8  # keys in an error message
_BYTES = (bytes, bytearray)
# C1 controls, line separators, text direction, and surrogates, which cannot be encoded. json escapes the C0 controls.
_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class NoSuchKeyError(ShmSyncError, LookupError):
    """The value has nothing at this path."""


def resolve(value: Any, keys: Sequence[str]) -> Any:
    """Return the part of a value at a path.

    Args:
        value: the value to look into.
        keys: applied one after the other. Each is a key, an index, or several of them separated by dots.

    Raises:
        NoSuchKeyError: a key or an index does not exist.
    """
    done: list[str] = []
    for key in keys:
        if isinstance(value, Mapping) and key in value:  # the key itself may contain dots
            value = _step(value, key, done)
        else:
            for part in key.split("."):
                value = _step(value, part, done)
    return value


def _step(value: Any, key: str, done: list[str]) -> Any:
    """Apply one key; append it to `done`, the keys applied so far."""
    where = ".".join(done) or "the value"
    done.append(key)
    if isinstance(value, Mapping):
        for candidate in _candidates(key):
            if candidate in value:
                return value[candidate]
        raise NoSuchKeyError(f"no key {key!r} in {where}, which {_keys_text(value)}")
    if isinstance(value, str | bytes) or not hasattr(value, "__getitem__"):
        raise NoSuchKeyError(f"no key {key!r} in {where}, which is of type {type(value).__name__}; shorten the path")
    try:
        return value[int(key)]
    except ValueError:
        raise NoSuchKeyError(f"{where} is a sequence and {key!r} is not an integer; use an index") from None
    except IndexError:
        raise NoSuchKeyError(f"no item {key} in {where}, which has {count_text(len(value), 'item')}") from None


def _keys_text(value: Mapping[Any, Any]) -> str:
    """Return a clause about the keys of a map."""
    if not value:
        return "is empty"
    keys = ", ".join(key_text(each) for each in islice(value, _MAX_LISTED))
    return f"has {count_text(len(value), 'key')}: {keys}{', ...' if len(value) > _MAX_LISTED else ''}"


def _candidates(key: str) -> list[Any]:
    """Return the keys that a text may stand for: the text itself, and the number, bool, None or tuple it spells."""
    try:
        parsed = json.loads(key)
    except ValueError:
        return [key]
    if isinstance(parsed, list) and not any(isinstance(item, list | dict) for item in parsed):
        parsed = tuple(parsed)
    return [key] if isinstance(parsed, list | dict) else [key, parsed]


def to_json(value: Any) -> Any:
    """Convert a value to the types that JSON has."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _non_finite_text(value)
    if isinstance(value, _BYTES) or (isinstance(value, memoryview) and value.format in {"B", "c"}):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {key_text(key): to_json(item) for key, item in value.items()}
    for method in ("tolist", "to_pylist"):  # NumPy arrays and scalars; Arrow tables
        if hasattr(value, method):
            return to_json(getattr(value, method)())
    is_list = isinstance(value, Sequence | AbstractSet) and not isinstance(value, range)  # which may have 2^70 elements
    return [to_json(item) for item in value] if is_list else str(value)


def json_text(value: Any) -> str:
    """Return a value of JSON types as JSON that is safe to print: what controls a terminal is escaped."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def _non_finite_text(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def key_text(key: Any) -> str:
    """Return a key as text, since JSON has no other keys."""
    return key if isinstance(key, str) else json.dumps(to_json(key))
