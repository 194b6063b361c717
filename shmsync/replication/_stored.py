"""Which versions in full an engine has, and where the chunks are, as far as a relay knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync.replication.engine import locations_of

if TYPE_CHECKING:
    from shmsync.replication._entry import Entry, VersionId
    from shmsync.replication.engine import Engine, Location

_TRIM_AT_ONCE = 16  # entries without chunks


class StoredVersions:
    """The versions in full that an engine has.

    Args:
        keep: how many of them are kept.
        retain: how long a large one is kept after a newer one has replaced it, in seconds.
    """

    def __init__(self, keep: int, retain: float) -> None:
        self._keep = keep
        self._retain = retain
        self.clear()

    def clear(self) -> None:
        """Begin again: the engine is about to be asked."""
        self._fulls: list[VersionId] = []
        self._chunks: list[Location] = []
        self._superseded_at: dict[VersionId, float] = {}

    def note(self, entry: Entry) -> None:
        """Note that the engine has an entry, newer than those before."""
        if entry.is_full:
            if self._fulls:
                self._superseded_at[self._fulls[-1]] = time.monotonic()
            self._fulls.append(entry.id)
        self._chunks += locations_of(entry)

    def is_complete(self, engine: Engine, full: VersionId) -> bool:
        """Return whether the engine has a version in full with all its chunks."""
        return full in self._fulls and all(map(engine.has, (each for each in self._chunks if each.id == full)))

    def has_room(self, entry: Entry) -> bool:
        """Return whether an entry may take the place of the oldest large version in full that is kept."""
        large = [each.id for each in self._chunks if not each.of_changes]
        if not (entry.is_full and entry.chunk) or len(large) < self._keep:
            return True
        return time.monotonic() - self._superseded_at.get(large[-self._keep], 0.0) >= self._retain

    def trim(self, engine: Engine) -> None:
        """Remove from the engine what is older than the versions in full that are kept."""
        if len(self._fulls) <= self._keep:
            return
        oldest = self._fulls[-self._keep]
        expired = [each for each in self._chunks if each.id < oldest]
        if not expired and len(self._fulls) < self._keep + _TRIM_AT_ONCE:
            return
        engine.trim(oldest, expired)
        self._fulls = self._fulls[-self._keep :]
        self._chunks = [each for each in self._chunks if each.id >= oldest]
        self._superseded_at = {key: at for key, at in self._superseded_at.items() if key >= oldest}
