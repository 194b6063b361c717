"""Removes segments of a name from outside, and checks that the name heals."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._core.layout import names_of
from shmsync._session.unlink import force_unlink_name
from stress.system import SHM

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from stress.removals import Removals
    from stress.report import Report

_SEGMENTS = ("state", "readers", "data_0", "data_1")
_ISOLATED_SEGMENTS = _SEGMENTS[:3]
_ENDING = ("state", "readers")
_HEAL_LIMIT = 60.0
"""Seconds after which a name must be complete again, on a busy machine and while writers are killed."""


class Remover:
    """Removes segments of a name as another program would.

    Args:
        name: the name.
        removals: where to record what is removed.
        rng: random choices.
        report: where to count.
        isolated: whether the name is in isolated mode: it has three segments, and each of them ends an incarnation.
    """

    def __init__(
        self, name: str, removals: Removals, rng: random.Random, report: Report, *, isolated: bool = False
    ) -> None:
        self._segments = _ISOLATED_SEGMENTS if isolated else _SEGMENTS
        self._ending = _ISOLATED_SEGMENTS if isolated else _ENDING
        self._name = name
        self._removals = removals
        self._rng = rng
        self._report = report
        self._moved = SHM / f"{name}_moved"
        self._incomplete_since: float | None = None

    def remove_segment(self) -> None:
        """Unlink or rename one of the segments, as another program would."""
        segment = self._rng.choice(self._segments)
        path = self._path(segment)
        is_rename = self._rng.random() < 0.5
        self._incomplete_since = time.monotonic()
        with suppress(FileNotFoundError), self._removals.recorded(ends_incarnation=segment in self._ending):
            if is_rename:
                path.rename(self._moved)
                self._report.renamed += 1
            else:
                path.unlink()
                self._report.removed += 1

    def force(self) -> None:
        """Remove the name as `shmsync rm --force` does, while its writer is alive."""
        self._incomplete_since = time.monotonic()
        with self._removals.recorded(ends_incarnation=True):
            self._report.forced += force_unlink_name(names_of(self._name))

    def check(self) -> str:
        """Return what is wrong: an empty string, or that the name has not healed."""
        since = self._incomplete_since
        if since is None:
            return ""
        now = time.monotonic()
        if all(self._path(segment).exists() for segment in self._segments):
            self._incomplete_since = None
            self._moved.unlink(missing_ok=True)
            self._removals.note_healed()
            self._report.max_heal_s = max(self._report.max_heal_s, round(now - since, 2))
        elif now - since > _HEAL_LIMIT:
            self._incomplete_since = None
            self._removals.note_healed()
            return f"the name has not healed for {_HEAL_LIMIT:.0f} s"
        return ""

    def finish(self) -> None:
        """Remove what this process moved; give the name up to root, or continue as the user of its segments."""
        self._moved.unlink(missing_ok=True)
        owners = {path.stat().st_uid for path in SHM.glob(f"{self._name}_*")}
        if owners - {os.geteuid()}:
            if len(owners) == 1:
                os.seteuid(owners.pop())
            else:  # killed between a removal and the healing: only root can remove both users' segments
                force_unlink_name(names_of(self._name))

    def _path(self, segment: str) -> Path:
        return SHM / f"{self._name}_{segment}"
