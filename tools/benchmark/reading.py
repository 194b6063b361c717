"""What the reading process does in the comparison with the peers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmark.measure import per_call
from benchmark.peers import PEERS
from benchmark.workloads import agrees, counter_of

if TYPE_CHECKING:
    from benchmark.children import Held
    from benchmark.peers import Reader, Shape


def attach(held: Held, name: str, shape: Shape, address: Any) -> None:
    """Have a reader."""
    held.shape = shape
    held.reader = next(peer for peer in PEERS if peer.name == name).reader(shape, address)
    held.read = _with_look_up(held.reader) if shape.endswith("map") else _without(held.reader)


def detach(held: Held) -> None:
    """Let go of it."""
    held.reader.close()


def _with_look_up(reader: Reader) -> Any:
    def read(key: Any) -> tuple[float, Any, Any]:
        start = time.perf_counter()
        value = reader.get()
        row = reader.look_up(value, key)
        return time.perf_counter() - start, value, row

    return read


def _without(reader: Reader) -> Any:
    def read(_: Any) -> tuple[float, Any, Any]:
        start = time.perf_counter()
        value = reader.get()
        return time.perf_counter() - start, value, None

    return read


def check(held: Held, expected: Any) -> bool:
    """Compare."""
    return agrees(held.shape, held.reader, expected)


def time_one(held: Held, key: Any) -> tuple[float, int]:
    """Read once; return what it took, and the version."""
    taken, value, row = held.read(key)
    return taken, counter_of(held.shape, value, row)


def time_unchanged(held: Held, keys: list[Any], times: int) -> float:
    """Return seconds per call; the loop is part of it."""
    get, look_up = held.reader.get, held.reader.look_up
    if keys[0] is None:
        return per_call(get, len(keys) * times)
    start = time.perf_counter()
    for _ in range(times):
        for key in keys:
            look_up(get(), key)
    return (time.perf_counter() - start) / (len(keys) * times)


def poll(held: Held, key: Any, last: int) -> list[float]:
    """Read without pause until a version is there; return what the calls took that found another one."""
    found = []
    read, shape = held.read, held.shape
    _, value, row = read(key)
    seen = counter_of(shape, value, row)
    while seen < last:
        # The value before goes first: a peer that lends its memory would have to find some more.
        value = row = None
        taken, value, row = read(key)
        counter = counter_of(shape, value, row)
        if counter != seen:
            found.append(taken)
            seen = counter
    return found
