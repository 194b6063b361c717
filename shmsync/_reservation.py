"""Publish in place: the memory of the next version, in the caller's hands until it is published."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync._extras import need
from shmsync._layout import index_of
from shmsync.codecs import raw
from shmsync.errors import ClosedError, InvalidArgumentError

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._payload import Payload
    from shmsync._protocol import Published
    from shmsync._tenure import Tenure
    from shmsync._writer import Writer, WriteResult


class Reservation:
    """The block in which a version is written in place; see `Writer.reserve`.

    When the block is left, `buffer` is released and the arrays become read-only. What you made from them yourself
    (slices, `numpy.frombuffer`) stays writable: do not write there any more, readers are looking at it.

    Attributes:
        size: in bytes.
        result: what the write did, once it is published; None before, and after an exception.
    """

    def __init__(self, writer: Writer, payload: Payload, grace_duration: float | timedelta | None) -> None:
        self.size = len(payload)
        self.result: WriteResult | None = None
        self._writer = writer
        self._payload = payload
        self._grace_duration = grace_duration
        self._lock = writer._lock
        self._held: tuple[Tenure, Published] | None = None
        self._buffer: memoryview | None = None
        self._arrays: list[Any] = []

    @property
    def buffer(self) -> memoryview:
        """The memory, writable.

        Raises:
            ClosedError: outside the block.
        """
        if self._buffer is None:
            raise ClosedError("the memory of a reserve is there inside its `with` block only")
        return self._buffer

    def ndarray(self, shape: int | tuple[int, ...], dtype: Any = float, *, offset: int = 0) -> Any:
        """Return a NumPy array on the memory, in C order.

        Args:
            shape: of the array.
            dtype: any but object.
            offset: where it begins, in bytes; the memory itself begins on a cache line.

        Raises:
            InvalidArgumentError: it does not fit into the memory, or the dtype holds references.
            MissingExtraError: NumPy is not installed.
            ClosedError: outside the block.
        """
        numpy = need("numpy", "numpy", "ndarray()")
        with memoryview(self.buffer) as view:
            free = view[:]  # the array's own, so that `buffer` can be released while the array lives
        try:
            array = _array_on(numpy, free, shape, dtype, offset)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidArgumentError(
                f"no array of shape {shape!r} and dtype {dtype!r} at {offset} in {self.size} bytes: {error}"
            ) from None
        self._arrays.append(array)
        return array

    def __enter__(self) -> Self:
        writer = self._writer
        self._lock = writer._lock
        self._lock.acquire()
        try:
            writer._begin()
            try:
                tenure, prepared = writer._prepare(raw, self._payload, self._grace_duration)
                self._buffer = tenure.data.room(index_of(prepared.seq))
            except BaseException:
                writer._end()
                raise
        except BaseException:
            self._lock.release()
            raise
        self._held = (tenure, prepared)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self._held = self._held, None
        assert held is not None
        try:
            self._revoke()
            if kind is None:
                self.result = self._writer._commit(*held)
        finally:
            self._writer._end()
            self._lock.release()

    def _revoke(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            with suppress(BufferError):  # somebody holds something made from it
                buffer.release()
        for array in self._arrays:
            array.flags.writeable = False
        self._arrays.clear()

    def __repr__(self) -> str:
        state = "published" if self.result else "open" if self._held else "not open"
        return f"<Reservation of {self.size} bytes in {self._writer.name!r}, {state}>"


def _array_on(numpy: Any, memory: memoryview, shape: Any, dtype: Any, offset: int) -> Any:
    kind = numpy.dtype(dtype)
    # NumPy would take both here.
    if kind.hasobject:
        raise TypeError("it would hold references")
    if numpy.min(shape, initial=0) < 0:
        raise ValueError("negative dimensions")
    return numpy.ndarray(shape, kind, memory, offset)
