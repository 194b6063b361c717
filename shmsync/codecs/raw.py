"""The raw codec: the payload is the value's own buffer; a read hands out a read-only memoryview of the segment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs._gather import Pieces
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

NAME = "raw"
ID = 1


def encode(value: Any) -> Payload:
    """Return the buffer of any bytes-like object or NumPy array, flat.

    Raises:
        EntityWriteError: not a bytes-like object.
    """
    if not _numpy.is_array(value):
        return flat(value)
    _numpy.describe(value)  # refuses what must not be published
    pieces = Pieces()
    pieces.add(*_numpy.buffer_of(value))
    return pieces


def flat(value: Any) -> memoryview | bytes:
    """Return the buffer of a bytes-like object as bytes in a row; copied only if it is not contiguous.

    Raises:
        EntityWriteError: not a bytes-like object.
    """
    try:
        view = memoryview(value)
        if view.nbytes and view.c_contiguous:
            return view.cast("B")
        return view.tobytes()
    except (TypeError, ValueError, BufferError, NotImplementedError):
        raise EntityWriteError(
            f"a raw value must be a bytes-like object, not {type(value).__name__}; "
            "use the msgpack codec for structured values"
        ) from None


def decode(payload: memoryview) -> memoryview:
    """Return the payload itself."""
    return payload
