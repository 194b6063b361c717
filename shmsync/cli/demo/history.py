"""The history of published versions, kept by the parent to detect lost, repeated and reordered versions."""

from __future__ import annotations

import time

from shmsync.cli.demo.processes import WriteFinished, WriteStarted


class History:
    """The reports of the writers.

    Attributes:
        last: number of the newest version known to be published.
        resets, takeovers: counters of the writers.
        writing_since: monotonic time at which the write in progress started; None if there is none.
        problems: one sentence for each version that was lost, repeated or reordered.
    """

    def __init__(self) -> None:
        self.last = 0
        self.resets = 0
        self.takeovers = 0
        self.writing_since: float | None = None
        self.problems: list[str] = []
        self._in_progress = 0
        self._published_at: dict[int, float] = {}
        self._replaced: dict[str, int] = {}

    @property
    def versions(self) -> int:
        """Number of published versions."""
        return len(self._published_at)

    @property
    def replaced(self) -> int:
        """Number of writes that allocated a new segment, not counting the first two."""
        return max(0, sum(self._replaced.values()) - 2)

    def record(self, writer: str, message: WriteStarted | WriteFinished) -> None:
        """Record a message of a writer."""
        if isinstance(message, WriteStarted):
            self._in_progress = message.number
            self.writing_since = time.monotonic()
            return
        # A writer may be killed after it has published a version and before it reports it. Its successor reads that
        # version and continues from it, so one version may be missing here without being lost.
        if message.seq != message.number or not self.last < message.number <= max(self.last + 1, self._in_progress):
            self.problems.append(f"version {message.number} was published as number {message.seq} after {self.last}")
        self.last = message.number
        self.writing_since = None
        self.resets += message.reset
        self.takeovers = max(self.takeovers, message.stats.takeovers)
        self._published_at[message.number] = message.at
        self._replaced[writer] = message.stats.replaced

    def staleness(self, number: int, seen_at: float) -> float:
        """Return the time in seconds from the publish of a version to its first read."""
        return max(0.0, seen_at - self._published_at.get(number, seen_at))
