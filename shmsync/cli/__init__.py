"""The command line: one module for each group of verbs; the work itself is done elsewhere. Needs the extra `cli`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from shmsync import __version__
from shmsync.cli import change, doctor, look, measure, top, values
from shmsync.cli._output import FAILED, USAGE, complain, say
from shmsync.cli.demo.command import demo
from shmsync.errors import InvalidArgumentError, ShmSyncError, sentence

__all__ = ["app", "run"]

_EPILOG = """
put and rm change a name; demo and bench make names of their own and remove them. All other verbs only look; get
and watch take a reader slot meanwhile, as every reader does. All take --json.

Exit status 0: done, all is well. 1: what was asked about is not well, not there, or could not be done; the last line on
stderr says why and what to do. 2: wrong usage. 130: interrupted. 141: whoever read the output has closed the pipe.
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


def _say_version(asked: bool) -> None:  # noqa: FBT001 - typer calls it
    if asked:
        say(__version__)
        raise typer.Exit


@app.callback()
def _main(
    *,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version of shmsync.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    pass


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
    demo,
):
    app.command()(each)


def run() -> NoReturn:
    """Run the command line and exit. Every error ends as one line on stderr."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly, as `| head` expects
    _open_what_is_closed()
    try:
        try:
            app(prog_name="shmsync")
        finally:
            sys.stdout.flush()
    except InvalidArgumentError as error:
        complain([sentence(error)])
        sys.exit(USAGE)
    except (ShmSyncError, OSError) as error:
        is_output = not isinstance(error, ShmSyncError) and error.filename is None
        complain([f"cannot write the output: {sentence(error)}" if is_output else sentence(error)])
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # or what could not be written would be tried again
        sys.exit(FAILED)
    sys.exit(0)


def _open_what_is_closed() -> None:
    """Give Python its standard streams where the caller closed them; what is written there goes nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - a device, for good
