"""The msgpack codec, for plain Python values.

Takes None, bool, int (64 bits, signed or unsigned), float, str, bytes, list and dict, nested up to 1,000 deep, with any
of the scalars or tuples of them as dict keys. Everything reads back equal, but for three named conversions: tuples
that are not dict keys come back as lists, bytearray and memoryview as bytes, subclasses as their base. What msgpack
cannot hold (larger ints, sets, datetimes, other objects) is refused.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

from typing import Any

from msgpack import packb, unpackb

from shmsync.errors import EntityReadError, EntityWriteError

NAME = "msgpack"
ID = 0
IN_PLACE = False

# What msgpack raises. Not all exceptions: a signal handler may raise one of its own in the middle.
_REFUSALS = (TypeError, ValueError, OverflowError, BufferError, RuntimeError)


def encode(value: object) -> memoryview:
    """Return the packed value.

    Raises:
        EntityWriteError: it holds something that msgpack cannot.
    """
    try:
        # Packed inside a list and taken out of it: the packer goes one level deeper than the unpacker, so what passes
        # with a level to spare can be read back.
        return memoryview(packb([value]))[1:]
    except _REFUSALS as error:
        raise EntityWriteError(
            f"cannot publish this value: {error}. The msgpack codec takes None, bool, 64-bit int, float, str, bytes, "
            "list, tuple and dict; convert the rest (a set to a list, a datetime to a timestamp), or publish a buffer "
            "with write_raw"
        ) from error


def decode(payload: memoryview) -> Any:
    """Return the unpacked value.

    Raises:
        EntityReadError: not one whole msgpack value.
    """
    try:
        return _unpack(payload)
    except _REFUSALS as error:
        raise EntityReadError(f"the published bytes are no msgpack value: {error}") from error


def _unpack(payload: memoryview) -> Any:
    try:
        return unpackb(payload, strict_map_key=False)
    except TypeError:
        # A tuple as a dict key arrives as a list, which cannot be one. Rare, so its slower way is only taken now.
        return unpackb(payload, strict_map_key=False, object_pairs_hook=_with_tuple_keys)


def _with_tuple_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
