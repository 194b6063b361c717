"""The raw codec: the payload is the value's own buffer; a read hands out a read-only memoryview of the segment."""

from __future__ import annotations

from typing import Any

from shmsync.errors import EntityWriteError

NAME = "raw"
ID = 1
IN_PLACE = True


def encode(value: Any) -> memoryview | bytes:
    """Return the buffer of any bytes-like object, flat; copied only if it is not contiguous.

    Raises:
        EntityWriteError: not a bytes-like object.
    """
    try:
        view = memoryview(value)
    except TypeError:
        raise EntityWriteError(
            f"a raw value must be a bytes-like object, not {type(value).__name__}; "
            "use the msgpack codec for structured values"
        ) from None
    if view.nbytes == 0 or not view.c_contiguous:
        return view.tobytes()
    return view.cast("B")


def decode(payload: memoryview) -> memoryview:
    """Return the payload itself."""
    return payload
