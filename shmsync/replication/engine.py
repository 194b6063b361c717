"""The interface of an engine: what shmsync needs of a server between the hosts.

`Relay` and `Replica` know this interface only. `shmsync.replication.redis` implements it for Redis and Valkey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from shmsync.replication._entry import INLINE_CHANGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from shmsync.replication._entry import Entry, VersionId


class Location(NamedTuple):
    """Where chunks are: those of a version in full, or of its changed bytes.

    Attributes:
        id: the version.
        of_changes: whether they are those of its changed bytes.
        number: how many there are.
        size: size of each but the last one in bytes.
    """

    id: VersionId
    of_changes: bool
    number: int
    size: int


def locations_of(entry: Entry) -> list[Location]:
    """Return where the chunks of an entry are."""
    found = (
        Location(entry.id, False, entry.chunks if entry.is_full else 0, entry.chunk),  # noqa: FBT003
        Location(entry.id, True, entry.change_chunks if entry.base else 0, INLINE_CHANGES),  # noqa: FBT003
    )
    return [each for each in found if each.number]


class Engine(Protocol):
    """A connection to an engine, for the versions of one name. Used by one thread at a time.

    All methods raise ReplicationError if the engine cannot be reached, or refuses.
    """

    def is_newest(self, id: VersionId) -> bool:  # noqa: A002
        """Return whether an entry is the newest one, without reading it; False if that is not certain."""

    def newest(self) -> Entry | None:
        """Return the newest entry; None if there is none.

        Raises:
            DamagedError: it is not valid.
        """

    def entry(self, id: VersionId) -> Entry | None:  # noqa: A002 - as the attribute of an entry
        """Return an entry; None if it is not there. Raises what `newest` raises."""

    def after(self, id: VersionId, count: int) -> list[Entry]:  # noqa: A002
        """Return the oldest entries, up to `count`, that are newer than `id`; without those that are not valid."""

    def wait(self, id: VersionId, timeout: float, count: int) -> list[Entry]:  # noqa: A002
        """Wait for an entry newer than `id`; return the oldest ones, up to `count`, or none after `timeout` seconds.

        Raises:
            DamagedError: one of them is not valid.
        """

    def put(self, location: Location, chunks: Iterable[Buffer]) -> None:
        """Store chunks. They expire, unless an entry that refers to them is added."""

    def get(self, location: Location) -> Iterator[bytes | None]:
        """Yield the chunks; None for one that is not there."""

    def has(self, location: Location) -> bool:
        """Return whether all chunks are there."""

    def add(self, entry: Entry, locations: Iterable[Location]) -> bool:
        """Add an entry, if it is newer than all there are, and keep its chunks. In one step: all of it, or nothing.

        An entry that has changes only is added if its base is the newest entry: they are of no use without it. One
        that is there already, as the newest one and with the same checksum, counts as added.

        Returns:
            Whether it is there now; if not, there is a newer one, or its base may not be the newest one.

        Raises:
            ReplicationError: a chunk is missing.
        """

    def trim(self, oldest: VersionId, locations: Iterable[Location]) -> None:
        """Remove the entries that are older than `oldest`, and chunks."""

    def close(self) -> None:
        """Close the connection."""
