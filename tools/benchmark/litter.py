"""What processes that were killed leave behind: in shared memory, among the temporary files, and servers of their own.

Others use the same directories at the same time. So only names count that are new, and that a process of the benchmark
has had open or mapped, or has made by `new_name`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.children import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

_GONE = " (deleted)"


class Litter:
    """The new files and the servers that were seen in the hands of processes."""

    def __init__(self) -> None:
        self._places = (Path("/dev/shm"), Path(tempfile.gettempdir()))
        self._old = {entry for place in self._places for entry in place.iterdir()}
        self._found: set[Path] = set()
        self._named: list[str] = []
        self._servers: set[tuple[int, str]] = set()

    def note(self, pid: int) -> None:
        """Look at a living process and those that it has started.

        What was replaced has its name from the one that replaced it.
        """
        self._named.append(f"*bench[-_]{pid}[-_]*")  # a semaphore has something before, another peer no hyphens
        self._note_files(pid)
        for server in descendants(pid):
            with suppress(OSError):
                self._servers.add((server, _started(server)))
            self._note_files(server)

    def _note_files(self, pid: int) -> None:
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
        """End the servers; remove the files, and the new directories that become empty."""
        for server, started in self._servers:
            with suppress(OSError):
                if _started(server) == started:
                    os.kill(server, signal.SIGKILL)
        for file in self._found:
            file.unlink(missing_ok=True)
            with suppress(OSError):
                for folder in file.parents:
                    if folder in self._places:
                        break
                    folder.rmdir()
        for path in [path for place in self._places for pattern in self._named for path in place.glob(pattern)]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """Return when a process was started: a number that is used again is another process."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]


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
