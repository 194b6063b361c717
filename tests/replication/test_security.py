"""Users with as few rights as possible, TLS, passwords, limits: what the documentation says, on a real server."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT, Child, State, environment, until

from replication.processes import (
    can_own_shm,
    number_in,
    own_shm,
    replica_status,
    replicating,
    start_replica,
    stop_replica,
)
from replication.servers import RedisServer, one_attempt
from replication.values import blob, rows_of, table
from replication.watching import Watcher, newest_number
from shmsync import InvalidArgumentError, Reader, ReplicationError, UninitializedStateError, WriteLockConflictError
from shmsync.replication import Publisher, Relay, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from replication.servers import Certificate

SIZE = 200_000
PASSWORD = "not-to-be-shown"
PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "replication.md"


def documented_users(name: str) -> list[str]:
    """Return the lines of the documentation that define users, for a name and with the password of the tests."""
    lines = re.findall(r"^user .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 2
    return [line.replace("PASSWORD", PASSWORD).replace("NAME", name) for line in lines]


@pytest.fixture
def guarded(tmp_path: Path, name: str) -> Iterator[RedisServer]:
    """A server with the documented users."""
    with RedisServer(tmp_path / "redis", acl=documented_users(name)) as server:
        yield server


def url_of(server: RedisServer, user: str) -> str:
    return server.url.replace("://", f"://{user}@")


def client_of(server: RedisServer, user: str) -> redis.Redis:
    import redis  # noqa: PLC0415 - skipped without it

    return redis.Redis.from_url(server.url, **one_attempt(username=user, password=PASSWORD))


# --------------------------------------------------------------------------------------------------------------- users


def test_the_documented_users_suffice(guarded: RedisServer, name: str, local: str, other_local: str) -> None:
    """For small and large versions, changes, the removal of old versions, and what a restart makes necessary."""
    publisher_url, replica_url = url_of(guarded, "shmsync-publisher"), url_of(guarded, "shmsync-replica")
    options: dict[str, Any] = {"password": PASSWORD}
    with (
        Publisher[object](name, publisher_url, retain=0, keep=2, **options) as publisher,
        replicating(name, replica_url, local, **options),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, 100))
        watcher.until_number(1)
        for number in range(2, 8):
            publisher.write_raw(blob(number, SIZE))
            watcher.until_number(number)
        publisher.write(table(8))
        watcher.until_number(8)
        for number in range(9, 14):
            with publisher.update() as draft:
                draft[rows_of(number)] = number
            watcher.until_number(number)
        guarded.restart()
        publisher.write_raw(blob(14, SIZE))
        watcher.until_number(14)
        with replicating(name, replica_url, other_local, **options), Watcher(other_local) as late:
            late.until_number(14)
        until(lambda: publisher.status().error is None)


def test_a_replica_may_not_write(guarded: RedisServer, name: str) -> None:
    import redis  # noqa: PLC0415 - skipped without it

    key = f"shmsync:{{{name}}}:log"
    with client_of(guarded, "shmsync-replica") as client:
        assert client.xrange(key) == []
        for command in (
            ["SET", f"{key}x", "1"], ["XADD", key, "1-1", "a", "b"], ["DEL", key], ["UNLINK", key],
            ["EXPIRE", key, "1"], ["EVAL", "return redis.call('SET', KEYS[1], 1)", "1", key],
            ["RENAME", key, f"{key}x"], ["FLUSHALL"],
            ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SHUTDOWN"], ["KEYS", "*"], ["MONITOR"],
        ):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


@pytest.mark.parametrize("user", ["shmsync-publisher", "shmsync-replica"])
def test_no_user_may_touch_other_keys(guarded: RedisServer, name: str, user: str) -> None:
    import redis  # noqa: PLC0415 - skipped without it

    with guarded.client() as admin:
        admin.set("other", "1")
    for key in ("other", f"shmsync:{{{name}2}}:log", f"shmsync:{name}:log", "shmsync:log"):
        with client_of(guarded, user) as client:
            for command in (
                ["GET", key], ["MGET", key], ["XRANGE", key, "-", "+"], ["SET", key, "2"], ["UNLINK", key],
                ["XADD", key, "1-1", "a", "b"],
            ):  # fmt: skip
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)
    with client_of(guarded, user) as client:
        script = "return redis.call('SET', 'other', '3')"  # a key that the script does not declare
        with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError)):
            client.eval(script, 0)
        for command in (["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["ACL", "LIST"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
    with guarded.client() as admin:
        assert admin.get("other") == b"1"


def test_a_publisher_without_the_right_to_write(guarded: RedisServer, name: str) -> None:
    """The error says so, and the value stays readable on this host."""
    with Publisher[bytes](name, url_of(guarded, "shmsync-replica"), password=PASSWORD, linger=0) as publisher:
        publisher.write_raw(blob(1, SIZE))
        until(lambda: publisher.status().error)
        assert "does not permit this user" in str(publisher.status().error)
        with pytest.raises(ReplicationError, match="does not permit this user"):
            publisher.flush(0.1)
        assert newest_number_of_source(name) == 1


def newest_number_of_source(name: str) -> int:
    with Reader[memoryview](name) as reader:
        return int.from_bytes(reader.get()[:8], "little")


# ----------------------------------------------------------------------------------------------------------- passwords


@pytest.mark.parametrize("where", ["argument", "environment", "URL"])
def test_a_wrong_password_is_not_shown(
    guarded: RedisServer,
    name: str,
    local: str,
    where: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither in logs nor in errors and representations, wherever it comes from."""
    wrong = "wrong-and-not-to-be-shown"
    user = f"shmsync-publisher:{wrong}" if where == "URL" else "shmsync-publisher"
    options: dict[str, Any] = {"password": wrong} if where == "argument" else {}
    if where == "environment":
        monkeypatch.setenv("SHMSYNC_REDIS_PASSWORD", wrong)
    caplog.set_level(logging.DEBUG)
    url = url_of(guarded, user)
    with (
        Publisher[bytes](name, url, linger=0, **options) as publisher,
        replicating(name, url, local, **options) as (replica,),
    ):
        publisher.write_raw(blob(1, 100))
        until(lambda: publisher.status().error and replica.status().error)
        with pytest.raises(ReplicationError) as raised:
            publisher.flush(0.1)
        shown = [repr(each) for each in (publisher, replica, publisher.status(), replica.status(), raised.value)]
    shown.append(caplog.text)
    assert "refuses the user or the password" in caplog.text
    assert wrong not in "".join(shown)


@pytest.mark.parametrize(
    "url", [f"reds://user:{PASSWORD}@host", f"redis+sentinel://:{PASSWORD}@host", f"user:{PASSWORD}@host"]
)
def test_a_wrong_url_does_not_show_its_password(name: str, url: str) -> None:
    for kind in (Publisher, Relay, Replica):
        with pytest.raises(InvalidArgumentError) as raised:
            kind(name, url)
        assert PASSWORD not in str(raised.value)


def test_the_right_password_is_not_shown(guarded: RedisServer, name: str, local: str) -> None:
    """It reaches the programs through the environment, so no command line has it; what they print does not either."""
    script = (
        "import sys, logging; logging.basicConfig(level=0); from shmsync.replication import Publisher; "
        "p = Publisher(*sys.argv[1:]); p.write_raw(b'1' * 8); p.flush(60); print(p, p.status()); p.close()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, name, url_of(guarded, "shmsync-publisher")],
        env=environment(SHMSYNC_REDIS_PASSWORD=PASSWORD),
        capture_output=True,
        check=False,
        text=True,
        timeout=TIMEOUT,
    )
    assert result.returncode == 0, result.stderr
    assert PASSWORD not in result.stdout + result.stderr
    with Child() as child:
        child.call(set_password)
        child.call(start_replica, name, url_of(guarded, "shmsync-replica"), local)
        with Reader[memoryview](local, timeout=TIMEOUT) as reader:
            assert reader.get() == b"1" * 8
        for file in (f"/proc/{child.pid}/cmdline", f"/proc/{child.pid}/task/{child.pid}/comm"):
            assert PASSWORD.encode() not in Path(file).read_bytes()


def set_password(_state: State) -> None:
    os.environ["SHMSYNC_REDIS_PASSWORD"] = PASSWORD


# ----------------------------------------------------------------------------------------------------------------- TLS


def test_tls(tmp_path: Path, certificate: Certificate, name: str, local: str) -> None:
    with RedisServer(tmp_path / "redis", certificate=certificate) as server:
        url = f"{server.url}?ssl_ca_certs={certificate.certificate}"
        with (
            Publisher[bytes](name, url) as publisher,
            replicating(name, url, local) as (replica,),
            Watcher(local) as watcher,
        ):
            publisher.write_raw(blob(1, 3_000_000))
            watcher.until_number(1)
            until(lambda: replica.status().connected)


def test_a_server_with_an_unknown_certificate(tmp_path: Path, certificate: Certificate, name: str, local: str) -> None:
    """No side sends or takes anything."""
    with (
        RedisServer(tmp_path / "redis", certificate=certificate) as server,
        Publisher[bytes](name, server.url, linger=0) as publisher,
        replicating(name, server.url, local) as (replica,),
    ):
        publisher.write_raw(blob(1, 100))
        until(lambda: publisher.status().error and replica.status().error)
        for status in (publisher.status(), replica.status()):
            assert "certificate verify failed" in str(status.error)
        with server.client() as client:
            assert client.dbsize() == 0


# -------------------------------------------------------------------------------------------------------------- limits


def test_a_version_above_the_limit(server: RedisServer, name: str, local: str) -> None:
    """It is refused before its memory is reserved, and the next one that is small enough arrives."""
    with (
        Publisher[bytes](name, server.url, retain=0) as publisher,
        replicating(name, server.url, local, max_size=SIZE) as (replica,),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, SIZE))
        watcher.until_number(1)
        publisher.write_raw(blob(2, SIZE + 1))
        until(lambda: replica.status().error)
        assert "200,001 bytes is more than the limit, 200,000" in str(replica.status().error)
        assert newest_number(local) == 1
        publisher.write_raw(blob(3, 100))
        watcher.until_number(3)
        until(lambda: replica.status().error is None)


@pytest.mark.skipif(not can_own_shm(), reason="needs the right to mount a file system for /dev/shm")
def test_a_version_that_does_not_fit_into_memory(server: RedisServer, name: str) -> None:
    """The error says so, the last value stays, and the next version that fits arrives."""
    with Publisher[bytes](name, server.url, retain=0) as publisher, Child(own_shm("2m")) as host:
        publisher.write_raw(blob(1, SIZE))
        host.call(start_replica, name, server.url, name)
        until(lambda: host.call(replica_status) == (1, ""))
        publisher.write_raw(blob(2, 3_000_000))
        until(lambda: host.call(replica_status)[1])
        assert "/dev/shm" in host.call(replica_status)[1]
        assert host.call(number_in, name) == 1
        publisher.write_raw(blob(3, SIZE))
        until(lambda: host.call(replica_status) == (3, ""))
        assert host.call(number_in, name) == 3
        host.call(stop_replica)


def test_pickle_is_refused_unless_allowed(server: RedisServer, name: str, local: str, other_local: str) -> None:
    with (
        Publisher[object](name, server.url, codec="pickle") as publisher,
        replicating(name, server.url, local) as (replica,),
        replicating(name, server.url, other_local, allow_pickle=True),
        Reader[object](other_local, timeout=TIMEOUT, allow_pickle=True) as reader,
    ):
        publisher.write({1, 2, 3})
        assert reader.get() == {1, 2, 3}
        until(lambda: replica.status().error)
        assert "allow_pickle" in str(replica.status().error)
        with Reader[object](local, allow_pickle=True) as refused, pytest.raises(UninitializedStateError):
            refused.get()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a" * 201, "a\0b", "{a}", "a b"])
def test_names_are_checked(name: str) -> None:
    for kind in (Publisher, Relay, Replica):
        with pytest.raises(InvalidArgumentError, match="name"):
            kind(name, "redis://127.0.0.1:1")


def test_a_publisher_pickles_by_name(server: RedisServer, name: str, local: str) -> None:
    with replicating(name, server.url, local), Watcher(local) as watcher:
        with Publisher[bytes](name, server.url) as publisher:
            publisher.write_raw(blob(1, 100))
            pickled = pickle.dumps(publisher)
        with pickle.loads(pickled) as copy:
            copy.write_raw(blob(2, 100))
            watcher.until_number(2)


def test_one_publisher_of_a_host(server: RedisServer, name: str, local: str) -> None:
    """As for any Writer; the second one does not disturb the first one's relay."""
    with (
        Publisher[bytes](name, server.url) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, 100))
        second = Publisher[bytes](name, server.url)
        with pytest.raises(WriteLockConflictError):
            second.write_raw(blob(2, 100))
        second.close()
        publisher.write_raw(blob(2, 100))
        watcher.until_number(2)
    assert len({version.epoch for version in watcher.versions}) == 1
