"""Publish, read, and start the command, in an environment that holds the wheel and its core dependencies only.

Its argument is a name for the segments.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import shmsync

READER = "import sys, shmsync; print(shmsync.Reader(sys.argv[1]).get())"


def check_package() -> None:
    package = Path(shmsync.__file__).parent
    assert package.is_relative_to(sys.prefix), package
    assert (package / "py.typed").is_file()
    assert importlib.util.find_spec("numpy") is None


def check_read_and_write(name: str) -> None:
    writer = shmsync.Writer(name)
    try:
        for value in ({"eur": 1.08}, [1, 2, 3]):
            writer.write(value)
            read = subprocess.run([sys.executable, "-c", READER, name], check=True, capture_output=True, text=True)
            assert read.stdout == f"{value}\n", read.stdout
    finally:
        writer.unlink()


def check_include() -> None:
    """The folder of the C header is printed without the extra."""
    command = Path(sys.executable).parent / "shmsync"
    for printed in ([sys.executable, "-m", "shmsync", "--include"], [str(command), "--include"]):
        done = subprocess.run(printed, check=True, capture_output=True, text=True)
        assert done.stdout == f"{shmsync.get_include()}\n", done
    assert "SHMSYNC_API" in (Path(shmsync.get_include()) / "shmsync.h").read_text()


def check_hint() -> None:
    """The command needs the extra `cli`, and says so."""
    command = Path(sys.executable).parent / "shmsync"
    done = subprocess.run([command], check=False, capture_output=True, text=True)
    assert done.returncode == 2, done
    assert done.stderr.endswith("pip install 'shmsync[cli]'\n"), done


if __name__ == "__main__":
    check_package()
    check_read_and_write(sys.argv[1])
    check_include()
    check_hint()
