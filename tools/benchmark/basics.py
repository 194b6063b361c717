"""Rows of the benchmark: what every call costs, and large payloads in one piece."""

from __future__ import annotations

import mmap
import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack

from benchmark.channels import channel
from benchmark.measure import Sample, once, once_each, paired, per_block, per_call, per_reused_block
from benchmark.payloads import LARGE, config
from shmsync import Reader

if TYPE_CHECKING:
    from typing_extensions import Self

_READERS = 4


class Nothing:
    """The cheapest things that the measured calls can be compared to."""

    def method(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def unchanged_get(rounds: int) -> list[Sample]:
    """Get the newest value, when nothing changed."""
    with channel("get") as (writer, reader):
        writer.write(config())
        empty = Nothing().method
        return paired(rounds, lambda: per_call(reader.get, 20_000), lambda: per_call(empty, 20_000))


def unchanged_read(rounds: int) -> list[Sample]:
    """Pin a raw value that has not changed."""
    with channel("read") as (writer, reader):
        writer.write_raw(bytes(1024))
        trivial = Nothing()
        return paired(rounds, lambda: per_block(reader.read, 5_000), lambda: per_reused_block(trivial, 5_000))


def small_write(rounds: int) -> list[Sample]:
    """Write a 1 KiB dict with one reader attached."""
    value = config()
    with channel("write") as (writer, reader):
        writer.write(value)
        reader.get()
        return paired(
            rounds,
            lambda: per_call(lambda: writer.write(value), 2_000),
            lambda: per_call(lambda: msgpack.packb(value), 2_000),
        )


def small_change(rounds: int) -> list[Sample]:
    """Get a changed 1 KiB dict with each of 4 readers, against unpacking it as often."""
    value = config()
    packed = msgpack.packb(value)
    with channel("change") as (writer, _), ExitStack() as readers:
        gets = [readers.enter_context(Reader[Any](writer.name)).get for _ in range(_READERS)]
        unpacks = [partial(msgpack.unpackb, packed)] * _READERS

        def changed() -> float:
            writer.write(value)
            return once_each(gets)

        return paired(rounds, changed, lambda: once_each(unpacks))


def large_write(rounds: int) -> list[Sample]:
    """Write 64 MiB into a reused segment, against a plain copy into shared memory that is mapped already."""
    payload = os.urandom(1024) * (LARGE // 1024)
    view = memoryview(mmap.mmap(-1, LARGE))

    def copy() -> None:
        view[:] = payload

    with channel("large") as (writer, _):
        for _ in range(2):
            writer.write_raw(payload)
        return paired(rounds, lambda: once(lambda: writer.write_raw(payload)), lambda: once(copy))


def array_write(rounds: int) -> list[Sample]:
    """Write an array of 64 MiB with the default codec, against NumPy's copy into memory that is mapped already."""
    import numpy as np  # noqa: PLC0415 - the other rows do not need it

    array = np.random.default_rng(0).random(LARGE // 4, dtype=np.float32)
    target = np.frombuffer(mmap.mmap(-1, LARGE), np.float32)
    value = {"w": array}
    with channel("array") as (writer, _):
        for _ in range(2):
            writer.write(value)
        return paired(rounds, lambda: once(lambda: writer.write(value)), lambda: once(lambda: np.copyto(target, array)))
