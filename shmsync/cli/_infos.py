"""The infos of names, and the table cells that several commands show of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import shmsync
from shmsync._inspect.inspector import Inspector
from shmsync._shm.segment import segment_names
from shmsync.cli._output import STYLES, fail_not_found, print_table
from shmsync.cli._table import Cell, Column, lines_of, shorten_end
from shmsync.cli._units import number_text, since_text, size_text, span_text
from shmsync.errors import StateNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.text import Text

    from shmsync import Info, ReaderInfo

PROCESS_STYLES = {"stopped": "red", "zombie": "red", "blocked": "yellow"}


def all_infos(names: Iterable[str] | None = None) -> list[Info]:
    """Inspect names; by default all on this host. Names that do not exist any more are left out."""
    return Inspector().inspect(shmsync.names() if names is None else names)


def orphans() -> list[str]:
    """Return the names that have a reader table and a data segment but no state segment, sorted."""
    segments = set(segment_names())
    found = {segment.removesuffix("_readers") for segment in segments if segment.endswith("_readers")}
    return sorted(name for name in found if f"{name}_state" not in segments and f"{name}_data_0" in segments)


def info_or_fail(name: str) -> Info:
    """Inspect a name; exit with status 1 if it does not exist."""
    try:
        return shmsync.info(name)
    except StateNotFoundError:
        fail_not_found(name)


def writer_text(info: Info) -> str:
    """Return the state and the pid of the writer."""
    if not info.readable:
        return "no access"
    return info.writer.state if info.writer.pid is None else f"{info.writer.state} {info.writer.pid}"


def readers_text(info: Info) -> str:
    """Return the number of live readers and, in parentheses, of those that need attention; "-" if not known."""
    if not info.max_readers:
        return "-"
    states = [reader.state for reader in info.readers]
    attention = [f"{states.count(state)} {state}" for state in ("evicted", "dead") if state in states]
    if stopped := sum(reader.process is not None and reader.process.state == "stopped" for reader in info.readers):
        attention.append(f"{stopped} stopped")
    alive = len(states) - states.count("dead")
    return f"{alive} ({', '.join(attention)})" if attention else str(alive)


_READERS = (
    Column("SLOT", to_right=True),
    Column("PID", to_right=True),
    Column("PROCESS", optional=3),
    Column("STATE"),
    Column("HELD", to_right=True),
    Column("OLD MEMORY", to_right=True, optional=4),
    Column("ATTACHED", to_right=True, optional=5),
    Column("HOLDS", optional=1),
    Column("COMMAND", optional=2, shorten=shorten_end),
)


def readers_lines(info: Info, width: int | None) -> list[Text]:
    """Return a table of the readers of a name.

    Args:
        info: the name.
        width: width of the terminal in columns; None for no limit.
    """
    return lines_of(_READERS, [_reader_row(info, reader) for reader in info.readers], width)


def print_readers(info: Info) -> None:
    """Print a table of the readers of a name: all columns, and in a terminal those that it has space for."""
    print_table(_READERS, [_reader_row(info, reader) for reader in info.readers])


def _reader_row(info: Info, reader: ReaderInfo) -> list[Cell]:
    process = reader.process
    state = process.state if process else "-"
    return [
        Cell(str(reader.slot)),
        Cell("-" if reader.pid is None else str(reader.pid)),
        Cell(state, PROCESS_STYLES.get(state, "")),
        Cell(reader.state, STYLES.get(reader.state, "")),
        Cell(span_text(reader.outdated), held_style(reader.outdated)),
        Cell(size_text(reader.held_memory)),
        Cell(since_text(reader.since)),
        Cell(_holds_text(info, reader)),
        Cell(process.command if process else "-"),
    ]


def held_style(seconds: float | None) -> str:
    """Return the style of the time for which an outdated version has been held."""
    return _style(seconds, 10, 60)


def lag_style(versions: int | None) -> str:
    """Return the style of a number of versions: from 2 on, the writer cannot reuse the memory of the old one."""
    return _style(versions, 2, 100)


def _style(value: float | None, warn: float, bad: float) -> str:
    return "" if value is None or value < warn else "yellow" if value < bad else "red"


def _holds_text(info: Info, reader: ReaderInfo) -> str:
    """Return what a reader holds, with sizes: snapshots, reads that have just started, retained memory."""
    held = [
        f"pins {_held_text(info, reader, idx, replaced=reader.evicted)}" + (f" in {count} snapshots" * (count > 1))
        for idx, count in enumerate(reader.counts)
        if count
    ]
    held += [f"retains {_held_text(info, reader, each.idx, replaced=not each.current)}" for each in reader.retained]
    if reader.announced:
        held.append("is entering")
    return ", ".join(held) or "-"


def _held_text(info: Info, reader: ReaderInfo, idx: int, *, replaced: bool) -> str:
    segment = info.segments[2 + idx]
    if not replaced:
        return f"v{number_text(segment.seq)} ({size_text(segment.memory)})"
    sizes = [each.memory for each in info.held if each.segment == segment.segment and reader.pid in each.pids]
    return f"old data_{idx}" + (f" ({size_text(sum(sizes))})" if sizes else "")
