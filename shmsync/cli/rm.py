"""The command rm: remove a name."""

from __future__ import annotations

from typing import Annotated

import typer

from shmsync._core.layout import names_of
from shmsync._session import unlink
from shmsync.cli._output import Json, Name, fail_not_found, print_json, print_line


def rm(
    name: Name,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Remove even if a writer is active or the segments are damaged or foreign.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove a name and its segments. Open snapshots stay valid. Fails if a writer is active."""
    removed = unlink.force_unlink_name(names_of(name)) if force else unlink.unlink_name(names_of(name))
    if not removed:
        fail_not_found(name)
    if json:
        print_json({"name": name, "removed": True})
    else:
        print_line(f"{name}: removed")
