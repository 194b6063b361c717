"""The processes of readers and writers, examined once for all the names that they use."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shmsync._info_types import ProcessInfo
from shmsync._shm import processes
from shmsync._shm.mapped import mapped_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shmsync._info_types import ReaderInfo
    from shmsync._shm.mapped import Mapped


class _Maps(NamedTuple):
    """What a process had mapped.

    Attributes:
        used: identities of the names that it used then: see `Processes.examine`.
        mapped: what it had mapped; None if that cannot be determined.
    """

    used: Sequence[tuple[int, int, int]]
    mapped: Mapped | None


class _Found(NamedTuple):
    """A process.

    Attributes:
        status: what /proc says about it.
        started: its start in seconds of Unix time.
        info: what is shown of it.
    """

    status: processes.ProcessStatus
    started: float
    info: ProcessInfo


class Processes:
    """The processes that use names."""

    def __init__(self) -> None:
        self._maps: dict[int, _Maps] = {}
        self._found: dict[int, _Found | None] = {}
        self._previous: dict[int, _Found | None] = {}

    def examine(self, used: Mapping[int, Sequence[tuple[int, int, int]]]) -> None:
        """Examine processes again.

        What they have mapped takes long to read: some ms for a process with many mappings. It contains segments that
        have lost their name only after one of the names that the process uses was created again or replaced a segment.

        Args:
            used: by process, incarnation and generations of each name that it reads.
        """
        self._previous, self._found = self._found, {}
        previous, self._maps = self._maps, {}
        for pid, identities in used.items():
            last = previous.get(pid)
            if last is None or last.used != identities or (last.mapped is not None and last.mapped.unlinked):
                last = _Maps(identities, mapped_by(pid))
            self._maps[pid] = last

    def mapped(self, pid: int, table: int) -> Mapped | None:
        """Return what the process of a reader has mapped; None if that cannot be determined.

        Args:
            pid: process ID that the reader has recorded.
            table: inode of the reader table. If the process has not mapped it, it is not the reader, but has the same
                ID in the PID namespace of this process.
        """
        mapped = self._maps[pid].mapped
        return mapped if mapped is not None and table in mapped.tables else None

    def reader(self, reader: ReaderInfo, table: int) -> ProcessInfo | None:
        """Return the process of a reader; None if it is not alive, or unknown."""
        pid = reader.pid
        if pid is None or not reader.alive:
            return None
        mapped = self._maps[pid].mapped
        return None if mapped is not None and table not in mapped.tables else self.process(pid, reader.since)

    def process(self, pid: int, since: float | None) -> ProcessInfo | None:
        """Return a process; None if it cannot be examined, or started after `since`: then its ID was used again."""
        if pid not in self._found:
            self._found[pid] = _find(pid, self._previous.get(pid))
        found = self._found[pid]
        if found is None or (since is not None and found.started > since + processes.TOLERANCE):
            return None
        return found.info


def _find(pid: int, previous: _Found | None) -> _Found | None:
    """Return a process; its command line is read once."""
    status = processes.status(pid)
    if status is None:
        return None
    if previous is not None and previous.status == status:
        return previous
    is_same = previous is not None and previous.status._replace(state=status.state) == status
    command = previous.info.command if previous is not None and is_same else processes.command(pid, status.title)
    return _Found(status, processes.start_time(status), ProcessInfo(status.state, command))
