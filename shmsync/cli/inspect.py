"""The command inspect: one name in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shmsync.cli._infos import info_or_fail, readers_grid, readers_text
from shmsync.cli._output import FAILED, Grid, Json, Name, info_to_dict, print_errors, print_json, print_line
from shmsync.cli._units import count_text, number_text, since_text, size_text, span_text, time_text

if TYPE_CHECKING:
    from shmsync import Info


_UNKNOWN = "unknown"


def inspect(name: Name, *, json: Json = False) -> None:
    """Show the header, segments and readers of a name.

    Exits with status 1 if its segments have a problem.
    """
    info = info_or_fail(name)
    if json:
        print_json(info_to_dict(info))
    else:
        _print_header(info)
        print_line("")
        _segments_grid(info).print()
        if info.readers:
            print_line("")
            readers_grid(info).print()
    if info.problems:
        print_errors(f"{name}: {problem}" for problem in info.problems)
        raise typer.Exit(FAILED)


def _print_header(info: Info) -> None:
    unknown = _UNKNOWN
    rows = {
        "name": info.name,
        "version": number_text(info.seq),
        "value": _value_text(info),
        "published": unknown if info.age is None else f"{span_text(info.age)} ago",
        "created": unknown if info.created is None else f"{time_text(info.created)}, {since_text(info.created)} ago",
        "writer": _writer_text(info),
        "readers": _readers_text(info),
        "memory": f"{size_text(info.memory)}, {count_text(info.replaced, 'segment')} replaced{_held_text(info)}",
        "layout": unknown if info.layout is None else str(info.layout),
    }
    for key, text in rows.items():
        print_line(f"{key:<10}  {text}")


def _readers_text(info: Info) -> str:
    if info.isolated:
        return "not known: isolated mode, in which readers take no slot"
    return _UNKNOWN if info.max_readers is None else f"{readers_text(info)} of {info.max_readers:,} slots"


def _held_text(info: Info) -> str:
    text = f", {size_text(info.held_memory)} held by readers in replaced ones" if info.held else ""
    pids = ", ".join(map(str, info.unexamined))
    return text + (f", unknown what pid {pids} holds" if pids else "")


def _value_text(info: Info) -> str:
    if info.version is None:
        return "nothing published yet" if info.seq == 0 else "unknown"
    return f"{size_text(info.version.size)} as {info.codec}, checksum {info.version.checksum:#018x}"


def _writer_text(info: Info) -> str:
    writer = info.writer
    return writer.state if writer.pid is None else f"{writer.state}, pid {writer.pid}, since {time_text(writer.since)}"


def _segments_grid(info: Info) -> Grid:
    grid = Grid("SEGMENT", "SIZE>", "MEMORY>", "INODE>", "GENERATION>", "VERSION>", "MODE>", "UID>")
    for segment in info.segments:
        part = segment.segment.removeprefix(f"/{info.name}_")
        if segment.size is None:
            if info.isolated and part == "data_1":
                continue  # not used
            size = "missing" if segment.generation != 0 else "none yet"
            grid.add_row(part, size, "-", "-", number_text(segment.generation), "-", "-", "-")
            continue
        cells = (size_text(segment.size), size_text(segment.memory), str(segment.inode))
        contents = (number_text(segment.generation), number_text(segment.seq))
        grid.add_row(part, *cells, *contents, f"{segment.mode:04o}", str(segment.uid))
    return grid
