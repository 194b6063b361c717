"""The commands dump and restore: a name as a file."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from shmsync.cli import _dump_file
from shmsync.cli._output import Json, Name, Owner, fail, fail_not_found, in_commands, print_json, print_line, print_note
from shmsync.cli._units import number_text, size_text
from shmsync.errors import StateNotFoundError

_COMPRESSIONS = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}


def dump(
    name: Name,
    file: Annotated[
        str, typer.Argument(help="File to write, or - for stdout. .gz, .bz2 and .xz are compressed.", metavar="FILE")
    ],
    *,
    owner: Owner = None,
    json: Json = False,
) -> None:
    """Save a name with its headers to a file, for a bug report.

    The file is a tar archive of the segments as they are, even if they are damaged, and of what
    `shmsync inspect --json` prints. It contains the published value: do not send secrets. The newest version is
    complete even while a writer is active.
    """
    if file == "-" and sys.stdout.isatty():
        fail(f"a dump is not for a terminal; redirect it, or name a file: shmsync dump {name} {name}.tar.gz")
    compression = _COMPRESSIONS.get(Path(file).suffix, "")
    try:
        if file == "-":
            saved = _dump_file.save(name, sys.stdout.buffer, compression, owner)
        else:
            saved = _save(name, Path(file), compression, owner)
    except StateNotFoundError:
        fail_not_found(name)
    for problem in saved.problems:
        print_note(f"{name}: {in_commands(problem)}")
    if file == "-":
        return
    if json:
        print_json({"name": name, "file": file, "seq": saved.seq, "size": saved.size})
    else:
        what = "its segments as they are" if saved.seq is None else f"version {number_text(saved.seq)}"
        print_line(f"{name}: saved {what}, {size_text(saved.size)}, to {file}")


def _save(name: str, path: Path, compression: str, owner: str | None) -> _dump_file.Dump:
    """Write a dump to a file that appears when it is complete."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            saved = _dump_file.save(name, file, compression, owner)
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.filename == os.fspath(partial):
            error.filename = os.fspath(path)  # the one that the user knows
        raise
    return saved


def restore(
    file: Annotated[str, typer.Argument(help="File that `shmsync dump` has written.", metavar="FILE")],
    name: Annotated[
        str | None, typer.Argument(help="Name to create; by default that of the dump.", metavar="NAME")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Create a name from a file that `shmsync dump` has written.

    The segments get the same contents, headers and sequence numbers, and mode 0600. Fails if the name exists.
    """
    try:
        created = _dump_file.restore(file, name)
    except IsADirectoryError:
        fail(f"{file} is a directory, not a dump of shmsync")
    if json:
        print_json({"name": created, "restored": True})
    else:
        print_line(f"{created}: restored; `shmsync inspect {created}` shows it")
