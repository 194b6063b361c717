"""What a read hands out: one version of the value, pinned for as long as it is needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol

from shmsync import codecs
from shmsync._core.layout import PAYLOAD_AT, DataHeader, InstanceVersion, checksum_of, instance_version
from shmsync.errors import ClosedError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock
    from types import TracebackType

    from typing_extensions import Self, TypeVar

    from shmsync._core.slots import Slot
    from shmsync._shm.segment import LendingMapping
    from shmsync.codecs import Codec, Decoder

    T = TypeVar("T", default=Any)
else:  # a plain one will do at run time, and needs no package
    from typing import TypeVar

    T = TypeVar("T")

UNSET: Any = object()


class Record:
    """One version as a reader knows it: where it lies, and its value once decoded. Shared by its snapshots.

    Attributes:
        value: UNSET, or the value: one that does not refer to the segment, or the one that `get` has handed out.
    """

    __slots__ = ("_end", "_header", "codec", "index", "mapping", "seq", "value")

    def __init__(self, header: DataHeader, mapping: LendingMapping) -> None:
        self.seq = header.seq
        self.index = mapping.index
        self.mapping = mapping
        self._header = header
        self._end = PAYLOAD_AT + header.size
        self.codec: Codec = codecs.by_id(header.codec)
        self.value: Any = UNSET

    @property
    def life(self) -> int:
        """Instance number of the life of the name that it belongs to."""
        return self._header.instance

    @property
    def version(self) -> InstanceVersion:
        """What is published of it."""
        return instance_version(self._header.seq, self._header.size, self._header.checksum)

    def view(self) -> memoryview:
        """Return a view of the payload, which must not outlive the count."""
        return self.mapping.view(PAYLOAD_AT, self._end)

    def export(self) -> memoryview:
        """Return a view of the payload, to be handed out."""
        return self.mapping.lend(PAYLOAD_AT, self._end)

    def verify(self) -> None:
        """Compare payload and checksum.

        Raises:
            IntegrityError: they differ.
        """
        found = checksum_of(self.view())
        if found != self._header.checksum:
            raise IntegrityError(
                f"version {self.seq}: the payload of {self._header.size} bytes has checksum {found:#018x}, published "
                f"was {self._header.checksum:#018x}; something outside shmsync wrote there, the next write repairs it"
            )


class Handle(Protocol):
    """What a snapshot needs of the reader that made it."""

    name: str
    lock: RLock
    decoder: Decoder

    def retire(self, slot: Slot) -> None:
        """Stop entering through a slot whose counts are in doubt."""


class Snapshot(Generic[T]):
    """One version of the value, which nobody overwrites while the snapshot is open or a view of it is alive.

    Use it in a `with` block. Views and arrays taken from it stay valid afterwards for as long as they are referenced;
    each that outlives its block costs the writer a new inode instead of a wait.

    Attributes:
        is_switched: whether this was the first `read` of this version by its handle.
    """

    __slots__ = ("_reader", "_record", "_slot", "_value", "_viewed", "is_switched")

    def __init__(self, reader: Handle, slot: Slot, record: Record) -> None:
        self._reader = reader
        self._record = record
        self._viewed = False
        self._value: Any = UNSET
        self.is_switched = False
        self._slot: Slot | None = slot

    @property
    def version(self) -> InstanceVersion:
        """Sequence number, index, size in bytes and checksum of this version."""
        return self._record.version

    @property
    def closed(self) -> bool:
        """Whether the snapshot was closed."""
        return self._slot is None

    @property
    def value(self) -> T:
        """The value; treat it as read-only, since it is decoded once per version and handle, or lies in the segment.

        Raises:
            EntityReadError: the bytes cannot be decoded, or not as the reader's type.
            MissingExtraError: decoding needs a package that is not installed.
            ClosedError: the snapshot was closed.
        """
        value = self._record.value
        if value is UNSET or self._slot is None:
            return self._decode()
        return value  # type: ignore[no-any-return]

    def _decode(self) -> T:
        record = self._record
        with self._reader.lock:  # so that all threads get the same object
            if self._slot is None:
                raise _closed()
            value = self._value if record.value is UNSET else record.value
            if value is UNSET:
                self._viewed = True
                value = self._reader.decoder.decode(record)
                # A value that lies in the segment goes with this snapshot; the record would keep it, and the memory.
                if record.mapping.lending.is_lent():
                    self._value = value
                else:
                    record.value = value
            if self._slot is None:  # looked at last, as in `buffer`
                self._value = UNSET
                raise _closed()
        return value  # type: ignore[no-any-return]

    @property
    def buffer(self) -> memoryview:
        """The payload, zero-copy and read-only.

        Raises:
            ClosedError: the snapshot was closed.
        """
        self._viewed = True
        view = self._record.export()  # a new one each time: the caller may release it
        if self._slot is None:  # looked at last: a `close` in another thread has seen the view, or we see the close
            raise _closed()
        return view

    def close(self) -> None:
        """Give the version up. Views of it that are still alive keep its memory. Idempotent."""
        slot = self._slot
        if slot is None:
            return
        try:
            self._slot = None
            self._value = UNSET
            # SYNC POINT keep: stored before the count goes, so a scan that sees no count sees the keep.
            if self._viewed and self._record.mapping.lending.is_lent():
                self._keep(slot)
            slot.leave[self._record.index]()
        except BaseException:
            # A signal handler raised somewhere above. Whether we counted out is unknown, and once the slot is retired
            # it does not matter; whether views need a keep is unknown too, and one too many costs one inode.
            self._keep(slot)
            self._reader.retire(slot)
            raise

    def _keep(self, slot: Slot) -> None:
        with self._reader.lock:  # against `Lending.give_up`, which looks and then clears
            self._record.mapping.lending.keep(slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if getattr(self, "_slot", None) is not None and not ends():  # see `Slot.__del__`
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Snapshot belongs to the process that pinned it; send its value, or pickle the Reader")

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{state} Snapshot of {self._reader.name!r}, version {self.version.seq}, {self.version.size} bytes>"


def _closed() -> ClosedError:
    return ClosedError("this snapshot is closed; take its value or buffer inside the `with` block")
