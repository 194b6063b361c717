"""What a replica does while nothing is published: of a thousand hosts, each costs the server something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT, until

from shmsync.replication import Publisher, Replica

if TYPE_CHECKING:
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
        assert set(calls()) <= {"cmdstat_xread", "cmdstat_info", "cmdstat_config|resetstat", "cmdstat_client|setinfo"}
        lag = replica.status().lag
        assert lag is not None
        until(lambda: (replica.status().lag or 0) < lag)
