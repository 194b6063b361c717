"""The command top: a live table of all names."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from shmsync.cli._output import Grid, Json, print_json, print_line, stdout
from shmsync.cli._sampler import Sampler
from shmsync.cli._screen import Key, Screen
from shmsync.cli._units import count_text, number_text, size_text, span_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shmsync.cli._sampler import Row

_WIDE = 100  # columns from which VERSION and AGE are shown
_OTHER_LINES = 4  # summary, alerts, headings, footer
_STEPS = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -1, Key.PAGE_DOWN: 1}
_PAGES = {Key.PAGE_UP, Key.PAGE_DOWN}


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between samples.", metavar="N")] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="Exit after N samples; 0 for no limit.", metavar="N")] = 0,
    json: Json = False,
) -> None:
    """Show a live table of all names, busiest first.

    q or Ctrl-C quits; arrow and page keys scroll. If stdout is not a terminal, a table is printed for each sample.

    HOLDERS counts the readers with a read in progress, an open snapshot or a referenced view. EVICTED counts the
    readers whose read took longer than the writer's grace duration. LAG is how many versions the oldest held version is
    behind the newest; ">" marks a lower bound. REPL is how often a data segment was replaced, because a reader held it
    or the size changed.
    """
    sampler = Sampler()
    try:
        if json or not stdout().is_terminal or stdout().is_dumb_terminal or not os.isatty(0):
            _print_samples(sampler, interval, count, json=json)
        else:
            _show(sampler, interval, count)
    except KeyboardInterrupt:
        return


def _print_samples(sampler: Sampler, interval: float, count: int, *, json: bool) -> None:
    sampler.sample()
    printed = 0
    while not count or printed < count:
        time.sleep(interval)
        rows = sampler.sample()
        if json:
            print_json([row.to_dict() for row in rows])
        else:
            print_line(", ".join(filter(None, (_summary(rows), _alerts(rows)))))
            for line in _grid(rows, wide=not stdout().is_terminal or stdout().width >= _WIDE).to_lines():
                print_line(line)
            print_line("")
        printed += 1


def _show(sampler: Sampler, interval: float, count: int) -> None:
    with Screen(stdout()) as screen:
        first = shown = 0
        while True:
            rows = sampler.sample()
            deadline = time.monotonic() + interval
            while (remaining := deadline - time.monotonic()) > 0:
                width, height = screen.size()
                page = max(1, height - _OTHER_LINES)
                first = max(0, min(first, len(rows) - page))
                screen.draw(_content(rows, slice(first, first + page), width))
                keys = screen.read_keys(remaining)
                if Key.QUIT in keys:
                    return
                first += sum(_STEPS[key] * (page if key in _PAGES else 1) for key in keys)
            shown += 1
            if shown == count:
                return


def _content(rows: list[Row], shown: slice, width: int) -> RenderableType:
    lines: list[RenderableType] = [
        Text(_summary(rows), style="bold", no_wrap=True, overflow="ellipsis"),
        Text(_alerts(rows), style="yellow", no_wrap=True, overflow="ellipsis"),
        _grid(rows, wide=width >= _WIDE).to_table(width, shown) if rows else Text("nothing is published on this host"),
    ]
    footer = "q quits"
    if len(rows) > shown.stop - shown.start:
        last = min(shown.stop, len(rows))
        footer = f"{shown.start + 1}-{last} of {len(rows)}; arrow and page keys scroll, q quits"
    return Group(*lines, Text(footer, style="dim"))


def _summary(rows: list[Row]) -> str:
    rate = sum(row.rate or 0 for row in rows)
    readers = sum(row.readers for row in rows)
    memory = sum(row.info.memory for row in rows)
    counts = f"{count_text(len(rows), 'name')}, {rate:,.1f} publishes/s, {count_text(readers, 'reader')}"
    return f"{time.strftime('%H:%M:%S')}  {counts}, {size_text(memory)}"


def _alerts(rows: list[Row]) -> str:
    numbers = {
        "dead writer": sum(row.info.writer.state == "dead" for row in rows),
        "damaged name": sum(bool(row.info.problems) and row.info.readable for row in rows),
        "evicted reader": sum(row.evicted for row in rows),
    }
    return ", ".join(count_text(number, what) for what, number in numbers.items() if number)


def _grid(rows: list[Row], *, wide: bool) -> Grid:
    more = ("VERSION>", "AGE>") if wide else ()
    readers = ("READERS>", "HOLDERS>", "EVICTED>", "LAG>")
    grid = Grid("NAME", "WRITER", "PUB/S>", *more, *readers, "REPL>", "MEMORY>", cut=True)
    for row in rows:
        info = row.info
        extra = (number_text(info.seq), span_text(info.age)) if wide else ()
        state = "no access" if not info.readable else "damaged" if info.problems else info.writer.state
        rate = "-" if row.rate is None else f"{row.rate:,.1f}"
        lag = "-" if row.lag is None else f"{'' if row.lag_is_exact else '>'}{row.lag:,}"
        cells = (str(row.readers), str(row.holders), str(row.evicted), lag)
        grid.add_row(info.name, state, rate, *extra, *cells, str(info.replaced), size_text(info.memory))
    return grid
