"""Metrics for Prometheus: a collector that looks at names when it is asked. Needs the extra `prometheus`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from shmsync import _inspect
from shmsync._core.layout import names_of
from shmsync._util.optional import import_optional
from shmsync.errors import InvalidArgumentError, StateNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.registry import Collector as _Base

    from shmsync._types import Info
else:  # any class with `collect` will do
    _Base = object

_STATES = ("idle", "reading", "keeping", "evicted", "dead")
_PARTS = ("state", "readers", "data_0", "data_1")


class Collector(_Base):
    """A custom collector for prometheus-client; it takes no reader slot and changes nothing.

    Metrics, each with the label `name`:
        shmsync_publishes_total: versions published in the present life of the name.
        shmsync_value_bytes: size of the newest value.
        shmsync_age_seconds: time since it was published.
        shmsync_readers: attached readers, by `state`: idle, reading, keeping, evicted, dead.
        shmsync_writer_up: 1 if a writer lives.
        shmsync_segment_bytes: memory by `segment`: state, readers, data_0, data_1.
        shmsync_replacements_total: how often a data segment got new memory.
        shmsync_problems: what is wrong with the segments; see `shmsync.info`.

    Args:
        names: which names to look at; None for all on this host, at each collection.

    Raises:
        InvalidArgumentError: a name cannot be used.
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(self, names: Iterable[str] | None = None) -> None:
        self._core: Any = import_optional("prometheus_client.core", "prometheus", "shmsync.prometheus")
        if isinstance(names, str):
            raise InvalidArgumentError(f"names must be several names, such as [{names!r}], not {names!r}")
        self._names = None if names is None else list(dict.fromkeys(names))
        for name in self._names or ():
            names_of(name)

    def describe(self) -> Iterator[Any]:
        """Yield the metrics without values, so that registering looks at nothing."""
        yield from self._families().values()

    def collect(self) -> Iterator[Any]:
        """Yield the metrics. A name that is not there has none, except `shmsync_writer_up` 0 if it was asked for."""
        families = self._families()
        for name in _inspect.names() if self._names is None else self._names:
            found = _info_of(name)
            if found is not None:
                _add(families, found)
            elif self._names is not None:
                families["writer_up"].add_metric([name], 0)
        yield from families.values()

    def _families(self) -> dict[str, Any]:
        gauge, counter = self._core.GaugeMetricFamily, self._core.CounterMetricFamily
        kinds: tuple[tuple[Any, str, str, list[str]], ...] = (
            (counter, "publishes", "Versions published in the present life of the name.", []),
            (gauge, "value_bytes", "Size of the newest value.", []),
            (gauge, "age_seconds", "Time since the newest value was published.", []),
            (gauge, "readers", "Attached readers.", ["state"]),
            (gauge, "writer_up", "Whether a writer lives.", []),
            (gauge, "segment_bytes", "Memory of a segment.", ["segment"]),
            (counter, "replacements", "How often a data segment got new memory.", []),
            (gauge, "problems", "What is wrong with the segments.", []),
        )
        return {key: kind(f"shmsync_{key}", text, labels=["name", *more]) for kind, key, text, more in kinds}


def _info_of(name: str) -> Info | None:
    try:
        return _inspect.info(name)
    except StateNotFoundError:
        return None


def _add(families: dict[str, Any], found: Info) -> None:
    label = [found.name]
    families["writer_up"].add_metric(label, found.writer.state == "alive")
    families["problems"].add_metric(label, len(found.problems))
    if found.seq is not None:
        families["publishes"].add_metric(label, found.seq)
        families["replacements"].add_metric(label, found.replaced)
    if found.version is not None:
        families["value_bytes"].add_metric(label, found.version.size)
    if found.age is not None:
        families["age_seconds"].add_metric(label, found.age)
    if found.max_readers is not None:
        states = Counter(reader.state for reader in found.readers)
        for state in _STATES:
            families["readers"].add_metric([*label, state], states[state])
    for part, segment in zip(_PARTS, found.segments, strict=True):
        families["segment_bytes"].add_metric([*label, part], segment.memory)
