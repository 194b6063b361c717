"""Keys of archived maps: reduced to base types for writing, and canonical bytes to hash them.

Keys that are equal in Python must have the same hash, whatever their types: 1, 1.0, True, numpy.int8(1) and Decimal(1).
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from msgpack import ExtType, packb

from shmsync.codecs import _numpy
from shmsync.codecs._culprit import short
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_PLAIN: Any = object()
_PLAIN_TYPES = frozenset({type(None), bool, int, float, str, bytes})  # not tuple, which may contain any value
_MIN_INT64, _UINT64_END = -(1 << 63), 1 << 64


def are_plain(keys: Iterable[Any]) -> bool:
    """Return whether all keys are of base types."""
    return _PLAIN_TYPES.issuperset(map(type, keys))


def with_plain_keys(mapping: dict[Any, Any]) -> dict[Any, Any]:
    """Return a map with keys of base types.

    Raises:
        EntityWriteError: a key is not supported, or two keys are equal as base types.
    """
    if are_plain(mapping):
        return mapping
    plain = {writable_key(key): value for key, value in mapping.items()}
    if len(plain) != len(mapping):
        raise EntityWriteError(
            "cannot publish a map with keys of custom types that are equal as plain values; convert its keys first"
        )
    return plain


def writable_key(key: Any) -> Any:
    """Return a key in its base type.

    Raises:
        EntityWriteError: the key is not supported.
    """
    key = _numpy.to_python_scalar(key)  # first: a bool of NumPy is one, too
    plain = key if isinstance(key, bool) else _NOT_PLAIN if isinstance(key, ExtType) else plain_key(key)
    if isinstance(plain, tuple):
        return tuple(map(writable_key, key))
    is_too_large = isinstance(plain, int) and not _MIN_INT64 <= plain < _UINT64_END
    # A Decimal or complex number that equals an int or float is found with it, but would not be read as itself.
    is_other_number = isinstance(plain, (int, float)) and not isinstance(key, (int, float))
    if plain is _NOT_PLAIN or is_too_large or is_other_number:
        raise EntityWriteError(
            f"cannot publish a map with the key {short(key)}: keys must be None, bool, 64-bit int, float, str, bytes, "
            "or tuples of them"
        )
    return plain


def canonical_bytes(key: Any) -> bytes:
    """Return the bytes of a plain key; equal keys have the same bytes."""
    return bytes(packb(_with_integers(key)))


def _with_integers(key: Any) -> Any:
    """Replace every number in a key that equals a 64-bit integer with that integer."""
    if isinstance(key, tuple):
        return tuple(map(_with_integers, key))
    if isinstance(key, float) and key.is_integer() and _MIN_INT64 <= key < _UINT64_END:
        return int(key)
    if isinstance(key, int):
        # Beyond 64 bits, archives only contain floats, and an integer may equal one of them.
        return int(key) if _MIN_INT64 <= key < _UINT64_END or float(key) != key else float(key)
    return key


def plain_key(key: Any) -> Any:
    """Return the None, bool, int, float, str, bytes or tuple of them that equals a key; a sentinel if there is none.

    Raises:
        TypeError: the key is not hashable.
    """
    hash(key)
    key = _numpy.to_python_scalar(key)
    if isinstance(key, tuple):
        return tuple(map(plain_key, key))
    base: Any
    for base in (int, float, str, bytes):
        if isinstance(key, base):
            # Not base(key): str() of an enum member is not its value.
            return key if type(key) is base else base.__add__(key, base())
    if key is None:
        return key
    if isinstance(key, memoryview):
        return bytes(key)
    is_time = getattr(getattr(key, "dtype", None), "kind", "") in ("m", "M")  # NumPy registers these as numbers
    return _plain_number(key) if isinstance(key, numbers.Number) and not is_time else _NOT_PLAIN


def _plain_number(key: Any) -> Any:
    if isinstance(key, numbers.Complex) and not isinstance(key, numbers.Real):
        key = complex(key)
        return _NOT_PLAIN if key.imag else key.real
    try:
        return next((type_(key) for type_ in (int, float) if type_(key) == key), _NOT_PLAIN)
    except (TypeError, ValueError, OverflowError):
        return _NOT_PLAIN
