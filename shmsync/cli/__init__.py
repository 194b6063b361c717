"""The command line: one module per command. Needs the extra `cli`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from shmsync import __version__
from shmsync.cli import bench, doctor, dump, get, inspect, ls, publish, readers, rm, top, watch
from shmsync.cli._output import FAILED, USAGE, print_errors, print_line
from shmsync.cli._usage import HELP_OPTIONS, Command, CommandGroup
from shmsync.cli.demo import command as demo_command
from shmsync.errors import InvalidArgumentError, ShmSyncError, format_error

__all__ = ["app", "run"]

_EPILOG = """
publish, rm and restore change a name. bench and demo create temporary names and remove them, and doctor a temporary
segment. All other commands only read; get, watch and dump occupy a reader slot while they run.

The exit status is 0 for success; 1 for an error, a name that is not found, or an unhealthy host (stderr gives the
reason and the remedy); 2 for invalid usage; 130 after Ctrl-C; and 141 if the reader of the output closed the pipe.
"""


_COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Look at names": {"ls": ls.ls, "inspect": inspect.inspect, "readers": readers.readers, "top": top.top},
    "Read values": {"get": get.get, "watch": watch.watch},
    "Publish": {"publish": publish.publish, "put": publish.put},
    "Remove and save": {"rm": rm.rm, "prune": rm.prune, "dump": dump.dump, "restore": dump.restore},
    "This host": {"doctor": doctor.doctor, "bench": bench.bench, "demo": demo_command.demo},
}
_HELP = {"put": "The same command as publish."}


class _Group(CommandGroup):
    sections = _COMMANDS


app = typer.Typer(
    name="shmsync",
    cls=_Group,
    help="Publish a value in shared memory and read the newest version from every process.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # it would draw boxes around the help, even in a pipe
    context_settings=HELP_OPTIONS,
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:  # noqa: FBT001 - typer calls it
    if requested:
        print_line(__version__)
        raise typer.Exit


@app.callback()
def _main(
    *,
    _version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for _section in _COMMANDS.values():
    for _name, _function in _section.items():
        app.command(_name, cls=Command, help=_HELP.get(_name))(_function)


def run() -> NoReturn:
    """Run the command line and exit. Every error is reported as one line on stderr."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # exit silently in a pipe such as `| head`
    _open_closed_streams()
    try:
        try:
            app(prog_name="shmsync")
        finally:
            sys.stdout.flush()
    except InvalidArgumentError as error:
        print_errors([format_error(error)])
        sys.exit(USAGE)
    except (ShmSyncError, OSError) as error:
        is_output = not isinstance(error, ShmSyncError) and error.filename is None
        print_errors([f"cannot write the output: {format_error(error)}" if is_output else format_error(error)])
        with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device
            os.dup2(null.fileno(), sys.stdout.fileno())  # or the interpreter tries to flush stdout again at exit
        sys.exit(FAILED)
    sys.exit(0)


def _open_closed_streams() -> None:
    """Replace standard streams that the caller has closed by /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - stays open until the process exits
