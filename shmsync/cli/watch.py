"""The command watch: a line for each new version."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync import Reader
from shmsync.cli._output import Json, Name, Owner, fail, print_json, print_line
from shmsync.cli._units import number_text, size_text

if TYPE_CHECKING:
    from shmsync import Snapshot


def watch(
    name: Name,
    *,
    count: Annotated[int, typer.Option(min=0, help="Exit after N versions; 0 for no limit.", metavar="N")] = 0,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Exit after N seconds without a new version.", metavar="N")
    ] = None,
    owner: Owner = None,
    json: Json = False,
) -> None:
    """Print a line for each new version until interrupted. The name may be created later.

    Versions published while a line is printed may be skipped; the newest one is never skipped.
    """
    printed = 0
    with Reader(name, owner=owner) as reader:
        for snapshot in reader.watch(timeout=timeout):
            _print_version(snapshot, json=json)
            printed += 1
            if printed == count:
                return
    if count or not printed:
        fail(f"{name}: no new version for {timeout:g} s; `shmsync inspect {name}` shows its writer")


def _print_version(snapshot: Snapshot[Any], *, json: bool) -> None:
    seq, _, size, checksum = snapshot.version
    now = time.time()
    if json:
        print_json({"time": now, "seq": seq, "size": size, "checksum": checksum})
    else:
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        milliseconds = int(now % 1 * 1000)
        print_line(f"{clock}.{milliseconds:03}  version {number_text(seq)}  {size_text(size)}  {checksum:#018x}")
    sys.stdout.flush()
