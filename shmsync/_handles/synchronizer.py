"""Synchronizer: a reader and a writer behind one handle, as in the Rust crate mmap-sync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from shmsync._handles.reader import Reader
from shmsync._handles.snapshot import T
from shmsync._handles.writer import Writer
from shmsync._session.pinned import UNSET
from shmsync._shm import fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from shmsync._handles.reservation import Reservation
    from shmsync._handles.update import Update
    from shmsync._types import WriteResult, WriterStats


class Synchronizer(Reader[T]):
    """Reads and writes a name through one handle.

    The first `write` acquires the write lock; the first `read` or `get` claims a reader slot. After a fork, the child's
    handle can read at once, and can write when the parent's is closed.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        type, timeout, allow_pickle, zero_copy_bytes, owner, dec_hook, frozen: see `Reader`.
        writer: see `Writer`: codec, mode, grace_duration, max_readers, max_backoff, lock_timeout, enc_hook,
            reuse_memory.

    Raises:
        InvalidArgumentError: an argument is not valid.

    Example:
        >>> from shmsync import Synchronizer
        >>> prices = Synchronizer("doc-synchronizer")
        >>> prices.write({"EURUSD": 1.08}).version.seq
        1
        >>> prices.get()
        {'EURUSD': 1.08}
        >>> prices.unlink(); prices.close()
    """

    @overload
    def __init__(
        self,
        name: str,
        *,
        type: None = None,
        timeout: float | timedelta = ...,
        allow_pickle: bool = ...,
        zero_copy_bytes: bool = ...,
        owner: str | int | None = ...,
        frozen: bool = ...,
        **writer: Any,
    ) -> None: ...

    @overload
    def __init__(
        self,
        name: str,
        *,
        type: type[T],
        timeout: float | timedelta = ...,
        allow_pickle: bool = ...,
        zero_copy_bytes: bool = ...,
        owner: str | int | None = ...,
        dec_hook: Callable[[Any, Any], Any] | None = ...,
        **writer: Any,
    ) -> None: ...

    @overload
    def __init__(
        self: Synchronizer[Any],
        name: str,
        *,
        type: object,
        timeout: float | timedelta = ...,
        allow_pickle: bool = ...,
        zero_copy_bytes: bool = ...,
        owner: str | int | None = ...,
        dec_hook: Callable[[Any, Any], Any] | None = ...,
        frozen: bool = ...,
        **writer: Any,
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        type: Any = None,  # noqa: A002 - the standard name
        timeout: float | timedelta = 0.0,
        allow_pickle: bool = False,
        zero_copy_bytes: bool = False,
        owner: str | int | None = None,
        dec_hook: Callable[[Any, Any], Any] | None = None,
        frozen: bool = False,
        **writer: Any,
    ) -> None:
        super().__init__(
            name,
            type=type,
            timeout=timeout,
            allow_pickle=allow_pickle,
            zero_copy_bytes=zero_copy_bytes,
            owner=owner,
            dec_hook=dec_hook,
            frozen=frozen,
        )
        self._writer: Writer[T] = Writer(name, **writer)
        self._is_inherited = False  # whether the writer is that of the parent process

    def write(self, value: T, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish a value. See `Writer.write`."""
        return self._writing().write(value, grace_duration=grace_duration)

    def write_raw(self, data: Any, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish the bytes of any buffer. See `Writer.write_raw`."""
        return self._writing().write_raw(data, grace_duration=grace_duration)

    def reserve(self, size: int, *, grace_duration: float | timedelta | None = None) -> Reservation:
        """Return the memory of the next version, to be written in place. See `Writer.reserve`."""
        return self._writing().reserve(size, grace_duration=grace_duration)

    def update(self, *, initial: Any = UNSET, grace_duration: float | timedelta | None = None) -> Update:
        """Return the newest value, to be changed in place. See `Writer.update`."""
        return self._writing().update(initial=initial, grace_duration=grace_duration)

    def unlink(self) -> None:
        """Remove the name and its segments. See `Writer.unlink`."""
        self._writing().unlink()

    def writer_stats(self) -> WriterStats:
        """Return the counters of the writes through this handle; `stats` returns those of its reads."""
        return self._writer.stats()

    def close(self) -> None:
        """Release the write lock and the reader slot. The name stays. Idempotent."""
        fork.check()
        self._writer.close()
        super().close()

    def after_fork_in_child(self) -> None:
        """Attach again at the next read; take the write lock at the next write."""
        super().after_fork_in_child()
        self._is_inherited = True

    def _writing(self) -> Writer[T]:
        fork.check()
        with self.lock:
            self._check_open()
            if self._is_inherited:
                self._writer = Writer(self.name, **self._writer._options())
                self._is_inherited = False
            return self._writer

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), **self._writer._options()}
