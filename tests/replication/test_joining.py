"""A replica has the newest version as soon as it has downloaded it, whenever it joins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers import TIMEOUT, until

from replication.processes import replicating
from replication.values import ROWS, blob, rows_of, table
from replication.watching import Watcher, newest_number
from shmsync import Reader, Writer
from shmsync.replication import Publisher, Relay

if TYPE_CHECKING:
    from replication.servers import RedisServer

SIZES = (8, 64 << 10, (64 << 10) + 1, 1 << 20, 3_000_000)


@pytest.mark.parametrize("size", SIZES)
def test_a_replica_that_joins_when_the_publisher_is_gone(server: RedisServer, name: str, local: str, size: int) -> None:
    with Publisher[bytes](name, server.url) as publisher:
        for number in range(1, 4):
            publisher.write_raw(blob(number, size))
            publisher.flush(TIMEOUT)
    with replicating(name, server.url, local), Watcher(local) as watcher:
        watcher.until_number(3)
    assert [version.number for version in watcher.versions] == [3]


def test_a_replica_that_joins_after_changes(server: RedisServer, name: str, local: str) -> None:
    """It takes the version in full and what has changed since."""
    with Publisher[object](name, server.url) as publisher:
        publisher.write(table(1))
        for number in range(2, 20):
            publisher.flush(TIMEOUT)
            with publisher.update() as draft:
                draft[rows_of(number)] = number
        publisher.flush(TIMEOUT)
        assert publisher.status().sent < 2 * 8 * ROWS  # the changes travelled as changes
    with replicating(name, server.url, local), Watcher(local) as watcher:
        watcher.until_number(19)
    assert [version.number for version in watcher.versions] == [19]


@pytest.mark.parametrize("as_changes", [True, False], ids=["changes", "in full"])
def test_a_replica_that_was_down_for_100_versions(
    server: RedisServer, name: str, local: str, other_local: str, *, as_changes: bool
) -> None:
    with Publisher[object](name, server.url, retain=0) as publisher:
        publisher.write(table(1))
        publisher.flush(TIMEOUT)
        with Watcher(local) as watcher, Watcher(other_local) as other, replicating(name, server.url, other_local):
            with replicating(name, server.url, local):
                watcher.until_number(1)
            for number in range(2, 102):
                if as_changes:
                    with publisher.update() as draft:
                        draft[rows_of(number)] = number
                else:
                    publisher.write(table(number))
                if number % 3 == 0:
                    publisher.flush(TIMEOUT)
            publisher.flush(TIMEOUT)
            other.until_number(101)
            assert newest_number(local) == 1
            with replicating(name, server.url, local) as (replica,):
                watcher.until_number(101)
                until(lambda: replica.status().seq == 101)


def test_a_relay_of_another_program(server: RedisServer, name: str, local: str) -> None:
    """It may start before there is a value, and sends what was published before it started."""
    with (
        Relay(name, server.url, retain=0) as relay,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
        Writer[object](name) as writer,
    ):
        for number in range(1, 6):
            writer.write_raw(blob(number, 100_000))
            relay.flush(TIMEOUT)
            watcher.until_number(number)
    with Writer[object](name) as writer:
        writer.write_raw(blob(6, 10))
    with (
        Relay(name, server.url, retain=0) as relay,
        replicating(name, server.url, local),
        Watcher(local) as watcher,
    ):
        watcher.until_number(6)


def test_readers_see_what_the_publisher_wrote(server: RedisServer, name: str, local: str) -> None:
    """Codec and value are the same, and `origin` says from which version they come."""
    values = [{"rate": 1.08, "names": ["a", "b"]}, [1, 2, 3], "text", table(3)]
    with (
        Publisher[object](name, server.url) as publisher,
        replicating(name, server.url, local),
        Reader[object](local, timeout=TIMEOUT) as reader,
        Reader[object](name) as source,
    ):
        for seq, value in enumerate(values, 1):
            version = publisher.write(value).version
            assert reader.wait(timeout=TIMEOUT)
            with reader.read() as snapshot, source.read() as original:
                assert snapshot.version.checksum == version.checksum
                assert repr(snapshot.value) == repr(value)
                assert original.origin is None
                origin = snapshot.origin
            assert origin is not None
            assert origin.seq == seq
            assert origin.published <= origin.received
