"""msgpack values to Python objects: in one call of msgpack, or for rare values in a second one with slower hooks."""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from msgpack import ExtType, Timestamp, unpackb

from shmsync.errors import EntityReadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._gather import Bytes

# The exceptions of msgpack. Not Exception: a signal handler may raise its own exception during a call.
ERRORS = (TypeError, ValueError, OverflowError, BufferError, RuntimeError)

unpack_plain = partial(unpackb, strict_map_key=False)
"""`unpack` of a bare msgpack value, for callers that call `unpack_refused` if it raises."""

_DATETIME, _TIMESTAMP = 3, 0  # options of `unpackb`: what a timestamp becomes


def unpack(
    packed: Bytes, ext_hook: Callable[[int, bytes], Any] = ExtType, *, frozen: bool = False, dated: bool = False
) -> Any:
    """Return the value of a bare msgpack value, or of the body of a frame.

    Args:
        packed: the msgpack value; the result does not refer to it.
        ext_hook: called with type and data of each extension; returns its value.
        frozen: return dicts as read-only mappings, and lists as tuples.
        dated: return timestamps as aware datetimes.

    Raises:
        EntityReadError: `packed` is not exactly one valid msgpack value.
    """
    try:
        if not frozen and not dated:
            return unpackb(packed, strict_map_key=False, ext_hook=ext_hook)
        options = _FROZEN if frozen else {}
        timestamp = _DATETIME if dated else _TIMESTAMP
        return unpackb(packed, strict_map_key=False, ext_hook=ext_hook, timestamp=timestamp, **options)
    except ERRORS as error:
        return unpack_refused(packed, error, ext_hook, frozen=frozen, dated=dated)


def unpack_refused(
    packed: Bytes,
    error: Exception,
    ext_hook: Callable[[int, bytes], Any] = ExtType,
    *,
    frozen: bool = False,
    dated: bool = False,
) -> Any:
    """Return a value that `unpackb` has refused, if it is only a rare one.

    Args:
        packed: see `unpack`.
        error: what `unpackb` has raised, one of `ERRORS`.
        ext_hook: see `unpack`.
        frozen: see `unpack`.
        dated: see `unpack`.

    Raises:
        EntityReadError: `packed` is not exactly one valid msgpack value.
    """
    if isinstance(error, (TypeError, OverflowError)):
        try:
            return _unpack_rare(packed, ext_hook, frozen=frozen, dated=dated)
        except ERRORS as raised:
            error = raised
    if isinstance(error, EntityReadError):  # raised by the hook
        raise error
    text = str(error).rstrip(".")  # some messages of msgpack end with a full stop
    raise EntityReadError(
        f"the published bytes are not a valid msgpack value: {text}; publish the value again"
    ) from error


def unpack_fields(packed: Bytes, ext_hook: Callable[[int, bytes], Any]) -> Any:
    """Return the fields of an extension. The elements of a set contain tuples, not lists.

    Raises:
        TypeError, ValueError, RuntimeError: `packed` is not valid.
    """
    options = {"strict_map_key": False, "ext_hook": ext_hook, "use_list": False}
    try:
        return unpackb(packed, timestamp=_DATETIME, **options)
    except OverflowError:
        return unpackb(packed, timestamp=_TIMESTAMP, list_hook=_dated_tuple, **options)


def _unpack_rare(packed: Bytes, ext_hook: Callable[[int, bytes], Any], *, frozen: bool, dated: bool) -> Any:
    """Unpack a value with tuples as dict keys, which unpack as lists, or with timestamps beyond the year 9999."""
    options = {"strict_map_key": False, "ext_hook": ext_hook}
    if not frozen:
        try:
            timestamp = _DATETIME if dated else _TIMESTAMP
            return unpackb(packed, timestamp=timestamp, object_pairs_hook=_with_tuple_keys, **options)
        except OverflowError:
            pass
    hooks = _FROZEN_DATED if frozen else _DATED
    return _dated(unpackb(packed, timestamp=_TIMESTAMP, **hooks, **options))


def _with_tuple_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_to_key(key): value for key, value in pairs}


def _to_key(key: Any) -> Any:
    """Return a key with its lists as tuples. Not recursive: a key may be nested as deep as a value."""
    if not isinstance(key, list):
        return key
    lists = [key]
    for each in lists:
        lists += [item for item in each if isinstance(item, list)]
    tuples: dict[int, tuple[Any, ...]] = {}
    for each in reversed(lists):
        tuples[id(each)] = tuple([tuples[id(item)] if isinstance(item, list) else item for item in each])
    return tuples[id(key)]


def _dated(value: Any) -> Any:
    """Return a timestamp as a datetime if it is one, and any other value unchanged."""
    if not isinstance(value, Timestamp):
        return value
    try:
        return value.to_datetime()
    except OverflowError:
        return value


def _dated_list(items: list[Any]) -> list[Any]:
    return list(map(_dated, items))


def _dated_tuple(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(map(_dated, items))


def _dated_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_dated(_to_key(key)): _dated(value) for key, value in pairs}


def _dated_proxy(pairs: list[tuple[Any, Any]]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(_dated_dict(pairs))


_FROZEN: dict[str, Any] = {"use_list": False, "object_hook": MappingProxyType}
_DATED: dict[str, Any] = {"list_hook": _dated_list, "object_pairs_hook": _dated_dict}
_FROZEN_DATED: dict[str, Any] = {"use_list": False, "list_hook": _dated_tuple, "object_pairs_hook": _dated_proxy}
