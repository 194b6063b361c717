"""Writer: encode a value, publish it, unlink the name."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from shmsync import codecs
from shmsync._core.layout import LAST_SEQ, MAX_READERS, PAYLOAD_AT, names_of, new
from shmsync._core.lifecycle import NameOwner, StaleIncarnationError
from shmsync._handles.reservation import OpenReservation, Reservation
from shmsync._handles.snapshot import T
from shmsync._session.create_options import CreateOptions
from shmsync._session.directory import SegmentDirectory
from shmsync._session.isolated_ownership import own
from shmsync._session.log import WriterLog
from shmsync._session.pinned import UNSET
from shmsync._session.unlink import unlink_name
from shmsync._shm import fork
from shmsync._shm.fork import alive
from shmsync._types import InstanceVersion, WriteResult, WriterStats
from shmsync._util.arguments import function, integer, optional_flag, permission_bits
from shmsync._util.backoff import backoff
from shmsync._util.duration import seconds
from shmsync._util.weak import WeakRegistry
from shmsync.codecs import raw
from shmsync.codecs._gather import release, uninitialized
from shmsync.errors import (
    ClosedError,
    DataReadError,
    StateNotFoundError,
    UninitializedStateError,
    WriteLockConflictError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.layout import DataHeader
    from shmsync._core.protocol import PreparedWrite
    from shmsync._handles.update import Update
    from shmsync._session.data import Encoded
    from shmsync._session.ownership import Ownership
    from shmsync._session.state_file import StateFile
    from shmsync.codecs import NumberedCodec
    from shmsync.codecs._drafts import Draft
    from shmsync.codecs._gather import Payload

M = TypeVar("M")

_NAME_CHECK_INTERVAL = 1.0
_LOCK_BACKOFF = (0.0005, 0.05)  # seconds, the first and the longest pause while another process holds the write lock
_EXIT_TIMEOUT = 1.0
_TURN_POLL_INTERVAL = 0.1


class Writer(Generic[T]):
    """Publishes values under a name. A name has one writer at a time.

    The first write creates the segments, or takes over those of an earlier writer. Thread-safe. A Writer that was
    inherited by a fork raises WriteLockConflictError. It pickles by name, and the copy competes for the write lock. To
    a type checker `writer: Writer[Prices] = Writer(name)` writes only Prices; nothing is checked at run time.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        codec: how `write` encodes: "msgpack" for plain values, arrays included; "archive" for large maps and lists
            that readers use in place; "raw" for one buffer; "arrow" for pyarrow tables; "pickle" for any object,
            between processes that trust each other; or the name of a codec that `register_codec` has registered.
        mode: permission bits of the segments: who may read. For other users, see `reuse_memory`.
        grace_duration: how long a write waits for readers of the memory that it wants to reuse, before it allocates
            new memory instead; in seconds or as a timedelta. 0 never waits.
        max_readers: reader slots; each attached reader handle takes one. Fixed when the segments are created; a writer
            that finds another number logs a warning.
        max_backoff: the longest pause between two polls while a write waits for a reader, in seconds or as a
            timedelta. The pauses grow exponentially up to it.
        lock_timeout: how long to wait for another writer of this name to close or die, before WriteLockConflictError
            is raised; in seconds or as a timedelta. 0 raises at once.
        enc_hook: called with each value of a type that the codec ("msgpack" or "archive") does not support; returns one
            that it supports, or raises NotImplementedError. As in msgspec.
        reuse_memory: whether a write may reuse the memory of an older version. Readers then have slots in a table that
            all of them can write to, so they have to trust each other. False takes new memory for each version, which
            takes longer, and readers can affect neither the writer nor other readers ("isolated mode"). None, the
            default, is False if `mode` gives permissions to group or others, and True otherwise.

    Raises:
        InvalidArgumentError: an argument is not valid.

    Example:
        >>> from shmsync import Writer
        >>> with Writer("doc-writer") as writer:
        ...     result = writer.write({"EURUSD": 1.08})
        ...     writer.unlink()
        >>> result.version.seq, result.size
        (1, 17)
    """

    def __init__(
        self,
        name: str,
        *,
        codec: str = "msgpack",
        mode: int = 0o600,
        grace_duration: float | timedelta = 1.0,
        max_readers: int = 256,
        max_backoff: float | timedelta = 0.002,
        lock_timeout: float | timedelta = 0.0,
        enc_hook: Callable[[Any], Any] | None = None,
        reuse_memory: bool | None = None,
    ) -> None:
        integer(max_readers, "max_readers", 1, MAX_READERS)
        permission_bits(mode)
        optional_flag(reuse_memory, "reuse_memory")
        self.name = name
        self._create_options = CreateOptions(
            names_of(name), mode, max_readers, seconds(max_backoff, "max_backoff"), reuse_memory
        )
        self._codec = codecs.by_name(codec)
        self._codec_id = self._codec.ID
        self._enc_hook = function(enc_hook, "enc_hook")
        self._encode = codecs.encoder_of(self._codec, enc_hook)
        self._grace = seconds(grace_duration, "grace_duration")
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._busy = False
        self._reservation: OpenReservation | None = None
        self._closed = False
        self._usable = True  # neither closed, nor inherited by a fork
        self._lock_timeout = seconds(lock_timeout, "lock_timeout")
        self._entered = 0
        self._deferred: set[str] = set()
        self._directory = SegmentDirectory(self._create_options, is_writer=True)
        self._owner = NameOwner(self._directory)
        self._ownership: Ownership | None = None
        self._heals = False
        self._next_name_check = 0.0
        self._writes = self._resets = self._replaced = self._takeovers = 0
        self._log = WriterLog(name)
        fork.call_after(self)
        _open_writers.add(self)

    def write(self, value: T, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish a value, encoded with the writer's codec. After an error the last value is still published.

        Args:
            value: the value to publish.
            grace_duration: overrides the writer's for this write, in seconds or as a timedelta.

        Returns:
            The size in bytes, and the version that was published.

        Raises:
            EntityWriteError: the value cannot be encoded so that it reads back equal.
            CapacityError: the shared memory file system is too small.
            WriteLockConflictError: another writer is alive, or this one was inherited by a fork.
            LayoutMismatchError, StateReadError: the segments of this name cannot be used.
            DataWriteError: a segment cannot be created.
            ClosedError: this writer is closed.
        """
        if not self._usable or not alive[0]:
            self._refuse()
        payload = self._encode(value)
        if type(payload) is bytes and grace_duration is None:
            result = self._write_at_once(payload)
            if result is not None:
                return result
        return self._publish(self._codec, payload, grace_duration)

    def write_raw(self, data: Any, *, grace_duration: float | timedelta | None = None) -> WriteResult:
        """Publish the bytes of any buffer, with one copy; readers get a read-only memoryview. See `write`."""
        if not self._usable or not alive[0]:
            self._refuse()
        return self._publish(raw, raw.encode(data), grace_duration)

    def reserve(self, size: int, *, grace_duration: float | timedelta | None = None) -> Reservation:
        """Return a context manager that provides the memory of the next version, to be written in place.

        Leaving its block publishes the memory as raw bytes; an exception publishes nothing. The memory is not cleared:
        it may contain an earlier version. Writes of other threads through this Writer wait for the block to end. A
        write or `close` of the same thread inside the block takes precedence: leaving the block then raises
        ClosedError. Entering and leaving the block raise what `write` raises.

        Args:
            size: size of the payload in bytes.
            grace_duration: overrides the writer's for this write, in seconds or as a timedelta.

        Raises:
            InvalidArgumentError: the size is not valid.
        """
        integer(size, "size", 0, LAST_SEQ - PAYLOAD_AT, "bytes")
        if not self._usable or not alive[0]:
            self._refuse()
        return Reservation(self, size, grace_duration)

    def update(self, *, initial: Any = UNSET, grace_duration: float | timedelta | None = None) -> Update:
        """Return a context manager that changes the newest value in place, at the cost of what is changed.

        Leaving its block publishes the changed value; an exception publishes nothing. What cannot be changed in place
        (another shape or dtype, a new key) is written in full, with the same result. Writes of other threads through
        this Writer wait for the block to end. A write or `close` of the same thread inside the block takes precedence:
        leaving the block then raises ClosedError. Entering and leaving the block raise what `write` raises.

        Args:
            initial: the value to begin with if there is none yet, or if the newest one has another codec than this
                writer.
            grace_duration: overrides the writer's for this write, in seconds or as a timedelta.

        Raises:
            UninitializedStateError: there is no value yet, and no `initial`; raised on entry, as are the following.
            InvalidArgumentError: values of its codec cannot be changed in place.
            EntityReadError, DataReadError: the newest value is damaged.
        """
        from shmsync._handles.update import Update  # noqa: PLC0415 - most writers do not need it

        if not self._usable or not alive[0]:
            self._refuse()
        return Update(self, initial, grace_duration)

    def _write_at_once(self, payload: bytes) -> WriteResult | None:
        """Publish bytes encoded with the writer's codec; the fast path of `_publish`.

        Returns:
            None if nothing was published: the name has to be acquired or checked, a reservation or another call of this
            writer is in progress, or something has to be waited for, reclaimed or allocated.
        """
        size = len(payload)
        with self._lock:
            owned = self._ownership
            if owned is None or self._busy or self._heals or not self._usable:
                return None
            try:
                self._busy = True  # before the look at the reservation, which a signal handler may open until then
                now = time.monotonic()
                if self._reservation is not None or now >= self._next_name_check:
                    published = None
                else:
                    published = owned.try_publish((payload, self._codec_id, now), size)
            except BaseException:
                self._busy = False
                self._finish()
                raise
            self._busy = False
            if published is None:
                return None  # `_publish` does what signal handlers asked for
            self._writes += 1
            if self._deferred:
                self._run_deferred()
        return new(WriteResult, (size, False, new(InstanceVersion, published), size))

    # A write is `_take_turn`, `_prepare`, `_commit`, `_finish`. A Reservation releases the lock before `_commit`.

    def _publish(self, codec: NumberedCodec, payload: Payload, grace_duration: float | timedelta | None) -> WriteResult:
        try:
            if self._ownership is None:
                self._wait_for_lock()
            with self._lock:
                if self._busy:
                    self._refuse_nested()
                try:
                    self._take_turn()
                    return self._write(codecs.id_of(codec, payload), payload, grace_duration)
                finally:
                    self._busy = False  # before any call, because a signal handler may raise in each
                    self._finish()
        finally:
            release(payload)  # a stored exception keeps this frame alive, and with it the caller's buffer

    def _wait_for_lock(self) -> None:
        """Acquire the name; wait for another writer for as long as `lock_timeout`. The handle is not locked meanwhile.

        Raises:
            WriteLockConflictError: the other writer is still alive; or this is called by a signal handler during
                another call.
        """
        with self._lock:
            if self._busy:  # now: no time that is spent in the handler ends the call that it has interrupted
                self._refuse_nested()
        deadline = time.monotonic() + self._lock_timeout
        pauses = backoff(*_LOCK_BACKOFF)
        while True:
            try:
                self._acquire()
            except WriteLockConflictError:
                left = deadline - time.monotonic()
                if left <= 0 or not self._usable:
                    raise
            else:
                return
            time.sleep(min(next(pauses), left))

    def _acquire(self) -> None:
        with self._lock:
            try:
                self._take_turn()
                self._current_ownership(time.monotonic())
                self._busy = False
            except BaseException:
                self._busy = False
                self._finish()
                raise

    def _refuse_nested(self) -> NoReturn:
        # Two interleaved publishes would write into what the inner one has just published.
        raise WriteLockConflictError(
            errno.EAGAIN,
            f"a signal handler wrote to {self.name!r} during another call of this Writer; write after that call has "
            "returned",
        )

    def _take_turn(self) -> None:
        """Wait until no Reservation of another thread is open. Discard one whose block ended without `__exit__`."""
        while not self._busy:
            while (opened := self._reservation) is not None:
                if opened.is_abandoned():
                    self._invalidate_reservation()
                else:
                    self._turn.wait(_TURN_POLL_INTERVAL)
            self._busy = True
            self._busy = self._reservation is None  # a signal handler may have opened one before this

    def _write(self, codec_id: int, payload: Payload, grace_duration: float | timedelta | None) -> WriteResult:
        size = len(payload)
        while True:
            now = time.monotonic()
            try:
                owned, prepared = self._prepare(size, now, grace_duration)
                return self._commit(owned, prepared, size, (payload, codec_id, now))
            except StaleIncarnationError:
                self._next_name_check = 0.0  # it was ended by force, or the name leads elsewhere: acquire again

    def _prepare(
        self, size: int, now: float, grace_duration: float | timedelta | None
    ) -> tuple[Ownership, PreparedWrite]:
        grace = self._grace if grace_duration is None else seconds(grace_duration, "grace_duration")
        owned = self._checked_ownership(now, size)
        return owned, owned.prepare(size, grace)

    def _commit(self, owned: Ownership, prepared: PreparedWrite, size: int, value: Encoded) -> WriteResult:
        return self._note_written(owned, prepared, size, owned.commit(prepared, value), size)

    def _note_written(
        self, owned: Ownership, prepared: PreparedWrite, size: int, checksum: int, copied: int
    ) -> WriteResult:
        if self._heals:
            self._heals = False
            self._owner.published()
        seq, index, reset, replaced, _, held, _ = prepared
        self._writes += 1
        if reset or replaced:
            self._resets += reset
            self._replaced += replaced
            if held:
                owned.record_outdated(prepared)
            self._log.published(prepared, owned.evicted() if reset else [])
        return new(WriteResult, (size, reset, new(InstanceVersion, (seq, index, size, checksum)), copied))

    def _finish(self) -> None:
        """Leave nothing behind of an incarnation without a value; do what signal handlers asked for."""
        owned, state = self._ownership, self._owner.state
        if owned is None or owned.state is not state:
            self._forget_ownership()
            self._owner.abort()  # interrupted while it acquired the name
        elif owned.version.load() == 0 and not self._entered:  # not even one of an earlier writer
            self._forget_ownership()
            self._owner.end()
        if self._deferred:
            self._run_deferred()

    def _run_deferred(self) -> None:
        if "unlink" in self._deferred:
            self._deferred.discard("unlink")
            self.unlink()
        if "close" in self._deferred:
            self._deferred.discard("close")
            self.close()

    def _current_ownership(self, now: float, size: int | None = None) -> Ownership:
        """Return the incarnation that the name leads to, owned by this writer.

        Args:
            now: the time.
            size: for a write, the size of its payload: the incarnation must then be of the writer's own mode.
        """
        if not self._usable:
            self._refuse()
        self._next_name_check = 0.0  # after an error, the next write checks again
        self._directory.switch_size = size
        while True:
            state = self._owner.acquire()
            owned = self._ownership
            if owned is not None and owned.state is state:
                owned.data.forget_unlinked()
                self._check_name_later(state, now)
                return owned
            self._forget_ownership()
            self._heals = True
            try:
                owned = self._ownership = own(self._create_options, self._owner, state)
            except (StateNotFoundError, StaleIncarnationError):
                continue  # a part of it was removed just now
            self._note_adoption(owned)
            self._check_name_later(state, now)
            return owned

    def _check_name_later(self, state: StateFile, now: float) -> None:
        if not state.has_other_mode():  # else the first write begins another incarnation
            self._next_name_check = now + _NAME_CHECK_INTERVAL

    def _note_adoption(self, owned: Ownership) -> None:
        options = self._create_options
        _close_at_end_of_worker()
        if owned.previous_owner_pid:
            self._takeovers += 1
            self._log.took_over(owned.previous_owner_pid)
        if owned.previous_mode is not None:
            self._log.changed_mode(owned.previous_mode, options.read_mode)
        if owned.max_readers != options.max_readers:
            self._log.kept_max_readers(owned.max_readers, options.max_readers)

    def _forget_ownership(self) -> None:
        owned, self._ownership = self._ownership, None
        if owned is not None:
            owned.close()

    # The interfaces `ReservingWriter` of `reservation`, and `UpdatingWriter` of `update`.

    def _open_reservation(
        self, reservation: Reservation, grace_duration: float | timedelta | None
    ) -> tuple[OpenReservation, memoryview]:
        def prepare() -> tuple[Ownership, PreparedWrite]:
            return self._prepare(reservation.size, time.monotonic(), grace_duration)

        def view_of(owned: Ownership, prepared: PreparedWrite) -> memoryview:
            return owned.data.payload_view(prepared.idx, reservation.size)

        return self._open(reservation, prepare, view_of)

    def _open_update(
        self, update: Update, initial: Any, grace_duration: float | timedelta | None
    ) -> tuple[OpenReservation, Draft]:
        def draft_of(owned: Ownership, _: PreparedWrite) -> Draft:
            assert owned.data.update is not None
            return update._begin(owned.data.update)

        return self._open(update, lambda: self._prepare_update(update, initial, grace_duration), draft_of)

    def _prepare_update(
        self, update: Update, initial: Any, grace_duration: float | timedelta | None
    ) -> tuple[Ownership, PreparedWrite]:
        grace = self._grace if grace_duration is None else seconds(grace_duration, "grace_duration")
        owned, newest = self._newest()
        if newest is not None and (initial is UNSET or codecs.by_id(newest.codec).NAME == self._codec.NAME):
            update._check_supported(newest.codec)
            if owned.state.has_other_mode():
                # Another incarnation begins. Its first version is the same value, which stays if the block raises.
                self._write(newest.codec, owned.data.newest_payload(), grace_duration)
                owned, newest = self._newest()
                assert newest is not None
            return owned, owned.prepare_update(newest.size, grace)
        if initial is UNSET:
            raise UninitializedStateError(
                f"nothing was published under {self.name!r} yet; write a value first, or pass initial= to update"
            )
        payload = self._encode(initial)
        codec = codecs.id_of(self._codec, payload)
        update._check_supported(codec)
        owned = self._checked_ownership(time.monotonic(), len(payload))
        prepared = owned.prepare(len(payload), grace)
        owned.data.begin(prepared.idx, payload, codec)
        return owned, prepared

    def _newest(self) -> tuple[Ownership, DataHeader | None]:
        now = time.monotonic()
        try:
            owned = self._checked_ownership(now)
            return owned, owned.newest_header()
        except DataReadError:  # perhaps another program has removed the name since the last look at it
            owned = self._current_ownership(now)
            return owned, owned.newest_header()

    def _checked_ownership(self, now: float, size: int | None = None) -> Ownership:
        """Return what `_current_ownership` does; without a look at the name, if that was not long ago."""
        owned = self._ownership
        if owned is None or now >= self._next_name_check or not self._usable:
            owned = self._current_ownership(now, size)
        return owned

    def _open(
        self,
        block: Reservation | Update,
        prepare: Callable[[], tuple[Ownership, PreparedWrite]],
        memory_of: Callable[[Ownership, PreparedWrite], M],
    ) -> tuple[OpenReservation, M]:
        """Prepare the next version for a block that writes it in place; return a token for `_close`, and the memory."""
        fork.check()
        if self._ownership is None:
            self._wait_for_lock()
        with self._lock:
            if self._busy:
                self._refuse_nested()
            try:
                self._take_turn()
                owned, prepared = self._retry_if_stale(prepare)
                if prepared.held:  # now: it may never be published
                    owned.record_outdated(prepared)
                memory = memory_of(owned, prepared)
                opened = OpenReservation(weakref.ref(block), threading.current_thread(), owned, prepared)
                self._reservation = opened
            except BaseException:
                self._busy = False
                self._finish()
                raise
            self._busy = False
            if self._deferred:
                self._run_deferred()
        return opened, memory

    def _retry_if_stale(
        self, prepare: Callable[[], tuple[Ownership, PreparedWrite]]
    ) -> tuple[Ownership, PreparedWrite]:
        while True:
            try:
                return prepare()
            except StaleIncarnationError:  # noqa: PERF203 - not in a normal write
                self._next_name_check = 0.0

    def _close_reservation(self, opened: OpenReservation | None, size: int, *, publish: bool) -> WriteResult | None:
        return self._close(opened, lambda each: self._publish_reserved(each, size), publish=publish)

    def _close_update(
        self, opened: OpenReservation | None, draft: Draft | None, *, publish: bool
    ) -> WriteResult | None:
        assert draft is not None or not publish
        return self._close(opened, lambda each: self._publish_draft(each, draft), publish=publish)  # type: ignore[arg-type]

    def _close(
        self, opened: OpenReservation | None, publish_block: Callable[[OpenReservation], WriteResult], *, publish: bool
    ) -> WriteResult | None:
        fork.check()
        with self._lock:
            if self._busy:
                self._refuse_nested()
            try:
                self._busy = True  # before the look at the reservation, which a signal handler may replace until then
                if opened is not None and self._reservation is opened:
                    if publish and not self._usable:  # another publisher has taken over during the block
                        self._refuse()
                    result = publish_block(opened) if publish else None
                    self._reservation = None  # still busy: a `close` from now on must not discard what is published
                    return result
                if publish:
                    self._refuse_replaced()
                return None
            finally:
                self._busy = False
                if opened is not None:
                    opened.ownership.data.drop_update()
                    if self._reservation is opened:
                        self._reservation = None
                self._turn.notify_all()
                self._finish()

    def _refuse_replaced(self) -> NoReturn:
        if not self._usable:
            self._refuse()
        raise ClosedError(
            "nothing was published: a write inside the block of this reserve replaced it, or the block was not "
            "entered; call reserve again"
        )

    def _publish_reserved(self, opened: OpenReservation, size: int) -> WriteResult:
        # The time is that of the publish: the block may have taken a while.
        value: Encoded = (uninitialized(size), raw.ID, time.monotonic())
        try:
            return self._commit(opened.ownership, opened.prepared, size, value)
        except StaleIncarnationError:  # removed by force during the block: copy the value into the next incarnation
            self._next_name_check = 0.0
            view = opened.ownership.data.payload_view(opened.prepared.idx, size)
            return self._write(raw.ID, raw.encode(view), None)

    def _publish_draft(self, opened: OpenReservation, draft: Draft) -> WriteResult:
        owned, prepared = opened.ownership, opened.prepared
        update = owned.data.update
        assert update is not None
        codec, encode = codecs.by_id(update.codec), self._encode
        if codec.NAME == self._codec.NAME:
            codec = self._codec  # not that of extended msgpack: what is extended may be gone
        else:
            encode = codecs.encoder_of(codec)
        payload = draft.encoded(encode)
        draft.close()  # before the publish: another thread may still hold a part of it
        if payload is not None:
            return self._write(codecs.id_of(codec, payload), payload, None)
        try:
            checksum = owned.commit_update(prepared)
        except StaleIncarnationError:  # as above
            self._next_name_check = 0.0
            return self._write(update.codec, raw.encode(update.payload()), None)
        return self._note_written(owned, prepared, update.size, checksum, update.copied + update.changes.size)

    def _invalidate_reservation(self) -> None:
        """Make an open Reservation fail. If its block still writes to its memory, no reader reads that memory."""
        opened, self._reservation = self._reservation, None
        if opened is not None and opened.ownership is self._ownership:
            opened.ownership.data.discard(opened.prepared.idx)
        self._turn.notify_all()

    # The handle.

    # A signal handler may interrupt any of these calls, and call another one. One rule: `write` and `reserve` fail at
    # once, `unlink` and `close` take effect when the outer call ends.

    def unlink(self) -> None:
        """Remove the name and its segments. Attached readers notice at their next call; open snapshots stay valid.

        A later write creates the name again. Does nothing if the name does not exist.

        Raises:
            WriteLockConflictError: another writer is alive.
            LayoutMismatchError: the segments have another layout version, or belong to another program.
            ClosedError: this writer is closed.
        """
        fork.check()
        with self._lock:
            if not self._usable:
                self._refuse()
            if self._busy:
                self._deferred.add("unlink")
                return
            try:
                self._busy = True
                self._invalidate_reservation()
                if self._owner.state is None:
                    unlink_name(self._create_options.names)
                else:
                    self._forget_ownership()
                    self._owner.unlink()
            finally:
                self._busy = False
                self._finish()

    def stats(self) -> WriterStats:
        """Return the counters of this handle."""
        return WriterStats(self._writes, self._resets, self._replaced, self._takeovers)

    @property
    def closed(self) -> bool:
        """Whether the writer is closed."""
        return self._closed or "close" in self._deferred

    def close(self) -> None:
        """Release the write lock. The name stays, and readers keep reading. Idempotent.

        At the exit of the interpreter, open writers are closed.
        """
        fork.check()
        with self._lock:
            if self._busy:
                self._deferred.add("close")
                return
            try:
                self._busy = True
                self._invalidate_reservation()
                self._closed = True
                self._usable = False
                self._release()
            finally:
                self._busy = False
                self._deferred.clear()

    def _release(self) -> None:
        owned = self._ownership
        if owned is not None and owned.state is self._owner.state:
            owned.record_release()
        self._forget_ownership()
        self._owner.abort()

    def _refuse(self) -> NoReturn:
        fork.check()
        if self._closed:
            raise ClosedError(f"the Writer of {self.name!r} is closed; open a new one")
        raise WriteLockConflictError(
            errno.EAGAIN,
            f"this Writer of {self.name!r} was inherited by a fork and belongs to the parent process; "
            "close it there, and open a new one here",
        )

    def after_fork_in_child(self) -> None:
        """Leave the write lock to the parent."""
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._busy = False
        self._reservation = None
        self._usable = False
        self._deferred.clear()
        self._forget_ownership()
        self._owner.close_inherited()

    def __enter__(self) -> Self:
        """Acquire the name, so that what the block reads is what its write replaces.

        Until the first write of a new name, readers find it without a value (UninitializedStateError).

        Raises:
            WriteLockConflictError: another writer is alive, and `lock_timeout` is over.
        """
        fork.check()
        if not self._usable:
            self._refuse()
        self._entered += 1
        try:
            self._wait_for_lock()
        except BaseException:
            self._entered -= 1
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._entered -= 1
        self.close()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        owner = getattr(self, "_owner", None)
        if owner is None or owner.state is None or is_finalizing():
            return
        with suppress(Exception):  # the interpreter may be shutting down; the kernel releases the lock in any case
            fork.check()  # in a child, the lock is the parent's
            if owner.state is not None:
                self._release()

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the constructor, without the name."""
        created = self._create_options
        return {
            "codec": self._codec.NAME,
            "mode": created.mode,
            "grace_duration": self._grace,
            "max_readers": created.max_readers,
            "max_backoff": created.max_backoff,
            "lock_timeout": self._lock_timeout,
            "enc_hook": self._enc_hook,
            "reuse_memory": created.reuse_memory,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.name, self._options()))

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._usable else "inherited by a fork"
        return f"<{type(self).__name__} {self.name!r}, {state}, {self._writes} writes>"


def _close_open_writers() -> None:
    for writer in _open_writers.items():
        if writer._lock.acquire(timeout=_EXIT_TIMEOUT):  # a daemon thread may be writing
            try:
                with suppress(Exception):  # the kernel releases the lock in any case
                    writer.close()
            finally:
                writer._lock.release()


def _close_at_end_of_worker() -> None:
    """Close open writers also where a process ends without `atexit`: a worker that multiprocessing has forked."""
    util = sys.modules.get("multiprocessing.util")  # imported by the parent of such a worker
    me = os.getpid()
    if util is not None and me not in _registered_in:
        _registered_in[:] = [me]  # a worker forgets what its parent has registered
        util.Finalize(None, _close_open_writers, exitpriority=0)


_open_writers: WeakRegistry[Writer[Any]] = WeakRegistry()
_registered_in: list[int] = []  # the process in which `_close_at_end_of_worker` has registered
atexit.register(_close_open_writers)


def _reopen(kind: type[Writer[Any]], name: str, options: dict[str, Any]) -> Writer[Any]:
    return kind(name, **options)
