"""Keys of archived maps: reduced to base types for writing, and canonical bytes to hash them.

Keys that are equal in Python must hash alike, whatever their types: 1, 1.0, True, numpy.int8(1) and Decimal(1).
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

from msgpack import packb

from shmsync.codecs import _numpy
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterable

_NO_KEY: Any = object()
_PLAIN_KEYS = frozenset({type(None), bool, int, float, str, bytes})  # not tuple, which may hold anything
_INT64, _UINT64 = -(1 << 63), 1 << 64


def are_plain(keys: Iterable[Any]) -> bool:
    """Tell whether keys are of base types."""
    return _PLAIN_KEYS.issuperset(map(type, keys))


def with_plain_keys(one: dict[Any, Any]) -> dict[Any, Any]:
    """Return a map with keys of base types.

    Raises:
        EntityWriteError: some cannot be published, or two of them would be one.
    """
    if are_plain(one):
        return one
    plain = {writable_key(key): value for key, value in one.items()}
    if len(plain) != len(one):
        raise EntityWriteError("cannot publish a map with keys of types of their own that are equal as plain values")
    return plain


def writable_key(key: Any) -> Any:
    """Return a key in its base type.

    Raises:
        EntityWriteError: it cannot be published.
    """
    plain = key if isinstance(key, bool) else plain_key(key)
    if isinstance(plain, tuple):
        return tuple(map(writable_key, key))
    if plain is _NO_KEY or (isinstance(plain, int) and not _INT64 <= plain < _UINT64):
        raise EntityWriteError(
            f"cannot publish a map with the key {key!r:.60}: keys are None, bool, 64-bit int, float, str, bytes, "
            "or tuples of them"
        )
    return plain


def canonical_bytes(key: Any) -> bytes:
    """Return the bytes of a plain key; equal keys have the same bytes."""
    return bytes(packb(_integers(key)))


def _integers(key: Any) -> Any:
    """Return the key with every number in it that equals a 64-bit integer as that integer."""
    if isinstance(key, tuple):
        return tuple(map(_integers, key))
    if isinstance(key, float) and key.is_integer() and _INT64 <= key < _UINT64:
        return int(key)
    if isinstance(key, int):
        # Beyond 64 bits there are only floats, and an integer may equal one.
        return int(key) if _INT64 <= key < _UINT64 or float(key) != key else float(key)
    return key


def plain_key(key: Any) -> Any:
    """Return the None, bool, int, float, str, bytes or tuple of them that equals a key; a mark if there is none.

    Raises:
        TypeError: it is not hashable.
    """
    hash(key)
    key = _numpy.to_python_scalar(key)
    if isinstance(key, tuple):
        return tuple(map(plain_key, key))
    base: Any
    for base in (int, float, str, bytes):
        if isinstance(key, base):
            # Not base(key): an enum's str() is another text.
            return key if type(key) is base else base.__add__(key, base())
    if key is None:
        return key
    if isinstance(key, memoryview):
        return bytes(key)
    is_time = getattr(getattr(key, "dtype", None), "kind", "") in ("m", "M")  # numbers to NumPy
    return _plain_number(key) if isinstance(key, numbers.Number) and not is_time else _NO_KEY


def _plain_number(key: Any) -> Any:
    if isinstance(key, numbers.Complex) and not isinstance(key, numbers.Real):
        key = complex(key)
        return _NO_KEY if key.imag else key.real
    try:
        return next((kind(key) for kind in (int, float) if kind(key) == key), _NO_KEY)
    except (TypeError, ValueError, OverflowError):
        return _NO_KEY
