"""The server is killed, restarted, suspended, or restored from an old backup: every replica ends at the newest version.

It sees the versions in order, and nothing has to be repaired by hand.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from helpers import TIMEOUT, until

from replication.interrupted import DOWNLOAD_STEPS, STEPS, Interruption
from replication.processes import replicating
from replication.servers import RedisServer
from replication.values import blob, rows_of, table
from replication.watching import Watcher, newest_number
from shmsync import Writer
from shmsync.replication import Publisher, Relay
from shmsync.replication.redis import RedisEngine

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1_000_000
LARGE = 5_000_000
"""More bytes than one command transfers."""


@pytest.fixture(params=[True, False], ids=["persistent", "not persistent"])
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> RedisServer:
    """A server that has not been started; after a restart it is either as before or empty."""
    return RedisServer(tmp_path / "redis", persistent=request.param)


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_an_upload(mortal: RedisServer, name: str, local: str, other_local: str, step: str) -> None:
    killed = Interruption(step, mortal.kill)
    with (
        mortal as server,
        Publisher[bytes](name, server.url, engine=killed, retain=0) as publisher,
        replicating(name, server.url, local, other_local),
        Watcher(local) as watcher,
        Watcher(other_local) as other,
    ):
        publisher.write_raw(blob(1, LARGE))
        watcher.until_number(1)
        killed.armed = True
        publisher.write_raw(blob(2, LARGE))
        until(lambda: killed.happened)
        server.start()
        for each in (watcher, other):
            each.until_number(2)
        publisher.write_raw(blob(3, LARGE))
        for each in (watcher, other):
            each.until_number(3)


@pytest.mark.parametrize("step", DOWNLOAD_STEPS)
def test_killed_in_a_download(mortal: RedisServer, name: str, local: str, other_local: str, step: str) -> None:
    killed = Interruption(step, mortal.kill)
    with (
        mortal as server,
        Publisher[bytes](name, server.url, retain=0) as publisher,
        replicating(name, server.url, other_local),
        replicating(name, server.url, local, engine=killed),
        Watcher(local) as watcher,
        Watcher(other_local) as other,
    ):
        publisher.write_raw(blob(1, LARGE))
        for each in (watcher, other):
            each.until_number(1)
        killed.armed = True
        publisher.write_raw(blob(2, LARGE))
        until(lambda: killed.happened)
        assert newest_number(local) == 1
        server.start()
        for each in (watcher, other):
            each.until_number(2)


@pytest.mark.parametrize("size", [100, SIZE])
def test_killed_between_versions(mortal: RedisServer, name: str, local: str, size: int) -> None:
    with (
        mortal as server,
        Publisher[bytes](name, server.url, retain=0) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, size))
        watcher.until_number(1)
        server.kill()
        publisher.write_raw(blob(2, size))
        server.start()
        watcher.until_number(2)
        server.restart()  # and nothing is published
        publisher.flush(TIMEOUT)
        with replicating(name, server.url, f"{name}-b"), Watcher(f"{name}-b") as late:
            late.until_number(2)


def test_killed_between_changes(mortal: RedisServer, name: str, local: str) -> None:
    with (
        mortal as server,
        Publisher[object](name, server.url) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        publisher.write(table(1))
        for number in range(2, 30):
            if number % 7 == 0:
                server.restart()
            with publisher.update() as draft:
                draft[rows_of(number)] = number
            if number % 3 == 0:
                watcher.until_number(number)
        watcher.until_number(29)


def test_an_answer_that_is_lost_is_not_an_error(server: RedisServer, name: str, local: str) -> None:
    """The entry is there, so adding it again counts as success: the version is not sent twice."""
    lost = Interruption("after add", lambda: None)
    with (
        Publisher[bytes](name, server.url, engine=lost) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, 100))
        publisher.flush(TIMEOUT)
        lost.armed = True
        publisher.write_raw(blob(2, 100))
        publisher.flush(TIMEOUT)
        assert lost.happened
        watcher.until_number(2)
        (first, second) = watcher.versions[-2:] if len(watcher.versions) > 1 else (watcher.versions[-1],) * 2
        assert first.epoch == second.epoch
    with server.client() as client:
        assert client.xlen(f"shmsync:{{{name}}}:log") == 2


def test_a_chunk_that_is_lost_during_the_upload(server: RedisServer, name: str, local: str) -> None:
    """The entry is not added without it; the version is sent again."""

    def lose() -> None:
        with server.client() as client:
            (key,) = client.keys("*:1")
            assert client.unlink(key) == 1

    lost = Interruption("before add", lose)
    lost.armed = True
    with (
        Publisher[bytes](name, server.url, engine=lost) as publisher,
        replicating(name, server.url, local) as (replica,),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, SIZE))
        watcher.until_number(1)
        assert lost.happened
        assert publisher.status().epoch == watcher.versions[0].epoch
        until(lambda: replica.status().versions == 1)
    with server.client() as client:
        assert client.xlen(f"shmsync:{{{name}}}:log") == 1


# ------------------------------------------------------------------------------------------------- suspended servers


def test_a_server_that_is_suspended_for_longer_than_the_timeout(server: RedisServer, name: str, local: str) -> None:
    impatient = partial(RedisEngine, timeout=0.3)
    with (
        Publisher[bytes](name, server.url, engine=impatient, retain=0) as publisher,
        replicating(name, server.url, local, engine=impatient) as (replica,),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, SIZE))
        watcher.until_number(1)
        server.pause()
        publisher.write_raw(blob(2, SIZE))
        until(lambda: publisher.status().error and replica.status().error)
        assert not publisher.status().connected
        assert not replica.status().connected
        server.resume()
        watcher.until_number(2)
        until(lambda: replica.status().connected and publisher.status().connected)
        assert (publisher.status().error, replica.status().error) == (None, None)


# ---------------------------------------------------------------------------------------- a server from an old backup


@pytest.mark.parametrize("as_changes", [False, True], ids=["in full", "changes"])
def test_a_server_restored_from_an_old_backup(
    server: RedisServer, tmp_path: Path, name: str, local: str, other_local: str, *, as_changes: bool
) -> None:
    """Local versions never go back, and the publisher sends again what the server has lost."""
    with (
        Publisher[object](name, server.url, retain=0) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):

        def publish(numbers: range) -> None:
            for number in numbers:
                if as_changes and number > 1:
                    with publisher.update() as draft:
                        draft[rows_of(number)] = number
                else:
                    publisher.write(table(number))
            watcher.until_number(numbers[-1])

        publish(range(1, 4))
        server.back_up(tmp_path / "backup")
        publish(range(4, 9))
        server.restore(tmp_path / "backup")
        with replicating(name, server.url, other_local), Watcher(other_local) as late:
            late.until_number(8)  # sent again, without a new version
            publish(range(9, 12))
            late.until_number(11)


def test_an_old_backup_without_the_publisher(server: RedisServer, tmp_path: Path, name: str, local: str) -> None:
    """The replica keeps its newer version; a relay then sends the newest one again."""
    with Publisher[bytes](name, server.url, retain=0) as publisher, replicating(name, server.url, local):
        publisher.write_raw(blob(1, SIZE))
        until(lambda: newest_number(local) == 1)
        server.back_up(tmp_path / "backup")
        publisher.write_raw(blob(2, SIZE))
        until(lambda: newest_number(local) == 2)
    server.restore(tmp_path / "backup")
    with Watcher(local) as watcher, replicating(name, server.url, local) as (replica,):
        until(lambda: replica.status().connected and replica.status().newest[1] == 1)
        assert newest_number(local) == 2
        with Relay(name, server.url) as relay:
            relay.flush(TIMEOUT)
            with Writer[bytes](name) as writer:
                writer.write_raw(blob(3, SIZE))
            watcher.until_number(3)


def test_a_chunk_that_is_lost(server: RedisServer, name: str, local: str) -> None:
    """Without the publisher there is a clear error, and the last value; with it, the version is sent again."""
    with Publisher[bytes](name, server.url, retain=0) as publisher, replicating(name, server.url, local):
        publisher.write_raw(blob(1, SIZE))
        until(lambda: newest_number(local) == 1)
    with Publisher[bytes](name, server.url, retain=0) as publisher:
        publisher.write_raw(blob(2, SIZE))
        publisher.flush(TIMEOUT)
        epoch = publisher.status().epoch
    with server.client() as client:
        assert client.unlink(f"shmsync:{{{name}}}:{epoch}-2:1") == 1
    with Watcher(local) as watcher, replicating(name, server.url, local) as (replica,):
        until(lambda: replica.status().error)
        assert "is not in the engine any more" in str(replica.status().error)
        assert newest_number(local) == 1
        with Relay(name, server.url):
            watcher.until_number(2)
            until(lambda: replica.status().error is None)


@pytest.mark.parametrize("lost", ["log", "newest"])
def test_a_key_that_is_lost(server: RedisServer, name: str, local: str, other_local: str, lost: str) -> None:
    """Removed by hand, or by an eviction policy: nothing new is published, and a replica that joins has the value."""
    with (
        Publisher[bytes](name, server.url, retain=0) as publisher,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, SIZE))
        watcher.until_number(1)
        with server.client() as client:
            assert client.unlink(f"shmsync:{{{name}}}:{lost}") == 1
        with replicating(name, server.url, other_local), Watcher(other_local) as late:
            late.until_number(1)
        publisher.write_raw(blob(2, SIZE))
        watcher.until_number(2)
