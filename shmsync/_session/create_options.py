"""How a writer creates an incarnation."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shmsync._core.layout import Names


class CreateOptions(NamedTuple):
    """Options for creating an incarnation.

    Attributes:
        names: the segment names.
        mode: permission bits of state and data; the reader table also lets readers of the group write.
        max_readers: slots of the reader table.
        max_backoff: the longest pause in seconds while the writer waits for a reader.
        reuse_memory: whether the writer writes again to memory that readers have used; None: unless `mode` lets other
            users read.
    """

    names: Names
    mode: int = 0o600
    max_readers: int = 1
    max_backoff: float = 0.002
    reuse_memory: bool | None = None

    @property
    def read_mode(self) -> int:
        """Permission bits of state and data, which readers never write to."""
        return self.mode & ~0o022

    @property
    def table_mode(self) -> int:
        """Permission bits of the reader table, which every reader writes to."""
        return self.read_mode | (self.mode & 0o044) >> 1

    @property
    def isolated(self) -> bool:
        """Whether every version gets an inode of its own: see `isolated`."""
        return bool(self.read_mode & 0o077) if self.reuse_memory is None else not self.reuse_memory

    @property
    def state_mode(self) -> int:
        """Permission bits of the state segment. Who may open it can lock it, and so stop the writer."""
        return 0o600 if self.isolated else self.read_mode
