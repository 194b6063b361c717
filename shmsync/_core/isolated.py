"""Isolated mode: readers of another user cannot affect anybody. As pure steps over the ports.

The writer never writes to an inode that has had the data name. It fills an inode under a private name and then renames
it to the data name: the rename is the publish, and the name is the atomic register. So a reader needs no slot, no
retry, and no mapping that it can write to.

    publish  1. fill an inode: payload, then header, with generation = generation word + 1
             2. generation word := its generation
             3. rename it to the data name       SYNC POINT publish
             4. version word := its sequence number
             5. wake all sleepers
    read     1. the generation word is the label of the cached version: that is still the newest
             2. else open the data name: what it leads to is complete, published, and the newest at that moment.
                Cache it under the generation in its own header, not under the word that was loaded
    wait     1. load the version word  2. read; newer: done  3. sleep while the version word is what was loaded

Steps 2 to 4 of a publish take place under the names lock, after a comparison that the names are ours, so no remover and
no other writer acts in between. Readers need neither lock.

Why the fast path is right: if the word equals the label of an inode that has had the name, no later publish has passed
its step 2, so none has renamed. A reader that another one told of version s + 1 loads a generation word that was stored
before that rename: its fast path fails, and its open comes after the rename.

A takeover reads the sequence number from the named inode: a writer that died between 3 and 4 has left the version word
one behind. It stores that number, and wakes all sleepers.
If the data name does not lead to a version of this incarnation, the count cannot be continued, and a new incarnation
begins. `tests/model` runs this module under every interleaving, with death at every step.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from shmsync._core.layout import CLOSED, LAST_SEQ, new
from shmsync._core.lifecycle import StaleIncarnationError
from shmsync._core.protocol import PreparedWrite
from shmsync.errors import InvalidInstanceVersionError, ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync._core.lifecycle import NameOwner, VersionWord

INDEX = 0
"""The only data segment."""

_NOBODY: frozenset[tuple[int, int]] = frozenset()

ValueT_contra = TypeVar("ValueT_contra", contravariant=True)
ValueT = TypeVar("ValueT")


class Label(NamedTuple):
    """What identifies a version of an incarnation."""

    generation: int
    seq: int


class Labelled(Protocol):
    """A version that a reader has opened.

    Attributes:
        label: the generation in its header.
    """

    label: int


VersionT = TypeVar("VersionT", bound=Labelled)


class Register(Protocol[ValueT_contra]):
    """The data name and the next inode for it, as the writer uses them."""

    def newest(self) -> Label | None:
        """Return the label of what the data name leads to; None if that is not a version of this incarnation."""

    def create(self, size: int) -> bool:
        """Create the next inode under a private name, in place of an earlier one; False if the name is taken."""

    def fill(self, label: Label, value: ValueT_contra) -> int:
        """Write payload and header to the next inode; return the checksum of the payload."""

    def catch_up(self, index: int, newest: int) -> None:
        """Copy the payload of version `newest` to the next inode."""

    def finish_update(self, index: int, generation: int, seq: int) -> int:
        """Write checksum and header of a payload that was changed in place; return the checksum."""

    def publish(self) -> None:
        """Rename the next inode to the data name.

        Raises:
            StaleIncarnationError: it was removed: it has to be written once more.
        """


def newest(cached: VersionT | None, generation: VersionWord, open_newest: Callable[[], VersionT]) -> VersionT:
    """Return the newest version: one load, and no more than one open, whatever the writer does.

    Args:
        cached: the version that was returned last.
        generation: the generation word.
        open_newest: opens what the data name leads to.
    """
    if cached is not None and cached.label == generation.load():
        return cached
    return open_newest()


def poll(version: VersionWord, read_seq: Callable[[], int]) -> tuple[int, int]:
    """Return the newest sequence number, and the value of the version word to sleep on."""
    seen = version.load()  # before the read: a publish from here on changes the word, or has been read
    return read_seq(), seen


def can_continue(found: Label | None, version: int, generation: int) -> bool:
    """Return whether a writer can continue the count of an incarnation.

    Args:
        found: what the data name leads to.
        version: the version word, which may be one behind.
        generation: the generation word; 0 if no publish has begun, CLOSED if a remover died after its first step.
    """
    if found is None:
        return version == generation == 0
    is_valid = found.generation <= generation <= LAST_SEQ or generation == CLOSED
    return is_valid and found.seq - 1 <= version <= found.seq


class EndableVersion:
    """The version word as the life cycle uses it: CLOSED also ends the fast path of readers.

    Args:
        version: the version word.
        generation: the generation word.
    """

    def __init__(self, version: VersionWord, generation: VersionWord) -> None:
        self._version = version
        self._generation = generation

    def load(self) -> int:
        """Read the version word."""
        return self._version.load()

    def store(self, value: int) -> None:
        """Write the version word."""
        if value == CLOSED:
            self._generation.store(CLOSED)  # first: who sees CLOSED in the version word sees it here, too
        self._version.store(value)


class IsolatedPublisher(Generic[ValueT]):
    """The writer's side. An exception from a signal handler may interrupt it at any step; the next call resumes.

    Args:
        version, generation: the shared words.
        register: the data name.
        owner: the hold on the name.
        wake: wakes all readers that sleep on the version word.
    """

    def __init__(
        self,
        version: VersionWord,
        generation: VersionWord,
        register: Register[ValueT],
        owner: NameOwner[Any],
        wake: Callable[[], None],
    ) -> None:
        self._version = version
        self._generation = generation
        self._register = register
        self._owner = owner
        self._wake = wake
        self._is_settled = False
        """Whether the version word is known to be that of the named inode."""

    def settle(self) -> None:
        """Continue the count of the named inode, unless it is known that the words agree with it.

        Raises:
            StaleIncarnationError: this incarnation was ended, or cannot go on.
        """
        generation = self._generation.load()
        if self._is_settled and generation != CLOSED:
            return
        found = self._version.load()
        named = self._register.newest()
        if found == CLOSED or not can_continue(named, found, generation):
            raise StaleIncarnationError
        if named is not None and (named.seq != found or generation == CLOSED):
            self._owner.replace(lambda _: self._restore(named))
        self._is_settled = True
        self._wake()  # those that sleep since a writer died before it woke them

    def _restore(self, named: Label) -> bool:
        # A remover that died after its first step has left CLOSED here. The generation of a publish that failed may be
        # used again, because no reader has seen it as a label.
        if self._generation.load() == CLOSED:
            self._generation.store(named.generation)
        if self._version.load() != named.seq:
            self._version.store(named.seq)
        return True

    def prepare(self, size: int, grace: float) -> PreparedWrite:  # noqa: ARG002 - no reader is waited for
        """Create the inode of the next version.

        Args:
            size: size of the payload in bytes.
            grace: not used.

        Raises:
            StaleIncarnationError: the incarnation was ended, or cannot go on.
        """
        self.settle()
        seq = self._version.load() + 1
        generation = self._generation.load() + 1
        if max(seq, generation) > CLOSED:  # a removal has begun
            raise StaleIncarnationError
        if max(seq, generation) > LAST_SEQ:
            raise InvalidInstanceVersionError(
                f"no version can follow {seq - 1:#x} of generation {generation - 1:#x}: the public state is damaged; "
                "unlink the name"
            )
        # Under the names lock: a remover finds the inode, or this finds that the name was removed.
        self._owner.replace(lambda _: self._register.create(size))
        return new(PreparedWrite, (seq, INDEX, False, True, generation, False, _NOBODY))

    def commit(self, prepared: PreparedWrite, value: ValueT) -> int:
        """Fill the prepared inode with a value and publish it; return the checksum of its payload.

        Raises:
            StaleIncarnationError: the incarnation was ended; nothing was published.
        """
        label = Label(prepared.generation, prepared.seq)
        checksum = self._register.fill(label, value)
        self._advance(label)
        return checksum

    def prepare_update(self, size: int, grace: float) -> PreparedWrite:
        """Create the inode of the next version as a copy of the newest one. Raises what `prepare` raises."""
        prepared = self.prepare(size, grace)
        self._register.catch_up(prepared.idx, prepared.seq - 1)
        return prepared

    def commit_update(self, prepared: PreparedWrite) -> int:
        """Publish a payload that was changed in place; return its checksum. Raises what `commit` raises."""
        checksum = self._register.finish_update(INDEX, prepared.generation, prepared.seq)
        self._advance(Label(prepared.generation, prepared.seq))
        return checksum

    def _advance(self, label: Label) -> None:
        try:
            self._owner.replace(lambda _: self._publish(label))
        except BaseException:
            self._settle_after_error()
            raise
        self._wake()  # always: a reader has no word to announce that it sleeps

    def _publish(self, label: Label) -> bool:
        self._is_settled = False
        self._generation.store(label.generation)  # before the rename: see above
        self._register.publish()  # SYNC POINT publish
        self._version.store(label.seq)  # not exchanged: CLOSED is stored under the names lock, too
        self._is_settled = True
        return True

    def _settle_after_error(self) -> None:
        with suppress(StaleIncarnationError, ShmSyncError):  # the next write begins a new incarnation, or tries again
            self.settle()
