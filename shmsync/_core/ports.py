"""Interfaces that the protocol needs from its environment, as types only.

`protocol`, `slots` and `retention` depend only on these, so a model checker can pass its own words, locks and segments
and explore the code that is shipped. The real ones are in `shmsync._shm` and `shmsync._session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ValueT_contra = TypeVar("ValueT_contra", contravariant=True)


class Word(Protocol):
    """A shared u64, 8-byte aligned. Operations are sequentially consistent, but for two whose names say otherwise."""

    def load_relaxed(self) -> int:
        """Read without ordering: only to detect that nothing has changed, or after an operation on the same word."""

    def load(self) -> int:
        """Read."""

    def store(self, value: int) -> None:
        """Write."""

    def store_release(self, value: int) -> None:
        """Write after all earlier accesses of this thread, and before its next read-modify-write: see `Slot`."""

    def bind_add(self, delta: int) -> Callable[[], None]:
        """Return a callable that adds `delta` modulo 2**64 in one atomic step. Bind once, call often."""

    def fetch_or(self, bits: int) -> int:
        """Set bits; return the previous value."""

    def compare_exchange(self, expected: int, desired: int) -> bool:
        """Write `desired` if the word is `expected`; return whether it was."""


Loads: TypeAlias = "Callable[[], list[int]]"
"""Loads several words; each load is sequentially consistent."""


class SlotWords(NamedTuple):
    """The shared words of one reader slot."""

    pin: Word
    hazards: tuple[Word, Word]


class SlotLock(Protocol):
    """The held kernel lock of one slot. The kernel releases it when the process exits or is killed."""

    def close(self) -> None:
        """Release the lock, also for processes that a fork in C has left with a share of it."""


class Table(Protocol):
    """The reader table."""

    max_readers: int
    high_water: Word
    sealed: tuple[Word, Word]

    def slot(self, index: int) -> SlotWords:
        """Return the words of a slot."""

    def lock_first(self, indexes: Iterable[int]) -> tuple[int, SlotLock] | None:
        """Take the lock of the first of these slots that no live process holds; return its index, too."""


class WriterTable(Table, Protocol):
    """The reader table, as the writer uses it."""

    def lock(self, index: int) -> SlotLock | None:
        """Take the lock of a slot; return None if a live process holds it."""

    def is_locked(self, index: int) -> bool:
        """Return whether a live process holds the lock of a slot."""

    def bind_scan(self, count: int) -> tuple[Loads, tuple[Loads, Loads]]:
        """Return functions that load the pin words of the first `count` slots; and, by index, their hazard words.

        Each loads one word after the other, and takes less time than the loads of single words. Bind once, call often.
        """


class Clock(Protocol):
    """Time in seconds."""

    def now(self) -> float:
        """Return the monotonic time."""

    def sleep(self, seconds: float) -> None:
        """Sleep."""


class Segments(Protocol[ValueT_contra]):
    """The two data segments, as the writer uses them. Sizes are payload sizes in bytes."""

    def is_reusable(self, index: int, generation: int, size: int) -> bool:
        """Return whether the inode mapped for `index` has this generation and fits a payload of `size` bytes."""

    def replacement_cost(self, size: int) -> float:
        """Return roughly how many seconds `replace` takes for a payload of `size` bytes."""

    def replace(self, index: int, generation: int, size: int) -> None:
        """Give the name of data segment `index` a new inode. Readers that mapped the old one keep it."""

    def write(self, index: int, generation: int, seq: int, value: ValueT_contra) -> int:
        """Write payload and header; return the checksum of the payload."""

    def catch_up(self, index: int, newest: int) -> None:
        """Make the payload of a prepared segment equal to that of version `newest`, in the other segment."""

    def finish_update(self, index: int, generation: int, seq: int) -> int:
        """Write checksum and header of a payload that has been changed in place; return the checksum."""

    def note_update(self, seq: int) -> None:
        """Note that an update was published: what it changed is stale in the other inodes."""

    def try_write(self, index: int, generation: int, seq: int, value: ValueT_contra, size: int) -> int | None:
        """Do what `write` does if the inode mapped for `index` fits a payload of `size` bytes; else return None."""
