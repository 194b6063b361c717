"""The verb top: what is published, how often, and who holds what, kept up to date."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from shmsync.cli import _sampler
from shmsync.cli._output import Grid, Json, number_text, say, say_json, size_text, span_text, stdout
from shmsync.cli._screen import Key, Screen

if TYPE_CHECKING:
    from rich.console import RenderableType

    from shmsync.cli._sampler import Row

_WIDE = 100
_LINES_AROUND = 4  # the summary, a free line, the headings, and the line about what does not fit
_STEPS = {Key.UP: -1, Key.DOWN: 1, Key.PAGE_UP: -1, Key.PAGE_DOWN: 1}
_PAGES = {Key.PAGE_UP, Key.PAGE_DOWN}


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between two looks.")] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="End after so many looks; 0: never.")] = 0,
    json: Json = False,
) -> None:
    """Show a live table of all names, the busiest first; q or Ctrl-C ends it.

    Arrows and page keys move. Without a terminal it prints a table for each look.

    LAG is how many versions a reader is behind that is inside a read or keeps memory, at worst; with ">", at least.
    REPL is how often a data segment got new memory because a reader held it or the size changed.
    """
    rating = _sampler.Rating()
    try:
        if json or not stdout().is_terminal or stdout().is_dumb_terminal or not os.isatty(0):
            _print_looks(rating, interval, count, json=json)
        else:
            _show(rating, interval, count)
    except KeyboardInterrupt:
        return


def _print_looks(rating: _sampler.Rating, interval: float, count: int, *, json: bool) -> None:
    rating.look()
    done = 0
    while not count or done < count:
        time.sleep(interval)
        rows = rating.look()
        if json:
            say_json([row.as_json() for row in rows])
        else:
            say(_summary(rows))
            for line in _grid(rows, wide=not stdout().is_terminal or stdout().width >= _WIDE).as_lines():
                say(line)
            say("")
        done += 1


def _show(rating: _sampler.Rating, interval: float, count: int) -> None:
    with Screen(stdout()) as screen:
        first = done = 0
        while True:
            rows = rating.look()
            until = time.monotonic() + interval
            while (left := until - time.monotonic()) > 0:
                width, height = screen.size()
                page = max(1, height - _LINES_AROUND)
                first = max(0, min(first, len(rows) - page))
                screen.draw(_picture(rows, slice(first, first + page), width))
                keys = screen.keys_within(left)
                if Key.QUIT in keys:
                    return
                first += sum(_STEPS[key] * (page if key in _PAGES else 1) for key in keys)
            done += 1
            if done == count:
                return


def _picture(rows: list[Row], shown: slice, width: int) -> RenderableType:
    lines: list[RenderableType] = [
        Text(f"{_summary(rows)}  (q ends)", style="bold", no_wrap=True, overflow="ellipsis"),
        Text(""),
        _grid(rows, wide=width >= _WIDE).as_table(width, shown) if rows else Text("nothing is published on this host"),
    ]
    if len(rows) > shown.stop - shown.start:
        last = min(shown.stop, len(rows))
        lines.append(Text(f"{shown.start + 1}-{last} of {len(rows)}; arrows and page keys move", style="dim"))
    return Group(*lines)


def _summary(rows: list[Row]) -> str:
    rate = sum(row.rate or 0 for row in rows)
    readers = sum(row.readers for row in rows)
    memory = sum(row.info.memory for row in rows)
    clock = time.strftime("%H:%M:%S")
    troubles = {
        "writer dead": sum(row.info.writer.state == "dead" for row in rows),
        "damaged": sum(bool(row.info.problems) and row.info.readable for row in rows),
        "evicted": sum(row.evicted for row in rows),
    }
    odd = "".join(f", {number} {what}" for what, number in troubles.items() if number)
    counts = f"{_counted(len(rows), 'name')}, {rate:,.1f} publishes/s, {_counted(readers, 'reader')}"
    return f"{clock}  {counts}, {size_text(memory)}{odd}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _grid(rows: list[Row], *, wide: bool) -> Grid:
    more = ("VERSION>", "AGE>") if wide else ()
    grid = Grid("NAME", "WRITER", "PUB/S>", *more, "READERS>", "HELD>", "EVICT>", "LAG>", "REPL>", "MEMORY>", cut=True)
    for row in rows:
        info = row.info
        extra = (number_text(info.seq), span_text(info.age)) if wide else ()
        state = "no access" if not info.readable else "damaged" if info.problems else info.writer.state
        rate = "-" if row.rate is None else f"{row.rate:,.1f}"
        lag = "-" if row.lag is None else f"{'' if row.lag_is_exact else '>'}{row.lag:,}"
        held = (str(row.readers), str(row.holders), str(row.evicted), lag)
        grid.add(info.name, state, rate, *extra, *held, str(info.replaced), size_text(info.memory))
    return grid
