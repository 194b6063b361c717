"""The raw codec: the payload is the value's own buffer, and a read returns a read-only memoryview of the segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _blocks, _numpy
from shmsync.codecs._gather import GatherList
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

NAME = "raw"
ID = 1


def encode(value: Any) -> Payload:
    """Return the bytes of a bytes-like object or NumPy array.

    Raises:
        EntityWriteError: the value is not a bytes-like object.
    """
    if not _numpy.is_array(value):
        return flat(value)
    _numpy.describe(value)  # rejects arrays that cannot be published
    payload = GatherList()
    payload.add(*_numpy.buffer_of(value))
    return payload


def flat(value: Any) -> memoryview:
    """Return the buffer of a bytes-like object as contiguous bytes; copied only if it is not contiguous.

    Raises:
        EntityWriteError: the value is not a bytes-like object.
    """
    try:
        view = memoryview(value)
        if view.nbytes and view.c_contiguous:
            return view.cast("B")
        return _blocks.flatten(view)
    except (TypeError, ValueError, BufferError, NotImplementedError):
        raise EntityWriteError(
            f"cannot publish a value of type {type(value).__name__} as raw bytes: it is not a bytes-like object; "
            'use codec="msgpack" for structured values'
        ) from None


def decode(payload: memoryview) -> memoryview:
    """Return the payload itself."""
    return payload
