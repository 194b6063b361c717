"""The Python steps of one call in steady state: calls and bytecode instructions. No load of the machine changes them."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.peers.own import channel
from bench.values import config
from shmsync import ArrayMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_WARM_UP = 200
"""Calls before the one that counts: the msgpack codec searches the first 64 values for large bytes."""
_ELEMENTS = 1_000_000
_ITEMS = 100_000
_KEY = 4711


class Steps(NamedTuple):
    """What one call takes: calls of Python functions, itself included, and the bytecode instructions in them."""

    calls: int
    instructions: int


def steps_of(function: Callable[[], Any]) -> Steps:
    """Return the steps of one call of a function, without those of the function itself."""
    calls = instructions = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal calls, instructions
        if frame.f_code is function.__code__:
            return None
        if event == "call":
            calls += 1
            frame.f_trace_opcodes = True
        instructions += event == "opcode"
        return trace

    before = sys.gettrace()
    gc.collect()
    gc.disable()  # a collection may run finalizers
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
        gc.enable()
    return Steps(calls, instructions)


@contextmanager
def _opened(**options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a writer and a reader, which never check whether the name was removed: that depends on the time."""
    with channel("steps", **options) as (writer, reader):
        yield writer, reader


def _after(change: Callable[[], Any], call: Callable[[], Any]) -> Steps:
    for _ in range(_WARM_UP):
        change()
        call()
    change()
    return steps_of(call)


@contextmanager
def _config(name: str) -> Iterator[tuple[Any, Any, Any]]:
    with channel(name) as (writer, reader):
        value = config()
        writer.write(value)
        reader.get()
        yield writer, reader, value


def write() -> Steps:
    """Write a config of 1 KiB that one reader reads."""
    with _config("steps") as (writer, reader, value):
        return _after(reader.get, lambda: writer.write(value))


def unchanged_get() -> Steps:
    """Get a config that has not changed."""
    with _config("steps") as (_, reader, _value):
        return _after(reader.get, lambda: reader.get())


def changed_get() -> Steps:
    """Get a config of 1 KiB that has changed."""
    with _config("steps") as (writer, reader, value):
        return _after(lambda: writer.write(value), lambda: reader.get())


def changed_array() -> Steps:
    """Get an array of a million doubles that has changed."""
    with channel("steps") as (writer, reader):
        value = np.zeros(_ELEMENTS)
        return _after(lambda: writer.write(value), lambda: reader.get())


def changed_map() -> Steps:
    """Get an ArrayMap of 100,000 items that has changed, and look up one key."""
    with channel("steps", codec="archive") as (writer, reader):
        value = ArrayMap(np.arange(_ITEMS), np.random.default_rng(0).random((_ITEMS, 10), np.float32))
        return _after(lambda: writer.write(value), lambda: reader.get()[_KEY])


def read() -> Steps:
    """Read raw bytes that have not changed, in an empty `with` block."""
    with channel("steps") as (writer, reader):
        writer.write_raw(bytes(1024))

        def call() -> None:
            with reader.read():
                pass

        return _after(call, call)
