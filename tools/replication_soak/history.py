"""What was published, and what was seen of it as which version: the harness compares the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replication_soak.values import Identity

Place = tuple[int, int]
"""Epoch and sequence number of a version's origin."""


class History:
    """The values that publishers have announced, and the versions that readers have seen."""

    def __init__(self) -> None:
        self._announced: set[Identity] = set()
        self._seen: dict[Place, Identity] = {}
        self._tags: dict[int, int] = {}

    def announce(self, identity: Identity) -> None:
        """Note a value that is about to be published: a publisher may be killed before it could report the success."""
        self._announced.add(identity)

    def see(self, place: Place, identity: Identity) -> str:
        """Note that a reader has found a value as a version; return what is wrong with that, or an empty string."""
        epoch, seq = place
        if identity not in self._announced:
            return f"{identity} was not published"
        if identity.seq != seq:
            return f"version {epoch}-{seq} contains {identity}"
        if (other := self._seen.setdefault(place, identity)) != identity:
            return f"version {epoch}-{seq} contains {identity} here, and {other} elsewhere"
        if self._tags.setdefault(epoch, identity.tag) != identity.tag:
            return f"epoch {epoch} contains two incarnations"
        return ""
