"""The command line: one module for each group of verbs; the work itself is done elsewhere. Needs the extra `cli`."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import typer

from shmsync.cli import change, demo, doctor, look, measure, top, values
from shmsync.cli.console import FAILED, complain, reason_of
from shmsync.errors import ShmSyncError

__all__ = ["app", "run"]

_EPILOG = """
put and rm change a name; demo, bench and stress make names of their own and remove them. All other verbs only look; get
and watch take a reader slot meanwhile, as every reader does. All take --json.

Exit status 0: done, all is well. 1: what was asked about is not well, not there, or could not be done; the last line on
stderr says why and what to do. 2: wrong usage. 130: interrupted.
"""

app = typer.Typer(
    name="shmsync",
    help="Publish a value into shared memory; read the newest version from every process.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # its help has boxes, in a pipe, too
    add_completion=False,
    pretty_exceptions_enable=False,
)


for each in (
    look.ls,
    look.inspect,
    look.readers,
    values.get,
    values.watch,
    top.top,
    change.put,
    change.rm,
    doctor.doctor,
    measure.bench,
    measure.stress,
    demo.demo,
):
    app.command()(each)


def run() -> NoReturn:
    """Run the command line and exit. Every error ends as one line on stderr."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly, as `| head` expects
    try:
        try:
            app(prog_name="shmsync")
        finally:
            sys.stdout.flush()
    except (ShmSyncError, OSError) as error:
        complain([reason_of(error)])
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # or what could not be written would be tried again
        sys.exit(FAILED)
    sys.exit(0)
