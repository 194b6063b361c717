"""Rows of the benchmark: publish a map of a million items, and look items up in it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from benchmark.channels import channel
from benchmark.data import ROW, Items, database, items, pack, packed, put, some_keys
from benchmark.measure import Sample, once, paired

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUPS = 50_000


def publish_dict(rounds: int, kind: str) -> list[Sample]:
    """Publish a dict of lists of floats, against msgpack alone, which would have to be copied yet."""
    value = items(kind).as_dict()
    with channel("dict", codec="archive") as (writer, _):
        writer.write(value)  # paired writes into the other segment before it counts
        return paired(rounds, lambda: once(lambda: writer.write(value)), lambda: once(lambda: msgpack.packb(value)))


def publish_arrays(rounds: int, kind: str) -> list[Sample]:
    """Publish a map that is given as arrays, against LMDB with items that are packed and sorted already."""
    given = items(kind)
    rows = packed(given)
    with channel("arrays", codec="archive") as (writer, _), database() as environment:
        writer.write(given.array_map())  # paired writes into the other segment, and the other pages, before it counts
        put(environment, rows)
        return paired(
            rounds,
            lambda: once(lambda: writer.write(given.array_map())),
            lambda: once(lambda: put(environment, rows)),
        )


def look_up(rounds: int, kind: str) -> list[Sample]:
    """Look up keys at random, against LMDB in one transaction: with keys as they are, and with keys packed before."""
    given = items(kind)
    with channel("lookup", codec="archive") as (writer, reader), database() as environment:
        writer.write(given.array_map())
        put(environment, packed(given))
        with environment.begin(buffers=True) as transaction:
            found = reader.get()
            _agree(given, found, transaction)
            return _look_up(rounds, given, found, transaction)


def _agree(given: Items, found: Any, transaction: Any) -> None:
    for key in some_keys(given.keys, 100):
        assert found[key].tolist() == np.frombuffer(transaction.get(pack(key)), "f4").tolist()
        assert len(found[key]) == ROW


def _look_up(rounds: int, given: Items, found: Any, transaction: Any) -> list[Sample]:
    seeds = itertools.count()
    unpacked = _int_keys if isinstance(given.keys, np.ndarray) else _str_keys
    keys: list[Any] = []

    def subject() -> float:
        keys[:] = some_keys(given.keys, LOOKUPS, next(seeds))  # other ones in each round
        return _in_map(found, keys)

    def baseline_packed() -> float:
        return _packed_keys(transaction.get, list(map(pack, keys)))

    return paired(rounds, subject, lambda: unpacked(transaction.get, keys), baseline_packed)


# The loops are written out: a call for each lookup would be a good part of what is measured.


def _in_map(found: Any, keys: list[Any]) -> float:
    start = time.perf_counter()
    for key in keys:
        found[key]
    return (time.perf_counter() - start) / len(keys)


def _int_keys(get: Callable[[bytes], Any], keys: list[int]) -> float:
    array_on = np.frombuffer
    start = time.perf_counter()
    for key in keys:
        array_on(get(key.to_bytes(8, "big")), "f4")
    return (time.perf_counter() - start) / len(keys)


def _str_keys(get: Callable[[bytes], Any], keys: list[str]) -> float:
    array_on = np.frombuffer
    start = time.perf_counter()
    for key in keys:
        array_on(get(key.encode()), "f4")
    return (time.perf_counter() - start) / len(keys)


def _packed_keys(get: Callable[[bytes], Any], keys: list[bytes]) -> float:
    array_on = np.frombuffer
    start = time.perf_counter()
    for key in keys:
        array_on(get(key), "f4")
    return (time.perf_counter() - start) / len(keys)
