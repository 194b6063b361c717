"""W9: what is timed is what a reader of each replica has; anything else is an error instead of a result."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("redis")
pytest.importorskip("numpy")
pytest.importorskip("psutil")

from bench import replication, settings
from bench.processes import State
from bench.results import result
from bench.targets import checked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.processes import Child
    from bench.replication import Hosts


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not any(map(shutil.which, ("redis-server", "valkey-server"))):
        pytest.skip("needs redis-server")
    with replication.Hosts() as hosts:
        yield hosts


class Reporting:
    """The publisher, as it would be if it reported another start or another checksum."""

    def __init__(self, publisher: Child, earlier: float, error: int) -> None:
        self._publisher = publisher
        self._earlier = earlier
        self._error = error

    def call(self, *args: Any) -> tuple[float, int]:
        start, checksum = self._publisher.call(*args)
        return start - self._earlier, checksum + self._error


def test_the_time_begins_when_the_publisher_says(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hosts.send(replication.publish_small) > 0
    monkeypatch.setattr(hosts, "publisher", Reporting(hosts.publisher, 1000, 0))
    assert hosts.send(replication.publish_small) > 1000


def test_a_wrong_value_is_an_error(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "publisher", Reporting(hosts.publisher, 0, 1))
    with pytest.raises(RuntimeError, match="wrong value"):
        hosts.send(replication.publish_small)


def test_the_traffic_of_a_version(hosts: Hosts) -> None:
    before = hosts.traffic()
    hosts.send(replication.publish_small)
    assert hosts.traffic() - before >= 2 * settings.KIB


def test_all_replicas_are_waited_for(hosts: Hosts) -> None:
    hosts.send(replication.publish_small)
    hosts.add_replica()
    hosts.send(replication.publish_small)
    _, checksums = hosts.observer.call(replication.follow, hosts.sent)
    assert len(hosts.replicas) == 2
    assert len(checksums) == 1


def test_samples_are_taken_until_the_end() -> None:
    state = State()
    replication.begin(state, lambda _: 7, 0.0)
    while len(state.samples) < 3:
        time.sleep(0.001)
    found = replication.end(state)
    assert len(found) >= 3
    assert set(found) == {7}


def test_targets() -> None:
    one, most = settings.REPLICA_COUNTS[0], settings.REPLICA_COUNTS[-1]
    results = [
        result(settings.REPLICATED, "shmsync", "s", [0.4]),
        result(settings.REPLICATED, "Redis", "s", [0.1]),
        result(settings.REPLICATED_SMALL, "shmsync", "s", [0.001, 0.0015, 0.5]),
        result(settings.BYSTANDER, "shmsync", "s", [0.001, 0.2]),
        result(settings.REPLICA_MEMORY, "shmsync", "bytes", [65 * settings.MIB]),
        result(settings.REPLICATED_TO_MANY, "shmsync", "s", [0.2], one),
        result(settings.REPLICATED_TO_MANY, "shmsync", "s", [1.6], most),
    ]
    found = {target["target"]: (round(target["value"], 6), target["met"]) for target in checked(results)}
    assert sorted(found.values()) == [(1, True), (1.5, True), (4, False), (8, True), (200, False)]
