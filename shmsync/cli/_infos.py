"""The infos of names, and the table cells that several commands show of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import shmsync
from shmsync.cli._output import Grid, fail_not_found
from shmsync.cli._units import number_text, since_text, size_text, span_text
from shmsync.errors import StateNotFoundError

if TYPE_CHECKING:
    from shmsync import Info, ReaderInfo


def all_infos() -> list[Info]:
    """Inspect all names on this host."""
    found = []
    for name in shmsync.names():
        with suppress(StateNotFoundError):  # removed since names() listed it
            found.append(shmsync.info(name))
    return found


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
    alive = len(states) - states.count("dead")
    return f"{alive} ({', '.join(attention)})" if attention else str(alive)


def readers_grid(info: Info) -> Grid:
    """Return a table of the readers of a name."""
    grid = Grid("SLOT>", "PID>", "STATE", "ATTACHED>", "HELD>", "OLD MEMORY>", "HOLDS")
    for reader in info.readers:
        pid = "-" if reader.pid is None else str(reader.pid)
        cells = (since_text(reader.since), _held_text(reader), size_text(reader.held_memory))
        grid.add_row(str(reader.slot), pid, reader.state, *cells, _holds_text(info, reader))
    return grid


def _held_text(reader: ReaderInfo) -> str:
    """Return the bounds on how long the oldest version has been held: "12s", "10s-12s" or ">12s"."""
    if reader.held_at_least is None:
        return "-"
    least, most = span_text(reader.held_at_least), span_text(reader.held_at_most)
    return f">{least}" if reader.held_at_most is None else most if least == most else f"{least}-{most}"


def _holds_text(info: Info, reader: ReaderInfo) -> str:
    """Return what a reader holds: snapshots, reads that have just started, retained segments."""
    held = [
        f"{count} on data_{idx}" + ("" if reader.evicted else f" (version {number_text(info.segments[2 + idx].seq)})")
        for idx, count in enumerate(reader.counts)
        if count
    ]
    if reader.announced:
        held.append(f"{reader.announced} entering")
    for retained in reader.retained:
        replaced = "" if retained.current else " (replaced)"
        held.append(f"retains data_{retained.idx} #{retained.generation}{replaced}")
    return ", ".join(held) or "-"
