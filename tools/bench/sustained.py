"""W8, sustained: a hundred updates a second of a map of a million keys, while readers hold versions of it.

Each reader takes the newest value at its own rate, and holds it until the next one: so the writer finds versions in use
that are up to a second old. What a reader holds must not change.
"""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bench import settings as rows
from bench.processes import call_method, clock, workload
from bench.results import Result, result
from bench.settings import START_DELAY, TIMEOUT, WARM_UP
from bench.timing import per_call, sleep_until
from bench.updates import check

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.peers import Peer
    from bench.processes import State
    from bench.settings import Settings

_SAMPLE_PERIOD = 0.05  # seconds between two looks at the memory in use
_KEYS = 10  # that a reader looks up in each value


def updates(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure the time of an update, and the memory in use."""
    with workload(peer, "int map", readers=len(rows.HOLDING)) as work:
        keys = work.writer.call(call_method, "source.some_keys", 1000)
        begin = clock() + START_DELAY
        work.writer.submit(update_often, begin, plan.sustained)
        for reader, rate in zip(work.readers, rows.HOLDING, strict=True):
            reader.submit(hold_each, begin, plan.sustained, rate, keys)
        size, used = _memory(work.address, begin + WARM_UP, begin + plan.sustained)
        durations = work.writer.result(TIMEOUT)
        for reader in work.readers:
            reader.result(TIMEOUT)
        expected = work.writer.call(call_method, "source.expected")
        if not all(reader.call(check, expected) for reader in work.readers):
            raise RuntimeError("wrong value")
    planned = int((plan.sustained - WARM_UP) * rows.SUSTAINED_RATE)
    late = "" if len(durations) >= planned else f"{len(durations)} of {planned} updates in that time"
    yield result(rows.SUSTAINED, peer.name, "s", durations, remark=late)
    yield result(rows.SUSTAINED_MEMORY, peer.name, "bytes", used)
    yield result(rows.SUSTAINED_SIZE, peer.name, "bytes", [size])


def _memory(name: str, begin: float, end: float) -> tuple[int, list[int]]:
    """Return the size of the value, and the memory that the name takes, again and again until a moment.

    Memory that was replaced counts as long as a process has it mapped or the writer keeps it to use it again.
    """
    from shmsync import info  # noqa: PLC0415 - processes of other peers start without shmsync

    sleep_until(begin)
    used = []
    while clock() < end:
        found = info(name)
        used.append(found.memory)
        time.sleep(_SAMPLE_PERIOD)
    assert found.version is not None
    return found.version.size, used


# ------------------------------------------------------------------------------------------------------ in a child


def update_often(state: State, begin: float, seconds: float) -> list[float]:
    """Update at a fixed rate; return the durations, without those of the warm-up."""
    found: list[float] = []
    write = state.writer.update
    for number in itertools.count():
        moment = begin + number / rows.SUSTAINED_RATE
        if max(moment, clock()) >= begin + seconds:
            return found
        part, _ = state.source.part(rows.SUSTAINED_COUNT)
        sleep_until(moment)
        duration = per_call(partial(write, part), 1)
        if moment >= begin + WARM_UP:
            found.append(duration)
    raise AssertionError


def hold_each(state: State, begin: float, seconds: float, rate: int, keys: list[Any]) -> None:
    """Take the newest value at a fixed rate, and hold it until the next one.

    Raises:
        RuntimeError: a value has changed while it was held.
    """
    get, look_up = state.reader.get, state.reader.look_up
    found = get()
    for number in itertools.count():
        chosen = [keys[(number * _KEYS + place) % len(keys)] for place in range(_KEYS)]
        before = [look_up(found, key).tobytes() for key in chosen]
        moment = begin + number / rate
        sleep_until(moment)
        if [look_up(found, key).tobytes() for key in chosen] != before:
            raise RuntimeError("a value has changed while it was held")
        if max(moment, clock()) >= begin + seconds:
            return
        found = get()
