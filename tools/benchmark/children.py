"""Processes for the benchmark: clean interpreters that run functions of its modules, and what memory they take.

A child is started anew, not forked, in a session of its own, so that Ctrl-C reaches the benchmark only. It ends when
the other end of its pipe is closed, which the kernel sees to if the benchmark is killed.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import traceback
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Held = SimpleNamespace
"""What a child holds between two calls: readers, values."""

P = ParamSpec("P")
T = TypeVar("T")
_TOOLS = Path(__file__).parent.parent  # where the functions that are sent by name are found
_PATIENCE = 10.0
_libc = ctypes.CDLL(None)


class Child:
    """The benchmark's end of the pipe to a child."""

    def __init__(self, pipe: Connection, pid: int) -> None:
        self.pid = pid
        self._pipe = pipe

    def ask(self, function: Callable[Concatenate[Held, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the child run `function(held, ...)`; return what it returns.

        Raises:
            RuntimeError: the child's traceback, if it raised or ended.
        """
        self.start(function, *args, **kwargs)
        answer: T = self.hear()
        return answer

    def start(self, function: Callable[Concatenate[Held, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Ask without waiting for the answer."""
        self._pipe.send((function, args, kwargs))

    def hear(self) -> Any:
        """Wait for the answer.

        Raises:
            RuntimeError: the child's traceback, if it raised or ended.
        """
        try:
            answer, trace = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(f"child process {self.pid} has ended") from None
        if trace:
            raise RuntimeError(trace)
        return answer

    def kill(self) -> None:
        """End it at once: it may hang."""
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def child() -> Iterator[Child]:
    """Start a child; end it when the block is left."""
    ours, theirs = Pipe()
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    try:
        process = subprocess.Popen(command, cwd=_TOOLS, pass_fds=[theirs.fileno()], start_new_session=True)
    finally:
        theirs.close()
    try:
        yield Child(ours, process.pid)
    finally:
        ours.close()
        try:
            process.wait(_PATIENCE)
        except BaseException:
            process.kill()
            process.wait()
            raise


def _serve(pipe: Connection) -> None:
    held = Held()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            function, args, kwargs = pipe.recv()
            try:
                answer = function(held, *args, **kwargs)
            except Exception:  # noqa: BLE001 - the benchmark raises it
                pipe.send((None, traceback.format_exc()))
            else:
                pipe.send((answer, ""))
            function = args = kwargs = answer = None  # nothing of a call stays behind but what it holds


# ------------------------------------------------------------------------------------------------------------- memory


def private_memory() -> int:
    """Return how many bytes of memory only this process has mapped."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):  # what was freed before would hide what is allocated between two looks
        _libc.malloc_trim(0)
    return sum(_kilobytes(line) for line in _lines("/proc/self/smaps_rollup") if line.startswith("Private_")) * 1024


def proportional(pid: int, prefix: str) -> int:
    """Return the PSS of a process in mappings of files whose path starts with `prefix`, in bytes."""
    total = 0
    inside = False
    for line in _lines(f"/proc/{pid}/smaps"):
        words = line.split()
        if not words[0].endswith(":"):  # addresses, permissions, offset, device, inode, path
            inside = len(words) > 5 and words[5].startswith(prefix)
        elif inside and words[0] == "Pss:":
            total += _kilobytes(line)
    return total * 1024


def _kilobytes(line: str) -> int:
    return int(line.split()[1])


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
