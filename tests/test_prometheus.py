"""The collector as a registry uses it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SHM, Child, State, open_snapshot, publish
from prometheus_client import CollectorRegistry, generate_latest

from shmsync import InvalidArgumentError, MissingExtraError, Writer
from shmsync._core.layout import PAGE
from shmsync.prometheus import Collector, ReplicaCollector
from shmsync.replication import ReplicaStatus

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = ("state", "readers", "data_0", "data_1")


def samples_of(*names: str) -> Callable[..., float | None]:
    registry = CollectorRegistry()
    registry.register(Collector(names or None))

    def value(metric: str, name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"shmsync_{metric}", {"name": name, **labels})

    return value


def test_a_name_with_a_reader(writer: Writer, name: str) -> None:
    size = writer.write("value").size
    writer.write("other")
    value = samples_of(name)
    assert value("publishes_total", name) == 2
    assert value("value_bytes", name) == size
    assert value("age_seconds", name) is not None
    assert (value("writer_up", name), value("problems", name), value("replacements_total", name)) == (1, 0, 0)
    for part in PARTS:
        assert value("segment_bytes", name, segment=part)
    assert value("readers", name, state="reading") == 0
    with Child() as child:
        child.call(open_snapshot, name)
        assert (value("readers", name, state="reading"), value("readers", name, state="idle")) == (1, 0)
        assert (value("held_segments", name), value("held_bytes", name)) == (0, 0)
        for _ in range(2):
            writer.write("another", grace_duration=0)
        assert (value("held_segments", name), value("held_bytes", name)) == (1, PAGE)
        assert value("readers", name, state="evicted") == 1
        child.kill()
        assert value("held_segments", name) == 0
        assert (value("readers", name, state="reading"), value("readers", name, state="dead")) == (0, 1)


def test_a_dead_writer(name: str) -> None:
    value = samples_of(name)
    assert value("writer_up", name) == 0
    assert value("publishes_total", name) is None
    with Child() as child:
        child.call(publish, name, 1)
        assert value("writer_up", name) == 1
        child.kill()
        assert (value("writer_up", name), value("publishes_total", name)) == (0, 1)
    with Writer(name) as writer:
        writer.unlink()


def test_a_damaged_name(name: str) -> None:
    (SHM / f"{name}_state").write_bytes(b"no")
    try:
        value = samples_of()
        assert value("problems", name) == 1
        assert value("publishes_total", name) is None
        assert value("segment_bytes", name, segment="state")
    finally:
        (SHM / f"{name}_state").unlink()


def test_all_names_in_the_text_format(writer: Writer, name: str) -> None:
    writer.write(1)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Collector())
    text = generate_latest(registry).decode()
    assert f'shmsync_publishes_total{{name="{name}"}} 1.0' in text
    assert text.count("# TYPE shmsync_") == 13


def test_registering_inspects_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shmsync._inspect.names", lambda: pytest.fail("a name was inspected"))
    CollectorRegistry(auto_describe=True).register(Collector())


def collector_error(_state: State) -> str:
    for module in [each for each in sys.modules if each.startswith("prometheus_client")]:
        del sys.modules[module]
    sys.modules.update({"prometheus_client": None})  # type: ignore[dict-item]
    from shmsync.prometheus import Collector  # noqa: PLC0415 - in the child only

    with pytest.raises(MissingExtraError) as caught:
        Collector()
    return str(caught.value)


def test_without_the_extra() -> None:
    with Child() as child:
        message = child.call(collector_error)
        assert message == "shmsync.prometheus needs prometheus_client: pip install 'shmsync[prometheus]'"


@pytest.mark.parametrize("names", ["ab", ["a/b"], [1]])
def test_bad_names(names: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        Collector(names)


def test_a_name_given_twice(writer: Writer, name: str) -> None:
    writer.write(1)
    families = list(Collector([name, name]).collect())
    assert {len(family.samples) for family in families if family.name == "shmsync_writer_up"} == {1}


class StubReplica:
    """A replica in a given state."""

    def __init__(self, name: str, status: ReplicaStatus) -> None:
        self.local_name = name
        self._status = status

    def status(self) -> ReplicaStatus:
        return self._status


def test_replicas() -> None:
    replicas: list[Any] = [
        StubReplica("a", ReplicaStatus(True, 5, 7, (5, 9), 0.25, 3, 1000, None)),  # noqa: FBT003
        StubReplica("b", ReplicaStatus(False, 0, 0, (0, 0), None, 0, 0, OSError())),  # noqa: FBT003
    ]
    registry = CollectorRegistry(auto_describe=True)
    registry.register(ReplicaCollector(replicas))

    def value(metric: str, name: str) -> float | None:
        return registry.get_sample_value(f"shmsync_replica_{metric}", {"name": name})

    for metric, of_a, of_b in (
        ("connected", 1, 0),
        ("lag_seconds", 0.25, None),
        ("versions_total", 3, 0),
        ("received_bytes_total", 1000, 0),
        ("epoch", 5, 0),
        ("seq", 7, 0),
        ("newest_epoch", 5, 0),
        ("newest_seq", 9, 0),
    ):
        assert (value(metric, "a"), value(metric, "b")) == (of_a, of_b)
