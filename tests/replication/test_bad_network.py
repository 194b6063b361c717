"""A network that is slow, loses packets, or is cut: the newest version arrives, nothing goes back, nothing is torn.

The server is on one host, publisher and replica are on the other one, so uploads and downloads both suffer.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
from helpers import Child

from replication.network import ADDRESSES, CUT, PERFECT, Network, Quality
from replication.processes import (
    Host,
    close_publisher,
    open_publisher,
    publish_blob,
    publish_tables,
    replicate,
    start_replica,
    stop_replica,
)
from replication.servers import RedisServer
from replication.watching import Watcher
from shmsync.replication.redis import RedisEngine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = 1_000_000
IMPATIENT = partial(RedisEngine, timeout=0.5)
"""Does not wait for an answer longer than half a second."""


@contextmanager
def hosts(network: Network, directory: Path, name: str, local: str) -> Iterator[tuple[Child, Watcher]]:
    """Run a server on one host, a publisher and a replica on the other; yield the process of these, and a reader."""
    with (
        RedisServer(directory / "redis", host=ADDRESSES[0], command=network.command(0)) as server,
        Child(network.command(1)) as child,
        Watcher(local) as watcher,
    ):
        child.call(open_publisher, name, server.url, engine=IMPATIENT, retain=2)
        child.call(start_replica, name, server.url, local, engine=IMPATIENT)
        child.call(publish_blob, 1, SIZE)
        watcher.until_number(1)
        yield child, watcher
        network.set(PERFECT)
        child.call(close_publisher)
        child.call(stop_replica)


QUALITIES = {
    "slow": Quality(delay=0.05, rate=4_000_000),
    "lossy": Quality(delay=0.005, loss=0.03),
    "slow and lossy": Quality(delay=0.03, loss=0.01, rate=2_000_000),
}


@pytest.mark.parametrize("quality", QUALITIES.values(), ids=QUALITIES.keys())
def test_a_bad_network(network: Network, tmp_path: Path, name: str, local: str, quality: Quality) -> None:
    with hosts(network, tmp_path, name, local) as (child, watcher):
        network.set(quality)
        for number in range(2, 5):
            child.call(publish_blob, number, SIZE if number % 2 else 1000)
            watcher.until_number(number)
    assert not quality.loss or network.dropped()


@pytest.mark.parametrize("duration", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [1000, SIZE])
def test_a_network_that_is_cut(
    network: Network, tmp_path: Path, name: str, local: str, duration: float, size: int
) -> None:
    """Longer than the timeout of the connections; versions are published meanwhile, and the newest one arrives."""
    with hosts(network, tmp_path, name, local) as (child, watcher):
        network.set(CUT)
        for number in range(2, 12):
            child.call(publish_blob, number, size)
            time.sleep(duration / 10)
        assert watcher.versions[-1].number == 1
        network.set(PERFECT)
        watcher.until_number(11)
        assert [version.number for version in watcher.versions] == [1, 11]


@pytest.mark.parametrize("times", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_a_network_that_is_cut_again_and_again(
    network: Network, tmp_path: Path, name: str, local: str, times: int
) -> None:
    """While a table changes all the time."""
    with (
        RedisServer(tmp_path / "redis", host=ADDRESSES[0], command=network.command(0)) as server,
        Host(network.command(1)) as host,
        Watcher(local) as watcher,
    ):
        host.start(publish_tables, name, server.url, pause=0.01, seed=0, engine=IMPATIENT, retain=0)
        host.start(replicate, name, server.url, local, engine=IMPATIENT)
        watcher.until_number(2)
        for turn in range(times):
            network.set(CUT)
            time.sleep(0.2 if turn % 2 else 0.7)
            network.set(PERFECT)
            watcher.until_number(watcher.versions[-1].number + 2)
