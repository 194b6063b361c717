"""Child processes that run functions of this package.

A child is a new interpreter, not a fork, in a session of its own, so that Ctrl-C interrupts the parent only. It exits
when its pipe is closed; the kernel closes it if the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import psutil

from bench.names import SHM, remove
from bench.settings import LARGE, START_DELAY, TIMEOUT
from bench.values import Source, size_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.peers import Peer

State = SimpleNamespace
"""What a child keeps between two calls: readers, values. `closing` is an ExitStack that is closed when it exits."""

P = ParamSpec("P")
T = TypeVar("T")
BLOCKED = f"blocked (> {TIMEOUT:.0f} s)"
clock = time.monotonic  # the same in all processes
_EXIT_TIMEOUT = 10.0
_CALL_TIMEOUT = 60.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Child:
    """The parent's end of the pipe to a child."""

    def __init__(self, pipe: Connection, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.close_pipe = pipe.close
        self._pipe, self._process = pipe, process

    def call(self, function: Callable[Concatenate[State, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(state, ...)` in the child; return what it returns."""
        return self.submit(function, *args, **kwargs)(_CALL_TIMEOUT)

    def submit(
        self, function: Callable[Concatenate[State, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[float], T]:
        """Start `function(state, ...)` in the child; return the method `result`."""
        self._pipe.send((function, args, kwargs))
        return self.result

    def result(self, timeout: float = _CALL_TIMEOUT) -> Any:
        """Wait for the result of the last call.

        Raises:
            RuntimeError: the child raised, with its traceback, or exited.
            TimeoutError: there is no result. The child was killed, as a late result would be taken for the next one.
        """
        if not self._pipe.poll(timeout):
            self.kill()
            raise TimeoutError(f"hangs: no result within {timeout:.0f} s")
        try:
            value, trace = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise RuntimeError(f"child process {self.pid} exited") from None
        if trace:
            raise RuntimeError(trace)
        return value

    def kill(self) -> None:
        """Kill the child; it is dead when this returns."""
        self._process.kill()
        self._process.wait()


@contextmanager
def child() -> Iterator[Child]:
    """Start a child; end it when the block is left."""
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            cwd=Path(__file__).parent.parent,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # NumPy starts faster without a thread pool
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    try:
        yield Child(ours, process)
    finally:
        ours.close()
        try:
            process.wait(_EXIT_TIMEOUT)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            if process.returncode:  # it has not stopped the processes that it started
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _serve(pipe: Connection) -> None:
    with suppress(EOFError, BrokenPipeError, ConnectionResetError), ExitStack() as closing:
        state = State(closing=closing)
        while True:
            function, args, kwargs = pipe.recv()
            try:
                value = function(state, *args, **kwargs)
            except Exception:  # noqa: BLE001 - the parent raises it
                pipe.send((None, traceback.format_exc()))
            else:
                pipe.send((value, ""))
            function = args = kwargs = value = None  # only what is in `state` outlives the call


@dataclass
class Leftovers:
    """New files in /dev/shm, and servers, that the killed processes of a workload leave behind."""

    before: set[Path] = field(default_factory=lambda: set(SHM.iterdir()))
    files: set[Path] = field(default_factory=set)
    servers: set[psutil.Process] = field(default_factory=set)

    def record(self, pid: int) -> None:
        """Record what is named after a process, and what it and its servers have mapped."""
        with suppress(psutil.Error):
            servers = psutil.Process(pid).children(recursive=True)
            self.servers.update(servers)
            for process in (psutil.Process(pid), *servers):
                self.files.update(Path(mapping.path) for mapping in process.memory_maps())
        for pattern in (f"*bench-{pid}-*", f"*bench_{pid}_*"):  # EasyGlobals takes identifiers only
            self.files.update(SHM.glob(pattern))

    def remove(self) -> None:
        """Kill the servers and remove the files."""
        for server in self.servers:
            with suppress(psutil.NoSuchProcess):
                server.kill()
        for file in self.files - self.before:
            if file.parent == SHM:
                remove(file)


@dataclass
class Workload:
    """A process that publishes through a peer, and processes that read."""

    peer: Peer
    shape: str
    writer: Child
    readers: list[Child]
    address: Any
    leftovers: Leftovers

    def attach(self, readers: Sequence[Child]) -> None:
        """Attach some of the readers, and read once. A reader that is attached but idle may pin what it has read."""
        for reader in readers:
            reader.submit(attach, self.peer, self.shape, self.address)
        for reader in readers:
            reader.result()
        self.writer.call(call_method, "writer.refresh")
        for reader in readers:
            reader.call(read_once)

    def kill(self, process: Child) -> None:
        """Kill one of the processes; what it leaves is removed with the workload."""
        self.leftovers.record(process.pid)
        process.kill()


@contextmanager
def workload(peer: Peer, shape: str, size: int = LARGE, *, readers: int = 0, spare: int = 0) -> Iterator[Workload]:
    """Start a writer that has published a value, and attached readers; end them when the block is left.

    Spare readers have imported the peer, but are not attached. The size is that of an array.
    """
    leftovers = Leftovers()
    with ExitStack() as stack:
        stack.callback(leftovers.remove)
        writer, *others = (stack.enter_context(child()) for _ in range(1 + readers + spare))
        for process in (writer, *others):
            stack.callback(process.close_pipe)  # all before the first is waited for
        for process in (writer, *others):
            stack.callback(leftovers.record, process.pid)
        for process in others:
            process.submit(load, peer)
        address = writer.call(open_writer, peer, shape, size)
        for process in others:
            process.result()
        made = Workload(peer, shape, writer, others, address, leftovers)
        made.attach(others[:readers])
        yield made


def run_together(seconds: float, *calls: tuple[Child, Callable[..., Any]]) -> list[Any]:
    """Run functions in children from an agreed time on, which they get with the duration; return their results."""
    begin = clock() + START_DELAY
    results = [process.submit(function, begin, seconds) for process, function in calls]
    deadline = begin + seconds + TIMEOUT
    return [get(max(0.0, deadline - clock())) for get in results]


def last_line(error: BaseException) -> str:
    return str(error).strip().rpartition("\n")[2]


# ------------------------------------------------------------------------------------------------------ in a child


def load(_: State, peer: Peer) -> None:
    """Import a peer; have the kernel kill this process with the parent, even if it is stopped or blocked."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    peer.load("Reader")


def open_writer(state: State, peer: Peer, shape: str, size: int) -> Any:
    """Create a writer, publish a value, return the address."""
    state.source = Source(shape, size)
    state.writer = peer.writer(shape, size_of(state.source.value))
    state.closing.callback(state.writer.close)
    state.served = server_memory()
    publish_next(state)
    return state.writer.address


def publish_next(state: State) -> None:
    state.source.advance()
    state.writer.write(state.writer.prepare(state.source.value))


def attach(state: State, peer: Peer, shape: str, address: Any) -> None:
    state.shape = shape
    state.reader = peer.reader(shape, address)
    state.closing.callback(state.reader.close)


def call_method(state: State, path: str, *args: Any) -> Any:
    """Call a method of an object of the state, like "writer.refresh"."""
    return attrgetter(path)(state)(*args)


def read_once(state: State) -> None:
    state.reader.get()


def server_memory() -> int:
    """Return how much anonymous memory the servers have that this process has started."""
    servers = psutil.Process().children(recursive=True)
    return sum(mapping.anonymous for server in servers for mapping in server.memory_maps())


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
