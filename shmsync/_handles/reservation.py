"""Reservation: the memory of the next version, written in place by the caller before it is published."""

from __future__ import annotations

import operator
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shmsync._util.optional import import_optional
from shmsync.errors import ClosedError, InvalidArgumentError

if TYPE_CHECKING:
    import weakref
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.protocol import PreparedWrite
    from shmsync._session.ownership import Ownership
    from shmsync._types import WriteResult


class OpenReservation(NamedTuple):
    """The record that a writer keeps of an open block of a Reservation or an Update."""

    block: weakref.ref[Any]
    thread: threading.Thread
    ownership: Ownership
    prepared: PreparedWrite

    def is_abandoned(self) -> bool:
        """Return whether its block may have ended: its thread has ended or is this one, or nothing refers to it."""
        return self.thread is threading.current_thread() or not self.thread.is_alive() or self.block() is None


class ReservingWriter(Protocol):
    """The interface that a Reservation needs from its writer."""

    name: str

    def _open_reservation(
        self, reservation: Reservation, grace_duration: float | timedelta | None
    ) -> tuple[OpenReservation, memoryview]:
        """Prepare the next version; return a token for `_close_reservation`, and its memory."""

    def _close_reservation(self, opened: OpenReservation | None, size: int, *, publish: bool) -> WriteResult | None:
        """Publish what was written in place, or discard it."""


class Reservation:
    """The context manager that `Writer.reserve` returns; its block writes the next version in place.

    When the block is left, `buffer` is released and the arrays become read-only. Objects that you made from them
    (slices, `numpy.frombuffer`) stay writable: do not write to them afterwards, because readers use that memory.

    Attributes:
        size: size of the payload in bytes.
        result: the result of the write; None until it is published, and after an exception.

    Example:
        >>> from shmsync import Reader, Writer
        >>> writer = Writer("doc-reservation")
        >>> with writer.reserve(4) as slot:
        ...     slot.buffer[:] = b"spam"
        >>> with Reader("doc-reservation") as reader:
        ...     bytes(reader.get())
        b'spam'
        >>> writer.unlink(); writer.close()
    """

    def __init__(self, writer: ReservingWriter, size: int, grace_duration: float | timedelta | None) -> None:
        self.size = size
        self.result: WriteResult | None = None
        self._writer = writer
        self._grace_duration = grace_duration
        self._opened: OpenReservation | None = None
        self._buffer: memoryview | None = None
        self._arrays: list[Any] = []

    @property
    def buffer(self) -> memoryview:
        """The memory, writable.

        Raises:
            ClosedError: outside the block.
        """
        if self._buffer is None:
            raise ClosedError("the memory of a reserve is available inside its `with` block only")
        return self._buffer

    def ndarray(self, shape: int | tuple[int, ...], dtype: Any = float, *, offset: int = 0) -> Any:
        """Return a NumPy array on the memory, in C order.

        Args:
            shape: shape of the array.
            dtype: any dtype but object.
            offset: offset of its first element in bytes; the memory itself begins on a cache line.

        Raises:
            InvalidArgumentError: the array does not fit into the memory, or the dtype contains references.
            MissingExtraError: NumPy is not installed.
            ClosedError: outside the block.
        """
        numpy = import_optional("numpy", "numpy", "ndarray()")
        with memoryview(self.buffer) as view:
            memory = view[:]  # a view for the array, so that `buffer` can be released while the array is alive
        try:
            array = _array_on(numpy, memory, shape, dtype, offset)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgumentError(
                f"no array of shape {shape!r} and dtype {dtype!r} fits at offset {offset} in {self.size} bytes: {error}"
                "; pass another shape, dtype or offset, or reserve more bytes"
            ) from None
        self._arrays.append(array)
        return array

    def __enter__(self) -> Self:
        if self._opened is not None:
            raise ClosedError("this reserve is open already; call reserve again")
        self.result = None
        self._opened, self._buffer = self._writer._open_reservation(self, self._grace_duration)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        opened, self._opened = self._opened, None
        self._revoke()
        self.result = self._writer._close_reservation(opened, self.size, publish=exc_type is None)

    def _revoke(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            with suppress(BufferError):  # the caller holds something made from it
                buffer.release()
        for array in self._arrays:
            array.flags.writeable = False
        self._arrays.clear()

    def __repr__(self) -> str:
        state = "published" if self.result else "open" if self._opened else "not open"
        return f"<Reservation of {self.size} bytes in {self._writer.name!r}, {state}>"


def _array_on(numpy: Any, memory: memoryview, shape: Any, dtype: Any, offset: int) -> Any:
    kind = numpy.dtype(dtype)
    # NumPy would accept these here.
    if kind.hasobject:
        raise TypeError("the dtype contains references")
    dimensions = [operator.index(each) for each in (shape if numpy.iterable(shape) else [shape])]
    if min(dimensions, default=0) < 0 or operator.index(offset) < 0:
        raise ValueError("negative dimensions or offset")
    return numpy.ndarray(shape, kind, memory, offset)
