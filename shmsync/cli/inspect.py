"""The command inspect: one name in detail."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from shmsync.cli._infos import info_or_fail, print_readers, readers_text
from shmsync.cli._output import FAILED, Json, Name, info_to_dict, print_errors, print_json, print_line, print_table
from shmsync.cli._table import Cell, Column
from shmsync.cli._units import count_text, number_text, since_text, size_text, span_text, time_text

if TYPE_CHECKING:
    from shmsync import Info, SegmentInfo


_UNKNOWN = "unknown"
_MILLISECONDS = 1000  # in a second


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
        print_table(_SEGMENTS, [_segment_row(info, segment) for segment in _used_segments(info)])
        if info.readers:
            print_line("")
            print_readers(info)
    if info.problems:
        print_errors(f"{name}: {problem}" for problem in info.problems)
        raise typer.Exit(FAILED)


def _print_header(info: Info) -> None:
    unknown = _UNKNOWN
    rows = {
        "name": info.name,
        "version": number_text(info.seq),
        "value": _value_text(info),
        **_origin_rows(info),
        "published": unknown if info.age is None else f"{span_text(info.age)} ago",
        "created": unknown if info.created is None else f"{time_text(info.created)}, {since_text(info.created)} ago",
        "writer": _writer_text(info),
        "readers": _readers_text(info),
        "memory": f"{size_text(info.memory)}{_held_text(info)}",
        "replaced": unknown if info.seq is None else count_text(info.replaced, "segment"),
        "layout": unknown if info.layout is None else str(info.layout),
    }
    for key, text in rows.items():
        print_line(f"{key:<10}  {text}")


def _origin_rows(info: Info) -> dict[str, str]:
    """Return what is known of the publisher on another host; nothing if the version was written on this one."""
    origin = info.origin
    if origin is None:
        return {}
    travelled = (origin.received - origin.published) * _MILLISECONDS
    return {
        "origin": f"{origin.epoch}-{origin.seq}: version {number_text(origin.seq)} of a publisher on another host",
        "epoch": f"{origin.epoch}, begun {time_text(origin.epoch / _MILLISECONDS)}",
        "received": f"{time_text(origin.received)}, {travelled:,.1f} ms after it was sent (by two clocks)",
    }


def _readers_text(info: Info) -> str:
    if info.isolated:
        return "not known: isolated mode, in which readers take no slot"
    return _UNKNOWN if info.max_readers is None else f"{readers_text(info)} of {info.max_readers:,} slots"


def _held_text(info: Info) -> str:
    text = f", {size_text(info.held_memory)} of it in replaced segments that readers hold" if info.held else ""
    pids = ", ".join(map(str, info.unexamined))
    return text + (f", without what pid {pids} holds" if pids else "")


def _value_text(info: Info) -> str:
    if info.version is None:
        return "nothing published yet" if info.seq == 0 else "unknown"
    return f"{size_text(info.version.size)} as {info.codec}, checksum {info.version.checksum:#018x}"


def _writer_text(info: Info) -> str:
    writer = info.writer
    return writer.state if writer.pid is None else f"{writer.state}, pid {writer.pid}, since {time_text(writer.since)}"


_SEGMENTS = (
    Column("SEGMENT"),
    Column("SIZE", to_right=True),
    Column("MEMORY", to_right=True),
    Column("INODE", to_right=True, optional=3),
    Column("GENERATION", to_right=True, optional=2),
    Column("VERSION", to_right=True, optional=1),
    Column("MODE", to_right=True, optional=4),
    Column("UID", to_right=True, optional=5),
)


def _used_segments(info: Info) -> tuple[SegmentInfo, ...]:
    return info.segments[:3] if info.isolated else info.segments


def _segment_row(info: Info, segment: SegmentInfo) -> list[Cell]:
    part = segment.segment.removeprefix(f"/{info.name}_")
    if segment.size is None:
        size = "missing" if segment.generation != 0 else "none yet"
        return [Cell(text) for text in (part, size, "-", "-", number_text(segment.generation), "-", "-", "-")]
    cells = (size_text(segment.size), size_text(segment.memory), str(segment.inode))
    contents = (number_text(segment.generation), number_text(segment.seq))
    return [Cell(text) for text in (part, *cells, *contents, f"{segment.mode:04o}", str(segment.uid))]
