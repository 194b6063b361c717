"""The versions that one writer publishes, and whether each follows its predecessor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stress.removals import Removals


class Sequence:
    """The versions that one writer process has published since it last lost track of the name.

    Args:
        removals: the removals from outside.

    Attributes:
        seq: sequence number of its last version; 0 if another writer may have published since.
        epoch: that of the removals, before the incarnation of its last version became known to this writer.
    """

    def __init__(self, removals: Removals) -> None:
        self._removals = removals
        self._incarnation = 0
        self.seq = 0
        self.epoch = 0

    def lose(self) -> None:
        """Forget the last version: from now on, another writer may publish."""
        self.seq = 0

    def publish(self, seq: int, incarnation: int, epoch: int) -> str:
        """Record a version; return what is wrong with its number: an empty string if nothing is.

        Args:
            seq: its sequence number.
            incarnation: the incarnation of the name.
            epoch: that of the removals before the write began.
        """
        is_another = incarnation != self._incarnation
        is_next = not self.seq or seq == self.seq + 1
        is_permitted = is_next or (is_another and self._removals.permit_restart(self.epoch))
        violation = "" if is_permitted else f"version {seq} follows {self.seq}"
        if is_another:  # otherwise a removal may be over that this writer will notice later
            self.epoch = epoch
        self._incarnation, self.seq = incarnation, seq
        return violation
