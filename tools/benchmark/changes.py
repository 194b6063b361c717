"""Rows of the benchmark: the first `get()` after another process has published.

What such a call costs depends on what the reader did before. A reader that has slept finds its code and data gone from
the caches, and its first steps take several times as long. So it is measured twice. A busy reader does the same ten
times on another, small name right before; an idle one comes from waiting for its pipe. LMDB is asked the same ways.

This process publishes; the reader is a child.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmark.channels import channel
from benchmark.children import Child, Held, child
from benchmark.data import database, items, opened, pack, packed, put, some_keys
from benchmark.measure import Sample
from benchmark.payloads import LARGE
from shmsync import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    import lmdb

    from shmsync import Writer

_SMALL = 1000
_BUSY = 10
_ARRAY = b"w"


class Pair(NamedTuple):
    """A large value and the small one that a busy reader reads before."""

    large: Any
    small: Any


class Keys(NamedTuple):
    """What is looked up in each of the two; None if a `get` is all."""

    large: Any
    small: Any


class Scene(NamedTuple):
    """What is measured: how to publish anew, how to change the databases, and the keys of a round."""

    publish: Callable[[], None]
    change: Callable[[Keys], None]
    keys: Callable[[int], Keys]
    packed: Callable[[Keys], Keys]


def map_after_change(rounds: int) -> list[Sample]:
    """Get a changed map of a million items and look up one of them: busy, then idle."""
    large, small = items("int"), items("int", _SMALL)
    with (
        channel("change", codec="archive") as (writer, _),
        channel("warm", codec="archive") as (other, _),
        database() as environment,
        database() as other_environment,
    ):
        environments = Pair(environment, other_environment)
        put(environment, packed(large))  # first: they may be packed already
        put(other_environment, packed(small))
        at_random = Pair(some_keys(large.keys, 10 * rounds + 10), some_keys(small.keys, 10 * rounds + 10))

        def publish() -> None:
            large.values[0, 0] += 1
            writer.write(large.array_map())
            other.write(small.array_map())

        def change(keys: Keys) -> None:
            for one, key in zip(environments, keys, strict=True):
                put(one, [(key, np.random.default_rng().random(10, np.float32).tobytes())])

        scene = Scene(
            publish,
            change,
            lambda number: Keys(at_random.large[number], at_random.small[number]),
            lambda keys: Keys(pack(keys.large), pack(keys.small)),
        )
        return _measured(rounds, Pair(writer, other), environments, scene)


def array_after_change(rounds: int) -> list[Sample]:
    """Get a changed array of 64 MiB: busy, then idle."""
    large, small = np.zeros(LARGE // 4, np.float32), np.zeros(_SMALL, np.float32)
    with (
        channel("change") as (writer, _),
        channel("warm") as (other, _),
        database() as environment,
        database() as other_environment,
    ):

        def publish() -> None:
            large[0] += 1
            writer.write({"w": large})
            other.write({"w": small})

        def change(_: Keys) -> None:
            put(environment, [(_ARRAY, large)])
            put(other_environment, [(_ARRAY, small)])

        scene = Scene(publish, change, lambda _: Keys(None, None), lambda _: Keys(_ARRAY, _ARRAY))
        return _measured(rounds, Pair(writer, other), Pair(environment, other_environment), scene)


def _measured(rounds: int, writers: Pair, environments: Pair, scene: Scene) -> list[Sample]:
    with child() as reader:
        _introduce(reader, writers, environments, scene)
        ways = {True: Sample(), False: Sample()}  # busy or not
        for number in range(rounds + 2):
            for busy, sample in ways.items():
                keys = scene.keys(2 * number + busy)
                scene.publish()
                mine = reader.ask(after_publish, keys, busy=busy)
                wanted = scene.packed(keys)
                scene.change(wanted)
                other = reader.ask(after_commit, wanted, busy=busy)
                if number >= 2:  # until then segments are mapped
                    sample.subject.append(mine)
                    sample.baseline.append(other)
        return list(ways.values())


def _introduce(reader: Child, writers: Pair, environments: Pair, scene: Scene) -> None:
    scene.publish()
    scene.change(scene.packed(scene.keys(0)))
    names: list[Writer] = list(writers)
    reader.ask(attach, *(writer.name for writer in names))
    reader.ask(attach_databases, *(environment.path() for environment in environments))


# ------------------------------------------------------------------------------------------------- in the reader child


def attach(held: Held, large: str, small: str) -> None:
    """Have a reader for each name."""
    held.readers = Pair(Reader(large), [Reader(small) for _ in range(_BUSY)])  # to each of them it has changed


def attach_databases(held: Held, large: str, small: str) -> None:
    """Open the databases."""
    held.environments = Pair(opened(large), opened(small))


def after_publish(held: Held, keys: Keys, *, busy: bool) -> float:
    """Return what the first `get` and lookup took."""
    for other in held.readers.small if busy else ():
        _time_get(other, keys.small)
    return _time_get(held.readers.large, keys.large)


def _time_get(reader: Reader[Any], key: Any) -> float:
    # Nothing of the value may be left when this returns: it would cost the writer a new segment, and the next `get` a
    # new mapping. The reader's own reference goes in its next `get`.
    start = time.perf_counter()
    value = reader.get()
    if key is not None:
        value[key]
    return time.perf_counter() - start


def after_commit(held: Held, keys: Keys, *, busy: bool) -> float:
    """Return what a new transaction and the first lookup in it took."""
    for _ in range(_BUSY if busy else 0):
        _time_transaction(held.environments.small, keys.small)
    return _time_transaction(held.environments.large, keys.large)


def _time_transaction(environment: lmdb.Environment, key: bytes) -> float:
    start = time.perf_counter()
    transaction = environment.begin(buffers=True)
    np.frombuffer(transaction.get(key, b""), "f4")
    taken = time.perf_counter() - start
    transaction.abort()
    return taken
