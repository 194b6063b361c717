"""Records: dataclasses, msgspec Structs and attrs instances, as the plain values that codecs write.

Fields are written as msgspec does, so that a typed read returns an equal record: under their encoded names, without
those that are not set, and with the value of an enumeration's member in its place.

A value can only be a record if the process has imported the module for it, so testing for one does not import it.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_MISSING: Any = object()
_MAX_DEPTH = 100  # of containers in one field


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether a value is an instance of a class, whose module may not have been imported."""
    class_ = getattr(sys.modules.get(module), name, None)  # None, too, while the module is being imported
    return class_ is not None and isinstance(value, class_)


def fields_of(value: Any, *, dates_as_text: bool = False) -> Any:
    """Return the fields of a record, one level deep; None for any other value.

    A dict, or a list for a Struct with `array_like`.

    Args:
        value: any value.
        dates_as_text: whether a codec needs dates, UUIDs and Decimals as text, and sets as lists, as in JSON.

    Raises:
        EntityWriteError: a field of a Struct is not set.
    """
    if isinstance(value, type):
        return None
    names = None
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in type(value).__attrs_attrs__]
    elif not _is_instance(value, "msgspec", "Struct"):
        return None
    convert = _as_text if dates_as_text else _value_of_member
    if names is None:
        return _struct_fields(value, convert)
    unset = _unset()
    fields = {name: getattr(value, name, unset) for name in names}
    return {name: _converted(item, convert) for name, item in fields.items() if item is not unset}


def _unset() -> Any:
    msgspec = sys.modules.get("msgspec")
    return _MISSING if msgspec is None else msgspec.UNSET


def _struct_fields(value: Any, convert: Callable[[Any], Any]) -> Any:
    config = value.__struct_config__
    unset = _unset()
    try:
        items = [_converted(getattr(value, name), convert) for name in value.__struct_fields__]
    except AttributeError as error:
        raise EntityWriteError(f"{error}: set it before the write") from error
    if config.array_like:
        if any(item is unset for item in items):
            raise EntityWriteError(f"{type(value).__name__} has a field that is UNSET and, as an array, needs all")
        return items if config.tag is None else [config.tag, *items]
    tag = {} if config.tag is None else {config.tag_field: config.tag}
    named = zip(value.__struct_encode_fields__, items, strict=True)
    return {**tag, **{name: item for name, item in named if item is not unset}}


def _converted(item: Any, convert: Callable[[Any], Any], depth: int = 0) -> Any:
    """Return a field with its parts converted; the field itself if there is nothing to convert."""
    kind = type(item)
    if kind in _PLAIN or depth > _MAX_DEPTH:
        return item
    if kind is dict:
        keys, parts = _all_converted(item, convert, depth), _all_converted(item.values(), convert, depth)
        is_changed = any(map(_differs, keys, item)) or any(map(_differs, parts, item.values()))
        return dict(zip(keys, parts, strict=True)) if is_changed else item
    if kind in _SEQUENCES:
        parts = _all_converted(item, convert, depth)
        if convert is _as_text and kind not in (list, tuple):
            return parts
        return kind(parts) if any(map(_differs, parts, item)) else item
    return convert(item)


def _all_converted(items: Collection[Any], convert: Callable[[Any], Any], depth: int) -> list[Any]:
    if _PLAIN.issuperset(map(type, items)):
        return list(items)
    return [_converted(each, convert, depth + 1) for each in items]


def _differs(new: object, old: object) -> bool:
    return new is not old


def _value_of_member(item: Any) -> Any:
    """Return the value of a member of an enumeration; any other value unchanged."""
    if isinstance(item, Enum) and not isinstance(item, (int, str)):
        return item.value
    return item


def _as_text(item: Any) -> Any:
    item = _value_of_member(item)
    if isinstance(item, (date, datetime, time)):
        return item.isoformat()
    if _is_instance(item, "uuid", "UUID") or _is_instance(item, "decimal", "Decimal"):
        return str(item)
    if isinstance(item, timedelta):
        return _duration(item)
    return item


def _duration(item: timedelta) -> str:
    """Return a duration in ISO 8601, as msgspec does."""
    sign, item = ("-", -item) if item < timedelta(0) else ("", item)
    seconds = f"{item.seconds}.{item.microseconds:06}".rstrip("0") if item.microseconds else f"{item.seconds}"
    days = f"{item.days}D" if item.days or not (item.seconds or item.microseconds) else ""
    return f"{sign}P{days}T{seconds}S" if item.seconds or item.microseconds else f"{sign}P{days}"
