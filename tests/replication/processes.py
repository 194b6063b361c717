"""Processes on a host that publish and replicate, and may be killed or suspended at any instant."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from helpers import Child, State, command_works

from replication.values import blob, number_of, rows_of, sizes, table
from shmsync import FencedError, Reader, ShmSyncError
from shmsync.replication import Publisher, Relay, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

PR_SET_PDEATHSIG = 1
AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


def own_shm(size: str = "50%") -> list[str]:
    """Return the prefix of a command that runs with a /dev/shm of its own: as on another host, each name is free.

    The command keeps its pid.

    Args:
        size: of /dev/shm, as for mount.
    """
    mount = f"mount -t tmpfs -o mode=1777,size={size} none /dev/shm"
    return ["unshare", *AS_ROOT, "--mount", "sh", "-c", f'{mount} && exec "$0" "$@"']


OWN_SHM = own_shm()


def can_own_shm() -> bool:
    """Return whether `own_shm` works here."""
    return command_works(*OWN_SHM, "true")


class Program:
    """A process that runs one function, forked from a clean interpreter so that it starts at once."""

    def __init__(self, child: Child, pid: int) -> None:
        self._child = child
        self.pid = pid
        self._ended = False

    def kill(self) -> None:
        """Kill the process; fail if it has ended before."""
        self.signal(signal.SIGKILL)
        status = self.wait()
        assert status == -signal.SIGKILL, f"the process had ended before, with status {status}"

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert not self._ended
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until the process has ended; return its exit status, negative for a signal."""
        status = self._child.call(reap, self.pid)
        self._ended = True
        return status


class Host:
    """Runs programs, as a context manager that leaves none behind.

    Args:
        command: prefix of the command of their parent, such as one that enters a network namespace. It has to keep the
            pid of its parent.
    """

    def __init__(self, command: Sequence[str] = ()) -> None:
        self._child = Child(command)

    def start(self, function: Callable[..., object], *args: Any, **kwargs: Any) -> Program:
        """Start a function in a process of its own."""
        return Program(self._child, self._child.call(fork_program, function, args, kwargs))

    def __enter__(self) -> Self:
        self._child.__enter__()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._child.__exit__(exc_type, exc, tb)  # the kernel kills the programs with their parent


def fork_program(_state: State, function: Callable[..., object], args: Sequence[Any], kwargs: dict[str, Any]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:
                function(*args, **kwargs)
                status = 0
        except BaseException:  # noqa: BLE001 - this process has no caller to raise it to
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def reap(_state: State, pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# ------------------------------------------------------------------------------------ programs, which run until killed


def newest_number(name: str) -> int:
    """Return the number of the newest value of a local name; 0 if there is none."""
    try:
        with Reader(name) as reader, reader.read() as snapshot:
            return number_of(snapshot.value)
    except ShmSyncError:
        return 0


def publish_blobs(name: str, url: str, *, pause: float, seed: int, **options: Any) -> None:
    """Publish blobs; the number of each is its local sequence number."""
    publisher = Publisher[Any](name, url, **options)
    number = newest_number(name)
    for size in sizes(seed ^ number):
        number += 1
        result = publisher.write_raw(blob(number, size))
        assert result.version.seq == number
        time.sleep(pause)


def publish_tables(name: str, url: str, *, pause: float, seed: int, **options: Any) -> None:
    """Publish tables as changes; the number of each is its local sequence number."""
    publisher = Publisher[Any](name, url, **options)
    number = newest_number(name)
    if number == 0:
        number = 1
        publisher.write(table(number))
    while True:
        number += 1
        with publisher.update() as draft:
            draft[rows_of(number)] = number
        time.sleep(pause)


def publish_until_fenced(name: str, url: str, *, first: int, pause: float, **options: Any) -> None:
    """Publish blobs with numbers from `first` on, until another publisher takes over."""
    publisher = Publisher[Any](name, url, **options)
    number = first
    try:
        for size in sizes(first):
            publisher.write_raw(blob(number, size))
            number += 1
            time.sleep(pause)
    except FencedError as error:
        print(f"fenced: {error}")


def replicate(name: str, url: str, local_name: str, **options: Any) -> None:
    """Run a replica."""
    Replica(name, url, local_name=local_name, **options).run()


def relay(name: str, url: str, **options: Any) -> None:
    """Run a relay."""
    Relay(name, url, **options).run()


# ------------------------------------------------------------------------- in a Child: publishes what the test asks for


def open_publisher(state: State, /, name: str, url: str, **options: Any) -> None:
    state.publisher = Publisher(name, url, **options)


def take_name(state: State) -> None:
    """Do what entering the publisher's `with` block does."""
    state.publisher.__enter__()


def publish_blob(state: State, number: int, size: int) -> None:
    state.publisher.write_raw(blob(number, size))


def flush(state: State, timeout: float) -> None:
    state.publisher.flush(timeout)


def is_connected(state: State) -> bool:
    return bool(state.publisher.status().connected)


def close_publisher(state: State) -> None:
    state.publisher.close()


def start_replica(state: State, /, name: str, url: str, local_name: str, **options: Any) -> None:
    state.replica = Replica(name, url, local_name=local_name, **options).start()


def replica_status(state: State) -> tuple[int, str]:
    """Return the sequence number of the newest version, and the error if there is one."""
    status = state.replica.status()
    return status.seq, str(status.error or "")


def number_in(_state: State, name: str) -> int:
    return newest_number(name)


def stop_replica(state: State) -> None:
    state.replica.stop()


# ------------------------------------------------------------------------------------------------------- in the test


@contextmanager
def replicating(name: str, url: str, *local_names: str, **options: Any) -> Iterator[list[Replica]]:
    """Run replicas in threads of this process."""
    replicas = [Replica(name, url, local_name=local_name, **options) for local_name in local_names]
    try:
        yield [replica.start() for replica in replicas]
    finally:
        for replica in replicas:
            replica.stop()
