"""The command watch: a line for each new version."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

import shmsync
from shmsync import Reader
from shmsync.cli import _key_path
from shmsync.cli._options import integer, number
from shmsync.cli._output import Json as JsonOption
from shmsync.cli._output import Name, Owner, fail, print_json, print_line, terminal
from shmsync.cli._table import shorten_end
from shmsync.cli._units import number_text, size_text
from shmsync.cli._values import Keys, decoded
from shmsync.errors import StateNotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmsync import Snapshot


def watch(
    name: Name,
    keys: Keys = None,
    *,
    count: Annotated[
        int,
        typer.Option("--count", "-n", help="Exit after N versions; 0 for no limit.", parser=integer(0), metavar="N"),
    ] = 0,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout", "-t", help="Exit after N seconds without a new version.", parser=number(0), metavar="N"
        ),
    ] = None,
    owner: Owner = None,
    json: JsonOption = False,
) -> None:
    """Print a line for each new version until interrupted. The name may be created later.

    With a KEY, the line ends with that part of the value as JSON, cut to the width of a terminal.

    Versions published while a line is printed may be skipped; the newest one is never skipped.
    """
    printed = 0
    with Reader(name, owner=owner) as reader:
        for snapshot in reader.watch(timeout=timeout):
            _print_version(snapshot, keys or (), json=json)
            printed += 1
            if printed == count:
                return
    if count or not printed:
        fail(_why_nothing(name, timeout or 0))


def _why_nothing(name: str, timeout: float) -> str:
    try:
        shmsync.info(name)
    except StateNotFoundError:
        return f"no such name: {name!r}, and no writer created it within {timeout:g} s; start one"
    return f"{name}: no new version for {timeout:g} s; `shmsync inspect {name}` shows its writer"


def _print_version(snapshot: Snapshot[Any], keys: Sequence[str], *, json: bool) -> None:
    seq, _, size, checksum = snapshot.version
    now = time.time()
    if json:
        fields = {"time": now, "seq": seq, "size": size, "checksum": checksum}
        print_json({**fields, **_part(snapshot, keys)} if keys else fields)
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        milliseconds = int(now % 1 * 1000)
        last = _part_text(snapshot, keys) if keys else f"{checksum:#018x}"
        line = f"{clock}.{milliseconds:03}  version {number_text(seq)}  {size_text(size)}  {last}"
        print_line(_cut(line) if keys else line)
    sys.stdout.flush()


def _cut(line: str) -> str:
    """Cut a line to the width of the terminal."""
    console = terminal()
    return line if console is None else shorten_end(line, console.width)


def _part(snapshot: Snapshot[Any], keys: Sequence[str]) -> dict[str, Any]:
    try:
        return {"value": _key_path.to_json(_key_path.resolve(decoded(snapshot), keys))}
    except _key_path.NoSuchKeyError as error:  # the next version may have it again
        return {"error": str(error)}


def _part_text(snapshot: Snapshot[Any], keys: Sequence[str]) -> str:
    part = _part(snapshot, keys)
    return _key_path.json_text(part["value"]) if "value" in part else f"({part['error']})"
