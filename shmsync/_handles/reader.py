"""The reader: attach by name, enter, leave, keep.

`get` and `read` have a short road, taken while the version has not changed, and a long one, which pins the newest. The
short road takes no lock and allocates nothing but the snapshot. It works on one tuple, `_fast`, that is replaced as a
whole, so that a thread never mixes the slot of one life of the name with the version word of another. Between the two,
`get` copies a small plain value out without a pin: see `Attachment.copy_out`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from shmsync._core import protocol
from shmsync._core.layout import InstanceVersion, index_of, names_of
from shmsync._handles.snapshot import UNSET, Snapshot, T
from shmsync._handles.waiting import Waiting, looks
from shmsync._session.attachment import Attachment, LifeEndedError, Tally
from shmsync._shm import fork
from shmsync._types import ReaderStats
from shmsync._util.duration import seconds
from shmsync.codecs import NOT_PLAIN, Decoder
from shmsync.errors import ClosedError, StateNotFoundError, UninitializedStateError, not_found

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._core.ports import Word
    from shmsync._core.slots import Slot
    from shmsync._handles.snapshot import Record

D = TypeVar("D")
R = TypeVar("R")

_RAISE: Any = object()
_NOTHING: Any = ((None,), -1, None)


class Reader(Waiting[T]):
    """Reads the newest value published under a name. Attaches at the first read; creates nothing.

    Thread-safe; works on after a fork in parent and child; pickles by name. When the writer unlinks the name and
    publishes anew, the next read attaches to the new one.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        type: decode into this type, and refuse what does not fit it: msgspec Structs, dataclasses, TypedDicts,
            containers of them; needs the extra `typed`. The default takes whatever is published.
        timeout: how long a read waits for a first value before it raises StateNotFoundError or
            UninitializedStateError, in seconds or as a timedelta.
        allow_pickle: take values of `codec="pickle"`. Reading one runs code of the writer's choice in this process.

    Raises:
        InvalidArgumentError: the name, the type or the timeout cannot be used.
        MissingExtraError: `type` needs msgspec.
    """

    @overload
    def __init__(
        self, name: str, *, type: None = None, timeout: float | timedelta = ..., allow_pickle: bool = ...
    ) -> None: ...

    @overload
    def __init__(
        self, name: str, *, type: type[T], timeout: float | timedelta = ..., allow_pickle: bool = ...
    ) -> None: ...

    @overload  # what is no class to a type checker: a union, a Literal; annotate the variable
    def __init__(
        self: Reader[Any], name: str, *, type: object, timeout: float | timedelta = ..., allow_pickle: bool = ...
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        type: Any = None,  # noqa: A002 - the word for it
        timeout: float | timedelta = 0.0,
        allow_pickle: bool = False,
    ) -> None:
        self.name = name
        self._names = names_of(name)
        self._timeout = seconds(timeout, "timeout")
        self._reading = {"type": type, "timeout": self._timeout, "allow_pickle": allow_pickle}
        self.decoder = Decoder(type, allow_pickle=allow_pickle)
        self._tally = Tally()
        self._closed = False
        self.lock = threading.RLock()  # reentrant: a signal handler or a finalizer may read in the middle of a read
        self._forget()
        fork.register(self)

    def _forget(self) -> None:
        """Be detached. Snapshots and views handed out so far hold what they need themselves."""
        self._attachment: Attachment | None = None
        self._fast: tuple[Slot, Word, Record] | None = None
        self._latest: tuple[Any, int, Any] = _NOTHING  # version cell, sequence number and value of the last `get`
        self._seen = -1  # sequence number of the last `read`: decides `is_switched`
        self._waited = -1  # sequence number that `wait` returned last

    # ------------------------------------------------------------------------------------------------ the short road

    @overload
    def get(self) -> T: ...

    @overload
    def get(self, default: None) -> T | None: ...

    @overload
    def get(self, default: D) -> T | D: ...

    def get(self, default: Any = _RAISE) -> Any:
        """Return the newest value; the same object until it changes, so treat it as read-only.

        Values that lie in the segment (arrays, archives, raw bytes) need no `with`: their memory is kept for as long
        as they are referenced.

        Args:
            default: returned while nothing is published, instead of an error.

        Raises:
            StateNotFoundError: nothing was published under this name.
            UninitializedStateError: the segments are there, but nothing was published yet.
            StateReadError, DataReadError: a segment cannot be opened or is damaged.
            LayoutMismatchError: the segments belong to another layout version, or to something else.
            EntityReadError: the bytes cannot be decoded, or not as the reader's type.
            MissingExtraError: decoding needs a package that is not installed.
            ReadersFullError: all reader slots are taken.
            ClosedError: this handle was closed.
        """
        # "No" is all that a peek may decide, and all that it decides: an equal version means the value in hand is it.
        cell, seq, value = self._latest
        if cell[0] == seq:
            return value
        del value  # or its memory would count as used when the long road looks
        return self._get_changed(default)

    def read(self, *, check_bytes: bool = False) -> Snapshot[T]:
        """Pin the newest version and return it as a Snapshot; use it in a `with` block.

        Raises what `get` raises, too; decoding errors come when `value` is taken.

        Args:
            check_bytes: compare the payload with its checksum first, and look at the whole of an archive or table.

        Raises:
            IntegrityError: it does not match (only under `check_bytes`).
            EntityReadError: the archive or table is not sound (only under `check_bytes`).
        """
        fast = self._fast
        if fast is None or check_bytes or fast[0].retired:
            return self._read_changed(check_bytes=check_bytes)
        slot, version, record = fast
        try:
            seq = protocol.enter(slot, version)
            # No look for EVICTED (rule B), since nothing is mapped here. `hold` saw this version through this slot when
            # the bit was not set; if it was set since, the writer owes the eviction a new inode for this index, and
            # pays before it writes here again. It cannot have paid yet: a later version would be in this segment.
            if seq == record.seq == self._seen:
                return Snapshot(self, slot, record)
            slot.leave[index_of(seq)]()
        except BaseException:
            self.retire(slot)
            raise
        return self._read_changed(check_bytes=check_bytes)

    # ------------------------------------------------------------------------------------------------- the long road

    def _get_changed(self, default: Any) -> Any:
        with self.lock:
            attachment = self._attachment
            if attachment is not None and (copied := attachment.copy_out()) is not None:
                seq, codec, payload = copied
                value = self.decoder.decode_plain(codec, payload)
                if value is not NOT_PLAIN:
                    self._latest = (attachment.channel.version_cell, seq, value)
                    self._tally.values += 1
                    attachment.give_up_unused()
                    return value
        try:
            return self._patiently(self._take)
        except (StateNotFoundError, UninitializedStateError):
            if default is _RAISE:
                raise
            return default

    def _take(self, attachment: Attachment, slot: Slot, record: Record) -> Any:
        """Count out; return the value, kept if it lies in the segment: it outlives the count."""
        value = record.value
        if value is UNSET:
            value = self.decoder.decode(record)
            lending = record.mapping.lending
            if lending.is_lent():
                lending.keep(slot)  # SYNC POINT keep: stored before the count goes
            record.value = value  # only now: interrupted before, nothing stays that nobody keeps
        slot.leave[record.index]()
        self._latest = (attachment.channel.version_cell, record.seq, value)
        self._tally.values += 1
        attachment.give_up_unused()
        return value

    def _read_changed(self, *, check_bytes: bool) -> Snapshot[T]:
        return self._patiently(self._snapshot, check_bytes=check_bytes)

    def _read_now(self) -> Snapshot[T]:
        """Pin the newest version, without patience."""
        with self.lock:
            return self._pin_and(self._snapshot, check_bytes=False)

    def _snapshot(self, attachment: Attachment, slot: Slot, record: Record) -> Snapshot[T]:
        snapshot = Snapshot(self, slot, record)
        snapshot.is_switched = record.seq != self._seen
        self._tally.values += snapshot.is_switched
        self._seen = record.seq
        attachment.give_up_unused()
        return snapshot

    def _version_of(self, _: Attachment, slot: Slot, record: Record) -> InstanceVersion:
        slot.leave[record.index]()
        return record.version

    def _patiently(self, use: Callable[[Attachment, Slot, Record], R], *, check_bytes: bool = False) -> R:
        """Pin and use the newest version; as long as nothing is published, try again until the timeout is over."""
        deadline, pauses = -1.0, None
        while True:
            try:
                with self.lock:
                    return self._pin_and(use, check_bytes=check_bytes)
            except (StateNotFoundError, UninitializedStateError):
                now = time.monotonic()
                if pauses is None:
                    deadline, pauses = now + self._timeout, looks()
                if now >= deadline:
                    raise
            time.sleep(min(next(pauses), deadline - now))

    def _pin_and(self, use: Callable[[Attachment, Slot, Record], R], *, check_bytes: bool) -> R:
        """Pin the newest version and use it; `use` counts out, or hands the count on."""
        while True:
            attachment = self._attached()
            try:
                slot, record = attachment.pin(check_bytes=check_bytes)
                if record.value is UNSET and self._latest[:2] == (attachment.channel.version_cell, record.seq):
                    record.value = self._latest[2]  # decoded without a record: see `Attachment.copy_out`
                self._fast = (slot, attachment.version, record)
                return use(attachment, slot, record)
            except LifeEndedError:
                self._forget()
                if attachment.channel.is_current():  # its writer died between closing it and removing the name
                    raise not_found(self._names.state) from None
            except BaseException:
                # An error, or a signal handler's exception anywhere above: our count may stand.
                self._fast = None
                attachment.retire()
                raise

    def _attached(self) -> Attachment:
        if self._attachment is None:
            self._check_open()
            self._attachment = Attachment(self._names, self.decoder, self.lock, self._tally)
        return self._attachment

    def retire(self, slot: Slot) -> None:
        """Stop entering through a slot whose counts are in doubt; its holders keep it, the last one frees it."""
        slot.retire()
        fast, attachment = self._fast, self._attachment
        if fast is not None and fast[0] is slot:
            self._fast = None
        if attachment is not None:
            attachment.retire(slot)

    # ---------------------------------------------------------------------------------------------------- the handle

    def version(self) -> InstanceVersion:
        """Return sequence number, index, size and checksum of the newest version. Raises what `get` raises."""
        return self._patiently(self._version_of)

    def stats(self) -> ReaderStats:
        """Return what this handle did so far."""
        return ReaderStats(self._tally.values, self._tally.attached, self._tally.claimed)

    @property
    def closed(self) -> bool:
        """Whether the handle was closed."""
        return self._closed

    def close(self) -> None:
        """Give up slot and mappings; unlink nothing. Open snapshots and live views stay valid. Idempotent.

        Whoever waits with this handle gets a ClosedError, within a second; coroutines within five.
        """
        with self.lock:
            self._closed = True
            attachment = self._attachment
            self._forget()
        if attachment is not None:
            self._stir(attachment.channel)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the handle for {self.name!r} is closed; open a new one")

    def before_fork(self) -> None:
        """Nothing to prepare: slots prepare themselves."""

    def after_fork_in_child(self) -> None:
        """Attach anew at the next read; slots that live snapshots share with the parent are theirs."""
        self.lock = threading.RLock()  # the old one may belong to a thread of the parent
        self._forget()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopen, (type(self), self.name, self._options()))

    def _options(self) -> dict[str, Any]:
        return self._reading

    def __repr__(self) -> str:
        state = "closed" if self._closed else "detached" if self._fast is None else f"at version {self._fast[2].seq}"
        return f"<{type(self).__name__} {self.name!r}, {state}>"


def _reopen(kind: type[Reader[Any]], name: str, options: dict[str, Any]) -> Reader[Any]:
    return kind(name, **options)
