"""What a run did and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The counts of a run.

    Attributes:
        updates, aborted_updates: writes that changed a table in place, and those that were given up.
        c_reads, c_reader_kills, c_reader_forks: reads of the readers in C, how many of these readers were killed, and
            their forks with an open snapshot.
        kills_in_read: readers that were killed while they held a snapshot.
        stops: readers that were stopped past the grace duration.
        forks: forks of a reader with an open snapshot.
        c_forks: forks in C, of a reader with an open snapshot or of a writer.
        first_writes, forks_while_opening: first writes of processes that fork at the same time, and these forks.
        removed, renamed: segments that were removed or renamed from outside.
        forced: forced removals of the name under a live writer.
        restarts: incarnations that a writer began because of these.
        max_heal_s: longest time until all segments were there again.
        removal_errors: reads that failed because a segment was missing.
        permitted_older: reads of an older value after a newer one, after two incarnations had a writer at once.
        refused_writes: writes that failed because a segment was missing or belonged to the other user.
        handler_calls, handler_refusals: calls of a writer by a signal handler in the middle of another, and how many
            of them raised.
        left_out: faults that are not injected, with the reason.
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
    updates: int = 0
    aborted_updates: int = 0
    reads: int = 0
    c_reads: int = 0
    c_reader_kills: int = 0
    c_reader_forks: int = 0
    reader_kills: int = 0
    kills_in_read: int = 0
    writer_kills: int = 0
    takeovers: int = 0
    stops: int = 0
    forks: int = 0
    c_forks: int = 0
    first_writes: int = 0
    forks_while_opening: int = 0
    removed: int = 0
    renamed: int = 0
    forced: int = 0
    restarts: int = 0
    max_heal_s: float = 0.0
    removal_errors: int = 0
    permitted_older: int = 0
    refused_writes: int = 0
    handler_calls: int = 0
    handler_refusals: int = 0
    full_episodes: int = 0
    capacity_errors: int = 0
    resets: int = 0
    replaced: int = 0
    max_read_attempts: int = 0
    max_wait_beyond_grace_ms: float = 0.0
    max_shm_mib: float = 0.0
    readers_pss_mib: float = 0.0
    left_out: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def progress(self, elapsed: float) -> str:
        """Return the main counts in one line."""
        forks, removals = self.forks + self.c_forks, self.removed + self.renamed + self.forced
        return (
            f"{elapsed:4.0f} s  {self.writes:,} writes  {self.reads:,} reads  killed {self.reader_kills} readers "
            f"({self.kills_in_read} in a read), {self.writer_kills} writers  {self.stops} stops  {forks} forks  "
            f"{removals} removals  {self.full_episodes} full  {len(self.violations)} violations"
        )
