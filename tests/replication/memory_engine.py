"""An engine in memory, which fails and loses data where a test wants it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shmsync.errors import ReplicationError
from shmsync.replication._entry import BEGINNING, DamagedError, Entry, VersionId, parse_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Buffer

    from shmsync.replication.engine import Location

Fields = dict[bytes, bytes]
Chunk = tuple[VersionId, bool, int]


@dataclass
class Server:
    """What the server has."""

    entries: dict[VersionId, Fields] = field(default_factory=dict)
    chunks: dict[Chunk, bytes] = field(default_factory=dict)
    highest: VersionId = BEGINNING
    """As Redis has it: the greatest id that was ever added."""

    def copy(self) -> Server:
        return Server(dict(self.entries), dict(self.chunks), self.highest)

    def restore(self, other: Server) -> None:
        self.entries, self.chunks, self.highest = dict(other.entries), dict(other.chunks), other.highest

    def lose_newest(self) -> None:
        """Lose the newest entry, as a failover of a replicated server does."""
        if self.entries:
            del self.entries[max(self.entries)]
            self.highest = max(self.entries, default=BEGINNING)


class MemoryEngine:
    """See `shmsync.replication.engine.Engine`.

    Args:
        server: what the server has.
        interrupt: called before and after each call takes effect; may raise ReplicationError.
    """

    def __init__(self, server: Server, interrupt: Callable[[], None]) -> None:
        self.server = server
        self._interrupt = interrupt

    def _parsed(self, version: VersionId) -> Entry:
        return parse_entry(str(version).encode(), self.server.entries[version])

    def is_newest(self, id: VersionId) -> bool:  # noqa: A002
        self._interrupt()
        return id == max(self.server.entries, default=None)

    def newest(self) -> Entry | None:
        self._interrupt()
        return self._parsed(max(self.server.entries)) if self.server.entries else None

    def entry(self, id: VersionId) -> Entry | None:  # noqa: A002
        self._interrupt()
        return self._parsed(id) if id in self.server.entries else None

    def after(self, id: VersionId, count: int) -> list[Entry]:  # noqa: A002
        self._interrupt()
        found = []
        for version in sorted(each for each in self.server.entries if each > id)[:count]:
            try:
                found.append(self._parsed(version))
            except DamagedError:
                continue
        return found

    def wait(self, id: VersionId, timeout: float, count: int) -> list[Entry]:  # noqa: A002
        self._interrupt()
        return [self._parsed(each) for each in sorted(each for each in self.server.entries if each > id)[:count]]

    def put(self, location: Location, chunks: Iterable[Buffer]) -> None:
        for number, chunk in enumerate(chunks):
            self._interrupt()
            self.server.chunks[location.id, location.of_changes, number] = bytes(chunk)
        self._interrupt()

    def get(self, location: Location) -> Iterator[bytes | None]:
        for number in range(location.number):
            self._interrupt()
            yield self.server.chunks.get((location.id, location.of_changes, number))

    def has(self, location: Location) -> bool:
        self._interrupt()
        return all(
            (location.id, location.of_changes, number) in self.server.chunks for number in range(location.number)
        )

    def add(self, entry: Entry, locations: Iterable[Location]) -> bool:
        self._interrupt()
        known = self.server.entries.get(entry.id) if self.server.highest == entry.id else None
        if known is not None and known[b"checksum"] != str(entry.checksum).encode():
            return False
        newest = max(self.server.entries, default=BEGINNING)
        if known is None and (entry.id <= self.server.highest or (not entry.is_full and newest != entry.base)):
            return False
        for location in locations:
            for number in range(location.number):
                if (location.id, location.of_changes, number) not in self.server.chunks:
                    raise ReplicationError("lost")
        raw = {
            key.encode(): value if isinstance(value, bytes) else value.encode() for key, value in entry.fields().items()
        }
        if known is None:
            self.server.entries[entry.id] = raw
            self.server.highest = entry.id
        self._interrupt()
        return True

    def trim(self, oldest: VersionId, locations: Iterable[Location]) -> None:
        self._interrupt()
        for location in locations:
            for number in range(location.number):
                self.server.chunks.pop((location.id, location.of_changes, number), None)
        self._interrupt()
        self.server.entries = {key: value for key, value in self.server.entries.items() if key >= oldest}
        self._interrupt()

    def close(self) -> None:
        pass
