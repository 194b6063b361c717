"""Scaling of shmsync: a write, and one more reader, by attached readers; reads and writes by size of the value."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import settings as rows
from bench.peers.own import channel
from bench.processes import Child, State, child
from bench.results import Result, result
from bench.timing import per_call
from bench.values import config
from shmsync import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Peer
    from bench.settings import Settings

_PROCESSES = 2
_WRITES = 1000
_ATTACHES = 10
_READS = 5000
_GETS = 20_000


def write_by_readers(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Time writes and one more reader beside 1 to 1,000 attached readers, in turn, each under a new name."""
    found: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        holders = [stack.enter_context(child()) for _ in range(_PROCESSES)]
        for _ in range(plan.rounds):
            for count in rows.ATTACHED:
                for row, duration in _beside(holders, count).items():
                    found.setdefault((row, count), []).append(duration)
    for (row, count), durations in found.items():
        yield result(row, peer.name, "s", durations, count)


def _beside(holders: list[Child], count: int) -> dict[str, float]:
    value = config()
    with channel("readers", max_readers=2 * count) as (writer, _):
        writer.write(value)
        for number, holder in enumerate(holders):
            holder.call(attach_many, writer.name, len(range(number, count, len(holders))))
        per_call(lambda: writer.write(value), _WRITES // 10)
        durations = {
            rows.SCALED_WRITE: per_call(lambda: writer.write(value), _WRITES),
            rows.SCALED_ATTACH: per_call(partial(_attach, writer.name), _ATTACHES),
        }
        for holder in holders:
            holder.call(attach_many, "", 0)
        return durations


def _attach(name: str) -> None:
    with Reader[Any](name) as reader:
        reader.get()


def by_size(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Time writes and reads of raw values of 64 bytes to 64 MiB, in turn."""
    found: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        channels = {size: stack.enter_context(channel("size")) for size in rows.SCALED_SIZES}
        values = {size: os.urandom(64) * (size // 64) for size in rows.SCALED_SIZES}
        for number in range(plan.rounds + 2):
            for size, (writer, reader) in channels.items():
                durations = {
                    rows.SCALED_WRITE_RAW: per_call(partial(writer.write_raw, values[size]), 1),
                    rows.SCALED_CHANGED: per_call(partial(_read, reader), 1),
                    rows.SCALED_READ: per_call(partial(_read, reader), _READS),
                    rows.SCALED_GET: per_call(reader.get, _GETS),
                }
                for row, duration in durations.items() if number >= 2 else ():  # before that, segments are mapped
                    found.setdefault((row, size), []).append(duration)
    for (row, size), sample in found.items():
        yield result(row, peer.name, "s", sample, size)


def _read(reader: Reader[Any]) -> None:
    with reader.read() as snapshot:
        snapshot.value[0]


def attach_many(state: State, name: str, count: int) -> None:
    """In a child: attach readers, and detach those of the call before."""
    for reader in getattr(state, "readers", ()):
        reader.close()
    state.readers = [Reader[Any](name) for _ in range(count)]
    for reader in state.readers:
        reader.get()
