"""What the commands that print values have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync.cli._output import fail
from shmsync.errors import EntityReadError

if TYPE_CHECKING:
    from shmsync import Snapshot

Keys = Annotated[
    list[str] | None,
    typer.Argument(help="Dotted path into the value, e.g. users.17; several are joined.", metavar="KEY"),
]


def decoded(snapshot: Snapshot[Any]) -> Any:
    """Return the value of a snapshot; exit with status 1 if it is a pickle."""
    try:
        return snapshot.value
    except EntityReadError as error:
        if "allow_pickle" in str(error):
            fail('the value was published with codec="pickle", which the command line does not decode; use --raw')
        raise
