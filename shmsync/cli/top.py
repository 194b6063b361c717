"""The command top: a live table of all names."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer
from rich.text import Text

from shmsync.cli._output import Json, print_json, print_line, stdout
from shmsync.cli._sampler import Sampler
from shmsync.cli._screen import Screen
from shmsync.cli._top_view import View, plain_lines


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between samples.", metavar="N")] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="Exit after N samples; 0 for no limit.", metavar="N")] = 0,
    json: Json = False,
) -> None:
    """Show a live table of all names, busiest first.

    In a terminal: ? explains columns and keys, arrow and page keys select a name, Enter shows its details, / filters,
    letters sort, q or Ctrl-C quits. If stdout is not a terminal, a table is printed for each sample.

    WRITER, VERSION, AGE, SIZE and READERS are those of `ls`. HELD and OLD MEMORY are those of `readers`: HELD is the
    longest of all readers, OLD MEMORY counts each segment once. LAG is how many versions the oldest held version is
    behind the newest; ">" marks a lower bound. MEMORY is that of all segments, with OLD MEMORY.
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
            print_line("\n".join([*plain_lines(rows), ""]))
        printed += 1


def _show(sampler: Sampler, interval: float, count: int) -> None:
    view = View()
    with Screen(stdout()) as screen:
        shown = 0
        while not count or shown < count:
            view.update(sampler.sample())
            deadline = time.monotonic() + interval
            while (remaining := deadline - time.monotonic()) > 0:
                screen.draw(Text("\n").join(view.lines(*screen.size())))
                for key in screen.read_keys(remaining):
                    view.press(key)
                if view.is_done:
                    return
            shown += 1
