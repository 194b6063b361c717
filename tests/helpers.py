"""Real processes for tests: clean interpreters that do what they are asked, over a pipe.

A test never forks itself: it runs under pytest-xdist, whose threads would be half copied. It starts a `Child`, which
has no threads, asks it to run functions of a test module, and may have it forked, stopped, killed.
"""

from __future__ import annotations

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
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from shmsync import Reader, Writer
from shmsync._core.layout import HIGH_WATER_AT, checksum_of, slot_offset
from shmsync._session import ownership
from shmsync._shm.ofd_locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

SHM = Path("/dev/shm")
PATIENCE = 60.0 * float(os.environ.get("SHMSYNC_TEST_TIMEOUT_SCALE", "1"))
"""Seconds after which a process is taken to hang. Nothing is timed by it; set the variable on a very slow machine."""
NEVER = 3600.0
"""A grace duration that no test lives to see the end of."""

Held = SimpleNamespace
"""What a process holds between two requests: handles, snapshots, views."""

P = ParamSpec("P")
T = TypeVar("T")

# ------------------------------------------------------------------------------------------- time, without a clock


def until(condition: Callable[[], Any]) -> None:
    """Poll until a condition is met; fail if it never is."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def is_asleep(pid: int, thread: int | None = None) -> bool:
    """Return whether a thread (by default the first one) of a process is blocked in a system call."""
    return Path(f"/proc/{pid}/task/{thread or pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


@contextmanager
def pauses(most: float = PATIENCE) -> Iterator[list[float]]:
    """Record the pauses, in seconds, that the writers of this process make while they wait for readers.

    Fails as soon as they make more than `most` seconds. A writer asks for as long a pause however slow the machine is,
    so their sum tells what it has waited for.
    """
    from unittest import mock  # noqa: PLC0415 - a child does without, and starts sooner

    made: list[float] = []

    def recorded(seconds: float) -> None:
        made.append(seconds)
        assert sum(made) < most, "it waits for a reader that never leaves"
        time.sleep(seconds)

    with mock.patch.object(ownership._Clock, "sleep", staticmethod(recorded)):
        yield made


@contextmanager
def at_once() -> Iterator[None]:
    """Fail if a writer of this process waits for a reader, but for the moment that a replacement would take."""
    with pauses(most=1.0):
        yield


class Alarms:
    """Random times for a timer whose signal handler raises, so that about every second attempt is interrupted.

    However fast the machine is: what is interrupted gets more time at the next attempt, what succeeds gets less.
    """

    def __init__(self, seed: int) -> None:
        self.succeeded = 0
        self.interrupted = 0
        self._longest = 1e-4
        self._random = random.Random(seed)
        self._deadline = time.monotonic() + PATIENCE

    def arm(self) -> None:
        """Start the timer."""
        signal.setitimer(signal.ITIMER_REAL, self._random.uniform(self._longest / 50, self._longest))

    def success(self) -> None:
        """Note an attempt that was not interrupted; the timer is stopped by then."""
        self.succeeded += 1
        self._longest = max(self._longest * 0.9, 1e-5)

    def interruption(self) -> None:
        """Note an attempt that was interrupted."""
        self.interrupted += 1
        self._longest *= 1.1

    def enough(self, attempts: int) -> bool:
        """Return whether so many attempts have succeeded, and so many were interrupted; fail if that never happens."""
        assert time.monotonic() < self._deadline, f"{self.succeeded} succeeded, {self.interrupted} interrupted"
        return min(self.succeeded, self.interrupted) >= attempts


# ------------------------------------------------------------------------------------------------- the test's side


class Line:
    """The test's end of the pipe to a process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, function: Callable[Concatenate[Held, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Have the process run `function(held, ...)`; return or raise what it does."""
        self.start(function, *args, **kwargs)
        answer: T = self.hear()
        return answer

    def start(self, function: Callable[Concatenate[Held, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Ask without waiting for the answer."""
        self._pipe.send((function, args, kwargs))

    def answered(self) -> bool:
        """Return whether `hear` has something to hear."""
        return self._pipe.poll()

    def hear(self) -> Any:
        """Wait for the answer."""
        assert self._pipe.poll(PATIENCE), "no answer"
        try:
            answer, error, trace = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise AssertionError("the process has ended") from None
        if error is not None:
            raise error from RuntimeError(trace)
        return answer

    def hang_up(self) -> None:
        """Let the process end."""
        self._pipe.close()


class Child(Line):
    """A clean interpreter; a context manager that leaves no process behind.

    Args:
        command: what runs the interpreter, such as `unshare --pid --fork`.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        ours, theirs = Pipe()
        self._our_spare, their_spare = Pipe()
        super().__init__(ours)
        descriptors = (theirs.fileno(), their_spare.fileno())
        with theirs, their_spare:
            self.process = subprocess.Popen(
                [*command, sys.executable, "-W", "error", __file__, *map(str, descriptors)],
                pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self.pid = self.process.pid

    def fork(self) -> Line:
        """Have it forked; return the line to the forked process, once that has found itself."""
        self.ask(_FORK)
        line = Line(self._our_spare)
        line.hear()
        return line

    def kill(self) -> None:
        """End it at once, wherever it is."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> None:
        """Have it stand still, wherever it is."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def go_on(self) -> None:
        """Let it go on after a stop."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """Let it end in good order, and what it forked."""
        self.hang_up()
        self._our_spare.close()
        assert self.process.wait(PATIENCE) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.process.poll() is None:
                self.end()
        finally:
            self.kill()
            self.hang_up()
            self._our_spare.close()


# ---------------------------------------------------------------------------------------------- the process's side


def _FORK(held: Held) -> None:  # noqa: N802 - a mark, done by `_serve`
    """Fork."""


def _serve(pipe: Connection, spare: Connection) -> None:
    held = Held()
    forked = 0
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            break
        if function.__name__ == _FORK.__name__:
            forked = os.fork()
            unused = spare if forked else pipe
            unused.close()
            pipe = pipe if forked else spare  # both answer, each on its own
        answer: tuple[Any, Exception | None, str]
        try:
            answer = (function(held, *args, **kwargs), None, "")
        except Exception as error:  # noqa: BLE001 - it is the test's
            trace = traceback.format_exc()
            answer = (None, error.with_traceback(None), trace)
        pipe.send(answer)
        del answer, function, args, kwargs
    if forked:
        os.waitpid(forked, 0)


# ----------------------------------------------------------------------------------- what processes are often asked


def attach(held: Held, name: str) -> None:
    """Open a reader."""
    held.reader = Reader(name)


def hold(held: Held, name: str) -> int:
    """Stay inside a read; return the checksum of what is read."""
    held.reader = Reader(name)
    held.snapshot = held.reader.read()
    return look(held)


def look(held: Held) -> int:
    """Return the checksum of what is held as it is now."""
    return checksum_of(held.snapshot.buffer)


def publish(held: Held, /, name: str, value: Any, **options: Any) -> None:
    """Publish a value, and stay its writer."""
    held.writer = Writer(name, **options)
    held.writer.write(value)


def leave(held: Held) -> None:
    """Leave the read."""
    held.snapshot.close()
    del held.snapshot


def close(held: Held) -> None:
    """Close the reader."""
    held.reader.close()
    del held.reader


def get(held: Held) -> Any:
    """Return the newest value of the reader; raw bytes as bytes."""
    value = held.reader.get()
    return bytes(value) if isinstance(value, memoryview) else value


# ------------------------------------------------------------------------------------------- what stands in a table


def _words(name: str) -> list[tuple[int, int, int]]:
    table = (SHM / f"{name}_readers").read_bytes()
    (high,) = struct.unpack_from("=Q", table, HIGH_WATER_AT)
    return [struct.unpack_from("=QQQ", table, slot_offset(index)) for index in range(high)]


def pins(name: str) -> list[int]:
    """Return the pin words that are not zero."""
    return [pin for pin, *_ in _words(name) if pin]


def hazards(name: str) -> list[int]:
    """Return the hazard words that are not zero."""
    return [hazard for _, *both in _words(name) for hazard in both if hazard]


def slots_locked(name: str) -> list[int]:
    """Return the slots whose lock is held by a live process."""
    with (SHM / f"{name}_readers").open("rb") as table:
        return [index for index in range(len(_words(name))) if is_locked(table.fileno(), slot_offset(index))]


def possible(*command: str) -> bool:
    """Return whether a command works here."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    _serve(*(Connection(int(descriptor)) for descriptor in sys.argv[1:]))
