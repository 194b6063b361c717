"""Reader: attach by name, return the newest value.

`get` and `read` have a fast path, taken while the version has not changed, and a slow path, which pins the newest
version. The fast path takes no lock and allocates nothing but the snapshot. It works on one tuple (`_fast` for `read`,
the items of `_latest` for `get`). The tuple is replaced as a whole, so that a thread never mixes the slot of one
incarnation with the version word of another. Between the two, a changed `get` copies a small plain value, or pins a
version whose segment is mapped, without the loops of the slow path: see `_get_at_once`.

If another program removes the name, its version word does not change. So from time to time both check whether the name
was created again: `read` by the clock, and `get`, for which the clock costs too much, by exhausting an iterator, in C.
Its length follows the rate of the calls.

In a forked child the fast path must not return a view of shared memory, which is retained for the parent only. So views
come from an iterator that stops in a child. Decoded values may be returned.
"""

from __future__ import annotations

import os
import threading
import time
from itertools import compress, repeat
from sys import getrefcount
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from shmsync._core.layout import CLOSED, PAYLOAD_AT, names_of
from shmsync._core.slots import MAX_REFERENCES, NoSlot
from shmsync._handles import waiting
from shmsync._handles.snapshot import Snapshot, T
from shmsync._session.attachment import ReaderCounters, StaleAttachmentError
from shmsync._session.isolated_attachment import open_attachment
from shmsync._session.pinned import UNSET
from shmsync._shm import fork
from shmsync._shm.fork import MAX_CALLS, alive, in_progress
from shmsync._shm.users import user_id
from shmsync._types import InstanceVersion, ReaderStats
from shmsync._util.arguments import flag, function
from shmsync._util.duration import seconds
from shmsync.codecs import NOT_PLAIN, Decoder, are_intact
from shmsync.errors import ClosedError, StateNotFoundError, UninitializedStateError, not_found

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.layout import Names
    from shmsync._core.ports import Word
    from shmsync._core.slots import Slot
    from shmsync._handles.waiting import Event, Newest
    from shmsync._session.attachment import Attachment
    from shmsync._session.pinned import PinnedVersion

D = TypeVar("D")
R = TypeVar("R")

_RAISE: Any = object()
_NOTHING: Any = ((None,), -1, None)
_NO_FAST: Any = (NoSlot(), None, None)  # one is not entered through this slot
_CHECK_INTERVAL = 0.1  # seconds between two checks whether the name was created again
_GROWTH = 4  # of the number of calls of `get` between two checks, if they come fast


class Reader(Generic[T]):
    """Reads the newest value published under a name. Attaches at the first read. Creates no segments.

    Thread-safe. After a fork it works in parent and child, also if Python did not announce the fork. It pickles by
    name. When the writer unlinks the name and publishes again, the next read attaches to the new incarnation. If
    another program removed the name, that is noticed within a bounded number of calls.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        type: decode into this type, and raise if the value does not fit: msgspec Structs, dataclasses, attrs classes,
            TypedDicts, containers of them (needs the extra `typed`), or a pydantic model (needs the extra `pydantic`).
            The default accepts any value.
        timeout: how long a read waits for the first value before it raises StateNotFoundError or
            UninitializedStateError, in seconds or as a timedelta.
        allow_pickle: accept values of `codec="pickle"`. Reading one runs code of the writer's choice in this process.
        zero_copy_bytes: read bytes of 4 KiB and more in place, as read-only memoryviews of shared memory. By default
            bytes inside a value read back as bytes, copied into this process.
        owner: name or id of another user whose segments are trusted. By default, those of this process's user and of
            root: any user of the host may take a free name, and so decide what is read there.
        dec_hook: called with a class in `type` that msgspec does not support, and a plain value; returns the instance
            of the class. As in msgspec.
        frozen: return dicts as read-only mappings (types.MappingProxyType), lists as tuples, and sets as frozensets,
            so that no caller changes by accident what `get` returns to all. Not with `type` or `allow_pickle`.

    Raises:
        InvalidArgumentError: an argument is not valid, or no value can be decoded into the type.
        MissingExtraError: `type` needs msgspec or pydantic.

    Example:
        >>> from shmsync import Reader, Writer
        >>> writer = Writer("doc-reader")
        >>> _ = writer.write({"EURUSD": 1.08})
        >>> reader = Reader("doc-reader")
        >>> reader.get()["EURUSD"]
        1.08
        >>> reader.get() is reader.get()
        True
        >>> reader.close(); writer.unlink(); writer.close()
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
    ) -> None: ...

    @overload  # a union or a Literal is not a class to a type checker: annotate the variable
    def __init__(
        self: Reader[Any],
        name: str,
        *,
        type: object,
        timeout: float | timedelta = ...,
        allow_pickle: bool = ...,
        zero_copy_bytes: bool = ...,
        owner: str | int | None = ...,
        dec_hook: Callable[[Any, Any], Any] | None = ...,
        frozen: bool = ...,
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
    ) -> None:
        self.name = name
        self._names = names_of(name)
        self._timeout = seconds(timeout, "timeout")
        self._type = type
        self._allow_pickle = flag(allow_pickle, "allow_pickle")
        self._owner = None if owner is None else user_id(owner)
        self._zero_copy_bytes = flag(zero_copy_bytes, "zero_copy_bytes")
        self._dec_hook = function(dec_hook, "dec_hook")
        self._frozen = flag(frozen, "frozen")
        self.decoder = Decoder(
            type, allow_pickle=allow_pickle, zero_copy_bytes=zero_copy_bytes, dec_hook=dec_hook, frozen=frozen
        )
        self._counters = ReaderCounters()
        self._closed = False
        self.lock = threading.RLock()  # reentrant: a signal handler or a finalizer may read during a read
        self._inherited: tuple[tuple[str, int] | None, int] = (None, -1)
        self._detach()
        fork.call_after(self)

    def _detach(self) -> None:
        """Reset everything that belongs to one incarnation. Snapshots and views have their own references."""
        self._attachment: Attachment | None = None
        # Of the last `read`, as long as `_seen` is its version. Dropped by a `get` of a newer one: it retains memory.
        self._fast: tuple[Slot, Word, PinnedVersion] = _NO_FAST
        self._cached: tuple[Any, int, Any] = _NOTHING  # cell, label and value of the last `get`
        # The same if a caller may spoil the value, with the views in it: see `codecs.Decoder.decode`. Then the first
        # cell in `_cached` is one that never matches.
        self._shared: tuple[Any, int, Any, Sequence[memoryview]] | None = None
        self._latest: Iterator[tuple[Any, int, Any]] = repeat(_NOTHING, 0)  # `_cached`, for the next calls of `get`
        self._calls = 1  # how many calls of `get` follow each other before the next check
        self._checked_until = 0.0  # when `read` checks next
        self._seen = -1  # sequence number of the last `read`: decides `is_switched`
        self._returned = -1  # sequence number of the last `get`
        self._waited = -1  # sequence number that `wait` returned last

    # ------------------------------------------------------------------------------------------------ the fast path

    @overload
    def get(self) -> T: ...

    @overload
    def get(self, *, default: None) -> T | None: ...

    @overload
    def get(self, *, default: D) -> T | D: ...

    def get(self, *, default: Any = _RAISE) -> Any:
        """Return the newest value; the same object until it changes, so treat it as read-only (see `frozen`).

        Values that are views of shared memory (arrays, archives, raw bytes) need no `with`: their memory is retained
        as long as they are referenced. Raw bytes are a new memoryview in each call, so a caller may release it. If one
        inside a container (see `zero_copy_bytes`) was released, the next call returns a new container.

        Args:
            default: returned while nothing is published, instead of an error.

        Raises:
            StateNotFoundError: nothing was published under this name.
            UninitializedStateError: the name exists, but nothing was published yet.
            StateReadError, DataReadError: a segment cannot be opened or is damaged.
            LayoutMismatchError: the segments have another layout version, or belong to another program.
            EntityReadError: the bytes cannot be decoded, or not as the reader's type.
            MissingExtraError: decoding needs a package that is not installed.
            ReadersFullError: all reader slots are taken.
            ClosedError: this handle is closed.
        """
        # A relaxed load is enough here: it only decides whether the cached value is still the newest.
        for cell, seq, value in self._latest:
            if cell[0] == seq:
                return value
            del value  # otherwise its memory would count as used in the slow path
            break
        else:
            return self._get_checked(default)
        return self._get_changed(default)

    def read(self, *, check_bytes: bool = False) -> Snapshot[T]:
        """Pin the newest version and return it as a Snapshot; use it in a `with` block.

        Also raises what `get` raises; decoding errors are raised by `Snapshot.value`.

        Args:
            check_bytes: compare the payload with its checksum first, and validate all of an archive or table.

        Raises:
            IntegrityError: the checksum does not match (only with `check_bytes`).
            EntityReadError: the archive or table is damaged (only with `check_bytes`).
        """
        slot, version, pinned = self._fast
        if slot.poisoned or getrefcount(slot) > MAX_REFERENCES:
            return self._read_changed(check_bytes=check_bytes)
        if check_bytes is not False or not alive[0] or monotonic() > self._checked_until:
            return self._read_changed(check_bytes=check_bytes)
        try:
            slot.enter[
                pinned.index
            ]()  # SYNC POINT scan: as in `protocol.enter`, which would load the version to pin first
            # Rule A: if it is still the version that is cached, the writer's next scan sees the pin.
            # No check for EVICTED (rule B), since nothing is mapped here. `pin_and_map` saw this version through this
            # slot when the bit was not set. If it was set since, the writer has to replace the inode of this index
            # before it writes here again. It cannot have done so yet: a later version would be in this segment.
            if version.load() == pinned.seq and not in_progress:
                return Snapshot(self, slot, pinned)
            slot.leave[pinned.index]()
        except BaseException:
            self.discard_slot(slot)
            raise
        return self._read_changed(check_bytes=check_bytes)

    # ------------------------------------------------------------------------------------------------- the slow path

    def _get_checked(self, default: Any) -> Any:
        """Continue `get` where no call of the fast path is left: nothing is cached, or the name has to be checked."""
        if not alive[0]:
            fork.check()
        with self.lock:
            self._check_superseded()
            if self._cached is not _NOTHING:
                calls = repeat(self._cached, self._calls)
                self._latest = compress(calls, alive) if isinstance(self._latest, compress) else calls
        cell, seq, value = self._cached
        if cell[0] == seq:
            return value
        del value
        return self._get_changed(default)

    def _get_changed(self, default: Any) -> Any:
        if not alive[0]:
            fork.check()
        if self._shared:
            cell, newest, value, views = self._shared
            if cell[0] == newest and (type(value) is memoryview or are_intact(views)):
                return memoryview(value) if type(value) is memoryview else value
            del value, views  # as in `get`
        with self.lock:
            try:
                value = self._get_at_once(self._attachment)
            finally:
                if self._closed:
                    self._forget_if_closed()
        if value is not NOT_PLAIN:
            return value
        try:
            return self._retry_until_published(self._take)
        except (StateNotFoundError, UninitializedStateError):
            if default is _RAISE:
                raise
            return default

    def _get_at_once(self, attachment: Attachment | None) -> Any:
        """Return the newest value, copied if it is small and plain; the fast path of `_retry_until_published`.

        Returns:
            NOT_PLAIN if there is more to do, such as to attach, to map its segment, or to wait.
        """
        if attachment is None:
            return NOT_PLAIN
        if self._fast is not _NO_FAST:
            if self._fast[2].seq == attachment.version.load():
                return self._take_at_once(attachment)  # not copied: a snapshot may have decoded it, to the same object
            self._fast = _NO_FAST
        if not attachment.copies or (cached := attachment.copy_at_once()) is None:
            return self._take_at_once(attachment)
        self._cached = cached
        self._latest = repeat(cached, self._calls)
        self._shared = None
        self._counters.values += 1
        if attachment.missed:
            attachment.release_unused()
        _, self._returned, value = cached
        return value

    def _take_at_once(self, attachment: Attachment) -> Any:
        """Return the newest value if its segment is mapped; a view of it, mostly. Else NOT_PLAIN.

        If it has the schema of the last one, only its content is read: this is `_take`, for such values.
        """
        if monotonic() > self._checked_until:
            return NOT_PLAIN
        try:
            pinned = attachment.pin_at_once()
            if pinned is None:
                return NOT_PLAIN
            slot, mapping, header = pinned
            schema = self.decoder.schema
            if header.codec != schema.codec or header.size != schema.size or self._fast is not _NO_FAST:
                return self._take(attachment, slot, attachment.pinned_version(header, mapping))
            payload = mapping.export(PAYLOAD_AT, PAYLOAD_AT + header.size)
            if schema.read(payload) != schema.content:
                return self._take(attachment, slot, attachment.pinned_version(header, mapping))
            value = schema.make(payload)
            mapping.views.retain(slot)  # SYNC POINT hazard: stored before the unpin
            slot.leave[mapping.index]()
        except BaseException:  # as in `_pin_and`
            attachment.discard()
            raise
        attachment.forget_pinned()
        cached = self._cached = (attachment.cell, header.seq, value)
        self._latest = compress(repeat(cached, self._calls), alive)  # a view is retained for this process only
        self._shared = None
        self._returned = header.seq
        self._counters.values += 1
        if attachment.missed:
            attachment.release_unused()
        return value

    def _take(self, attachment: Attachment, slot: Slot, pinned: PinnedVersion) -> Any:
        """Unpin; return the value, retained if it is a view of the segment: it outlives the pin.

        The next calls of `get` return it, too, as long as the attachment's cell is the label of its version.
        """
        value, views = pinned.value, pinned.mapping.views
        exposed: list[memoryview] = []
        if value is UNSET:
            value = self.decoder.decode(pinned, exposed)
            if views.exporters:
                views.retain(slot)  # SYNC POINT hazard: stored before the unpin
            if not exposed:
                pinned.value = value  # only now: if interrupted before, no value is cached that is not retained
        slot.leave[pinned.index]()
        self._returned = pinned.seq
        self._counters.values += 1
        if attachment.missed:
            attachment.release_unused()
        if exposed:
            return self._share((attachment.cell, pinned.label, value, exposed))
        cached = self._cached = (attachment.cell, pinned.label, value)
        calls = repeat(cached, self._calls)
        self._latest = compress(calls, alive) if views.exporters else calls
        self._shared = None
        return value

    def _share(self, shared: tuple[Any, int, Any, Sequence[memoryview]]) -> Any:
        """Remember a value that a caller may spoil, by releasing one of its memoryviews; return what to hand out."""
        _, label, value, _ = self._shared = shared
        cached = self._cached = (_NOTHING[0], label, None)
        self._latest = repeat(cached, self._calls)
        return memoryview(value) if type(value) is memoryview else value

    def _read_changed(self, *, check_bytes: bool) -> Snapshot[T]:
        return self._retry_until_published(self._snapshot, check_bytes=flag(check_bytes, "check_bytes"))

    def _read_now(self) -> Snapshot[T]:
        """Pin the newest version. Raises if nothing is published, without waiting."""
        fork.check()
        with self.lock:
            try:
                return self._pin_and(self._snapshot, check_bytes=False)
            finally:
                self._forget_if_closed()

    def _snapshot(self, attachment: Attachment, slot: Slot, pinned: PinnedVersion) -> Snapshot[T]:
        snapshot = Snapshot(self, slot, pinned)
        snapshot.is_switched = pinned.seq != self._seen
        self._counters.values += snapshot.is_switched
        self._seen = pinned.seq
        attachment.release_unused()
        self._fast = (slot, attachment.version, pinned)
        return snapshot

    def _version_of(self, _: Attachment, slot: Slot, pinned: PinnedVersion) -> InstanceVersion:
        slot.leave[pinned.index]()
        return pinned.version

    def _retry_until_published(
        self, use: Callable[[Attachment, Slot, PinnedVersion], R], *, check_bytes: bool = False
    ) -> R:
        """Pin and use the newest version; while nothing is published, retry until the timeout is over."""
        deadline, pauses = -1.0, None
        while True:
            try:
                fork.check()
                with self.lock:
                    try:
                        return self._pin_and(use, check_bytes=check_bytes)
                    finally:
                        self._forget_if_closed()
            except (StateNotFoundError, UninitializedStateError):
                now = time.monotonic()
                if pauses is None:
                    deadline, pauses = now + self._timeout, waiting.absent_backoff()
                if now >= deadline:
                    raise
            time.sleep(min(next(pauses), deadline - now))

    def _pin_and(self, use: Callable[[Attachment, Slot, PinnedVersion], R], *, check_bytes: bool) -> R:
        """Pin the newest version and use it; `use` unpins, or passes the pin on."""
        while True:
            attachment = self._attached()
            try:
                slot, pinned = attachment.pin(check_bytes=check_bytes)
                if pinned.value is UNSET and self._cached[:2] == (attachment.cell, pinned.label):
                    pinned.value = self._cached[2]  # decoded without a pin: see `Attachment.copy_at_once`
                if self._fast[2] is not pinned:
                    self._fast = _NO_FAST
                return use(attachment, slot, pinned)
            except StaleAttachmentError:
                self._detach()
                if attachment.channel.is_current():  # its writer died between CLOSED and the removal of the name
                    raise not_found(self.name) from None
            except BaseException:
                # An error, or an exception from a signal handler anywhere above: the pin may be counted.
                self._fast = _NO_FAST
                attachment.discard()
                raise

    def _trusting(self) -> Names:
        # The user is looked up at each attachment: a process may change it.
        owner = 0 if self._owner is None else self._owner
        return self._names._replace(owners=frozenset({0, os.geteuid(), owner}))

    def _attached(self) -> Attachment:
        if monotonic() > self._checked_until:
            self._check_superseded()
        attachment = self._attachment
        if attachment is None:
            self._check_open()
            attachment = self._attachment = open_attachment(self._trusting(), self.decoder, self.lock, self._counters)
            if attachment.channel.key == self._inherited[0]:
                self._waited = self._inherited[1]  # what this handle has returned before a fork is not new in the child
        return attachment

    def _check_superseded(self) -> None:
        """Detach if the name was removed and created again. Call under the lock."""
        now = monotonic()
        since, self._checked_until = now - self._checked_until + _CHECK_INTERVAL, now + _CHECK_INTERVAL
        # At a steady rate, the calls of `get` between two checks take a check interval.
        expected = self._calls * _CHECK_INTERVAL / since if since > 0 else MAX_CALLS
        self._calls = int(max(1, min(expected, self._calls * _GROWTH, MAX_CALLS)))
        attachment = self._attachment  # a signal handler may close this handle at any time
        if attachment is None:
            return
        if attachment.channel.is_superseded():
            self._detach()
        elif attachment.lower_slot():
            self._fast = _NO_FAST  # the last reference to the old slot, if nothing is pinned or retained there

    def _forget_if_closed(self) -> None:
        """Detach once more if a signal handler has closed this handle in the middle of a call, which attached again."""
        if self._closed:
            self._detach()

    def discard_slot(self, slot: Slot) -> None:
        """Poison a slot whose counts may be wrong, and stop entering through it; its last reference frees it."""
        slot.poison()
        attachment = self._attachment
        if self._fast[0] is slot:
            self._fast = _NO_FAST
        if attachment is not None:
            attachment.discard(slot)

    # ------------------------------------------------------------------------------------------------------ waiting

    def wait(self, since: InstanceVersion | int | None = None, timeout: float | timedelta | None = None) -> int | None:
        """Wait for a new version; return its sequence number, or None on timeout.

        Waiting takes no processor time. Versions in between may be skipped; the newest never is. A name that does not
        exist yet is polled for, up to 50 times per second.

        Args:
            since: a version of the current incarnation, or its sequence number: wait for another one. By default, wait
                for one that this handle has not returned yet, by `get`, `read`, `wait` or `watch`. Threads that share a
                handle should pass it.
            timeout: how long to wait, in seconds or as a timedelta; blocks indefinitely if None.

        Raises:
            InvalidArgumentError: `since` is not a version, or the timeout not a duration.
            StateReadError, LayoutMismatchError: the segments of this name cannot be used.
            ClosedError: this handle is closed, or was closed while waiting.
        """
        return waiting.wait(self, since, timeout)

    def watch(
        self,
        since: InstanceVersion | int | None = None,
        timeout: float | timedelta | None = None,
        stop_event: Event | None = None,
    ) -> Generator[Snapshot[T], None, None]:
        """Yield a Snapshot of each new version, open until the next iteration.

        Raises what `wait` and `read` raise.

        Args:
            since: see `wait`. By default, the first iteration yields the newest version if this handle has not
                returned it.
            timeout: how long to wait for each version before the loop ends, in seconds or as a timedelta.
            stop_event: ends the loop within 50 ms after it is set.
        """
        return waiting.watch(self, since, timeout, stop_event)

    async def wait_async(
        self, since: InstanceVersion | int | None = None, timeout: float | timedelta | None = None
    ) -> int | None:
        """Wait as `wait` does, but in an asyncio coroutine. It may be cancelled at any time.

        The waits of a process share a thread for every 127 names. It ends one or two seconds after the last of them, or
        at once before a fork.
        """
        return await waiting.wait_async(self, since, timeout)

    def watch_async(
        self,
        since: InstanceVersion | int | None = None,
        timeout: float | timedelta | None = None,
        stop_event: Event | None = None,
    ) -> AsyncGenerator[Snapshot[T], None]:
        """Yield a Snapshot of each new version, as `watch` does; for `async for` with asyncio."""
        return waiting.watch_async(self, since, timeout, stop_event)

    # The interface `VersionSource` of `waiting`.

    def _newest(self) -> Newest | None:
        fork.check()
        with self.lock:
            try:
                attachment = self._attached()
                seq, word = attachment.newest()
            except (StateNotFoundError, UninitializedStateError):
                return None
            finally:
                self._forget_if_closed()
            if seq == CLOSED:
                self._detach()
            if seq in {0, CLOSED}:
                return None
            return waiting.Newest(attachment.channel, seq, word, self._last_returned())

    def _newest_after_sleep(self, slept: Newest) -> Newest | None:
        # Without the lock, in few steps: the wake-up is late already. Another thread may close this handle meanwhile.
        attachment = self._attachment
        if attachment is not None and attachment.channel is slept.channel and alive[0]:
            seq = attachment.version.load()
            if seq == slept.word:
                if slept.channel.is_superseded():
                    with self.lock:
                        self._detach()
            elif attachment.WORD_IS_SEQ and seq != CLOSED:
                return waiting.Newest(slept.channel, seq, seq, self._last_returned())
        return self._newest()

    def _last_returned(self) -> int:
        return max(self._returned, self._seen, self._waited)

    def _note_waited(self, seq: int) -> None:
        self._waited = seq

    # ---------------------------------------------------------------------------------------------------- the handle

    def version(self) -> InstanceVersion:
        """Return sequence number, index, size and checksum of the newest version. Raises what `get` raises."""
        return self._retry_until_published(self._version_of)

    def stats(self) -> ReaderStats:
        """Return the counters of this handle."""
        return ReaderStats(self._counters.values, self._counters.attached, self._counters.claimed)

    def release(self) -> None:
        """Drop what the last `get` has returned, and the mapped memory, unless the caller still uses it.

        A handle holds the version that it has read last until its next read. In a worker that is about to be idle,
        this lets the writer reuse or free the memory at once. The handle stays attached; the next read maps again.
        """
        fork.check()
        with self.lock:
            self._cached = (_NOTHING[0], self._cached[1], None)
            self._latest = repeat(_NOTHING, 0)
            self._shared = None
            self._fast = _NO_FAST
            if self._attachment is not None:
                self._attachment.release()

    @property
    def closed(self) -> bool:
        """Whether the handle is closed."""
        return self._closed

    def close(self) -> None:
        """Release the reader slot and the mappings. Open snapshots and live views stay valid. Idempotent.

        Threads that wait with this handle raise ClosedError within a second, coroutines within five.
        """
        fork.check()
        with self.lock:
            self._closed = True
            attachment = self._attachment
            self._detach()
        if attachment is not None:
            waiting.wake(attachment.channel)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the {type(self).__name__} of {self.name!r} is closed; open a new one")

    def after_fork_in_child(self) -> None:
        """Attach again at the next read, with a slot of this process."""
        if self._attachment is not None:
            self._inherited = self._attachment.channel.key, self._last_returned()
        self.lock = threading.RLock()  # the old one may belong to a thread of the parent
        self._detach()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.name, self._options()))

    def _options(self) -> dict[str, Any]:
        """Return the arguments of the constructor, without the name."""
        return {
            "type": self._type,
            "timeout": self._timeout,
            "allow_pickle": self._allow_pickle,
            "zero_copy_bytes": self._zero_copy_bytes,
            "owner": self._owner,
            "dec_hook": self._dec_hook,
            "frozen": self._frozen,
        }

    def __repr__(self) -> str:
        seq = max(self._returned, self._seen)
        state = "closed" if self._closed else "detached" if seq < 0 else f"at version {seq}"
        return f"<{type(self).__name__} {self.name!r}, {state}>"


def _reopen(kind: type[Reader[Any]], name: str, options: dict[str, Any]) -> Reader[Any]:
    return kind(name, **options)
