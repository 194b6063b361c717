"""One incarnation of a name as a reader opens it: the state segment, and the reader table created for it."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX
from shmsync._core.layout import CLOSED, GENERATION_AT, PUBLIC_MAGIC, STATE_MAGIC, VERSION_AT, Names, parse_state_header
from shmsync._core.sealing import Seals
from shmsync._session.control import map_state, open_control_segment
from shmsync._session.notify import Notifier
from shmsync._session.reader_table import ReaderTable
from shmsync._shm import atomics
from shmsync._shm.segment import status_of
from shmsync.errors import (
    LayoutMismatchError,
    StateNotFoundError,
    StateReadError,
    UninitializedStateError,
    not_published,
)

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
    """One incarnation of a name: the state segment mapped read-only, and the reader table.

    Attributes:
        load_words: loads the version word, then the generation of each data segment.
    """

    __slots__ = (
        *("_inode", "_memory", "_names", "generations", "header", "load_words", "notifier", "seals", "table"),
        *("version", "version_cell"),
    )

    table: ReaderTable
    seals: Seals
    notifier: Notifier

    MAGIC = STATE_MAGIC
    MAX_SLEEP = math.inf
    """The longest sleep on the version word, in seconds."""

    def __init__(self, names: Names) -> None:
        self._names = names
        with open_control_segment(names, self._segment, writable=False) as segment:
            memory = map_state(names, segment)
            self._inode = segment.status().st_ino
        header = parse_state_header(self._segment, memoryview(memory), self.MAGIC)
        if header is None:
            raise not_published(names.name)
        self.header = header
        words = StateWords(memory)
        self.version = words.version
        self.generations = words.generations
        self.load_words = atomics.bind_loads(memory, VERSION_AT, GENERATION_AT[0] - VERSION_AT, 3)
        self.version_cell = memoryview(memory)[VERSION_AT : VERSION_AT + 8].cast("Q")
        self._memory = memory

    @property
    def _segment(self) -> str:
        return self._names.state

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
        status = status_of(self._segment)
        return status is not None and status.st_ino == self._inode

    def is_live(self) -> bool:
        """Return whether the name refers to this incarnation, and it has not ended.

        A remover marks it as CLOSED first and unlinks the state segment last: in between, data segments are missing.
        """
        return self.version.load() != CLOSED and self.is_current()

    def is_superseded(self) -> bool:
        """Return whether the name leads to another incarnation that has a value.

        Without a value, this one is still the newest that can be read: its writer may be healing the name.
        """
        if self.is_current():
            return False
        try:
            other = open_channel(self._names)
        except (StateReadError, UninitializedStateError, LayoutMismatchError):
            return False
        return other.version.load() not in NO_VALUE


class PublicChannel(Channel):
    """One incarnation in isolated mode: the public state mapped read-only. There is no reader table.

    Attributes:
        generation_cell: the generation word, for a fast comparison.
    """

    __slots__ = ("generation_cell",)

    MAGIC = PUBLIC_MAGIC
    # Another user can move those who sleep on a word to one of their own (FUTEX_REQUEUE needs no permission to write),
    # so that the writer's wake does not reach them.
    MAX_SLEEP = 0.05

    def __init__(self, names: Names) -> None:
        super().__init__(names)
        at = GENERATION_AT[INDEX]
        self.generation_cell = memoryview(self._memory)[at : at + 8].cast("Q")

    @property
    def _segment(self) -> str:
        return self._names.public

    def open_table(self) -> None:
        """Do nothing but prepare to wait."""
        self.notifier = Notifier(self._memory, VERSION_AT, self.version, None)


def open_channel(names: Names) -> Channel:
    """Open the state of a name, or its public state if it is isolated.

    The state segment of an isolated incarnation is for its owner only. It is empty until the public state is there, so
    another user finds the one or the other, or that nothing is published yet.

    Raises:
        StateNotFoundError, UninitializedStateError, StateReadError, LayoutMismatchError: see `Reader.get`.
    """
    while True:
        before = _inode(names.state)
        try:
            channel = Channel(names)
        except StateReadError as error:
            if error.errno != errno.EACCES:
                raise
            try:
                return _open_public(names, error)
            except StateReadError:
                # The state and the reader table of two incarnations in different modes, as below.
                if _inode(names.state) == before:
                    raise
                continue
        if not channel.header.isolated:
            return channel
        try:
            return PublicChannel(names)
        except LayoutMismatchError:
            # A reader table, if the name was unlinked and created in the other mode between the two opens.
            if channel.is_current():
                raise


def _inode(segment_name: str) -> int | None:
    status = status_of(segment_name)
    return None if status is None else status.st_ino


def _open_public(names: Names, forbidden: StateReadError) -> PublicChannel:
    """Open the public state where the state segment is forbidden, or raise that error."""
    try:
        return PublicChannel(names)
    except StateNotFoundError:
        status = status_of(names.state)
        if status is not None and status.st_size == 0:  # its creator has died
            raise forbidden from None
        raise
    except (StateReadError, LayoutMismatchError):  # forbidden as well, or a reader table
        raise forbidden from None


def attach(names: Names) -> Channel:
    """Open the current incarnation of a name.

    Raises:
        StateNotFoundError, UninitializedStateError, StateReadError, LayoutMismatchError: see `Reader.get`.
    """
    while True:
        channel = open_channel(names)
        try:
            channel.open_table()
        except StateReadError:
            # State and table of two incarnations, if the name was unlinked and created between the two opens.
            if channel.is_current():
                raise
        else:
            return channel
