"""The rows of updates in place: the cost of a change beside that of a full write, and of the same change in LMDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.peers.own import channel
from bench.settings import LARGE
from bench.timing import paired, per_loop
from bench.values import MILLION, ROW, Items, config, items, packed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.timing import Pair

_COLUMNS = 1024


def update_map(count: int, database_of: Callable[[Any], AbstractContextManager[Any]], rounds: int) -> list[Pair]:
    """Change items of a map of a million integer keys that one reader polls: beside LMDB, and beside a full write.

    Args:
        count: how many items, random ones in each round.
        database_of: returns a writer of LMDB that has published a value.
        rounds: how many rounds.
    """
    given, rng = items("int"), np.random.default_rng(count)
    part = given

    with (
        channel("updated", codec="archive") as (writer, reader),
        channel("written", codec="archive") as (full, _),
        database_of(given) as database,
    ):

        def update(keys: Any, values: Any) -> None:
            with writer.update() as draft:
                draft.update(keys, values)

        def subject() -> float:
            nonlocal part
            reader.get()
            part = Items(given.keys[rng.choice(MILLION, count, replace=False)], rng.random((count, ROW), np.float32))
            return per_loop("update(keys, values)", 1, update=update, keys=part.keys, values=part.values)

        for each in (writer, full):
            for _ in range(2):
                each.write(given.array_map())
        subject()  # it copies all, since a full write came before
        return paired(
            rounds,
            subject,
            lambda: per_loop("put(rows)", 1, put=database.write, rows=packed(part)),
            lambda: per_loop("write(map())", 1, write=full.write, map=given.array_map),
        )


def update_array(rounds: int) -> list[Pair]:
    """Change a row of an array of 64 MiB that one reader polls: beside the write of a config, and a full write."""
    array = np.zeros((LARGE // 4 // _COLUMNS, _COLUMNS), np.float32)
    rng = np.random.default_rng(0)
    with (
        channel("updated") as (writer, reader),
        channel("small") as (small, _),
        channel("written") as (full, _),
    ):

        def update(row: int) -> None:
            with writer.update() as draft:
                draft[row] = 1.0

        def subject() -> float:
            reader.get()
            return per_loop("update(row)", 1, update=update, row=int(rng.integers(len(array))))

        for each in (writer, full):
            for _ in range(2):
                each.write(array)
        subject()
        value = config()
        return paired(
            rounds,
            subject,
            lambda: per_loop("write(value)", 1, write=small.write, value=value),
            lambda: per_loop("write(value)", 1, write=full.write, value=array),
        )
