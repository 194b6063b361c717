"""The memory of a draft: the payload of the next version, equal to the newest one until it is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._shm import fork
from shmsync._shm.ffi import BYTES, ffi
from shmsync._shm.fork import alive
from shmsync.codecs import _numpy
from shmsync.codecs._gather import GatherList
from shmsync.errors import ClosedError

if TYPE_CHECKING:
    from shmsync.codecs._changes import Changes
    from shmsync.codecs._gather import Bytes, Payload, Source

_ADDRESS = ffi.typeof("uintptr_t")
_CLOSED = "a draft can be used inside the `with` block of its update only, and not in a child of a fork"


class DraftMemory:
    """A writable payload, and what is changed in it.

    Args:
        payload: the payload, writable.
        changes: is added to before each change.
    """

    def __init__(self, payload: memoryview, changes: Changes) -> None:
        self._payload: memoryview | None = payload
        self.readable = payload.toreadonly()
        self.changes = changes
        fork.call_after(self)
        self._address = _address_of(self.readable)

    def close(self) -> None:
        """Refuse all further changes."""
        self._payload = None

    after_fork_in_child = close

    @property
    def payload(self) -> memoryview:
        """The payload, writable.

        Raises:
            ClosedError: the block of the update has ended, or this is a forked child.
        """
        if self._payload is None or not alive[0]:
            raise ClosedError(_CLOSED)
        return self._payload

    def offset_of(self, array: Any) -> int:
        """Return the offset in bytes of the first element of an array on this memory."""
        address: int = array.__array_interface__["data"][0]
        return address - self._address

    def writable(self, array: Any, offset: int) -> Any:
        """Return the same array, writable. The caller has to record what it changes."""
        numpy = _numpy.require_numpy()
        return numpy.ndarray(array.shape, array.dtype, self.payload, offset, array.strides)

    def write_in_place(self, payload: Payload) -> bool:
        """Write a payload over this one if the arrays that refer to this memory are at their place in it.

        Returns:
            Whether it was written. If not, nothing was.
        """
        if len(payload) != len(self.readable) or not isinstance(payload, GatherList):
            return False
        parts = []
        for offset, size, source in payload:
            at = None if callable(source) else self._place_of(source)
            if at not in {None, offset}:
                return False  # an array moves
            if at is None:
                parts.append((offset, size, _bytes_of(source, size)))  # before any write: it may read this memory
        for offset, size, content in parts:
            if self.readable[offset : offset + size] != content:
                self.write(offset, content)
        return True

    def _place_of(self, source: Bytes) -> int | None:
        """Return the offset of bytes in the payload; None if they are elsewhere."""
        offset = _address_of(source) - self._address
        return offset if len(source) and 0 <= offset <= len(self.readable) - len(source) else None

    def write(self, start: int, content: Bytes) -> None:
        """Write bytes."""
        payload = self.payload
        self.changes.add(start, start + len(content))
        payload[start : start + len(content)] = content


def _bytes_of(source: Source, size: int) -> Bytes:
    if not callable(source):
        return source
    content = bytearray(size)
    source(memoryview(content))
    return content


def _address_of(content: Bytes) -> int:
    return int(ffi.cast(_ADDRESS, ffi.from_buffer(BYTES, content))) if len(content) else 0
