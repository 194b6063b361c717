"""What the tests of failures rely on: servers that can be killed, and a network that can be slow, lossy or cut."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import Child, State, until

from replication.network import ADDRESSES, CUT, PERFECT, Network, Quality
from replication.processes import Host
from replication.servers import ADMIN, RedisServer, Sentinel, free_port, one_attempt
from replication.values import blob, number_of, rows_of, table

if TYPE_CHECKING:
    from replication.servers import Certificate


def test_a_killed_server_keeps_its_data_only_if_it_is_persistent(tmp_path: Path) -> None:
    for persistent in (True, False):
        with RedisServer(tmp_path / str(persistent), persistent=persistent) as server:
            port = server.port
            with server.client() as client:
                client.set("key", "value")
            time.sleep(0.01)
            server.restart()
            assert server.port == port
            with server.client() as client:
                assert client.get("key") == (b"value" if persistent else None)


def test_data_that_is_backed_up_and_restored(server: RedisServer, tmp_path: Path) -> None:
    with server.client() as client:
        client.set("key", "old")
    server.back_up(tmp_path / "backup")
    with server.client() as client:
        client.set("key", "new")
    server.restore(tmp_path / "backup")
    with server.client() as client:
        assert client.get("key") == b"old"


def test_a_paused_server_does_not_answer(server: RedisServer) -> None:
    import redis  # noqa: PLC0415 - skipped without it

    server.pause()
    with server.client(socket_timeout=0.05) as client, pytest.raises(redis.TimeoutError):
        client.ping()
    server.resume()
    with server.client() as client:
        assert client.ping()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The server then starts on another one."""
    with RedisServer(tmp_path / "first") as first:
        second = RedisServer(tmp_path / "second")
        second.port = first.port
        with second:
            assert second.port != first.port
            with first.client() as one, second.client() as other:
                one.set("key", "first")
                assert other.get("key") is None


def test_users(tmp_path: Path) -> None:
    import redis  # noqa: PLC0415 - skipped without it

    acl = ["user reader on >secret ~key* +@read +@connection"]
    with RedisServer(tmp_path / "redis", acl=acl) as server:
        with server.client() as client:
            assert client.acl_whoami() == ADMIN[0]
            client.set("key", "value")
        with redis.Redis.from_url(server.url, username="reader", password="secret") as client:
            assert client.get("key") == b"value"
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("key", "other")
        with redis.Redis.from_url(server.url) as client, pytest.raises(redis.AuthenticationError):
            client.get("key")


def test_tls(tmp_path: Path, certificate: Certificate) -> None:
    import redis  # noqa: PLC0415 - skipped without it

    with RedisServer(tmp_path / "redis", certificate=certificate) as server:
        url = f"{server.url}?ssl_ca_certs={certificate.certificate}"
        with redis.Redis.from_url(url) as client:
            assert client.ping()
        with (
            redis.Redis.from_url(server.url, **one_attempt()) as client,
            pytest.raises(redis.ConnectionError, match="CERTI"),
        ):
            client.ping()


def test_a_failover(tmp_path: Path) -> None:
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(tmp_path / "master"))
        replica = stack.enter_context(RedisServer(tmp_path / "replica", replica_of=master))
        sentinel = stack.enter_context(Sentinel(tmp_path / "sentinel", master, quorum=1))
        assert sentinel.master_port() == master.port
        until(sentinel.knows_a_replica)
        master.kill()
        until(lambda: sentinel.master_port() == replica.port)
        with replica.client() as client:
            until(lambda: client.info("replication")["role"] == "master")


# -------------------------------------------------------------------------------------------------------- the network


def connect(_state: State, port: int, count: int) -> float:
    """Make round trips to a server on the first host; return how many seconds each takes at least."""
    import redis  # noqa: PLC0415 - skipped without it

    options = one_attempt(socket_timeout=0.5, socket_connect_timeout=0.5)
    with redis.Redis(ADDRESSES[0], port, **options) as client:
        client.ping()
        durations = []
        for _ in range(count):
            start = time.monotonic()
            client.set("key", os.urandom(20_000))
            durations.append(time.monotonic() - start)
    return min(durations)


def try_to_connect(state: State, port: int) -> bool:
    import redis  # noqa: PLC0415 - skipped without it

    try:
        connect(state, port, 1)
    except redis.RedisError:
        return False
    return True


def test_the_network(tmp_path: Path, network: Network) -> None:
    with (
        RedisServer(tmp_path / "redis", host=ADDRESSES[0], command=network.command(0)) as server,
        Child(network.command(1)) as child,
    ):
        assert child.call(connect, server.port, 5) < 0.2
        network.set(Quality(delay=0.1))
        assert child.call(connect, server.port, 2) >= 0.2
        network.set(Quality(rate=100_000))
        assert child.call(connect, server.port, 2) >= 0.2  # 20,000 bytes
        network.set(Quality(loss=0.1))
        until(lambda: child.call(try_to_connect, server.port) and network.dropped())
        network.set(CUT)
        assert not child.call(try_to_connect, server.port)
        network.set(PERFECT)
        until(lambda: child.call(try_to_connect, server.port))


# ---------------------------------------------------------------------------------------------------- small parts


def test_values_know_their_number() -> None:
    assert number_of(blob(7, 100)) == 7
    damaged = bytearray(blob(7, 100))
    damaged[50] ^= 1
    with pytest.raises(AssertionError, match="blob 7 contains something else"):
        number_of(bytes(damaged))
    current = table(0)
    for number in range(1, 2500):
        current[rows_of(number)] = number
        if number % 311 == 0:
            assert number_of(current) == number
    current[5] -= 1
    with pytest.raises(AssertionError, match="table 2499 contains something else"):
        number_of(current)


def sleep() -> None:
    time.sleep(3600)


def test_programs_end_with_their_host() -> None:
    with Host() as host:
        first, second = host.start(sleep), host.start(sleep)
        first.kill()
        assert host.start(os.getpid).wait() == 0
    until(lambda: not is_running(second.pid))


def is_running(pid: int) -> bool:
    """Return whether a process runs. One that has ended stays a zombie until its new parent reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ports_differ() -> None:
    assert len({free_port() for _ in range(20)}) > 10
