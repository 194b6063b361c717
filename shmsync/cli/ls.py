"""The command ls: all names."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import shmsync
from shmsync.cli._infos import all_infos, readers_text, writer_text
from shmsync.cli._names import expand, is_pattern
from shmsync.cli._options import choice, number
from shmsync.cli._output import (
    FAILED,
    STYLES,
    Json,
    Patterns,
    fail_not_found,
    info_to_dict,
    print_errors,
    print_json,
    print_line,
    print_note,
    print_table,
    terminal,
)
from shmsync.cli._table import Cell, Column, lines_of, shorten_middle
from shmsync.cli._units import number_text, size_text, span_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from shmsync import Info


_ORDERS: dict[str, Callable[[Info], Any]] = {
    "name": lambda info: info.name,
    "size": lambda info: -(info.version.size if info.version else -1),
    "memory": lambda info: -info.memory,
    "age": lambda info: (info.age is None, info.age),
    "readers": lambda info: -len(info.readers),
}
_COLUMNS = (
    Column("NAME", shorten=shorten_middle),
    Column("SIZE", to_right=True, optional=5),
    Column("MEMORY", to_right=True, optional=2),
    Column("VERSION", to_right=True, optional=6),
    Column("AGE", to_right=True, optional=3),
    Column("WRITER", optional=1),
    Column("READERS", optional=4),
    Column("CODEC", optional=7),
)
_EMPTY = "no names: nothing is published on this host"


def ls(
    names: Patterns = None,
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the names only.")] = False,
    sort: Annotated[
        str,
        typer.Option("--sort", "-s", help="Order of the rows.", parser=choice(*_ORDERS), metavar="|".join(_ORDERS)),
    ] = "name",
    wide: Annotated[bool, typer.Option("--wide", help="Print all columns and full names, however wide.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Repeat until interrupted.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", "-i", help="Seconds between repetitions.", parser=number(0.05), metavar="N")
    ] = 2.0,
    json: Json = False,
) -> None:
    """List names: all on this host, or those given.

    MEMORY includes replaced segments that readers still hold. AGE is the time since the last publish. In a terminal,
    names are shortened in the middle, and columns are left out if it is narrow; elsewhere, or with --wide, the table is
    complete. Sizes, memory and readers are sorted in descending order.

    Exits with status 1 if a name does not exist or its segments have a problem. stderr says which.
    """

    def infos() -> list[Info]:
        return sorted(_infos(names), key=_ORDERS[sort])

    if watch and not (json or quiet) and (console := terminal()):
        _show(console, infos, interval, wide=wide)
    while True:
        found = infos()
        _print(found, json=json, quiet=quiet, wide=wide)
        sys.stdout.flush()
        print_errors(problems := _problems(found))
        if not watch:
            break
        time.sleep(interval)
        if not (json or quiet):
            print_line("")
    if problems:
        raise typer.Exit(FAILED)


def _print(infos: list[Info], *, json: bool, quiet: bool, wide: bool) -> None:
    if json:
        print_json([info_to_dict(info) for info in infos])
    elif quiet:
        sys.stdout.write("".join(f"{info.name}\n" for info in infos))
    elif infos:
        print_table(_COLUMNS, list(map(_row, infos)), wide=wide)
    else:
        print_note(_EMPTY)


def _show(console: Console, infos: Callable[[], list[Info]], interval: float, *, wide: bool) -> NoReturn:
    """Redraw the table in a terminal until interrupted, as far as it fits."""
    from rich.live import Live  # noqa: PLC0415 - for terminals only
    from rich.text import Text  # noqa: PLC0415

    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        while True:
            found = infos()
            table = lines_of(_COLUMNS, list(map(_row, found)), None if wide else console.width)
            lines = table if found else [Text(_EMPTY)]
            lines += [Text(problem, style="red") for problem in _problems(found)]
            live.update(Text("\n", no_wrap=True).join(lines), refresh=True)
            time.sleep(interval)


def _problems(infos: list[Info]) -> list[str]:
    # The column WRITER already says "no access".
    return [f"{info.name}: {problem}" for info in infos if info.readable for problem in info.problems]


def _infos(texts: list[str] | None) -> list[Info]:
    if not texts:
        return all_infos()
    names = expand(texts, shmsync.names())
    infos = all_infos(names)
    missing = set(names) - {info.name for info in infos}
    for text in texts:
        if text in missing and not is_pattern(text):
            fail_not_found(text)
    return infos


def _row(info: Info) -> list[Cell]:
    writer = writer_text(info)
    return [
        Cell(info.name, STYLES["damaged"] if info.readable and info.problems else ""),
        Cell(size_text(info.version.size if info.version else None)),
        Cell(size_text(info.memory)),
        # A damaged one may be a meaningless number of 20 digits.
        Cell(number_text(None if info.problems else info.seq)),
        Cell(span_text(info.age)),
        Cell(writer, STYLES.get(writer.partition(" ")[0], "")),
        Cell(readers_text(info)),
        Cell(info.codec or "-"),
    ]
