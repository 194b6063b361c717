"""What processes that were killed leave behind in shared memory and among the temporary files.

Only names count that are new, and that a process of the benchmark has had open or mapped: others use these directories
at the same time.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = " (deleted)"


class Litter:
    """The new files that were seen in the hands of processes."""

    def __init__(self) -> None:
        self._places = (Path("/dev/shm"), Path(tempfile.gettempdir()))
        self._old = {entry for place in self._places for entry in place.iterdir()}
        self._found: set[Path] = set()

    def note(self, pid: int) -> None:
        """Look at the files of a living process. What was replaced has its name from the one that replaced it."""
        with suppress(OSError):
            for path in (*_mapped(pid), *_opened(pid)):
                file = Path(path.removesuffix(_GONE))
                entry = self._entry(file)
                if entry is not None and entry not in self._old:
                    self._found.add(file)

    def _entry(self, file: Path) -> Path | None:
        """Return the file's ancestor that lies in one of the places itself."""
        return next((path for path in (file, *file.parents) if path.parent in self._places), None)

    def remove(self) -> None:
        """Remove them, and the new directories that become empty."""
        for file in self._found:
            file.unlink(missing_ok=True)
            with suppress(OSError):
                for folder in file.parents:
                    if folder in self._places:
                        break
                    folder.rmdir()


def _mapped(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    return [line[line.index("/") :] for line in lines if "/" in line]


def _opened(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    found = []
    for link in folder.iterdir():
        with suppress(OSError):
            found.append(os.readlink(link))  # noqa: PTH115 - a Path would swallow what is no path
    return found


@contextmanager
def litter() -> Iterator[Litter]:
    """Yield where to note processes; remove what they leave when the block is left."""
    found = Litter()
    try:
        yield found
    finally:
        found.remove()
