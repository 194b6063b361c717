"""What a replica does while nothing is published: of a thousand hosts, each costs the server something."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from unittest import mock

from helpers import TIMEOUT, until

from shmsync import Reader, Writer
from shmsync.replication import Publisher, Relay, Replica

if TYPE_CHECKING:
    import pytest

    from replication.servers import RedisServer


def test_an_idle_replica_receives_no_entries(name: str, local: str, server: RedisServer) -> None:
    with Publisher[Any](name, server.url) as publisher:
        publisher.write("x" * 50_000)
    with Replica(name, server.url, local_name=local) as replica, server.client() as client:
        replica.wait(TIMEOUT)
        client.config_resetstat()

        def calls() -> dict[str, int]:
            return {key: found["calls"] for key, found in client.info("commandstats").items()}

        until(lambda: calls().get("cmdstat_xread", 0) >= 4)
        assert set(calls()) <= {
            "cmdstat_xread",
            "cmdstat_get",
            "cmdstat_info",
            "cmdstat_config|resetstat",
            "cmdstat_client|setinfo",
        }
        lag = replica.status().lag
        assert lag is not None
        until(lambda: (replica.status().lag or 0) < lag)


def test_a_publisher_whose_clock_is_behind_after_a_loss(
    name: str, local: str, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The replica keeps its later version, and says so."""
    with Publisher[Any](name, server.url) as publisher:
        publisher.write(1)
    caplog.set_level(logging.WARNING, "shmsync.replication")
    with (
        mock.patch("shmsync.replication.replica._COMPARE", 0.0),
        Replica(name, server.url, local_name=local) as replica,
        server.client() as client,
        Reader(local) as reader,
    ):
        replica.wait(TIMEOUT)
        client.flushall()
        until(lambda: replica.status().newest == (0, 0))
        assert replica.status().error is None
        with (
            mock.patch("shmsync.replication.relay.time.time_ns", return_value=10**15),
            Relay(name, server.url) as relay,
        ):
            with Writer[Any](name) as writer:
                writer.write(2)
            relay.flush(TIMEOUT)
            until(lambda: replica.status().newest[1] == 2)
        assert 0 < replica.status().newest[0] < replica.status().epoch
        assert reader.get() == 1
        (warning,) = caplog.messages
        assert f"{name}: ignored version {10**9}-2" in warning
        assert "correct the clock of its host" in warning
