"""Real servers for tests: Redis or Valkey on a free port of the loopback interface, and Sentinels.

A test that uses one is skipped where there is none.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import redis
    from typing_extensions import Self

PORTS = range(12_000, 30_000)
"""Below the ports that the kernel gives to clients, so that no client takes the port of a server that restarts."""
ADMIN = ("admin", "admin-password")
"""User and password of the tests, on a server with access control."""
ATTEMPTS = 20


def server_command() -> str:
    """Return the path of a server on this machine; skip the test if there is none, or no client."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        pytest.skip("needs redis-server or valkey-server")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("needs the package redis")
    return found


def free_port() -> int:
    """Return a port that no process uses now. Another one may take it before the server does: then, try again."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def one_attempt(**options: Any) -> dict[str, Any]:
    """Return options for a client with which it makes one attempt. The default depends on the package's version."""
    from redis.backoff import NoBackoff  # noqa: PLC0415 - skipped without it
    from redis.retry import Retry  # noqa: PLC0415

    return {"retry": Retry(NoBackoff(), 0), **options}


class _Process:
    """A server with a configuration file, which can be killed, suspended and restarted on its port.

    Args:
        directory: for its files; created.
        command: prefix of the command, such as one that enters a network namespace.
        arguments: of the command, after the configuration file.
    """

    def __init__(self, directory: Path, command: Sequence[str] = (), arguments: Sequence[str] = ()) -> None:
        executable = server_command()
        directory.mkdir(parents=True)
        self.directory = directory
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "log"
        self._configuration = directory / "configuration"
        self._command = [*command, executable, str(self._configuration), *arguments]

    def configuration(self) -> list[str]:
        """Return the lines of the configuration file."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether the server is ready."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, on its port if it has one; return once it answers."""
        for _ in range(ATTEMPTS):
            self.port = self.port or free_port()
            self._configuration.write_text("\n".join(self.configuration()) + "\n", encoding="utf-8")
            if self._started():
                return
            self.port = 0 if not self._has_run() else self.port
        raise AssertionError(f"the server does not start: {self.log()[-1000:]}")

    def _has_run(self) -> bool:
        return "Ready to accept connections" in self.log() or "Sentinel ID" in self.log()

    def _started(self) -> bool:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            if self.answers():
                return True
            assert time.monotonic() < deadline, f"the server does not answer: {self.log()[-1000:]}"
            time.sleep(0.005)
        if "Address already in use" in self.log():
            time.sleep(0.05)
            return False
        raise AssertionError(f"the server has ended: {self.log()[-1000:]}")

    def log(self) -> str:
        """Return what the server has logged since its first start."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def kill(self) -> None:
        """Kill the server with SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop the server with SIGTERM: it saves what its persistence demands."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        if number != signal.SIGKILL:
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Suspend the server; return once it is suspended. Connections stay open and are accepted, without answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def resume(self) -> None:
        """Resume the server."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.kill()


class RedisServer(_Process):
    """A Redis or Valkey server, as a context manager. Its data directory is removed by nothing but `erase`.

    Args:
        directory: for its files; created.
        persistent: whether it keeps an append-only file, so that a restart finds the data.
        acl: lines for users; the default user is then disabled.
        certificate: serve TLS with it, and nothing else.
        replica_of: the master that it replicates.
        host: the address it listens on.
        command: prefix of the command, such as one that enters a network namespace.
        options: further lines of its configuration.
    """

    def __init__(
        self,
        directory: Path,
        *,
        persistent: bool = True,
        acl: Sequence[str] | None = None,
        certificate: Certificate | None = None,
        replica_of: RedisServer | None = None,
        host: str = "127.0.0.1",
        command: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(directory, command)
        self.host = host
        self.data = directory / "data"
        self.data.mkdir()
        self._socket = directory / "s"
        self._persistent = persistent
        self._acl = acl
        self._certificate = certificate
        self._replica_of = replica_of
        self._options = options

    @property
    def url(self) -> str:
        """The URL of the server, without a user."""
        return f"{'rediss' if self._certificate else 'redis'}://{self.host}:{self.port}/0"

    def configuration(self) -> list[str]:
        """Return the lines of the configuration file."""
        port = ["port 0", f"tls-port {self.port}"] if self._certificate else [f"port {self.port}"]
        lines = [
            *port,
            f"bind {self.host}",
            "protected-mode no",
            f'unixsocket "{self._socket}"',
            f'dir "{self.data}"',
            'save ""',
            f"appendonly {'yes' if self._persistent else 'no'}",
            "appendfsync everysec",
            "auto-aof-rewrite-percentage 0",
            "repl-diskless-sync-delay 0",
            *self._options,
        ]
        if self._replica_of is not None:
            lines.append(f"replicaof {self._replica_of.host} {self._replica_of.port}")
        if self._certificate is not None:
            lines += [
                f'tls-cert-file "{self._certificate.certificate}"',
                f'tls-key-file "{self._certificate.key}"',
                "tls-auth-clients no",
            ]
        if self._acl is not None:
            user, password = ADMIN
            users = ["user default off", f"user {user} on >{password} ~* &* +@all", *self._acl]
            file = self.directory / "users.acl"
            file.write_text("\n".join(users) + "\n", encoding="utf-8")
            lines.append(f'aclfile "{file}"')
        return lines

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that may do everything, through the Unix socket; use it in a `with` block."""
        import redis  # noqa: PLC0415 - skipped without it

        if self._acl is not None:
            options = dict(zip(("username", "password"), ADMIN, strict=True)) | options
        return redis.Redis(unix_socket_path=str(self._socket), **one_attempt(**options))

    def answers(self) -> bool:
        """Return whether the server is ready: it has loaded its data."""
        import redis  # noqa: PLC0415 - skipped without it

        try:
            with self.client(socket_timeout=TIMEOUT) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def restart(self) -> None:
        """Kill the server and start it on the same port. It keeps its data only if it is persistent."""
        self.kill()
        self.start()

    def erase(self) -> None:
        """Remove the data of the server, which must not be running."""
        shutil.rmtree(self.data)
        self.data.mkdir()

    def back_up(self, target: Path) -> None:
        """Copy the data as of now. The server is stopped for it."""
        self.stop()
        shutil.copytree(self.data, target)
        self.start()

    def restore(self, source: Path) -> None:
        """Replace the data by a copy that `back_up` made; the server is killed and started."""
        self.kill()
        shutil.rmtree(self.data)
        shutil.copytree(source, self.data)
        self.start()


class Certificate:
    """A certificate for 127.0.0.1 that clients trust if it is given to them, made by openssl.

    Args:
        directory: for its files; exists.
    """

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "certificate.pem"
        self.key = directory / "key.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
                "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
                "-keyout", str(self.key), "-out", str(self.certificate),
            ],
            check=True,
            capture_output=True,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ Sentinel

SERVICE = "shmsync-test"
"""The name of the master that the Sentinels monitor."""


class Sentinel(_Process):
    """A Sentinel, which promotes a replica of a master that is down.

    Args:
        directory: for its files; created.
        master: the server that it monitors first.
        quorum: how many Sentinels have to agree.
    """

    def __init__(self, directory: Path, master: RedisServer, quorum: int) -> None:
        super().__init__(directory, arguments=["--sentinel"])
        self._master = master
        self._quorum = quorum

    def configuration(self) -> list[str]:
        """Return the lines of the configuration file."""
        return [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self.directory}"',
            f"sentinel monitor {SERVICE} {self._master.host} {self._master.port} {self._quorum}",
            f"sentinel down-after-milliseconds {SERVICE} 500",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]

    def client(self) -> redis.Redis:
        """Return a client of the Sentinel; use it in a `with` block."""
        import redis  # noqa: PLC0415 - skipped without it

        return redis.Redis("127.0.0.1", self.port, **one_attempt(socket_timeout=TIMEOUT))

    def answers(self) -> bool:
        """Return whether this is the Sentinel that was started, and it is ready."""
        import redis  # noqa: PLC0415 - skipped without it

        try:
            with self.client() as client:
                return self.process is not None and int(client.info("server")["process_id"]) == self.process.pid
        except redis.ConnectionError:
            return False

    def master_port(self) -> int:
        """Return the port of the server that is the master now."""
        with self.client() as client:
            return int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def knows_a_replica(self) -> bool:
        """Return whether a failover would find a replica in good order."""
        with self.client() as client:
            replicas = client.execute_command("SENTINEL", "REPLICAS", SERVICE)
        return any(_flags(replica) == {"slave"} for replica in replicas)

    def knows_others(self, count: int) -> bool:
        """Return whether it has found so many other Sentinels."""
        with self.client() as client:
            return len(client.execute_command("SENTINEL", "SENTINELS", SERVICE)) >= count


def _flags(replica: Any) -> set[str]:
    """Return the flags of a replica, in any of the forms in which the package returns it."""
    fields = replica if isinstance(replica, dict) else dict(zip(replica[::2], replica[1::2], strict=True))
    flags = fields[b"flags"] if b"flags" in fields else fields["flags"]
    if isinstance(flags, bytes):
        flags = flags.decode()
    return set(flags.split(",") if isinstance(flags, str) else flags)
