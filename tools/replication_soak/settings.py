"""What the harness and its processes share."""

from __future__ import annotations

from typing import Any, NamedTuple

STORM = 0
"""The phase in which versions are published and faults injected; each calm has a number of its own."""


class Settings(NamedTuple):
    """Settings of a run, the same for all processes.

    Attributes:
        name: the name at the server.
        url: of the server.
        largest: size of the largest payload in bytes.
        unlinks: one in this number of versions is followed by an unlink; 0: none.
        pause: mean pause between two versions in seconds.
        timeout: seconds after which something counts as hanging.
        phase: shared numbers: STORM or the number of the calm, and whether its version has to be one in full.
        bug: a known bug that the processes have: see `bugs`; an empty string for none.
    """

    name: str
    url: str
    largest: int
    unlinks: int
    pause: float
    timeout: float
    phase: Any
    bug: str

    def source(self, index: int) -> str:
        """Return the local name of a publisher: each publishes as on a host of its own."""
        return f"{self.name}-source-{index}"

    def copy(self, index: int) -> str:
        """Return the local name of a replica."""
        return f"{self.name}-copy-{index}"
