"""Processes for the benchmark: clean interpreters that run functions of its modules, and what memory they take.

A child is started anew, not forked, in a session of its own, so that Ctrl-C reaches the benchmark only. It ends when
the other end of its pipe is closed, which the kernel sees to if the benchmark is killed. One that may be stopped, or
may block for ever, has to say so: `die_with_parent`.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import traceback
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Held = SimpleNamespace
"""What a child holds between two calls: readers, values. `closing` is an ExitStack, left when the child ends."""

P = ParamSpec("P")
T = TypeVar("T")
_TOOLS = Path(__file__).parent.parent  # where the functions that are sent by name are found
_PATIENCE = 10.0
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}  # NumPy starts sooner without threads that nobody needs here
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Child:
    """The benchmark's end of the pipe to a child."""

    def __init__(self, pipe: Connection, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._pipe = pipe
        self._process = process

    def ask(self, function: Callable[Concatenate[Held, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the child run `function(held, ...)`; return what it returns.

        Raises:
            RuntimeError: the child's traceback, if it raised or ended.
        """
        return self.start(function, *args, **kwargs)(None)

    def start(
        self, function: Callable[Concatenate[Held, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[float | None], T]:
        """Ask without waiting for the answer; return `hear`, which does."""
        self._pipe.send((function, args, kwargs))
        return self.hear

    def hear(self, timeout: float | None = None) -> Any:
        """Wait for the answer, for so many seconds at most.

        Raises:
            RuntimeError: the child's traceback, if it raised or ended.
            TimeoutError: there is none. The child was killed: a later answer could not be told from this one.
        """
        if not self._pipe.poll(timeout):
            self.kill()
            raise TimeoutError(f"no answer within {timeout:.1f} s")
        try:
            answer, trace = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(f"child process {self.pid} has ended") from None
        if trace:
            raise RuntimeError(trace)
        return answer

    def release(self) -> None:
        """Let the child end, without waiting for that."""
        self._pipe.close()

    def kill(self) -> None:
        """Kill the child where it stands; when this returns, it is dead."""
        self._process.kill()
        self._process.wait()


@contextmanager
def child() -> Iterator[Child]:
    """Start a child; end it when the block is left."""
    ours, theirs = Pipe()
    command = [sys.executable, "-m", __name__, str(theirs.fileno())]
    try:
        process = subprocess.Popen(
            command, cwd=_TOOLS, env=os.environ | _ENVIRONMENT, pass_fds=[theirs.fileno()], start_new_session=True
        )
    finally:
        theirs.close()
    try:
        yield Child(ours, process)
    finally:
        ours.close()
        try:
            process.wait(_PATIENCE)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            if process.returncode:  # what it had started was not stopped by it
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    with suppress(OSError):
        for number in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()):
            found += [number, *descendants(number)]
    return found


def die_with_parent() -> None:
    """Have the kernel kill this process when the benchmark ends, even if it is stopped or blocked."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _serve(pipe: Connection) -> None:
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), ExitStack() as closing:
        held = Held(closing=closing)
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


def anonymous(pid: int) -> int:
    """Return how many bytes of memory a process has that belong to no file."""
    return sum(_kilobytes(line) for line in _lines(f"/proc/{pid}/smaps_rollup") if line.startswith("Anonymous:")) * 1024


def proportional(pid: int | str, prefix: str = "") -> int:
    """Return the PSS of a process, in bytes; with a prefix, in mappings of files whose path starts with it."""
    total = 0
    inside = not prefix
    for line in _lines(f"/proc/{pid}/smaps"):
        words = line.split()
        if not words[0].endswith(":"):  # addresses, permissions, offset, device, inode, path
            inside = not prefix or (len(words) > 5 and words[5].startswith(prefix))
        elif inside and words[0] == "Pss:":
            total += _kilobytes(line)
    return total * 1024


def _kilobytes(line: str) -> int:
    return int(line.split()[1])


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
