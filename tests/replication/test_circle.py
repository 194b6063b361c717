"""A replica on the host of the writer: it takes the name when the writer ends. What it receives is not sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT, until

from replication.servers import RedisServer
from shmsync import Reader, Writer
from shmsync.replication import Relay, Replica

if TYPE_CHECKING:
    from pathlib import Path


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
