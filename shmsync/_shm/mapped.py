"""What other processes have mapped: segments that have lost their name and take up memory as long as they are mapped.

The kernel tells their sizes only in /proc/PID/maps, which the user of the process may read, and root.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# address range, permissions, offset, device, inode, path; see proc_pid_maps(5)
_UNLINKED = r"(?m)^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ (\S+) (\d+) +/dev/shm(/\S+) \(deleted\)$"
_TABLE = r"(?m) (\d+) +/\S+_readers$"


class UnlinkedSegment(NamedTuple):
    """A mapped segment without a name."""

    segment: str
    inode: tuple[str, int]
    size: int


class Mapped(NamedTuple):
    """What a process has mapped.

    Attributes:
        unlinked: segments without a name.
        tables: inode numbers of reader tables.
    """

    unlinked: tuple[UnlinkedSegment, ...]
    tables: frozenset[int]


def mapped_by(pid: int) -> Mapped | None:
    """Return what a process has mapped; None if that cannot be determined."""
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            maps = file.read()
    except OSError:
        return None
    unlinked = (
        UnlinkedSegment(name, (device, int(inode)), int(end, 16) - int(start, 16))
        for start, end, device, inode, name in re.findall(_UNLINKED, maps)
    )
    return Mapped(tuple(unlinked), frozenset(map(int, re.findall(_TABLE, maps))))
