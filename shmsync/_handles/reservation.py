"""Publish in place: the memory of the next version, in the caller's hands until it is published."""

from __future__ import annotations

import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.codecs import raw
from shmsync.codecs._gather import uninitialized
from shmsync.errors import ClosedError, InvalidArgumentError

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.protocol import Published
    from shmsync._handles.writer import Writer
    from shmsync._session.ownership import Tenure
    from shmsync._types import WriteResult


@dataclass(frozen=True)
class Reserved:
    """What the writer knows of an open Reservation."""

    reservation: weakref.ref[Reservation]
    thread: threading.Thread
    tenure: Tenure
    prepared: Published

    def is_left(self) -> bool:
        """Tell whether its block can be over: its thread is gone, or here; or nobody refers to it any more."""
        return self.thread is threading.current_thread() or not self.thread.is_alive() or self.reservation() is None


class Reservation:
    """The block in which a version is written in place; see `Writer.reserve`.

    When the block is left, `buffer` is released and the arrays become read-only. What you made from them yourself
    (slices, `numpy.frombuffer`) stays writable: do not write there any more, readers are looking at it.

    Attributes:
        size: in bytes.
        result: what the write did, once it is published; None before, and after an exception.
    """

    def __init__(self, writer: Writer[Any], size: int, grace_duration: float | timedelta | None) -> None:
        self.size = size
        self.result: WriteResult | None = None
        self._writer = writer
        self._grace_duration = grace_duration
        self._reserved: Reserved | None = None
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
        numpy = import_optional("numpy", "numpy", "ndarray()")
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
        if self._reserved is not None:
            raise ClosedError("this reserve is open already; ask for another one")
        self.result = None
        writer = self._writer
        with writer._lock:
            writer._wait_for_turn()
            try:
                writer._busy = True
                tenure, prepared = writer._prepare(raw, uninitialized(self.size), self._grace_duration)
                self._buffer = tenure.data.room(prepared.idx)
                self._reserved = Reserved(weakref.ref(self), threading.current_thread(), tenure, prepared)
                writer._reserved = self._reserved
            except BaseException:
                writer._end()
                raise
            finally:
                writer._busy = False
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer = self._writer
        mine, self._reserved = self._reserved, None
        self._revoke()
        with writer._lock:
            if mine is not None and writer._reserved is mine:
                try:
                    writer._busy = True
                    if kind is None:
                        mine.tenure.data.now = time.monotonic()  # the block may have taken a while
                        self.result = writer._commit(mine.tenure, mine.prepared)
                finally:
                    writer._busy = False
                    writer._reserved = None
                    writer._free.notify_all()
                    writer._end()
            elif kind is None:
                if not writer._usable:
                    writer._refuse()
                raise ClosedError(
                    "nothing was published: in the block of this reserve, the same thread wrote, or it was not entered"
                )

    def _revoke(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            with suppress(BufferError):  # somebody holds something made from it
                buffer.release()
        for array in self._arrays:
            array.flags.writeable = False
        self._arrays.clear()

    def __repr__(self) -> str:
        state = "published" if self.result else "open" if self._reserved else "not open"
        return f"<Reservation of {self.size} bytes in {self._writer.name!r}, {state}>"


def _array_on(numpy: Any, memory: memoryview, shape: Any, dtype: Any, offset: int) -> Any:
    kind = numpy.dtype(dtype)
    # NumPy would take these here.
    if kind.hasobject:
        raise TypeError("it would hold references")
    if numpy.min(shape, initial=0) < 0 or offset < 0:
        raise ValueError("negative dimensions or offset")
    return numpy.ndarray(shape, kind, memory, offset)
