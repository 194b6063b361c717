"""Performance targets of shmsync beside its peers and of its scaling, checked with the results of the same run."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bench import settings as rows
from bench.peers import FULL_WRITE, PEERS, SHMSYNC
from bench.results import Result, by_peer, formatted
from bench.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.peers import Peer

Measured = tuple[float, str]
"""A value, and what it was computed from."""

Place = tuple[str, float | None]
"""A row, and the x in it."""

_LONGEST = "longest read, writer at full speed / the best peer"
_USED = "memory in use less 64 KiB / size of the value"
_TABLES = 64 * KIB  # state and reader table, for values of any size


class Target(NamedTuple):
    """A target: what is compared, how it is computed, and the limit; without one, it is only shown."""

    name: str
    compute: Callable[[Sequence[Result]], Measured | None]  # None if a result is missing
    limit: float | None = None
    at_least: bool = False

    def check(self, results: Sequence[Result]) -> dict[str, Any] | None:
        """Return what `--json` prints."""
        measured = self.compute(results)
        if measured is None:
            return None
        value, source = measured
        met = None if self.limit is None else value >= self.limit if self.at_least else value <= self.limit
        bound = "at_least" if self.at_least else "at_most"
        return {"target": self.name, bound: self.limit, "value": value, "met": met, "from": source}


def checked(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Check all targets for which there are results."""
    return [found for target in _TARGETS if (found := target.check(results)) is not None]


def _ratio(own: float, other: float, unit: str = "s") -> Measured:
    return own / other, f"{formatted(own, unit)} / {formatted(other, unit)}"


def _against_best(
    results: Sequence[Result],
    place: Place,
    statistic: str = "median",
    among: Callable[[Peer], bool] = lambda _: True,
    best: Callable[..., str] = min,
) -> Measured | None:
    """Return a statistic of shmsync over that of the best of some peers."""
    found = by_peer(results, *place)
    others = {peer.name: found[peer.name][statistic] for peer in PEERS[1:] if among(peer) and peer.name in found}
    if SHMSYNC.name not in found or not others:
        return None
    name = best(others, key=others.__getitem__)
    value, source = _ratio(found[SHMSYNC.name][statistic], others[name], found[SHMSYNC.name]["unit"])
    return value, f"{source} of {name}"


def _own(compute: Callable[..., Measured], statistic: str, *places: Place) -> Callable[..., Measured | None]:
    """Return a function that computes something from a statistic of shmsync in some places."""

    def computed(results: Sequence[Result]) -> Measured | None:
        found = [by_peer(results, *place).get(SHMSYNC.name) for place in places]
        return None if None in found else compute(*(one[statistic] for one in found if one))

    return computed


def _beside(place: Place, peer: str, own: Place | None = None) -> Callable[[Sequence[Result]], Measured | None]:
    """Return a function that computes the ratio of shmsync to one peer, which may have another place."""

    def computed(results: Sequence[Result]) -> Measured | None:
        found = by_peer(results, *(own or place)).get(SHMSYNC.name), by_peer(results, *place).get(peer)
        return _ratio(found[0]["median"], found[1]["median"]) if found[0] and found[1] else None

    return computed


def _tail(results: Sequence[Result]) -> Measured | None:
    found = by_peer(results, rows.SUSTAINED).get(SHMSYNC.name)
    return _ratio(found["p99"], found["median"]) if found else None


def _most_memory(results: Sequence[Result]) -> Measured | None:
    used, size = (by_peer(results, row).get(SHMSYNC.name) for row in (rows.SUSTAINED_MEMORY, rows.SUSTAINED_SIZE))
    return _ratio(used["max"], size["median"], "bytes") if used and size else None


def _microseconds(value: float) -> Measured:
    return value * 1e6, "median"


def _milliseconds(source: str, value: float) -> Measured:
    return value * 1e3, source


def _kib(size: float) -> Measured:
    return size / KIB, "max"


def _beyond_value(memory: float) -> Measured:
    return (memory - rows.LARGE) / rows.MIB, formatted(memory, "bytes")


def _space(used: float) -> Measured:
    return _ratio(used - _TABLES, rows.SPACE_SIZE, "bytes")


def _per_reader(low: float, high: float) -> Measured:
    fewest, most = _ENDS
    source = f"{formatted(low, 's')} with {fewest}, {formatted(high, 's')} with {most}"
    return (high - low) / (most - fewest) * 1e6, source


def _best(name: str, row: str, limit: float | None, *, x: float | None = None, **options: Any) -> Target:
    return Target(name, partial(_against_best, place=(row, x), **options), limit, at_least="best" in options)


def _in_turn() -> Iterator[Target]:
    for shape in rows.WORKLOADS:
        row = rows.row_of(shape, rows.UNCHANGED)
        yield _best(f"{row} / the fastest peer", row, 0.5)
        for metric, limit in ((rows.POLLED, 0.8), (rows.WRITE, 1.2)):
            row = rows.row_of(shape, metric)
            yield _best(f"{row} / the fastest crash-safe peer", row, limit, among=lambda peer: peer.crash_safe)
        if shape.endswith("map"):  # a peer that only copies leaves the index to each reader
            name = f"{row} / the fastest crash-safe peer with lookups in place"
            yield _best(name, row, None, among=lambda peer: peer.crash_safe and peer.in_place)


def _beside_a_writer() -> Iterator[Target]:
    for value in rows.PINNED:
        beside, alone, changed, paused = ((row, None) for row in rows.beside(value))
        name = f"W4 {value}: p99 of get(), writer at full speed / no writer"
        yield Target(name, _own(_ratio, "p99", beside, alone), 3)
        name = f"W4 {value}: p99 of get() that found a change, writer at full speed / pausing between versions"
        yield Target(name, _own(_ratio, "p99", changed, paused))


def _updates() -> Iterator[Target]:
    """Of a map and of an array that one reader polls."""
    limits: dict[int, tuple[float | None, float | None]] = {
        1: (None, None),
        100: (None, None),
        1_000: (0.7, 0.02),
        100_000: (0.4, None),
        1_000_000: (None, 1.3),
    }
    for count, (beside_database, beside_write) in limits.items():
        row = rows.update_of("int map", count)
        yield Target(f"{row} / LMDB", _beside((row, 1), "LMDB"), beside_database)
        yield Target(f"{row} / a full write", _beside((row, 1), FULL_WRITE.name), beside_write)
    row = rows.first_read_of("int map", 1_000)
    yield Target(f"{row} / after a full write", _beside((row, 1), FULL_WRITE.name), 1.0)
    row, write = rows.update_of("row map", 1), rows.update_of("config", 1)
    yield Target(f"{row} / write() of the config of 1 KiB", _beside((write, 1), SHMSYNC.name, (row, 1)), 3)
    yield Target(f"{row} / a full write", _beside((row, 1), FULL_WRITE.name))
    row = rows.update_of("row map", rows.ROWS)
    yield Target(f"{row} / a full write", _beside((row, 1), FULL_WRITE.name))
    yield Target(f"{rows.SUSTAINED}: p99 / median", _tail, 20)
    yield Target(f"{rows.SUSTAINED}: most memory in use / size of the value", _most_memory, 4)


def _replication() -> Iterator[Target]:
    yield Target(f"{rows.REPLICATED} / SET and GET by redis-py", _beside((rows.REPLICATED, None), "Redis"), 3)
    for row, limit in ((rows.REPLICATED_SMALL, 2), (rows.REPLICATED_UPDATE, 5)):
        yield Target(f"{row}: ms", _own(partial(_milliseconds, "median"), "median", (row, None)), limit)
    yield Target(f"{rows.UPDATE_TRAFFIC}: KiB", _own(_kib, "max", (rows.UPDATE_TRAFFIC, None)), 200)
    yield Target(f"{rows.BYSTANDER}: ms", _own(partial(_milliseconds, "max"), "max", (rows.BYSTANDER, None)), 100)
    yield Target(
        f"{rows.REPLICA_MEMORY}: less 64 MiB, in MiB", _own(_beyond_value, "max", (rows.REPLICA_MEMORY, None)), 32
    )
    one, most = rows.REPLICA_COUNTS[0], rows.REPLICA_COUNTS[-1]
    places = ((rows.REPLICATED_TO_MANY, most), (rows.REPLICATED_TO_MANY, one))
    yield Target(f"{rows.REPLICATED_TO_MANY}, {most} / {one}", _own(_ratio, "median", *places), most)


_ENDS = (rows.ATTACHED[0], rows.ATTACHED[-1])
_TARGETS = (
    *_in_turn(),
    _best(f"{rows.UNCHANGED_READS} / the fastest peer", rows.UNCHANGED_READS, 1.8, best=max),
    *_beside_a_writer(),
    Target(f"{rows.WAKE_LATENCY}: us", _own(_microseconds, "median", (rows.WAKE_LATENCY, None)), 40),
    *(
        _best(f"W7 array of {size >> 20} MiB: {_LONGEST}", rows.POLL, 1.0, x=size, statistic="max")
        for size in rows.POLL_SIZES
    ),
    *_updates(),
    *_replication(),
    *(
        Target(f"Space: {_USED}, one reader {state}", _own(_space, "median", (row, None)), 3)
        for row, state in ((rows.SPACE_HOLDING, "holds a value"), (rows.SPACE_STOPPED, "is stopped in a read"))
    ),
    Target(
        "Scaling: us that each attached reader adds to a write",
        _own(_per_reader, "median", *((rows.SCALED_WRITE, count) for count in _ENDS)),
        0.3,
    ),
    Target(
        "Scaling: open a reader and read once, beside 1,000 readers / beside one",
        _own(_ratio, "median", *((rows.SCALED_ATTACH, count) for count in reversed(_ENDS))),
        2,
    ),
    Target(
        "Scaling: one unchanged `with read()` of 64 MiB / of 64 bytes",
        _own(_ratio, "median", *((rows.SCALED_READ, rows.SCALED_SIZES[end]) for end in (-1, 0))),
        1.1,
    ),
)
