"""What a replica gets from an engine: payloads, and changed bytes, written to their places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync.errors import ReplicationError
from shmsync.replication._entry import DamagedError
from shmsync.replication._zstd import decompressed
from shmsync.replication.engine import locations_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmsync.replication._entry import Entry
    from shmsync.replication.engine import Engine, Location

_PAGE = 8  # entries in one answer


class GoneError(ReplicationError):
    """A chunk or entry is not in the engine any more: a newer version has replaced the one that it belongs to."""


class Download:
    """The download of one version. All of its methods raise GoneError, and DamagedError for what is not valid.

    Args:
        engine: the engine.
        received: called after each part with its size in bytes; may raise to stop the download.
    """

    def __init__(self, engine: Engine, received: Callable[[int], None]) -> None:
        self._engine = engine
        self._note_received = received

    def full(self, entry: Entry, last: Entry, memory: memoryview) -> None:
        """Write a version in full to its place.

        Args:
            entry: the version.
            last: the version that is made from it.
            memory: the place, of as many bytes as the size of `last`.
        """
        _check_like(entry, last)
        if entry.data is not None:
            memory[:] = entry.data
            self._note_received(entry.size)
            return
        for location in locations_of(entry):
            if not location.of_changes:
                self._receive(location, memory, compression=entry.compression)

    def content(self, entry: Entry) -> memoryview:
        """Return the changed bytes of an entry."""
        if entry.content is not None:
            self._note_received(entry.changed)
            return memoryview(entry.content)
        content = memoryview(bytearray(entry.changed))
        for location in locations_of(entry):
            if location.of_changes:
                self._receive(location, content)
        return content

    def chain(self, full: Entry, last: Entry) -> Iterator[Entry]:
        """Yield the entries after a version in full, up to the last one, each of which names the one before."""
        previous = full.id
        while previous < last.id:
            page = self._engine.after(previous, _PAGE)
            for entry in page:
                if entry.base != previous or entry.id > last.id:
                    raise GoneError(f"the versions between {full.id} and {last.id} are not in the engine any more")
                _check_like(entry, last)
                yield entry
                previous = entry.id
                if previous == last.id:
                    return
            if not page:
                raise GoneError(f"version {last.id} is not in the engine any more")

    def _receive(self, location: Location, memory: memoryview, *, compression: str = "") -> None:
        """Write chunks to their places."""
        at = 0
        for chunk in self._engine.get(location):
            if chunk is None:
                raise GoneError(f"a chunk of version {location.id} is not in the engine any more")
            end = min(at + location.size, len(memory))
            part = decompressed(chunk, end - at) if compression else chunk
            if len(part) != end - at:
                raise DamagedError(f"one of its chunks has {len(part):,} bytes, not {end - at:,}")
            memory[at:end] = part
            self._note_received(len(chunk))
            at = end


def _check_like(entry: Entry, other: Entry) -> None:
    if (entry.size, entry.codec) != (other.size, other.codec):
        raise DamagedError(f"version {entry.id}, from which it is made, has another size or codec")
