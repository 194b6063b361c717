"""One incarnation of a name as a reader opens it: the state segment, and the reader table created for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import CLOSED, GENERATION_AT, VERSION_AT, Names, parse_state_header
from shmsync._core.sealing import Seals
from shmsync._session.control import map_state, open_control_segment
from shmsync._session.notify import Notifier
from shmsync._session.reader_table import ReaderTable
from shmsync._shm import atomics
from shmsync._shm.segment import status_of
from shmsync.errors import LayoutMismatchError, StateReadError, UninitializedStateError, not_published

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.ports import Word


NO_VALUE = frozenset({0, CLOSED})
"""Version words of an incarnation that cannot be read: nothing is published yet, or it has ended."""


class StateWords:
    """The shared words of a mapped state segment."""

    __slots__ = ("generations", "version")

    def __init__(self, memory: mmap) -> None:
        self.version: Word = atomics.bind(memory, VERSION_AT)
        self.generations: tuple[Word, Word] = (
            atomics.bind(memory, GENERATION_AT[0]),
            atomics.bind(memory, GENERATION_AT[1]),
        )


class Channel:
    """One incarnation of a name: the state segment mapped read-only, and the reader table."""

    __slots__ = (
        *("_inode", "_memory", "_names", "generations", "header", "notifier", "seals", "table"),
        *("version", "version_cell"),
    )

    table: ReaderTable
    seals: Seals
    notifier: Notifier

    def __init__(self, names: Names) -> None:
        self._names = names
        with open_control_segment(names, names.state, writable=False) as segment:
            memory = map_state(names, segment)
            self._inode = segment.status().st_ino
        header = parse_state_header(names.state, memoryview(memory))
        if header is None:
            raise not_published(names.name)
        self.header = header
        words = StateWords(memory)
        self.version = words.version
        self.generations = words.generations
        self.version_cell = memoryview(memory)[VERSION_AT : VERSION_AT + 8].cast("Q")
        self._memory = memory

    @property
    def key(self) -> tuple[str, int]:
        """Equal for all channels of one incarnation."""
        return self._names.state, self.header.incarnation

    def open_table(self) -> None:
        """Open the reader table that belongs to this state segment."""
        with open_control_segment(self._names, self._names.readers, writable=True) as segment:
            self.table = ReaderTable(self._names, segment, self.header)
        self.notifier = Notifier(self._memory, VERSION_AT, self.version, self.table.waiters)
        self.seals = Seals(self.generations, self.table.sealed)

    def is_current(self) -> bool:
        """Return whether the name still refers to this incarnation: neither unlinked nor removed by another program."""
        # The inode stays allocated, and keeps its number, as long as it is mapped here.
        status = status_of(self._names.state)
        return status is not None and status.st_ino == self._inode

    def is_superseded(self) -> bool:
        """Return whether the name leads to another incarnation that has a value.

        Without a value, this one is still the newest that can be read: its writer may be healing the name.
        """
        if self.is_current():
            return False
        try:
            other = Channel(self._names)
        except (StateReadError, UninitializedStateError, LayoutMismatchError):
            return False
        return other.version.load() not in NO_VALUE


def attach(names: Names) -> Channel:
    """Open the current incarnation of a name.

    Raises:
        StateNotFoundError, UninitializedStateError, StateReadError, LayoutMismatchError: see `Reader.get`.
    """
    while True:
        channel = Channel(names)
        try:
            channel.open_table()
        except StateReadError:
            # State and table of two incarnations, if the name was unlinked and created between the two opens.
            if channel.is_current():
                raise
        else:
            return channel
