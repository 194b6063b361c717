"""What a run did and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The counts of a run.

    Attributes:
        kills_in_read: readers that were killed while they held a snapshot.
        stops: readers that were stopped past the grace duration.
        forks: forks of a reader with an open snapshot.
        full_episodes: how often /dev/shm was filled up.
        capacity_errors: writes that failed because it was full.
        resets, replaced, takeovers: sums of `WriterStats`.
        max_read_attempts: how often a read entered its slot, at most; more than once after an eviction.
        max_wait_beyond_grace_ms: longest time a write waited, less the grace duration.
        readers_pss_mib: memory of all readers at the end; shared pages are divided among them.
        violations: guarantees that did not hold, in words.
    """

    seed: int
    seconds: float = 0.0
    writes: int = 0
    reads: int = 0
    reader_kills: int = 0
    kills_in_read: int = 0
    writer_kills: int = 0
    takeovers: int = 0
    stops: int = 0
    forks: int = 0
    full_episodes: int = 0
    capacity_errors: int = 0
    resets: int = 0
    replaced: int = 0
    max_read_attempts: int = 0
    max_wait_beyond_grace_ms: float = 0.0
    max_shm_mib: float = 0.0
    readers_pss_mib: float = 0.0
    violations: list[str] = field(default_factory=list)

    def progress(self, elapsed: float) -> str:
        """Return the main counts in one line."""
        return (
            f"{elapsed:4.0f} s  {self.writes:,} writes  {self.reads:,} reads  killed {self.reader_kills} readers "
            f"({self.kills_in_read} in a read), {self.writer_kills} writers  {self.stops} stops  {self.forks} forks  "
            f"{self.full_episodes} full  {len(self.violations)} violations"
        )
