"""The command doctor: checks of the host."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

import typer

from shmsync.cli._checks import Check, run_all
from shmsync.cli._output import FAILED, STYLES, Json, print_json, print_line, terminal, to_dict
from shmsync.cli._units import count_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT_AT = 20  # column of the findings
_MIN_TEXT = 20  # columns


def doctor(*, json: Json = False) -> None:
    """Check whether the host is set up correctly.

    Prints what to do about each problem, and a verdict. Creates a temporary segment of 4 KiB.

    Exits with status 1 if a check fails; warnings do not count as failures.
    """
    checks = list(run_all())
    if json:
        print_json([to_dict(check) for check in checks])
    else:
        for check in checks:
            _print_check(check)
        print_line("")
        _print_check(verdict(checks))
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(FAILED)


def verdict(checks: Sequence[Check]) -> Check:
    """Return the worst state of the checks, and what it means."""
    failed, warned = ([check.what for check in checks if check.state == state] for state in ("fail", "warn"))
    warnings = f"{count_text(len(warned), 'warning')} ({', '.join(warned)})"
    if failed:
        text = f"shmsync does not work on this host: {count_text(len(failed), 'check')} failed ({', '.join(failed)})"
        return Check("verdict", "fail", f"{text}, {warnings}" if warned else text)
    if warned:
        return Check("verdict", "warn", f"shmsync works on this host, with {warnings}")
    return Check("verdict", "ok", "the host is set up correctly")


def _print_check(check: Check) -> None:
    console = terminal()
    width = None if console is None else max(_MIN_TEXT, console.width - _TEXT_AT)
    head, style = f"{check.state:<6}{check.what:<14}", "" if check.state == "ok" else STYLES[check.state]
    for text in filter(None, (check.found, check.advice)):
        for line in [text] if width is None else wrap(text, width, break_on_hyphens=False):
            print_line(f"{head:<{_TEXT_AT}}{line}", style=style if head else "dim")
            head = ""
