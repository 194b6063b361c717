"""What a write costs by the number of attached readers, and what both cost by the size of the value; of shmsync."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark import names
from benchmark.channels import channel
from benchmark.children import child
from benchmark.figures import Figure
from benchmark.measure import once, per_call
from benchmark.payloads import config
from benchmark.peers import SHMSYNC
from benchmark.phases import phases
from shmsync import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Child, Held
    from benchmark.peers import Peer

_PROCESSES = 2
_WRITES = 1000
_READS = 5000
_GETS = 20_000


def write_by_readers(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Time writes with 1 to 256 attached readers, round by round, each under a name of its own."""
    if SHMSYNC not in peers:
        return
    found: dict[int, list[float]] = {count: [] for count in names.ATTACHED}
    with ExitStack() as ends:
        holders = [ends.enter_context(child()) for _ in range(_PROCESSES)]
        for _ in range(phases(quick=quick).rounds):
            for count, taken in found.items():
                taken.append(_write(holders, count))
    for count, taken in found.items():
        yield Figure(names.SCALED_WRITE, SHMSYNC.name, "s", tuple(taken), count)


def _write(holders: list[Child], count: int) -> float:
    value = config()
    with channel("readers") as (writer, _):
        writer.write(value)
        for number, holder in enumerate(holders):
            holder.ask(attach_many, writer.name, len(range(number, count, len(holders))))
        per_call(lambda: writer.write(value), _WRITES // 10)
        taken = per_call(lambda: writer.write(value), _WRITES)
        for holder in holders:
            holder.ask(attach_many, "", 0)
        return taken


def by_size(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Time writes and reads of raw values of 64 bytes to 64 MiB, round by round."""
    if SHMSYNC not in peers:
        return
    found: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as ends:
        channels = {size: ends.enter_context(channel("size")) for size in names.SCALED_SIZES}
        values = {size: os.urandom(64) * (size // 64) for size in names.SCALED_SIZES}
        for number in range(phases(quick=quick).rounds + 2):
            for size, (writer, reader) in channels.items():
                taken = {
                    names.SCALED_WRITE_RAW: once(partial(writer.write_raw, values[size])),
                    names.SCALED_CHANGED: _read(reader, 1),
                    names.SCALED_READ: _read(reader, _READS),
                    names.SCALED_GET: per_call(reader.get, _GETS),
                }
                if number >= 2:  # until then segments are mapped
                    for row, figure in taken.items():
                        found.setdefault((row, size), []).append(figure)
    for (row, size), figures in found.items():
        yield Figure(row, SHMSYNC.name, "s", tuple(figures), size)


def _read(reader: Reader[Any], count: int) -> float:
    """Return what it takes to pin the value and to look at one byte of it."""

    def read() -> None:
        with reader.read() as snapshot:
            snapshot.value[0]

    return per_call(read, count)


# --------------------------------------------------------------------------------------------------------- in a child


def attach_many(held: Held, name: str, count: int) -> None:
    """Have so many readers of a name, and no others."""
    for reader in getattr(held, "readers", ()):
        reader.close()
    held.readers = [Reader[Any](name) for _ in range(count)]
    for reader in held.readers:
        reader.get()
