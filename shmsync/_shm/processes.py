"""Other processes, as /proc describes them: for messages and tools only, because a process may end at any time."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombie",
    "X": "dead",
    "I": "idle",
}
_STATE, _START_TIME = 0, 19  # fields of /proc/PID/stat, counted from the one after the command
_MAX_COMMAND = 4096
TOLERANCE = 1.0
"""Seconds by which a start time may be wrong: it is rounded, and the clock is adjusted."""


class ProcessStatus(NamedTuple):
    """What changes about a process, and what identifies it.

    Attributes:
        state: "running", "sleeping", "blocked" (in a system call that no signal interrupts), "stopped", "zombie".
        started: start time in ticks since boot; with the process ID, it identifies the process.
        title: name of the program, at most 15 characters.
    """

    state: str
    started: int
    title: str


def status(pid: int) -> ProcessStatus | None:
    """Return the status of a process; None if there is none, or it cannot be examined."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib is slow
            before, _, after = file.read().rpartition(b")")
        fields = after.decode().split()
        state = _STATES.get(fields[_STATE], "unknown")
        return ProcessStatus(state, int(fields[_START_TIME]), _printable(before.partition(b"(")[2]))
    except (OSError, ValueError, IndexError):
        return None


def command(pid: int, title: str) -> str:
    """Return the command line of a process, without the directory of its program.

    Args:
        pid: process ID.
        title: name of the program, which is returned in brackets if the process has no command line.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            program, *arguments = file.read(_MAX_COMMAND).rstrip(b"\0 ").split(b"\0")
    except OSError:
        program, arguments = b"", []
    if not program:
        return f"[{title}]"
    return _printable(b" ".join((program.rpartition(b"/")[2], *arguments)))


def start_time(status: ProcessStatus) -> float:
    """Return when a process started, in seconds of Unix time. If `TOLERANCE` later than expected, it is another one."""
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - status.started / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def _printable(text: bytes) -> str:
    # A process chooses its command line: escape sequences in it would reach the user's terminal.
    return "".join(
        each if each.isprintable() else "?" if each.strip() else " " for each in text.decode(errors="replace")
    )
