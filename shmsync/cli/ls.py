"""The command ls: all names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync.cli._infos import all_infos, readers_text, writer_text
from shmsync.cli._output import Grid, Json, info_to_dict, print_json, print_line, print_note
from shmsync.cli._units import number_text, size_text, span_text

if TYPE_CHECKING:
    from shmsync import Info


def ls(*, json: Json = False) -> None:
    """List all names on this host.

    Problems of their segments are listed below the table.
    """
    infos = all_infos()
    if json:
        print_json([info_to_dict(info) for info in infos])
        return
    if not infos:
        print_note("no names: nothing is published on this host")
        return
    grid = Grid("NAME", "SIZE>", "VERSION>", "AGE>", "WRITER", "READERS>", "CODEC")
    for info in infos:
        size = info.version.size if info.version else None
        seq = None if info.problems else info.seq  # a damaged one may be a meaningless number of 20 digits
        cells = (size_text(size), number_text(seq), span_text(info.age), writer_text(info), readers_text(info))
        grid.add_row(info.name, *cells, info.codec or "-")
    grid.print()
    _print_problems(infos)


def _print_problems(infos: list[Info]) -> None:
    for info in infos:
        for problem in info.problems if info.readable else ():  # the column WRITER already says "no access"
            print_line(f"! {info.name}: {problem}")
