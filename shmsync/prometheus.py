"""Metrics for Prometheus: collectors of names, and of replicas. Needs the extra `prometheus`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shmsync import _inspect
from shmsync._core.layout import names_of
from shmsync._inspect.inspector import Inspector
from shmsync._util.optional import import_optional
from shmsync.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.registry import Collector as _Base

    from shmsync._info_types import Info
    from shmsync.replication import Replica
else:  # prometheus-client accepts any class with a `collect` method
    _Base = object

_READER_STATES = ("idle", "reading", "retaining", "evicted", "dead")
_SEGMENTS = ("state", "readers", "data_0", "data_1")


class Collector(_Base):
    """A custom collector for prometheus-client. It takes no reader slot and changes nothing.

    Metrics, each with the label `name`:
        shmsync_publishes_total: versions published since the name was created.
        shmsync_value_bytes: size of the newest value.
        shmsync_age_seconds: time since the newest value was published.
        shmsync_readers: attached readers by `state`: idle, reading, retaining, evicted, dead; not in isolated mode.
        shmsync_writer_up: 1 if the writer is alive, else 0.
        shmsync_segment_bytes: allocated memory by `segment`: state, readers (or public state), data_0, data_1.
        shmsync_held_bytes: memory of replaced segments that readers still hold.
        shmsync_held_segments: number of these segments.
        shmsync_replacements_total: how often a data segment was replaced by a new inode.
        shmsync_problems: number of problems of the segments; `shmsync.info` describes them.
        shmsync_origin_epoch: epoch of the newest value, if a replica has received it from another host.
        shmsync_origin_seq: its sequence number at its publisher.
        shmsync_origin_travel_seconds: time from when it was sent to when it was received, by the clocks of two hosts.

    Args:
        names: names to inspect; None for all names on this host at the time of each scrape.

    Raises:
        InvalidArgumentError: a name is not valid, or `names` is not an iterable of names.
        MissingExtraError: prometheus-client is not installed.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> from shmsync import Writer
        >>> registry = CollectorRegistry()
        >>> registry.register(Collector(["collector-example"]))
        >>> with Writer("collector-example") as writer:
        ...     _ = writer.write({"price": 9.5})
        ...     registry.get_sample_value("shmsync_publishes_total", {"name": "collector-example"}) == 1
        ...     writer.unlink()
        True
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._core: Any = import_optional("prometheus_client.core", "prometheus", "shmsync.prometheus")
        if isinstance(names, (str, bytes)) or not isinstance(names, (Iterable, type(None))):
            raise InvalidArgumentError(f"names must be an iterable of names, not {names!r}; use [{names!r}]")
        self._names = None if names is None else list(dict.fromkeys(names))
        for name in self._names or ():
            names_of(name)
        self._inspector = Inspector()
        self._lock = threading.Lock()

    def describe(self) -> Iterator[Any]:
        """Yield the metric families without samples, so that registering the collector inspects nothing."""
        yield from self._families().values()

    def collect(self) -> Iterator[Any]:
        """Yield the metric families.

        A name that does not exist has no samples, except `shmsync_writer_up` 0 if it was passed to the constructor.
        """
        families = self._families()
        with self._lock:  # a web server may answer two scrapes at once
            infos = self._inspector.inspect(_inspect.names() if self._names is None else self._names)
        for info in infos:
            _add_samples(families, info)
        found = {info.name for info in infos}
        for name in self._names or ():
            if name not in found:
                families["writer_up"].add_metric([name], 0)
        yield from families.values()

    def _families(self) -> dict[str, Any]:
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        families: tuple[tuple[Any, str, str, list[str]], ...] = (
            (counter, "publishes", "Versions published since the name was created.", []),
            (gauge, "value_bytes", "Size of the newest value.", []),
            (gauge, "age_seconds", "Time since the newest value was published.", []),
            (gauge, "readers", "Attached readers by state.", ["state"]),
            (gauge, "writer_up", "Whether the writer is alive.", []),
            (gauge, "segment_bytes", "Allocated memory of a segment.", ["segment"]),
            (gauge, "held_bytes", "Memory of replaced segments that readers still hold.", []),
            (gauge, "held_segments", "Number of replaced segments that readers still hold.", []),
            (counter, "replacements", "How often a data segment was replaced by a new inode.", []),
            (gauge, "problems", "Number of problems of the segments.", []),
            (gauge, "origin_epoch", "Epoch of the newest value at its publisher on another host.", []),
            (gauge, "origin_seq", "Sequence number of the newest value at its publisher on another host.", []),
            (gauge, "origin_travel_seconds", "Time from sending to receiving, by the clocks of two hosts.", []),
        )
        return {key: kind(f"shmsync_{key}", text, labels=["name", *more]) for kind, key, text, more in families}


class ReplicaCollector(_Base):
    """A custom collector for the replicas of this process: see `shmsync.replication`.

    Metrics, each with the label `name`, the local name:
        shmsync_replica_connected: 1 if the server answered last, else 0.
        shmsync_replica_lag_seconds: time since this host was last known to have the newest version.
        shmsync_replica_versions_total: versions that it has published.
        shmsync_replica_received_bytes_total: bytes of payloads and changes that it has received.
        shmsync_replica_epoch, shmsync_replica_seq: the newest version on this host.
        shmsync_replica_newest_epoch, shmsync_replica_newest_seq: the newest version of the server, as far as known.

    Args:
        replicas: the replicas.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, replicas: Iterable[Replica]) -> None:
        self._core: Any = import_optional("prometheus_client.core", "prometheus", "shmsync.prometheus")
        self._replicas = list(replicas)

    def describe(self) -> Iterator[Any]:
        """Yield the metric families without samples."""
        yield from self._families().values()

    def collect(self) -> Iterator[Any]:
        """Yield the metric families."""
        families = self._families()
        for replica in self._replicas:
            status = replica.status()
            values = {
                "connected": status.connected,
                "lag_seconds": status.lag,
                "versions": status.versions,
                "received_bytes": status.received,
                "epoch": status.epoch,
                "seq": status.seq,
                "newest_epoch": status.newest[0],
                "newest_seq": status.newest[1],
            }
            for key, value in values.items():
                if value is not None:
                    families[key].add_metric([replica.local_name], value)
        yield from families.values()

    def _families(self) -> dict[str, Any]:
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        families: tuple[tuple[Any, str, str], ...] = (
            (gauge, "connected", "Whether the server answered last."),
            (gauge, "lag_seconds", "Time since this host was last known to have the newest version."),
            (counter, "versions", "Versions that the replica has published."),
            (counter, "received_bytes", "Bytes of payloads and changes that it has received."),
            (gauge, "epoch", "Epoch of the newest version on this host."),
            (gauge, "seq", "Sequence number of the newest version on this host, at its publisher."),
            (gauge, "newest_epoch", "Epoch of the newest version of the server."),
            (gauge, "newest_seq", "Sequence number of the newest version of the server."),
        )
        return {key: kind(f"shmsync_replica_{key}", text, labels=["name"]) for kind, key, text in families}


def _add_samples(families: dict[str, Any], info: Info) -> None:
    label = [info.name]
    families["writer_up"].add_metric(label, info.writer.state == "alive")
    families["problems"].add_metric(label, len(info.problems))
    if info.seq is not None:
        families["publishes"].add_metric(label, info.seq)
        families["replacements"].add_metric(label, info.replaced)
    if info.version is not None:
        families["value_bytes"].add_metric(label, info.version.size)
    if info.origin is not None:
        families["origin_epoch"].add_metric(label, info.origin.epoch)
        families["origin_seq"].add_metric(label, info.origin.seq)
        families["origin_travel_seconds"].add_metric(label, info.origin.received - info.origin.published)
    if info.age is not None:
        families["age_seconds"].add_metric(label, info.age)
    if info.max_readers:  # not known in isolated mode
        states = Counter(reader.state for reader in info.readers)
        for state in _READER_STATES:
            families["readers"].add_metric([*label, state], states[state])
    families["held_bytes"].add_metric(label, info.held_memory)
    families["held_segments"].add_metric(label, len(info.held))
    for part, segment in zip(_SEGMENTS, info.segments, strict=True):
        families["segment_bytes"].add_metric([*label, part], segment.memory)
