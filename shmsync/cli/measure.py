"""The verb that measures: bench."""

from __future__ import annotations

import os
import secrets
import time
from statistics import median
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from shmsync import Reader, Writer
from shmsync.cli._output import Grid, Json, note, plain, say_json, size_text

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 9
_LARGE = 16 << 20
_SMALL = {"bid": 1.08, "ask": 1.09, "levels": [float(number) for number in range(100)]}


class Row(NamedTuple):
    """A row of the bench.

    Attributes:
        what: was measured.
        us: the median of some rounds, in microseconds.
        least_us: the quickest round.
    """

    what: str
    us: float
    least_us: float


def bench(
    *,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="How long about.")] = 3.0,
    json: Json = False,
) -> None:
    """Measure the main calls on this host, in one process.

    A first impression; the rows that README quotes, with their baselines, come from tools/bench in the source tree.
    """
    name = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    rows = _measured(name, seconds)
    if json:
        say_json([plain(row) for row in rows])
        return
    grid = Grid("CALL", "MEDIAN>", "BEST>")
    for row in rows:
        grid.add(row.what, f"{row.us:,.2f} us", f"{row.least_us:,.2f} us")
    grid.show()
    note("one process, this host, as busy as it is; with baselines: tools/bench in the source")


def _measured(name: str, seconds: float) -> list[Row]:
    large = bytes(_LARGE)
    with Writer(name) as writer, Reader(name) as reader:
        try:
            writer.write(_SMALL)
            get = reader.get
            get()
            share = seconds / 4 / _ROUNDS
            return [
                _row("get(), unchanged", share, get),
                _row("write() of 1 KiB, one reader attached", share, lambda: writer.write(_SMALL)),
                _row("write() of 1 KiB and the get() of it", share, lambda: (writer.write(_SMALL), get())),
                _row(f"write_raw() of {size_text(_LARGE)}", share, lambda: writer.write_raw(large)),
            ]
        finally:
            writer.unlink()


def _row(what: str, share: float, call: Callable[[], object]) -> Row:
    """Measure in rounds of about `share` seconds each."""
    times = 1
    while (took := _timed(call, times)) < share / 10:
        times *= 4
    times = max(1, int(times * share / took))
    rounds = [_timed(call, times) / times * 1e6 for _ in range(_ROUNDS)]
    return Row(what, median(rounds), min(rounds))


def _timed(call: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start
