"""The processes that the examples show, and the terminal in which the commands run."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

COLUMNS, ROWS = 80, 24
_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CLOCKS = """
import time
time.time = lambda: 1768469400.0 + {seconds}  # 2026-01-15 09:30 UTC
time.time_ns = lambda: int(time.time()) * 10**9
time.monotonic = lambda: 10_000.0 + {seconds}
_strftime = time.strftime
time.strftime = lambda form, at=None: _strftime(form, at or time.localtime(time.time()))
"""
_PROCESS = """
import sys
from shmsync import Reader, Writer
{code}
print(flush=True)
sys.stdin.read()
"""
_FINISHED = """
from shmsync import Writer
with Writer("recommendation-features-of-the-shop-in-eu-west-1", codec="archive") as writer:
    writer.write({str(key): {"score": key / 2, "tags": ["a", "b"]} for key in range(5000)})
with Writer("broken") as writer:
    writer.write(1)
"""
_PRICES = """
prices = Writer("prices")
prices.write({"EURUSD": 1.08, "GBPUSD": 1.27, "levels": [each / 10 for each in range(500)],
              "users": {str(each): {"limit": each * 10, "groups": ["eu", "fx"]} for each in range(40)}})
"""
_MODEL = """
import numpy as np
model = Writer("model")
value = {"weights": np.arange(262144, dtype="f4").reshape(512, 512), "threshold": 0.5, "labels": ["cat", "dog"]}
model.write(value)
"""
_MORE = """
for _ in range(4):
    model.write(value, grace_duration=0)
"""
_READER = """
reader = Reader("model")
snapshot = reader.read()
value = snapshot.value
"""


class Scene:
    """A writer of each kind and readers: live, stopped, dead.

    Args:
        directory: where the commands run.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._previous_directory = Path.cwd()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> None:
        os.chdir(self._directory)
        self._start("finished", 4110, _FINISHED)
        self._end("finished")
        self._start("prices", 4120, _PRICES)
        self._start("sessions", 4130, 'sessions = Writer("sessions")\nsessions.write({"ada": 17, "bob": 4})')
        self._end("sessions", signal.SIGKILL)
        self._start("model", 4140, _MODEL + "print(flush=True)\nsys.stdin.readline()\n" + _MORE)
        self._start("reader", 4150, _READER)
        self._start("stopped", 4160, _READER)
        self._processes["stopped"].send_signal(signal.SIGSTOP)
        self._ask("model")
        self._start("idle", 4170, 'reader = Reader("model")\nreader.get()\nreader.release()')
        Path("/dev/shm/broken_data_0").write_bytes(bytes(16))
        Path("settings.json").write_text('{"limit": 10, "hosts": ["a", "b"]}\n', encoding="utf-8")

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        os.chdir(self._previous_directory)  # where there is no directory, Python 3.13.0 cannot import socket
        for role in list(self._processes):
            self._end(role, signal.SIGKILL)

    def _start(self, role: str, pid: int, code: str) -> None:
        process = _spawn(pid, [sys.executable, "-c", _CLOCKS.format(seconds=0) + _PROCESS.replace("{code}", code)])
        self._processes[role] = process
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit(f"the process {role!r} failed")

    def _ask(self, role: str) -> None:
        process = self._processes[role]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()

    def _end(self, role: str, number: signal.Signals | None = None) -> None:
        process = self._processes.pop(role)
        if number is not None:
            process.send_signal(number)
        process.communicate()


def _spawn(pid: int, command: list[str]) -> subprocess.Popen[bytes]:
    _LAST_PID.write_text(str(pid - 1), encoding="utf-8")
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def run_in_terminal(words: list[str], before: str = "", keys: str = "") -> str:
    """Run a command of the command line to its end in a terminal; return what is then on the screen.

    Args:
        words: the command.
        before: code that the process runs first.
        keys: what is typed when the command asks.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    main = "from shmsync.__main__ import main; main()"
    code = f"{_CLOCKS.format(seconds=130)}\n{before}\n{main}"
    _LAST_PID.write_text("4200", encoding="utf-8")
    process = subprocess.Popen(
        ["setsid", "--wait", "--ctty", sys.executable, "-c", code, *words], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the terminal was closed by the last process that has it open
            break
        if not data:
            break
        output += data
        if keys and output.endswith(b"[y/N]: "):
            os.write(ours, keys.encode())
            keys = ""
    process.wait()
    os.close(ours)
    return _ESCAPES.sub("", _last_screen(output.decode())).replace("\r\n", "\n")


def _last_screen(text: str) -> str:
    """Return the last frame of a command that uses the whole screen; else everything."""
    if "\x1b[?1049h" not in text:
        return text
    frames = text.partition("\x1b[?1049l")[0].split("\x1b[H")
    return next(frame for frame in reversed(frames) if _ESCAPES.sub("", frame).strip())
