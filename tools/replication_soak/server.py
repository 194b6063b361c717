"""The server: killed and restarted with its data, without them, or with an older copy of them."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from stress.processes import TIMEOUT, Stoppable

if TYPE_CHECKING:
    from pathlib import Path

_PORTS = range(12_000, 30_000)  # below those that the kernel gives to clients
_ATTEMPTS = 20
_MAX_COPIES = 3
_POLL = 0.01
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def command() -> str | None:
    """Return the path of a server on this machine; None if there is none."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


class Copy(NamedTuple):
    """A copy of the data.

    Attributes:
        path: its directory.
        is_damaged: whether a chunk in it was damaged on purpose.
    """

    path: Path
    is_damaged: bool


class Server(Stoppable):
    """A server with an append-only file. It is started at once.

    Args:
        folder: for its data, and for copies of them.
        rewrites: whether it rewrites a large file.

    Attributes:
        port: its port.
        is_damaged: whether a chunk in it was damaged on purpose, as far as the harness knows.
    """

    def __init__(self, folder: Path, *, rewrites: bool = True) -> None:
        super().__init__()
        self._rewrites = rewrites
        self.is_damaged = False
        self._folder = folder
        self._count = 0
        self._copies: list[Copy] = []
        self._data = self._new_folder()
        for _ in range(_ATTEMPTS):
            self.port = random.SystemRandom().choice(_PORTS)
            if self._try_to_start():
                return
        raise RuntimeError(f"the server does not start; its log is in {folder}")

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def client(self, timeout: float = TIMEOUT) -> redis.Redis:
        """Return a client that makes one attempt.

        Args:
            timeout: of each call, in seconds.
        """
        return redis.Redis(port=self.port, socket_timeout=timeout, protocol=2, retry=Retry(NoBackoff(), 0))

    def kill(self) -> None:
        """Kill it, with the process that rewrites its file."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(TIMEOUT)
        self._stopped_until = None

    def copy(self, rng: random.Random) -> None:
        """Copy the data of a server that was killed; remove one of many copies."""
        path = self._new_folder()
        shutil.copytree(self._data, path, dirs_exist_ok=True)
        self._copies.append(Copy(path, self.is_damaged))
        if len(self._copies) > _MAX_COPIES:
            shutil.rmtree(self._copies.pop(rng.randrange(_MAX_COPIES)).path)

    def restart(self) -> None:
        """Start it after a kill, with the data that it had."""
        if not self._try_to_start():
            raise RuntimeError(f"the server does not start again; its log is in {self._folder}")

    def restart_empty(self) -> None:
        """Start it after a kill, without data."""
        shutil.rmtree(self._data)
        self._data = self._new_folder()
        self.is_damaged = False
        self.restart()

    def restart_restored(self, rng: random.Random) -> bool:
        """Start it after a kill, with an older copy of its data; return False if there is none."""
        if not self._copies:
            return False
        copy = rng.choice(self._copies)
        shutil.rmtree(self._data)
        self._data = self._new_folder()
        shutil.copytree(copy.path, self._data, dirs_exist_ok=True)
        self.is_damaged = copy.is_damaged
        self.restart()
        return True

    def _new_folder(self) -> Path:
        self._count += 1
        path = self._folder / str(self._count)
        path.mkdir()
        return path

    def _try_to_start(self) -> bool:
        """Start it; return False if it has ended, as it does if its port is in use."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError:
                return False
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._data,
            "logfile": self._folder / "log",
            "save": "",
            "appendonly": "yes",
            "auto-aof-rewrite-percentage": "100" if self._rewrites else "0",
            "auto-aof-rewrite-min-size": "32mb",
        }
        arguments = [text for key, value in options.items() for text in (f"--{key}", str(value))]
        self._process = subprocess.Popen(
            [command() or "redis-server", *arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509 - no thread runs here
        )
        return self._answers()

    def _answers(self) -> bool:
        deadline = time.monotonic() + TIMEOUT
        with closing(self.client()) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                with suppress(redis.RedisError):
                    if client.ping():
                        return True
                time.sleep(_POLL)
        return False
