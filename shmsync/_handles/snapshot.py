"""Snapshot: one version of the value, pinned for as long as it is needed."""

from __future__ import annotations

import reprlib
import sys
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol

from shmsync._session.pinned import UNSET, PinnedVersion
from shmsync._shm import fork
from shmsync._shm.fork import alive
from shmsync.errors import ClosedError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    from shmsync._core.slots import Slot
    from shmsync._handles.version_changes import VersionChanges
    from shmsync._session.pinned import ClosedVersion
    from shmsync._types import InstanceVersion, Origin
    from shmsync.codecs import Decoder

    T = TypeVar("T", default=Any)
else:  # a plain TypeVar is enough at run time, and needs no package
    from typing import TypeVar

    T = TypeVar("T")


class Handle(Protocol):
    """The interface that a snapshot needs from its reader."""

    name: str
    lock: RLock
    decoder: Decoder

    def discard_slot(self, slot: Slot) -> None:
        """Poison a slot whose counts may be wrong, and stop entering through it."""


class Snapshot(Generic[T]):
    """One version of the value. It is not overwritten while the snapshot is open or a view of it is alive.

    Use it in a `with` block. Views and arrays taken from it stay valid afterwards for as long as they are referenced.
    If one outlives its block, the writer allocates new memory instead of waiting.

    Attributes:
        is_switched: whether this was the first `read` of this version by its handle.

    Example:
        >>> from shmsync import Reader, Writer
        >>> writer = Writer("doc-snapshot")
        >>> _ = writer.write({"rate": 1.08})
        >>> with Reader("doc-snapshot") as reader, reader.read() as snapshot:
        ...     print(snapshot.version.seq, snapshot.value["rate"])
        1 1.08
        >>> writer.unlink(); writer.close()
    """

    __slots__ = ("_pinned", "_reader", "_slots", "_value", "_viewed", "is_switched")

    _value: Any  # not set before it is decoded: most snapshots are opened and closed without that

    def __init__(self, reader: Handle, slot: Slot, pinned: PinnedVersion) -> None:
        self._reader = reader
        self._pinned: PinnedVersion | ClosedVersion = pinned
        self._viewed = False
        self.is_switched = False
        self._slots = {0: slot}  # `close` pops it: of two threads that close, one unpins; and the slot may be freed

    @property
    def version(self) -> InstanceVersion:
        """Sequence number, index, size in bytes and checksum of this version."""
        return self._pinned.version

    @property
    def closed(self) -> bool:
        """Whether the snapshot was closed, or lost in a fork that Python did not announce."""
        fork.check()
        slot = self._slots.get(0)
        return slot is None or slot.unprotected

    @property
    def value(self) -> T:
        """The value. Treat it as read-only: it is decoded once per version and handle, or a view of shared memory.

        Raises:
            EntityReadError: the bytes cannot be decoded, or not as the reader's type.
            MissingExtraError: decoding needs a package that is not installed.
            ClosedError: the snapshot was closed, or lost in a fork that Python did not announce.
        """
        value = self._pinned.value
        slot = self._slots.get(0)
        if value is UNSET or slot is None or slot.unprotected or not alive[0]:
            return self._decode()
        return value  # type: ignore[no-any-return]

    def _decode(self) -> T:
        self._check_open()
        pinned = self._pinned
        with self._reader.lock:  # so that all threads get the same object
            self._check_open()
            if not isinstance(pinned, PinnedVersion):
                raise _closed()
            value = getattr(self, "_value", UNSET) if pinned.value is UNSET else pinned.value
            if value is UNSET:
                self._viewed = True
                value = self._reader.decoder.decode(pinned)
                # A value in shared memory must not outlive this snapshot; `pinned` would keep it and its memory alive.
                if pinned.mapping.views.has_views():
                    self._value = value
                else:
                    pinned.value = value
            if not self._slots:  # checked last, as in `buffer`
                self._value = UNSET
                raise _closed()
        # A new view each time: the caller may release it.
        return memoryview(value) if type(value) is memoryview else value  # type: ignore[return-value]

    @property
    def buffer(self) -> memoryview:
        """The payload, zero-copy and read-only.

        Raises:
            ClosedError: the snapshot was closed, or lost in a fork that Python did not announce.
        """
        self._check_open()
        pinned = self._pinned
        if not isinstance(pinned, PinnedVersion):
            raise _closed()
        self._viewed = True
        view = pinned.export()  # a new one each time: the caller may release it
        if not self._slots:  # checked last: a `close` in another thread has seen the view, or we see the close
            raise _closed()
        return view

    def changes(self, since: int) -> VersionChanges | None:
        """Return what may differ between an older version and this one; None if that is not known.

        It is known if all versions in between were updates (see `Writer.update`) that did not change the structure of
        the value, of the same writer, and not too many: the newest version contains what the last 64 of them have
        changed, if that takes no more than a 256th of the value.

        Args:
            since: sequence number of the older version: one that this reader has seen.

        Raises:
            InvalidArgumentError: `since` is not a sequence number, or newer than this version.
            ClosedError: the snapshot was closed, or lost in a fork that Python did not announce.
        """
        from shmsync._handles.version_changes import VersionChanges  # noqa: PLC0415 - few readers need it

        self._check_open()
        pinned = self._pinned
        if isinstance(since, bool) or not isinstance(since, int) or not 0 <= since <= pinned.seq:
            raise InvalidArgumentError(
                f"since must be the sequence number of an older version, 0 to {pinned.seq}, not {reprlib.repr(since)}"
            )
        if not isinstance(pinned, PinnedVersion):
            raise _closed()
        changes = pinned.changes_since(since)
        result = None if changes is None else VersionChanges(since, pinned, changes)
        if not self._slots:  # checked last, as in `buffer`
            raise _closed()
        return result

    @property
    def origin(self) -> Origin | None:
        """Which version of a publisher on another host this is a copy of: see `shmsync.replication`.

        None if a writer on this host has published it.

        Raises:
            ClosedError: the snapshot was closed, or lost in a fork that Python did not announce.
        """
        self._check_open()
        pinned = self._pinned
        if not isinstance(pinned, PinnedVersion):
            raise _closed()
        origin = pinned.origin()
        if not self._slots:  # checked last, as in `buffer`
            raise _closed()
        return origin

    def _check_open(self) -> None:
        fork.check()
        slot = self._slots.get(0)
        if slot is None:
            raise _closed()
        if slot.unprotected:
            raise ClosedError(
                f"this snapshot of {self._reader.name!r} was opened before a fork that Python did not announce (or its "
                "hooks failed), so its memory may have been overwritten; read again in this process, or fork through "
                "Python (uWSGI: start it with --py-call-uwsgi-fork-hooks or --lazy-apps)"
            )

    def close(self) -> None:
        """Unpin the version. Views of it that are still alive retain its memory. Idempotent."""
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:  # does what `close` is for: a `with` block is the most frequent use
        if not alive[0]:
            fork.check()  # in a child, the pin is the parent's
        slot = self._slots.get(0)
        if slot is None:
            return
        pinned: PinnedVersion = self._pinned  # type: ignore[assignment] # replaced only when `_slots` is empty
        try:
            if self._slots.pop(0, None) is None:
                return
            if self._viewed:
                self._value = UNSET
                # SYNC POINT hazard: stored before the unpin, so a scan that sees no pin sees the hazard.
                if pinned.mapping.views.has_views():
                    self._retain(slot, pinned)
            slot.leave[pinned.index]()
            self._pinned = pinned.closed or pinned.close()  # the caller may keep this object for long
        except BaseException:
            # A signal handler raised somewhere above. It is unknown whether we unpinned, but that does not matter once
            # the slot is poisoned. It is also unknown whether views need a hazard; a superfluous one costs one inode.
            self._retain(slot, pinned)
            self._reader.discard_slot(slot)
            raise

    def _retain(self, slot: Slot, pinned: PinnedVersion) -> None:
        with self._reader.lock:  # against `release_if_unused`, which checks and then clears
            pinned.mapping.views.retain(slot)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        try:
            if not self._slots or is_finalizing():  # see `Slot.__del__`
                return
        except AttributeError:  # `__init__` was interrupted: its caller unpins
            return
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Snapshot belongs to the process that pinned it; send its value, or pickle the Reader")

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{state} Snapshot of {self._reader.name!r}, version {self.version.seq}, {self.version.size} bytes>"


def _closed() -> ClosedError:
    return ClosedError("this snapshot is closed; take its value or buffer inside the `with` block")
