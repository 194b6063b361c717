"""The command doctor: checks of the host."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from shmsync.cli import _checks
from shmsync.cli._output import FAILED, STYLES, Json, print_json, stdout, to_dict


def doctor(*, json: Json = False) -> None:
    """Check whether the host is set up correctly.

    Prints what to do about each problem. Creates a temporary segment of 4 KiB.

    Exits with status 1 if a check fails; warnings do not count as failures.
    """
    checks = list(_checks.run_all())
    if json:
        print_json([to_dict(check) for check in checks])
    else:
        for check in checks:
            _print_check(check)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(FAILED)


def _print_check(check: _checks.Check) -> None:
    console = stdout()
    if not console.is_terminal:
        console.print(f"{check.state:<6}{check.what:<14}{check.found}", soft_wrap=True)
        if check.advice:
            console.print(f"{'':20}{check.advice}", soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (4, 12, None):
        table.add_column(width=width)
    table.add_row(Text(check.state, STYLES[check.state]), Text(check.what, "bold"), check.found)
    if check.advice:
        table.add_row("", "", Text(check.advice, "dim"))
    console.print(table)
