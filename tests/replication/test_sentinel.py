"""A failover to a replica of the server that has not received the newest versions: they are sent again."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import pytest
from helpers import TIMEOUT, until

from replication.processes import replicating
from replication.servers import SERVICE, RedisServer, Sentinel
from replication.values import blob, rows_of, table
from replication.watching import Watcher
from shmsync.replication import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Group(NamedTuple):
    """A master, its replica, and the Sentinels that monitor them."""

    master: RedisServer
    replica: RedisServer
    sentinels: list[Sentinel]

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/{SERVICE}"

    def is_in_order(self) -> bool:
        """Return whether a failover is possible."""
        with self.replica.client() as client:
            is_connected: bool = client.info("replication").get("master_link_status") == "up"
        return is_connected and all(each.knows_a_replica() for each in self.sentinels)

    def fail_over(self) -> None:
        """Kill the master, and resume its replica, which is suspended; return once that is the master."""
        self.master.kill()
        self.replica.resume()
        until(lambda: self.sentinels[0].master_port() == self.replica.port)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    """A master with a replica, monitored by three Sentinels."""
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(tmp_path / "master"))
        replica = stack.enter_context(RedisServer(tmp_path / "replica", replica_of=master))
        sentinels = [
            stack.enter_context(Sentinel(tmp_path / f"sentinel{number}", master, quorum=2)) for number in range(3)
        ]
        group = Group(master, replica, sentinels)
        until(group.is_in_order)
        until(lambda: all(each.knows_others(2) for each in sentinels))
        yield group


@pytest.mark.parametrize("as_changes", [False, True], ids=["in full", "changes"])
def test_what_a_failover_loses_is_sent_again(
    group: Group, name: str, local: str, other_local: str, *, as_changes: bool
) -> None:
    with (
        Publisher[object](name, group.url, retain=0) as publisher,
        replicating(name, group.url, local),
        Watcher(local) as watcher,
    ):

        def publish(numbers: range) -> None:
            for number in numbers:
                if as_changes and number > 1:
                    with publisher.update() as draft:
                        draft[rows_of(number)] = number
                else:
                    publisher.write(table(number))
                publisher.flush(TIMEOUT)
            watcher.until_number(numbers[-1])

        publish(range(1, 4))
        group.replica.pause()  # so that it does not receive what follows
        publish(range(4, 7))
        group.fail_over()
        with group.replica.client() as client:
            until(lambda: client.info("replication")["role"] == "master")
        with replicating(name, group.url, other_local), Watcher(other_local) as late:
            late.until_number(6)  # sent again, without a new version
            publish(range(7, 10))
            late.until_number(9)
            group.master.start()  # becomes a replica of the new master
            publish(range(10, 12))
            late.until_number(11)


def test_a_failover_while_versions_are_published(group: Group, name: str, local: str) -> None:
    with (
        Publisher[bytes](name, group.url, retain=0) as publisher,
        replicating(name, group.url, local),
        Watcher(local) as watcher,
    ):
        number = 0

        def publish() -> None:
            nonlocal number
            number += 1
            publisher.write_raw(blob(number, 200_000))
            time.sleep(0.01)

        publish()
        watcher.until_number(1)
        group.master.kill()
        while group.sentinels[0].master_port() != group.replica.port:
            publish()
        publish()
        watcher.until_number(number)
