"""The seam: what the protocol needs from the outside world, as types only.

`_protocol` and `_readers` know these and nothing else, so that a model checker can put its own words, locks and
segments behind them and explore the shipped code. The real ones are `_words`, `_locks` and `_segment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Word(Protocol):
    """A shared, 8-byte aligned u64. All but `peek` are sequentially consistent."""

    def peek(self) -> int:
        """Read without ordering: may be used to see that nothing changed, or after an operation on this same word."""

    def load(self) -> int:
        """Read."""

    def store(self, value: int) -> None:
        """Write."""

    def adder(self, delta: int) -> Callable[[], None]:
        """Return a call that adds `delta` modulo 2**64 as one atomic step; bound once, since the hot path needs it."""

    def fetch_or(self, bits: int) -> int:
        """Set bits; return the value before."""

    def compare_exchange(self, expected: int, desired: int) -> bool:
        """Write `desired` if the word is `expected`; tell whether it was."""


class SlotWords(NamedTuple):
    """The shared words of one reader slot."""

    pin: Word
    keep: tuple[Word, Word]


class SlotLock(Protocol):
    """The kernel's lock on one slot, held. It goes with the process, however that ends."""

    def close(self) -> None:
        """Let go of this process's share of the lock; forked processes that share it still hold theirs."""


class Table(Protocol):
    """The reader table."""

    max_readers: int
    high_water: Word

    def slot(self, index: int) -> SlotWords:
        """Return the words of a slot."""

    def lock(self, index: int) -> SlotLock | None:
        """Take the lock of a slot; None if a live process holds it."""


class Clock(Protocol):
    """Time in seconds."""

    def now(self) -> float:
        """Return a monotonic time."""

    def sleep(self, seconds: float) -> None:
        """Pause."""


class Segments(Protocol):
    """The two data segments, in the writer's hands."""

    def usable(self, index: int, generation: int) -> bool:
        """Tell whether the inode mapped for `index` is the one of `generation` and fits the value to be written."""

    def price(self) -> float:
        """Return about how many seconds it takes to replace a segment that holds the value to be written."""

    def replace(self, index: int, generation: int) -> None:
        """Give the name of data segment `index` a new inode; the old one lives until its last reader lets go."""

    def fill(self, index: int, generation: int, seq: int) -> None:
        """Write header and payload."""
