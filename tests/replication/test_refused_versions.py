"""What the server refuses, and what a program that may write to it has added: none of it has lasting effects."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from helpers import TIMEOUT, until

from replication.memory_engine import MemoryEngine, Server
from replication.processes import newest_number, replicating
from replication.values import blob
from replication.watching import Watcher
from shmsync import ReplicationError, Writer
from shmsync._core.layout import CLOSED
from shmsync.replication import Publisher, Relay, replica
from shmsync.replication._entry import BEGINNING, DamagedError, VersionId, parse_entry
from shmsync.replication.redis import RedisEngine

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from replication.servers import RedisServer

GARBAGE: Mapping[Any, Any] = {"something": "else"}


def log_of(name: str) -> str:
    return f"shmsync:{{{name}}}:log"


def newest_fields(client: redis.Redis, name: str) -> dict[Any, Any]:
    found: Any = client.xrevrange(log_of(name), count=1)
    fields: dict[Any, Any] = found[0][1]
    return fields


def add_copy(client: redis.Redis, name: str, identifier: str) -> None:
    """Add a valid entry with the value of the newest one."""
    fields = newest_fields(client, name)
    client.xadd(log_of(name), {**fields, b"full": identifier.encode()}, id=identifier)


class Full(MemoryEngine):
    """An engine that answers, but accepts no version."""

    def add(self, *_: Any) -> bool:
        raise ReplicationError("the server has no memory left")


def test_the_pauses_grow_while_a_version_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It answers each time, but that is no progress: a large version would be sent without a pause between."""
    pauses: list[float] = []
    relay = Relay(name, "memory", engine=lambda *_, **__: Full(Server(), lambda: None))

    def wait(pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 6:
            relay.end()

    with Writer[bytes](name) as writer, mock.patch.object(relay._stopped, "wait", wait):
        writer.write(b"x" * 100_000)
        relay.run()
    assert all(later >= 1.5 * earlier for earlier, later in pairwise(pauses[:-1]))
    assert caplog.text.count("no memory left") == 1


def test_a_forged_version_after_the_newest(server: RedisServer, name: str, local: str) -> None:
    """The publisher would take its own versions for older ones, which the server has already."""
    with (
        server.client() as client,
        Publisher[bytes](name, server.url) as publisher,
        replicating(name, server.url, local),
    ):
        publisher.write_raw(blob(1, 100))
        publisher.flush(TIMEOUT)
        epoch = publisher.status().epoch
        add_copy(client, name, f"{epoch}-999")
        publisher.write_raw(blob(2, 100))
        until(lambda: newest_number(local) == 2)
        assert publisher.status().epoch > epoch


def test_an_epoch_that_none_can_follow(server: RedisServer, name: str, local: str) -> None:
    """No replica takes it; the publisher says what to do, and continues when it is done."""
    with server.client() as client:
        client.xadd(log_of(name), GARBAGE, id=f"{CLOSED}-1")
        with (
            Publisher[bytes](name, server.url) as publisher,
            replicating(name, server.url, local) as (target,),
            Watcher(local) as watcher,
            mock.patch.object(replica, "_COMPARE", 0.1),
        ):
            publisher.write_raw(blob(1, 100))
            until(lambda: "remove the keys" in str(publisher.status().error) and target.status().error)
            client.delete(log_of(name))
            publisher.flush(TIMEOUT)
            watcher.until_number(1)


def test_epochs_that_leave_none_to_follow_are_refused(server: RedisServer, name: str) -> None:
    with Publisher[bytes](name, server.url) as publisher, server.client() as client:
        publisher.write_raw(b"")
        publisher.flush(TIMEOUT)
        fields = newest_fields(client, name)
    with pytest.raises(DamagedError, match="its epoch is more than"):
        parse_entry(f"{CLOSED}-1".encode(), {**fields, b"full": f"{CLOSED}-1".encode()})


def test_valid_entries_after_a_page_of_others(server: RedisServer, name: str) -> None:
    with Publisher[bytes](name, server.url) as publisher, server.client() as client:
        for number in range(20):
            client.xadd(log_of(name), GARBAGE, id=f"1-{number}")
        publisher.write_raw(b"")
        publisher.flush(TIMEOUT)
        epoch = publisher.status().epoch
    engine = RedisEngine(server.url, name)
    assert [each.id for each in engine.after(BEGINNING, 8)] == [VersionId(epoch, 1)]
    assert engine.after(VersionId(epoch, 1), 8) == []
    engine.close()
