"""What a run did and what it found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """The counts of a run.

    Attributes:
        calms: how often all processes ran, the publisher was quiet, and each replica had to have the newest version.
        publisher_gone, publisher_killed: calms in which the publisher was killed when the server had the newest version
            and a replica then began without one; or was killed without notice.
        writes, updates: versions that were published in full, and as changes.
        incarnations: how often a publisher removed its name and began another incarnation.
        reads, versions: reads, and the versions among them that the reader had not read before.
        kills: processes that were killed, by kind.
        stops: processes that were stopped for a while, by kind.
        takeovers: how often a second publisher was started beside the first one.
        fenced: publishers that ended because another one had taken over.
        emptied, restored: restarts of the server without its data, and with an older copy of them.
        damaged: chunks at the server that were damaged.
        longest_calm: longest time in seconds until each replica had the newest version, from the beginning of a calm.
        lost_newest: replicas that did not get the newest version in a calm.
        backward: reads that returned an older version than one before.
        torn: reads of a value that did not match its digest.
        violations: guarantees that did not hold, in words; the last three are among them.
    """

    seed: int
    seconds: float = 0.0
    calms: int = 0
    publisher_gone: int = 0
    publisher_killed: int = 0
    writes: int = 0
    updates: int = 0
    incarnations: int = 0
    reads: int = 0
    versions: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    stops: dict[str, int] = field(default_factory=dict)
    takeovers: int = 0
    fenced: int = 0
    emptied: int = 0
    restored: int = 0
    damaged: int = 0
    longest_calm: float = 0.0
    lost_newest: int = 0
    backward: int = 0
    torn: int = 0
    violations: list[str] = field(default_factory=list)

    def progress(self, elapsed: float) -> str:
        """Return the main counts in one line."""
        killed = ", ".join(f"{count} {kind}s" for kind, count in sorted(self.kills.items()))
        return (
            f"{elapsed:4.0f} s  {self.writes:,} writes  {self.updates:,} updates  {self.versions:,} versions read  "
            f"killed {killed or 'none'}  {sum(self.stops.values())} stops  {self.fenced} fenced  {self.calms} calms  "
            f"{len(self.violations)} violations"
        )
