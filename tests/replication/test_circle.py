"""A replica on the host of the writer: it takes the name when the writer ends. What it receives is not sent again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT, until

from replication.servers import RedisServer
from shmsync import Reader, Writer
from shmsync.replication import Publisher, Relay, Replica
from shmsync.replication.redis import RedisEngine

if TYPE_CHECKING:
    from pathlib import Path

MOMENT = 0.5  # seconds in which something that must not happen would happen


def test_versions_do_not_circulate(name: str, server: RedisServer) -> None:
    with Relay(name, server.url) as relay, server.client() as client, Reader[Any](name, timeout=TIMEOUT) as reader:
        with Writer[Any](name) as writer:
            writer.write(1)
            relay.flush(TIMEOUT)
        with Replica(name, server.url) as replica:
            replica.wait(TIMEOUT)
            until(lambda: relay.status().error)
            assert "it is not sent to where it comes from" in str(relay.status().error)
            assert client.xlen(f"shmsync:{{{name}}}:log") == replica.status().versions == 1
        with Writer[Any](name) as writer:
            writer.write(2)
            relay.flush(TIMEOUT)
            assert relay.status().error is None
        assert client.xlen(f"shmsync:{{{name}}}:log") == 2
        assert reader.get() == 2


def test_the_version_of_a_replica_that_is_behind(name: str, server: RedisServer, local: str) -> None:
    """A publisher, as on another host, has begun an epoch that the replica has not received yet."""
    with server.client() as client, Relay(name, server.url) as relay:
        for number in (1, 2):
            with Publisher[int](local, server.url, engine=under(name)) as publisher:
                publisher.unlink()
                publisher.write(number)
                publisher.flush(TIMEOUT)
            if number == 1:
                with Replica(name, server.url) as replica:
                    replica.wait(TIMEOUT)
                until(lambda: relay.status().error)
        until(lambda: relay._top is not None and relay._top.id.epoch == publisher.status().epoch)
        time.sleep(MOMENT)
        assert relay.status().versions == 0
        assert client.xlen(f"shmsync:{{{name}}}:log") == 2


def under(name: str) -> Any:
    """Return what opens an engine for another name than that of the publisher."""
    return lambda url, _, *, password: RedisEngine(url, name, password=password)


def test_what_another_server_sends_is_sent_on(name: str, local: str, server: RedisServer, tmp_path: Path) -> None:
    """From one server to another one, through a host that has a replica of the first."""
    with RedisServer(tmp_path / "second") as second, Relay(name, server.url), Writer[Any](name) as writer:
        writer.write(1)
        with Replica(name, server.url, local_name=local) as replica:
            replica.wait(TIMEOUT)
            with Relay(local, second.url) as onward:
                onward.flush(TIMEOUT)
                writer.write(2)
                until(lambda: onward.status().seq == 2)
