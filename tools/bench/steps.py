"""The Python steps of one call in steady state: calls and bytecode instructions. The load of a machine changes neither.

A process that has done other work for a while runs each step from cold caches, so their number says more about a real
reader or writer than the time of a call in a loop.
"""

from __future__ import annotations

import gc
import math
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.peers.own import channel
from bench.values import config
from shmsync import ArrayMap
from shmsync._handles import waiting
from shmsync._shm.fork import MAX_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

_WARM_UP = 100
"""Calls before the one that counts: the msgpack codec searches the first 64 values of a writer for large bytes."""
_ELEMENTS = 1_000_000
_ITEMS = 100_000
_KEY = 4711
_RAW = bytes(1024)


class Steps(NamedTuple):
    """What one call takes: calls of Python functions, itself included, and the bytecode instructions in them."""

    calls: int
    instructions: int


def steps_of(function: Callable[[], Any]) -> Steps:
    """Return the steps of a Python function, without its own."""
    calls: Counter[CodeType] = Counter()
    instructions: Counter[CodeType] = Counter()
    gc.disable()  # it may run finalizers
    try:
        count = _count_by_monitoring if hasattr(sys, "monitoring") else _count_by_tracing
        count(function, calls, instructions)
    finally:
        gc.enable()
    for other in (function, count):
        calls.pop(other.__code__, None)
        instructions.pop(other.__code__, None)
    return Steps(calls.total(), instructions.total())


def _count_by_tracing(function: Callable[[], Any], calls: Counter[CodeType], instructions: Counter[CodeType]) -> None:
    def trace(frame: FrameType, event: str, _: object) -> Any:
        frame.f_trace_opcodes = True
        calls[frame.f_code] += event == "call"
        instructions[frame.f_code] += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(None)


def _count_by_monitoring(
    function: Callable[[], Any], calls: Counter[CodeType], instructions: Counter[CodeType]
) -> None:
    # Python 3.12 and later: tracing misses instructions of code that has run before.
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined] # not in the oldest version
    events, tool = monitoring.events, monitoring.PROFILER_ID
    monitoring.use_tool_id(tool, __name__)
    try:
        monitoring.register_callback(tool, events.PY_START, lambda code, _: calls.update((code,)))
        monitoring.register_callback(tool, events.INSTRUCTION, lambda code, _: instructions.update((code,)))
        monitoring.set_events(tool, events.PY_START | events.INSTRUCTION)
        function()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.free_tool_id(tool)


@contextmanager
def _opened(**options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a writer and a reader that never check whether the name was removed: that depends on the time."""
    with channel("steps", **options) as (writer, reader):
        writer._next_name_check = math.inf
        yield writer, reader


def _changed(writer: Any, reader: Any, value: Any, call: Callable[[], Any]) -> Steps:
    """Return the steps of a call that finds a change."""
    write = writer.write
    for _ in range(_WARM_UP if isinstance(value, dict) else 5):
        write(value)
        call()
    write(value)
    reader._checked_until = math.inf
    return steps_of(call)


def write() -> Steps:
    """Write a config of 1 KiB that one reader reads."""
    value = config()
    with _opened() as (writer, reader):
        for _ in range(_WARM_UP):
            writer.write(value)
            writer._next_name_check = math.inf
            reader.get()
        return steps_of(lambda: writer.write(value))


def unchanged_get() -> Steps:
    """Get a config that has not changed."""
    with _opened() as (writer, reader):
        writer.write(config())
        reader.get()
        reader._calls = MAX_CALLS
        writer.write(config())
        reader.get()
        return steps_of(lambda: reader.get())  # noqa: PLW0108 - the function's own steps do not count


def changed_get() -> Steps:
    """Get a config of 1 KiB that has changed."""
    with _opened() as (writer, reader):
        return _changed(writer, reader, config(), lambda: reader.get())  # noqa: PLW0108 - as above


def changed_array() -> Steps:
    """Get an array of a million doubles that has changed."""
    with _opened() as (writer, reader):
        return _changed(writer, reader, np.zeros(_ELEMENTS), lambda: reader.get())  # noqa: PLW0108 - as above


def changed_map() -> Steps:
    """Get an ArrayMap of 100,000 items that has changed, and look up one key."""
    value = ArrayMap(np.arange(_ITEMS), np.zeros((_ITEMS, 10), np.float32))
    with _opened(codec="archive") as (writer, reader):
        return _changed(writer, reader, value, lambda: reader.get()[_KEY])


def unchanged_read() -> Steps:
    """Read raw bytes that have not changed, in an empty `with` block."""

    def call() -> None:
        with reader.read():
            pass

    with _opened() as (writer, reader):
        writer.write_raw(_RAW)
        call()
        reader._checked_until = math.inf
        return steps_of(call)


def woken_wait() -> Steps:
    """Return from `wait` when its sleep is over and there is a new version."""
    with _opened() as (writer, reader):
        writer.write(config())
        reader.get()
        rounds = waiting._rounds(reader, waiting._Since(None), None, waiting._MAX_SLEEP)
        next(rounds)  # the sleep, which is left out
        writer.write(config())
        reader._checked_until = math.inf
        return steps_of(lambda: next(rounds, None))


COUNTED: dict[str, tuple[Callable[[], Steps], Steps | None]] = {
    "write, 1 KiB dict, one reader": (write, Steps(16, 360)),
    "get(), unchanged": (unchanged_get, None),
    "get() after a change, 1 KiB": (changed_get, Steps(8, 200)),
    "get() after a change, 1M doubles": (changed_array, Steps(24, 520)),
    "get() after a change and a lookup, ArrayMap of 100,000": (changed_map, Steps(36, 800)),
    "with read(), unchanged raw": (unchanged_read, Steps(6, 131)),
    "wait(), after its sleep": (woken_wait, None),
}
"""By row: the function that counts, and the targets."""


def counted(text: str) -> Iterator[dict[str, Any]]:
    """Count the rows whose name, "Steps: ...", contains a text; yield what `--json` prints of each."""
    for name, (count, target) in COUNTED.items():
        row = f"Steps: {name}"
        if text in row:
            found = count()
            yield {
                "row": row,
                **found._asdict(),
                "targets": None if target is None else target._asdict(),
                "met": None if target is None else found.calls <= target.calls and found.instructions <= target[1],
            }
