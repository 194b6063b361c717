"""The command line as a user runs it: in a pipe, and in a terminal."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

MAIN = "from shmsync.__main__ import main; main()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BOXES = re.compile("[\u2500-\u257f]")


def command(*args: str, before: str = "") -> list[str]:
    return [sys.executable, "-W", "error", "-c", f"{before}\n{MAIN}", *args]


def only(prefix: str) -> str:
    """Return code that limits the command line to names and segments with a prefix, independent of other programs."""
    return f"""
import shmsync
from shmsync.cli import _infos
names, segment_names = shmsync.names, _infos.segment_names
shmsync.names = lambda: [name for name in names() if name.startswith({prefix!r})]
_infos.segment_names = lambda: [name for name in segment_names() if name.startswith({prefix!r})]
"""


def environment(**more: str) -> dict[str, str]:
    others = {"NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED", "COLUMNS", "LINES"}
    inherited = {key: value for key, value in os.environ.items() if key not in others}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def run(*args: str, stdin: bytes = b"", before: str = "") -> SimpleNamespace:
    done = subprocess.run(
        command(*args, before=before),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    return SimpleNamespace(
        status=done.returncode, out=done.stdout.decode(errors="replace"), err=done.stderr.decode(), raw=done.stdout
    )


def run_json(*args: str, stdin: bytes = b"", status: int = 0, before: str = "") -> Any:
    """Run with --json; return the parsed output."""
    done = run(*args, "--json", stdin=stdin, before=before)
    assert done.status == status, done.err
    return json.loads(done.out)


def run_failing(*args: str, stdin: bytes = b"", before: str = "") -> str:
    """Run a command that must fail; return its error message, which must be one line."""
    done = run(*args, stdin=stdin, before=before)
    assert done.status == 1
    line: str
    (line,) = done.err.splitlines()
    assert line.startswith("shmsync: ")
    return line


class Terminal:
    """A process in a pseudo-terminal, and all its output so far."""

    def __init__(self, *args: str, before: str = "", size: tuple[int, int] = (80, 24), **more: str) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(*size)
        self.modes = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command(*args, before=before)],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment(TERM="xterm-256color", **more),
        )
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""

    def resize(self, columns: int, rows: int) -> None:
        """Set the size; the kernel then sends SIGWINCH."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, words: str, lines: int = 1) -> None:
        deadline = time.monotonic() + TIMEOUT
        while words not in self.text or self.text.count("\n") < lines - 1:
            assert time.monotonic() < deadline, self.text
            self._read()

    def wait(self) -> int:
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read()
        self._read()
        return self.process.returncode

    def _read(self, timeout: float = 0.1) -> None:
        while select.select([self._master], [], [], timeout)[0]:
            self.text += self._decoder.decode(os.read(self._master, 65536))
            timeout = 0.0

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)
        os.close(self._master)
        os.close(self._slave)


@contextmanager
def terminal(*args: str, before: str = "", size: tuple[int, int] = (80, 24), **more: str) -> Iterator[Terminal]:
    opened = Terminal(*args, before=before, size=size, **more)
    try:
        yield opened
    finally:
        opened.close()


def run_in_terminal(
    *args: str, before: str = "", size: tuple[int, int] = (80, 24), keys: str = "", **more: str
) -> SimpleNamespace:
    """Run a command to its end in a terminal of a size (columns, rows); return its status and its output as text."""
    with terminal(*args, before=before, size=size, **more) as screen:
        if keys:
            screen.press(keys)
        status = screen.wait()
        return SimpleNamespace(status=status, raw=screen.text, out=ESCAPES.sub("", screen.text).replace("\r\n", "\n"))
