"""Measure shmsync against a baseline in the same run; print ratios.

    python tools/bench.py            # every row
    python tools/bench.py --quick    # a tenth of the rounds
    python tools/bench.py --json

Each row times a subject and its baseline in turn, round by round, so that a drift of the machine meets both. What to
look at is the ratio of the medians; the absolute times are this machine's.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from shmsync import Reader, Writer, __version__

if TYPE_CHECKING:
    from typing_extensions import Self

LARGE = 64 * 1024 * 1024
Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the table: both times in seconds per call."""

    name: str
    baseline_name: str
    target: float
    subject: list[float]
    baseline: list[float]

    @property
    def ratio(self) -> float:
        """Median against median."""
        return statistics.median(self.subject) / statistics.median(self.baseline)

    def as_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {
            "row": self.name,
            "baseline": self.baseline_name,
            "ratio": round(self.ratio, 3),
            "target": self.target,
            "subject_us": _spread(self.subject),
            "baseline_us": _spread(self.baseline),
        }


def _spread(times: list[float]) -> dict[str, float]:
    return {
        "min": round(min(times) * 1e6, 3),
        "median": round(statistics.median(times) * 1e6, 3),
        "max": round(max(times) * 1e6, 3),
    }


class Nothing:
    """The cheapest things that the measured calls can be compared to."""

    def method(self) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def channel(kind: str, **options: Any) -> Iterator[tuple[Writer, Reader]]:
    """Yield writer and reader of a name of its own."""
    name = f"bench-{os.getpid()}-{kind}"
    with Writer(name, grace_duration=0, **options) as writer, Reader(name) as reader:
        try:
            yield writer, reader
        finally:
            writer.unlink()


def per_call(call: Call, count: int) -> float:
    """Return seconds per call of `count` calls; the loop is part of both sides."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        call()
    return (time.perf_counter() - start) / count


def per_block(manager: Call, count: int) -> float:
    """Return seconds per `with` block on what `manager` returns."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        with manager():  # type: ignore[attr-defined]
            pass
    return (time.perf_counter() - start) / count


def per_reused_block(manager: Any, count: int) -> float:
    """Return seconds per `with` block on the manager itself."""
    calls = range(count)
    start = time.perf_counter()
    for _ in calls:
        with manager:
            pass
    return (time.perf_counter() - start) / count


def paired(name: str, baseline: str, target: float, rounds: int, subject: Call, base: Call) -> Row:
    """Take `rounds` pairs of times; both calls return seconds."""
    pairs = [(float(str(subject())), float(str(base()))) for _ in range(rounds + 1)][1:]  # the first warms up
    return Row(name, baseline, target, [pair[0] for pair in pairs], [pair[1] for pair in pairs])


def config() -> dict[str, Any]:
    """Return a configuration of 20 keys that packs to 1 KiB."""
    value: dict[str, Any] = {
        f"setting_{number:02d}": [number, number * 1.5, f"value {number}", True] for number in range(19)
    }
    value["text"] = "x" * (1024 - len(msgpack.packb({**value, "text": ""})) - 2)
    return value


def unchanged_get(rounds: int) -> Row:
    """W1: the newest value, when nothing changed."""
    with channel("get") as (writer, reader):
        writer.write(config())
        empty = Nothing().method
        return paired(
            "unchanged get()", "empty bound-method call", 3, rounds,
            lambda: per_call(reader.get, 20_000), lambda: per_call(empty, 20_000),
        )  # fmt: skip


def unchanged_read(rounds: int) -> Row:
    """Pin a raw value that has not changed."""
    with channel("read") as (writer, reader):
        writer.write_raw(bytes(1024))
        trivial = Nothing()
        return paired(
            "with read(), unchanged raw", "with on a trivial reused context manager", 11, rounds,
            lambda: per_block(reader.read, 5_000), lambda: per_reused_block(trivial, 5_000),
        )  # fmt: skip


def small_write(rounds: int) -> Row:
    """W1: a write of a 1 KiB dict with one reader attached."""
    value = config()
    with channel("write") as (writer, reader):
        writer.write(value)
        reader.get()
        return paired(
            "write, 1 KiB dict, one reader", "msgpack.packb of it", 5, rounds,
            lambda: per_call(lambda: writer.write(value), 2_000),
            lambda: per_call(lambda: msgpack.packb(value), 2_000),
        )  # fmt: skip


def large_write(rounds: int) -> Row:
    """W2: 64 MiB into a reused segment, against a plain copy into shared memory that is mapped already."""
    payload = os.urandom(1024) * (LARGE // 1024)
    target = mmap.mmap(-1, LARGE)
    view = memoryview(target)

    def copy() -> None:
        view[:] = payload

    with channel("large") as (writer, _):
        for _ in range(2):
            writer.write_raw(payload)
        return paired(
            "write_raw, 64 MiB, reused segment", "memoryview copy of it", 1.6, max(rounds // 2, 5),
            lambda: per_call(lambda: writer.write_raw(payload), 1), lambda: per_call(copy, 1),
        )  # fmt: skip


ROWS = (unchanged_get, unchanged_read, small_write, large_write)


def environment() -> dict[str, Any]:
    """Say what was measured, and on what."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "shmsync": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": cpu,
        "cores": os.cpu_count(),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def main() -> int:
    """Run all rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args()
    rows = [row(5 if options.quick else 51) for row in ROWS]
    if options.json:
        print(json.dumps({"environment": environment(), "rows": [row.as_dict() for row in rows]}, indent=1))
        return 0
    print(" | ".join(f"{key} {value}" for key, value in environment().items()))
    print(f"{'row':36}{'median':>12}{'baseline':>12}{'ratio':>8}{'target':>8}   baseline is")
    for row in rows:
        subject, base = statistics.median(row.subject) * 1e6, statistics.median(row.baseline) * 1e6
        print(f"{row.name:36}{subject:9.3f} us{base:9.3f} us{row.ratio:8.2f}{row.target:8.1f}   {row.baseline_name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
