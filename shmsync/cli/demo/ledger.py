"""The parent's ledger of what was published, so that a lost, repeated or reordered version shows."""

from __future__ import annotations

import time

from shmsync.cli.demo.actors import Published, Writing


class Ledger:
    """What the writers say they do.

    Attributes:
        last: number of the newest version known to be published.
        resets, takeovers: as the writers count them.
        writing_since: when the write began that is under way; None if there is none.
        problems: versions that were lost, repeated or reordered, in sentences.
    """

    def __init__(self) -> None:
        self.last = 0
        self.resets = 0
        self.takeovers = 0
        self.writing_since: float | None = None
        self.problems: list[str] = []
        self._in_flight = 0
        self._published_at: dict[int, float] = {}
        self._replaced: dict[str, int] = {}

    @property
    def versions(self) -> int:
        """How many versions were published."""
        return len(self._published_at)

    @property
    def replaced(self) -> int:
        """How many writes took new memory, beyond the first two."""
        return max(0, sum(self._replaced.values()) - 2)

    def note(self, writer: str, event: Writing | Published) -> None:
        """Enter what a writer says."""
        if isinstance(event, Writing):
            self._in_flight = event.number
            self.writing_since = time.monotonic()
            return
        # A writer that was killed may have published its last version without a word: its successor then goes on
        # from that one, since it reads what is there.
        if event.seq != event.number or not self.last < event.number <= max(self.last + 1, self._in_flight):
            self.problems.append(f"version {event.number} came as number {event.seq} after {self.last}")
        self.last = event.number
        self.writing_since = None
        self.resets += event.reset
        self.takeovers = max(self.takeovers, event.stats.takeovers)
        self._published_at[event.number] = event.at
        self._replaced[writer] = event.stats.replaced

    def staleness(self, number: int, seen_at: float) -> float:
        """Return how long after its publish a version was first seen, in seconds."""
        return max(0.0, seen_at - self._published_at.get(number, seen_at))
