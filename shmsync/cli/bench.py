"""The command bench: a quick measurement of the main calls."""

from __future__ import annotations

import os
import secrets
import time
from statistics import median
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from shmsync import Reader, Writer
from shmsync.cli._options import number
from shmsync.cli._output import Json, print_json, print_note, print_table, to_dict
from shmsync.cli._table import Cell, Column, shorten_end
from shmsync.cli._units import size_text

if TYPE_CHECKING:
    from collections.abc import Callable

_ROUNDS = 9
_LARGE = 16 << 20
_SMALL = {"bid": 1.08, "ask": 1.09, "levels": [float(number) for number in range(100)]}


class Timing(NamedTuple):
    """A row of the result.

    Attributes:
        what: the call that was measured.
        us: median of the rounds, in microseconds per call.
        least_us: fastest round, in microseconds per call.
    """

    what: str
    us: float
    least_us: float


def bench(
    *,
    seconds: Annotated[
        float,
        typer.Option("--seconds", "-s", help="Approximate duration in seconds.", parser=number(0.1, 600), metavar="N"),
    ] = 3.0,
    json: Json = False,
) -> None:
    """Measure the main calls on this host, in one process.

    tools/bench in the source tree has the full benchmarks and their baselines.
    """
    name = f"bench-{os.getpid()}-{secrets.token_hex(4)}"
    timings = _measure(name, seconds)
    if json:
        print_json([to_dict(timing) for timing in timings])
        return
    columns = (Column("CALL", shorten=shorten_end), Column("MEDIAN", to_right=True), Column("BEST", to_right=True))
    rows = [(timing.what, f"{timing.us:,.2f} us", f"{timing.least_us:,.2f} us") for timing in timings]
    print_table(columns, [list(map(Cell, row)) for row in rows])
    print_note("measured in one process under the present load; for full benchmarks see tools/bench in the source tree")


def _measure(name: str, seconds: float) -> list[Timing]:
    large = bytes(_LARGE)
    with Writer(name) as writer, Reader(name) as reader:
        try:
            writer.write(_SMALL)
            get = reader.get
            get()
            budget = seconds / 4 / _ROUNDS
            return [
                _time_call("get(), unchanged", budget, get),
                _time_call("write() of 1 KiB, one reader attached", budget, lambda: writer.write(_SMALL)),
                _time_call("write() of 1 KiB and get() of it", budget, lambda: (writer.write(_SMALL), get())),
                _time_call(f"write_raw() of {size_text(_LARGE)}", budget, lambda: writer.write_raw(large)),
            ]
        finally:
            writer.unlink()


def _time_call(what: str, budget: float, call: Callable[[], object]) -> Timing:
    """Measure a call in rounds of about `budget` seconds each."""
    calls = 1
    while (elapsed := _time_round(call, calls)) < budget / 10:
        calls *= 4
    calls = max(1, int(calls * budget / elapsed))
    rounds = [_time_round(call, calls) / calls * 1e6 for _ in range(_ROUNDS)]
    return Timing(what, median(rounds), min(rounds))


def _time_round(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start
