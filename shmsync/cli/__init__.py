"""The command line: one module per command, imported when it is called. Needs the extra `cli`."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from shmsync import __version__, get_include
from shmsync.cli._output import FAILED, FENCED, USAGE, print_errors, print_line
from shmsync.cli._usage import HELP_OPTIONS, Command, CommandGroup
from shmsync.errors import FencedError, InvalidArgumentError, ShmSyncError, format_error

__all__ = ["app", "run"]

_EPILOG = """
publish, replica, rm and restore change a name. bench and demo create temporary names and remove them, and doctor a
temporary segment. All other commands only read; get, watch and dump occupy a reader slot while they run.

The exit status is 0 for success; 1 for an error, a name that is not found, or an unhealthy host (stderr gives the
reason and the remedy); 2 for invalid usage; 3 if a newer publisher of the name has taken over; 130 after Ctrl-C; and
141 if the reader of the output closed the pipe.
"""

_SECTIONS = {
    "Look at names": {"ls": "ls:ls", "inspect": "inspect:inspect", "readers": "readers:readers", "top": "top:top"},
    "Read values": {"get": "get:get", "watch": "watch:watch"},
    "Publish": {"publish": "publish:publish", "put": "publish:put"},
    "Other hosts": {"replica": "replica:replica"},
    "Remove and save": {"rm": "rm:rm", "prune": "rm:prune", "dump": "dump:dump", "restore": "dump:restore"},
    "This host": {"doctor": "doctor:doctor", "bench": "bench:bench", "demo": "demo.command:demo"},
    "Shell": {"completion": "completion:completion"},
}
"""By heading of the help text and name: the module in this package, and the function in it."""
_COMMANDS = {name: place for section in _SECTIONS.values() for name, place in section.items()}
_HELP = {"put": "The same command as publish."}

_TYPER_OPTIONS: dict[str, Any] = {
    "rich_markup_mode": None,  # it would draw boxes around the help, even in a pipe
    "pretty_exceptions_enable": False,
}


class _LazyGroup(CommandGroup):
    """Imports the module of a command when the command is called, and all of them for the help text."""

    sections = _SECTIONS

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature of the base class
        """Return the names of the commands, in the order of the help text."""
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; for an unknown name, import all, so that typer can suggest one."""
        for name in [cmd_name] if cmd_name in _COMMANDS else _COMMANDS:
            if name not in self.commands:
                self.commands[name] = _command(name)
        return super().get_command(ctx, cmd_name)


def _command(name: str) -> Any:
    module, _, function = _COMMANDS[name].partition(":")
    called = getattr(importlib.import_module(f"shmsync.cli.{module}"), function)
    single = typer.Typer(add_completion=False, **_TYPER_OPTIONS)
    single.command(name, cls=Command, help=_HELP.get(name))(called)
    return typer.main.get_command(single)


app = typer.Typer(
    name="shmsync",
    cls=_LazyGroup,
    help="Publish a value in shared memory and read the newest version from every process.",
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    add_completion=False,  # its options would make each call slower; see the command `completion`
    **_TYPER_OPTIONS,
)


def _print_include(requested: bool) -> None:  # noqa: FBT001 - typer calls it
    if requested:
        print_line(get_include())
        raise typer.Exit


def _print_version(requested: bool) -> None:  # noqa: FBT001 - typer calls it
    if requested:
        print_line(__version__)
        raise typer.Exit


@app.callback()
def _main(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    _include: Annotated[
        bool,
        typer.Option(
            "--include", help="Print the folder of the C header and exit.", callback=_print_include, is_eager=True
        ),
    ] = False,
) -> None:
    pass


def run() -> NoReturn:
    """Run the command line and exit. Every error is reported as one line on stderr."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # exit silently in a pipe such as `| head`
    _open_closed_streams()
    if "_SHMSYNC_COMPLETE" in os.environ:  # set by the script of the command `completion`
        from typer.completion import completion_init  # type: ignore[attr-defined] # noqa: PLC0415 - not needed otherwise

        completion_init()
    try:
        try:
            app(prog_name="shmsync")
        finally:
            sys.stdout.flush()
    except InvalidArgumentError as error:
        print_errors([format_error(error)])
        sys.exit(USAGE)
    except FencedError as error:
        print_errors([format_error(error)])
        sys.exit(FENCED)
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: an encoding such as ASCII is no reason to fail
