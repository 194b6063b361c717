"""Verbs that look at names: ls, inspect, readers."""

from __future__ import annotations

from contextlib import suppress

import typer

import shmsync
from shmsync.cli._output import (
    FAILED,
    Grid,
    Json,
    Name,
    complain,
    fail,
    held_text,
    holds_text,
    no_such_name,
    note,
    number_text,
    plain_info,
    plain_reader,
    say,
    say_json,
    since_text,
    size_text,
    span_text,
    time_text,
    writer_text,
)
from shmsync.errors import StateNotFoundError


def ls(*, json: Json = False) -> None:
    """List all names on this host: size, version, age, writer, readers."""
    found = all_infos()
    if json:
        say_json([plain_info(info) for info in found])
        return
    if not found:
        note("no names: nothing is published on this host")
        return
    grid = Grid("NAME", "SIZE>", "VERSION>", "AGE>", "WRITER", "READERS>", "CODEC")
    for info in found:
        size = info.version.size if info.version else None
        seq = None if info.problems else info.seq  # it may be nonsense, and wide
        cells = (size_text(size), number_text(seq), span_text(info.age), writer_text(info), _readers_text(info))
        grid.add(info.name, *cells, info.codec or "-")
    grid.show()
    _say_problems(found)


def all_infos() -> list[shmsync.Info]:
    """Look at all names."""
    found = []
    for name in shmsync.names():
        with suppress(StateNotFoundError):  # removed meanwhile
            found.append(shmsync.info(name))
    return found


def _readers_text(info: shmsync.Info) -> str:
    if info.max_readers is None:
        return "-"
    states = [reader.state for reader in info.readers]
    odd = [f"{states.count(state)} {state}" for state in ("evicted", "dead") if state in states]
    alive = len(states) - states.count("dead")
    return f"{alive} ({', '.join(odd)})" if odd else str(alive)


def _say_problems(found: list[shmsync.Info]) -> None:
    for info in found:
        for problem in info.problems if info.readable else ():  # WRITER says so
            say(f"! {info.name}: {problem}")


def inspect(name: Name, *, json: Json = False) -> None:
    """Show a name's header, its segments, and who holds what.

    Exit status 1 if something is wrong with its segments.
    """
    info = _info_of(name)
    if json:
        say_json(plain_info(info))
    else:
        _show_header(info)
        say("")
        _show_segments(info)
        if info.readers:
            say("")
            _show_readers(info)
    if info.problems:
        complain(f"{name}: {problem}" for problem in info.problems)
        raise typer.Exit(FAILED)


def _info_of(name: str) -> shmsync.Info:
    try:
        return shmsync.info(name)
    except StateNotFoundError:
        no_such_name(name)


def _show_header(info: shmsync.Info) -> None:
    version, writer = info.version, info.writer
    published = "nothing yet" if info.seq == 0 else "unknown"
    if version is not None:
        published = f"{size_text(version.size)} as {info.codec}, checksum {version.checksum:#018x}"
    who = writer.state
    if writer.pid is not None:
        who += f", process {writer.pid}, since {time_text(writer.since)}"
    rows = {
        "name": info.name,
        "version": number_text(info.seq),
        "value": published,
        "published": "unknown" if info.age is None else f"{span_text(info.age)} ago",
        "created": "unknown" if info.created is None else f"{time_text(info.created)}, {since_text(info.created)} ago",
        "writer": who,
        "readers": "unknown" if info.max_readers is None else f"{_readers_text(info)} of {info.max_readers:,} slots",
        "memory": f"{size_text(info.memory)}, replaced: {info.replaced:,}",
        "layout": "unknown" if info.layout is None else str(info.layout),
    }
    for key, text in rows.items():
        say(f"{key:<10}  {text}")


def _show_segments(info: shmsync.Info) -> None:
    grid = Grid("SEGMENT", "SIZE>", "MEMORY>", "INODE>", "GENERATION>", "VERSION>", "MODE>", "UID>")
    for segment in info.segments:
        part = segment.segment.removeprefix(f"/{info.name}_")
        if segment.size is None:
            size = "missing" if segment.generation != 0 else "none yet"
            grid.add(part, size, "-", "-", number_text(segment.generation), "-", "-", "-")
            continue
        cells = (size_text(segment.size), size_text(segment.memory), str(segment.inode))
        contents = (number_text(segment.generation), number_text(segment.seq))
        grid.add(part, *cells, *contents, f"{segment.mode:04o}", str(segment.uid))
    grid.show()


def readers(name: Name, *, json: Json = False) -> None:
    """Show who reads a name: process, state, and what each holds.

    Exit status 1 if its reader table cannot be read. States: idle; reading: inside a read; retaining: views are in use;
    evicted: inside a read for longer than the writer's grace duration; dead: killed inside a read, and not yet cleared.
    HELD: for how long it has held the oldest of what it holds, as far as the versions published since tell it.
    """
    info = _info_of(name)
    if info.max_readers is None:
        fail(*(info.problems or (f"{name}: nothing is published yet",)))
    if json:
        say_json([plain_reader(reader) for reader in info.readers])
    elif info.readers:
        _show_readers(info)
    else:
        note(f"no readers: nobody is attached to {name}")


def _show_readers(info: shmsync.Info) -> None:
    grid = Grid("SLOT>", "PID>", "STATE", "ATTACHED>", "HELD>", "HOLDS")
    for reader in info.readers:
        pid = "-" if reader.pid is None else str(reader.pid)
        times = (since_text(reader.since), held_text(reader))
        grid.add(str(reader.slot), pid, reader.state, *times, holds_text(info, reader))
    grid.show()
