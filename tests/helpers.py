"""Child processes for tests: clean interpreters that run functions on request, over a pipe.

A test never forks itself, because pytest-xdist runs threads in its process. Instead, it starts a `Child`, which has
no other threads, has it call functions of the test module, and may fork, suspend or kill it.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import struct
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection as PipeEnd
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import shmsync
from shmsync import Reader, Writer
from shmsync._core.digests import write_table
from shmsync._core.layout import HIGH_WATER, HIGH_WATER_AT, slot_offset, table_span
from shmsync._session import ownership
from shmsync._shm.ofd_locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

SHM = Path("/dev/shm")
TIMEOUT = 60.0 * float(os.environ.get("SHMSYNC_TEST_TIMEOUT_SCALE", "1"))
"""Seconds after which a test fails because a process hangs. Set the variable on a very slow machine."""
WARNINGS = ("-W", "error", "-W", "ignore:This process (pid=:DeprecationWarning")
"""Warnings are errors, but not that of a fork beside other threads: tests do that on purpose. Python 3.15 raises it."""
NEVER = 3600.0
"""A grace duration that does not end during a test."""

PACKAGE = f"{Path(shmsync.__file__).parent}{os.sep}"
"""How the file names of the library begin, and no others: neither those of the tests nor of a virtual environment."""

State = SimpleNamespace
"""What a child process keeps between two calls: handles, snapshots, views."""

P = ParamSpec("P")
T = TypeVar("T")

# -------------------------------------------------------------------------------------------------------------- waiting


def until(condition: Callable[[], Any]) -> None:
    """Poll until a condition is met; fail if it never is."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def is_asleep(pid: int, thread: int | None = None) -> bool:
    """Return whether a thread (by default the main thread) of a process is blocked in a system call."""
    return Path(f"/proc/{pid}/task/{thread or pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@contextmanager
def recorded_waits(most: float = TIMEOUT) -> Iterator[list[float]]:
    """Record how long, in seconds, the writers of this process sleep while they wait for readers.

    Fails as soon as the sum exceeds `most`. The recorded durations are those requested, so they do not depend on the
    speed of the machine.
    """
    from unittest import mock  # noqa: PLC0415 - children start faster without it

    waits: list[float] = []

    def recorded(seconds: float) -> None:
        waits.append(seconds)
        assert sum(waits) < most, "the writer waits for a reader that never unpins"
        time.sleep(seconds)

    with mock.patch.object(ownership._Clock, "sleep", staticmethod(recorded)):
        yield waits


@contextmanager
def without_waiting() -> Iterator[None]:
    """Fail if a writer of this process waits for a reader for longer than a replacement would take."""
    with recorded_waits(most=1.0):
        yield


class Alarms:
    """Random times for a timer whose signal handler raises, so that about every second attempt is interrupted.

    Adapts to the speed of the machine: the time grows after an interruption and shrinks after a success.
    """

    def __init__(self, seed: int) -> None:
        self.succeeded = 0
        self.interrupted = 0
        self._longest = 1e-4
        self._random = random.Random(seed)
        self._deadline = time.monotonic() + TIMEOUT

    def arm(self) -> None:
        """Start the timer."""
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(self._longest / 50, self._longest))

    def disarm(self) -> None:
        """Stop the timer. If the signal has come, its handler runs now at the latest."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Under Python 3.12 a handler was seen to run later, outside of the block that the signal may interrupt. This
        # call runs the handlers of all signals that have come.
        signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def success(self) -> None:
        """Record an attempt that was not interrupted; call it after `disarm`."""
        self.succeeded += 1
        self._longest = max(self._longest * 0.9, 1e-5)

    def interruption(self) -> None:
        """Record an attempt that was interrupted."""
        self.interrupted += 1
        self._longest *= 1.1

    def enough(self, attempts: int) -> bool:
        """Return whether at least this many attempts succeeded and this many were interrupted; fail on timeout."""
        assert time.monotonic() < self._deadline, f"{self.succeeded} succeeded, {self.interrupted} interrupted"
        return min(self.succeeded, self.interrupted) >= attempts


# ---------------------------------------------------------------------------------------------------------- in the test


class Connection:
    """The test's end of the pipe to a child process."""

    def __init__(self, pipe: PipeEnd) -> None:
        self._pipe = pipe

    def call(self, function: Callable[Concatenate[State, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function(state, ...)` in the process; return its result or raise its exception."""
        self.send(function, *args, **kwargs)
        result: T = self.receive()
        return result

    def send(self, function: Callable[Concatenate[State, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a call without waiting for its result."""
        self._pipe.send((function, args, kwargs))

    def has_result(self) -> bool:
        """Return whether `receive` would return at once."""
        return self._pipe.poll()

    def receive(self) -> Any:
        """Wait for the result of the last `send`."""
        assert self._pipe.poll(TIMEOUT), "the call did not return"
        try:
            result, error, trace = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise AssertionError("the process has ended") from None
        if error is not None:
            raise error from RuntimeError(trace)
        return result

    def close(self) -> None:
        """Close the pipe; the process then exits."""
        self._pipe.close()


class Child(Connection):
    """A clean interpreter, as a context manager that leaves no process behind.

    Args:
        command: Prefix of the command that runs the interpreter, such as `unshare --pid --fork`.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        ours, theirs = Pipe()
        self._fork_pipe, their_fork_pipe = Pipe()
        super().__init__(ours)
        descriptors = (theirs.fileno(), their_fork_pipe.fileno())
        with theirs, their_fork_pipe:
            self.process = subprocess.Popen(
                [*command, sys.executable, *WARNINGS, __file__, *map(str, descriptors)],
                pass_fds=descriptors,
                env=environment(),
            )
        self.pid = self.process.pid

    def fork(self, *, in_c: bool = False) -> Connection:
        """Fork the process; return the connection to the fork once it has started.

        Args:
            in_c: call fork(2) as a C library does: Python's at-fork hooks do not run.
        """
        self.call(_FORK, in_c)
        connection = Connection(self._fork_pipe)
        connection.receive()
        return connection

    def kill(self) -> None:
        """Kill the process and wait until it has ended."""
        self.process.kill()
        self.process.wait(TIMEOUT)

    def suspend(self) -> None:
        """Suspend the process; return once it is suspended."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Resume the process."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Have the process and its fork exit normally."""
        self.close()
        self._fork_pipe.close()
        assert self.process.wait(TIMEOUT) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if exc_type is None and self.process.poll() is None:
                self.end()
        finally:
            self.kill()
            self.close()
            self._fork_pipe.close()


# ------------------------------------------------------------------------------------------------------- in the process


def _FORK(state: State, in_c: bool) -> None:  # noqa: N802, FBT001 - a marker that `_serve` handles
    """Fork."""


def _serve(pipe: PipeEnd, fork_pipe: PipeEnd) -> None:
    state = State()
    forked = 0
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            break
        if function.__name__ == _FORK.__name__:
            forked = ctypes.PyDLL(None).fork() if args[0] else os.fork()
            unused = fork_pipe if forked else pipe
            unused.close()
            pipe = pipe if forked else fork_pipe  # both send a result, each over its own pipe
        result: tuple[Any, Exception | None, str]
        try:
            result = (function(state, *args, **kwargs), None, "")
        except Exception as error:  # noqa: BLE001 - raised in the test
            trace = traceback.format_exc()
            result = (None, error.with_traceback(None), trace)
        pipe.send(result)
        del result, function, args, kwargs
    if forked:
        os.waitpid(forked, 0)


# --------------------------------------------------------------------------------------- functions that many tests call


def open_reader(state: State, name: str) -> None:
    """Open a reader."""
    state.reader = Reader(name)


def open_snapshot(state: State, name: str) -> int:
    """Open a snapshot; return its checksum."""
    state.reader = Reader(name)
    state.snapshot = state.reader.read()
    return snapshot_checksum(state)


def checksum(payload: Any) -> int:
    """Return the checksum of a payload, as in the header of its data segment."""
    start, end = table_span(len(payload))
    return write_table(memoryview(payload), memoryview(bytearray(end - start)))


def snapshot_checksum(state: State) -> int:
    """Return the current checksum of the open snapshot."""
    return checksum(state.snapshot.buffer)


def publish(state: State, /, name: str, value: Any, **options: Any) -> None:
    """Publish a value; keep the writer open."""
    state.writer = Writer(name, **options)
    state.writer.write(value)


def close_snapshot(state: State) -> None:
    """Close the snapshot."""
    state.snapshot.close()
    del state.snapshot


def close_reader(state: State) -> None:
    """Close the reader."""
    state.reader.close()
    del state.reader


def get_value(state: State) -> Any:
    """Return the newest value of the reader; raw bytes as bytes."""
    value = state.reader.get()
    return bytes(value) if isinstance(value, memoryview) else value


# ----------------------------------------------------------------------------------------------------- the reader table


def _words(name: str) -> list[tuple[int, int, int]]:
    table = (SHM / f"{name}_readers").read_bytes()
    (high,) = struct.unpack_from("=Q", table, HIGH_WATER_AT)
    return [struct.unpack_from("=QQQ", table, slot_offset(index)) for index in range(high & HIGH_WATER)]


def pins(name: str) -> list[int]:
    """Return the nonzero pin words."""
    return [pin for pin, *_ in _words(name) if pin]


def hazards(name: str) -> list[int]:
    """Return the nonzero hazard words."""
    return [hazard for _, *both in _words(name) for hazard in both if hazard]


def slots_locked(name: str) -> list[int]:
    """Return the indices of the slots whose lock a live process holds."""
    with (SHM / f"{name}_readers").open("rb") as table:
        return [index for index in range(len(_words(name))) if is_locked(table.fileno(), slot_offset(index))]


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child process that can import what this process can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def command_works(*command: str) -> bool:
    """Return whether a command succeeds on this machine."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    _serve(*(PipeEnd(int(descriptor)) for descriptor in sys.argv[1:]))
