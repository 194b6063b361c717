"""The writer: encode, publish, unlink."""

from __future__ import annotations

import errno
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn

from shmsync import codecs
from shmsync._core.layout import LAST_SEQ, MAX_READERS, PAYLOAD_AT, InstanceVersion, names_of, new
from shmsync._handles.reservation import Reservation, Reserved
from shmsync._handles.snapshot import T
from shmsync._session import ownership, unlink
from shmsync._session.log import WriterLog
from shmsync._shm import fork
from shmsync._types import WriteResult, WriterStats
from shmsync._util.duration import seconds
from shmsync.codecs import raw
from shmsync.codecs._gather import release
from shmsync.errors import ClosedError, InvalidArgumentError, WriteLockConflictError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.protocol import Published
    from shmsync.codecs import Codec
    from shmsync.codecs._gather import Payload

_LINK_CHECK_EVERY = 1.0
_LOOK_AGAIN = 0.1
_OWNER = 0o600


class Writer(Generic[T]):
    """Publishes values under a name; there is one at a time for each.

    The first write creates the segments, or takes over what an earlier writer left. Thread-safe. A Writer that was
    inherited by a fork raises WriteLockConflictError. It pickles by name, and the copy competes for the lock. To a type
    checker `writer: Writer[Prices] = Writer(name)` writes nothing but Prices; nothing is checked at run time.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        codec: how `write` encodes: "msgpack" for plain values with arrays among them; "archive" for large maps and
            lists that readers use in place; "raw" for one buffer; "arrow" for pyarrow tables; "pickle" for anything,
            between processes that trust each other. The modules of `shmsync.codecs` say what each takes.
        mode: permission bits of the segments. Whoever may read the state and data may also take a reader slot.
        grace_duration: how long a write waits for readers of the memory that it wants to reuse, before it takes new
            memory instead; in seconds or as a timedelta. 0 never waits.
        max_readers: reader slots; each attached reader handle takes one. Fixed when the segments are created.
        poll_interval: the longest pause between two looks while it waits, in seconds or as a timedelta.

    Raises:
        InvalidArgumentError: an argument cannot be used.
    """

    def __init__(
        self,
        name: str,
        *,
        codec: str = "msgpack",
        mode: int = 0o600,
        grace_duration: float | timedelta = 1.0,
        max_readers: int = 256,
        poll_interval: float | timedelta = 0.002,
    ) -> None:
        if not isinstance(max_readers, int) or not 1 <= max_readers <= MAX_READERS:
            raise InvalidArgumentError(f"max_readers must be 1 to {MAX_READERS}, not {max_readers!r}")
        if not isinstance(mode, int) or mode & ~0o666 or mode & _OWNER != _OWNER:
            raise InvalidArgumentError(f"mode must be permission bits with read and write for the owner, not {mode!r}")
        self.name = name
        self._options = {
            "codec": codec,
            "mode": mode,
            "grace_duration": seconds(grace_duration, "grace_duration"),
            "max_readers": max_readers,
            "poll_interval": seconds(poll_interval, "poll_interval"),
        }
        self._terms = ownership.Terms(names_of(name), mode, max_readers, seconds(poll_interval, "poll_interval"))
        self._codec: Codec = codecs.by_name(codec)
        self._grace = seconds(grace_duration, "grace_duration")
        self._lock = threading.RLock()
        self._free = threading.Condition(self._lock)
        self._busy = False
        self._reserved: Reserved | None = None
        self._closed = False
        self._usable = True  # neither closed, nor inherited by a fork
        self._tenure: ownership.Tenure | None = None
        self._next_link_check = 0.0
        self._writes = self._resets = self._replaced = self._takeovers = 0
        self._log = WriterLog(name)
        fork.register(self)

    def write(self, value: T, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish a value, encoded with the writer's codec. After an error the last value is still published.

        Args:
            value: what readers get.
            grace_duration: overrides the writer's, for this write.

        Raises:
            EntityWriteError: the value cannot be encoded so that it reads back equal.
            CapacityError: the shared memory file system is too small.
            WriteLockConflictError: another writer is alive, or this one was inherited by a fork.
            LayoutMismatchError, StateReadError: the name is taken by something that cannot be used.
            DataWriteError: a segment cannot be created.
            ClosedError: this writer was closed.
        """
        if not self._usable:
            self._refuse()
        return self._publish(self._codec, self._codec.encode(value), grace_duration)

    def write_raw(self, data: Any, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish the bytes of any buffer, with one copy; readers get a read-only memoryview. See `write`."""
        if not self._usable:
            self._refuse()
        return self._publish(raw, raw.encode(data), grace_duration)

    def reserve(self, size: int, *, grace_duration: float | timedelta | None = None) -> Reservation:
        """Return a context manager that hands out the memory of the next version, to be written in place.

        Leaving its block publishes what stands there as raw bytes; an exception publishes nothing. The memory is not
        cleared: it may hold an earlier version. Writes of other threads through this Writer wait for the block to end.
        A write or `close` of the same thread in the block goes before it: then leaving the block raises ClosedError.
        Entering and leaving the block raise what `write` raises.

        Args:
            size: in bytes.
            grace_duration: overrides the writer's, for this write.

        Raises:
            InvalidArgumentError: the size cannot be used.
        """
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LAST_SEQ - PAYLOAD_AT:
            raise InvalidArgumentError(f"a size is a number of bytes, not {size!r}")
        if not self._usable:
            self._refuse()
        return Reservation(self, size, grace_duration)

    def _publish(self, codec: Codec, payload: Payload, grace_duration: float | timedelta | None) -> WriteResult:
        with self._lock:
            if self._busy or self._reserved is not None:
                self._wait_for_turn()
            try:
                self._busy = True
                return self._commit(*self._prepare(codec, payload, grace_duration))
            finally:
                self._busy = False  # first, and here: a signal handler may raise in whatever is called
                self._end()
                release(payload)  # a kept exception keeps this frame, and with it the caller's buffer

    # A write is `_wait_for_turn`, `_prepare`, `_commit`, `_end`; a Reservation lets go of the lock before `_commit`.

    def _wait_for_turn(self) -> None:
        """Wait until no Reservation of another thread is open. Give up one that was left without an `__exit__`."""
        if self._busy:  # two publishes interleaved would write into what the inner one has just published
            raise WriteLockConflictError(errno.EAGAIN, "write called by a signal handler in the middle of a write")
        while (reserved := self._reserved) is not None:
            if reserved.is_left():
                self._set_aside()
            else:
                self._free.wait(_LOOK_AGAIN)

    def _set_aside(self) -> None:
        """Make an open Reservation fail. Whoever still writes into its memory writes where nobody reads any more."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None and reserved.tenure is self._tenure:
            reserved.tenure.data.discard(reserved.prepared.idx)
        self._free.notify_all()

    def _prepare(
        self, codec: Codec, payload: Payload, grace_duration: float | timedelta | None
    ) -> tuple[ownership.Tenure, Published]:
        grace = self._grace if grace_duration is None else seconds(grace_duration, "grace_duration")
        if not self._usable:
            self._refuse()
        now = time.monotonic()
        tenure = self._present_tenure(now)
        tenure.data.load(payload, codec, now)
        return tenure, tenure.prepare(grace)

    def _commit(self, tenure: ownership.Tenure, prepared: Published) -> WriteResult:
        tenure.commit(prepared)
        seq, index, reset, replaced, _, _ = prepared
        self._writes += 1
        if reset or replaced:
            self._resets += reset
            self._replaced += replaced
            self._log.published(prepared, tenure.evicted() if reset else [])
        data = tenure.data
        version = new(InstanceVersion, (seq, index, data.size, data.checksum))
        return new(WriteResult, (data.size, reset, version))

    def _end(self) -> None:
        tenure = self._tenure
        if tenure is not None:
            tenure.data.unload()
            if tenure.is_fresh and tenure.version.load() == 0:
                self._end_tenure(tenure)  # nothing was ever published here: leave nothing behind

    def _present_tenure(self, now: float) -> ownership.Tenure:
        tenure = self._tenure
        if tenure is not None and now >= self._next_link_check:
            self._next_link_check = now + _LINK_CHECK_EVERY
            tenure.data.forget_unlinked()
            if not tenure.is_linked():
                self._end_tenure(tenure)  # removed from outside: send the readers to the new one
                tenure = None
        if tenure is None:
            tenure = self._tenure = ownership.begin(self._terms)
            if tenure.predecessor:
                self._takeovers += 1
                self._log.took_over(tenure.predecessor)
        return tenure

    def _end_tenure(self, tenure: ownership.Tenure) -> None:
        self._tenure = None
        tenure.end()
        tenure.resign()

    def unlink(self) -> None:
        """Remove the name and its segments. Attached readers notice at their next call; open snapshots stay valid.

        A later write creates the name anew. Does nothing if there is no such name.

        Raises:
            WriteLockConflictError: another writer is alive.
            LayoutMismatchError: the name belongs to another layout version, or to something else.
            ClosedError: this writer was closed.
        """
        with self._lock:
            if not self._usable:
                self._refuse()
            self._set_aside()
            if self._tenure is not None:
                self._end_tenure(self._tenure)
            else:
                unlink.remove(self._terms.names)

    def stats(self) -> WriterStats:
        """Return what this Writer did so far."""
        return WriterStats(self._writes, self._resets, self._replaced, self._takeovers)

    @property
    def closed(self) -> bool:
        """Whether the writer was closed."""
        return self._closed

    def close(self) -> None:
        """Let go of the write lock; unlink nothing: readers keep reading. Idempotent."""
        with self._lock:
            self._set_aside()
            self._closed = True
            self._usable = False
            tenure, self._tenure = self._tenure, None
            if tenure is not None:
                if tenure.version.load() == 0:
                    tenure.end()  # closed in the block of a first reserve: leave nothing behind
                tenure.resign()

    def _refuse(self) -> NoReturn:
        if self._closed:
            raise ClosedError(f"the writer of {self.name!r} is closed; open a new one")
        raise WriteLockConflictError(
            errno.EAGAIN,
            f"this Writer of {self.name!r} belongs to the process that this one was forked from; "
            "open a Writer here after that one was closed",
        )

    def before_fork(self) -> None:
        """Nothing to prepare."""

    def after_fork_in_child(self) -> None:
        """Leave the lock to the parent."""
        self._lock = threading.RLock()
        self._free = threading.Condition(self._lock)
        self._busy = False
        self._reserved = None
        self._usable = False
        tenure, self._tenure = self._tenure, None
        if tenure is not None:
            tenure.drop()

    def __enter__(self) -> Self:
        if not self._usable:
            self._refuse()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        tenure = getattr(self, "_tenure", None)
        if tenure is not None and not ends():
            with suppress(Exception):  # the interpreter may be half gone; the kernel frees the lock in any case
                tenure.resign()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.name, self._options))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._usable else "inherited by a fork"
        return f"<{type(self).__name__} {self.name!r}, {state}, {self._writes} writes>"


def _reopen(kind: type[Writer[Any]], name: str, options: dict[str, Any]) -> Writer[Any]:
    return kind(name, **options)
