"""Unique names in shared memory, and the removal of what is left under them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

SHM = Path("/dev/shm")
_names: set[str] = set()


def new_name(kind: str) -> str:
    """Return a name that no other process uses; `sweep` removes it."""
    name = f"bench-{os.getpid()}-{kind}-{len(_names)}"
    _names.add(name)
    return name


def new_folder(kind: str) -> str:
    """Create a folder in shared memory."""
    return tempfile.mkdtemp(prefix=new_name(kind) + "-", dir=SHM)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep() -> None:
    """Remove what is left under the names, or under the variants of them that peers use."""
    for entry in SHM.iterdir():
        if any(name in entry.name.replace("_", "-") for name in _names):
            remove(entry)
