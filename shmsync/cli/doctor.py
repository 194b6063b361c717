"""The verb doctor."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from shmsync.cli import _checks
from shmsync.cli._output import FAILED, STYLES, Json, plain, say_json, stdout


def doctor(*, json: Json = False) -> None:
    """Check whether shmsync works well here, and say what to do.

    Makes a small segment of its own for a moment. Exit status 1 if a check fails; warnings are no failure.
    """
    found = list(_checks.all_checks())
    if json:
        say_json([plain(check) for check in found])
    else:
        for check in found:
            _say(check)
    if any(check.state == "fail" for check in found):
        raise typer.Exit(FAILED)


def _say(check: _checks.Check) -> None:
    console = stdout()
    if not console.is_terminal:
        for line in filter(None, (f"{check.state:<6}{check.what:<14}{check.found}", check.advice)):
            console.print(line if line is not check.advice else f"{'':20}{line}", soft_wrap=True)
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    for width in (4, 12, None):
        grid.add_column(width=width)
    grid.add_row(Text(check.state, STYLES[check.state]), Text(check.what, "bold"), check.found)
    if check.advice:
        grid.add_row("", "", Text(check.advice, "dim"))
    console.print(grid)
