"""Output of the commands: tables, JSON and errors. Colours in a terminal only, plain aligned text elsewhere."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from shmsync.cli._names import complete
from shmsync.cli._table import lines_of, plain_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from shmsync import Info, ReaderInfo
    from shmsync.cli._table import Cell, Column

FAILED = 1
USAGE = 2
FENCED = 3
INTERRUPTED = 130

Name = Annotated[
    str,
    typer.Argument(help="Name of the published value.", metavar="NAME", show_default=False, autocompletion=complete),
]
Patterns = Annotated[
    list[str] | None,
    typer.Argument(
        help="Names, or patterns such as 'web-*'.", metavar="NAME", show_default=False, autocompletion=complete
    ),
]
Owner = Annotated[
    str | None,
    typer.Option("--owner", "-o", help="Also trust segments of this user, by name or id.", metavar="USER"),
]
Json = Annotated[bool, typer.Option("--json", "-j", help="Print JSON instead of text.")]

STYLES = {
    "alive": "green",
    "dead": "red",
    "damaged": "red",
    "evicted": "yellow",
    "reading": "cyan",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


# rich is imported for terminals only: it doubles the time that `shmsync ls` takes in a pipe.
_TERMINAL_VARIABLES = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")  # of rich: a pipe may count as a terminal


def stdout() -> Console:
    """Return a console for results."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(markup=False, highlight=False, emoji=False)


def stderr() -> Console:
    """Return a console for everything that is not a result."""
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


_REMEDIES = (
    (re.compile(r"Reader\(timeout=\.\.\.\)"), "`shmsync get --timeout`"),
    (re.compile(r", or pass lock_timeout= to wait for it"), ""),
    (re.compile(r"unlink\(force=True\), `"), "`"),
    (re.compile(r"(/(\S+)_(?:state|readers|data_[01])\b.*`shmsync rm --force) NAME`"), r"\1 \2`"),
)


def in_commands(message: str) -> str:
    """Return a message with the remedies of the command line instead of Python's, and the name instead of NAME."""
    for pattern, remedy in _REMEDIES:
        message = pattern.sub(remedy, message)
    return message


def print_errors(messages: Iterable[str]) -> None:
    """Print error messages on stderr, one line each."""
    for message in messages:
        _print(f"shmsync: {in_commands(message)}", to_stderr=True, style="red")


def print_note(text: str) -> None:
    """Print a line on stderr that is neither a result nor an error."""
    _print(text, to_stderr=True)


def fail(*messages: str) -> NoReturn:
    """Print error messages and exit with status 1."""
    print_errors(messages)
    raise typer.Exit(FAILED)


def no_such_name(name: str) -> str:
    """Return the message for a name that does not exist."""
    return f"no such name: {name!r}; `shmsync ls` lists the names on this host"


def fail_not_found(name: str) -> NoReturn:
    """Report that a name does not exist and exit with status 1."""
    fail(no_such_name(name))


def terminal() -> Console | None:
    """Return a console for results if stdout is a terminal."""
    console = stdout() if may_be_terminal(sys.stdout) else None
    return console if console is not None and console.is_terminal else None


def print_line(text: str, style: str = "") -> None:
    """Print a line of the result."""
    _print(text, style=style)


def may_be_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal, or rich may take it for one."""
    return stream.isatty() or any(map(os.environ.get, _TERMINAL_VARIABLES))


def _print(text: str, *, to_stderr: bool = False, style: str = "") -> None:
    stream = sys.stderr if to_stderr else sys.stdout
    if may_be_terminal(stream):
        console = stderr() if to_stderr else stdout()
        console.print(text, style=style, soft_wrap=not console.is_terminal)  # rich wraps at words, except in a pipe
    else:
        stream.write(f"{text}\n")
        stream.flush()  # as rich does: a pipe gets the lines of `watch` at once


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, wide: bool = False) -> None:
    """Print a table: in a terminal with colours and, without `wide`, at most as wide as it; elsewhere complete."""
    console = terminal()
    if console is None:
        print_line("\n".join(plain_lines(columns, rows)))
        return
    from rich.text import Text  # noqa: PLC0415 - see above

    # All at once: a thousand calls take longer than what they print.
    console.print(Text("\n").join(lines_of(columns, rows, None if wide else console.width)), soft_wrap=True)


# --------------------------------------------------------------------------------------------------------------- JSON


def print_json(value: Any) -> None:
    """Print a result as one line of JSON."""
    typer.echo(json.dumps(value, allow_nan=False))


def info_to_dict(info: Info) -> dict[str, Any]:
    """Return an Info and its properties as a dict."""
    return {
        **to_dict(info),
        "memory": info.memory,
        "held_memory": info.held_memory,
        "replaced": info.replaced,
        "readers": [reader_to_dict(reader) for reader in info.readers],
    }


def reader_to_dict(reader: ReaderInfo) -> dict[str, Any]:
    """Return a ReaderInfo and its state as a dict."""
    return {**to_dict(reader), "state": reader.state}


def to_dict(value: Any) -> Any:
    """Return a named tuple as a dict, recursively."""
    if hasattr(value, "_asdict"):
        return {key: to_dict(item) for key, item in value._asdict().items()}
    return [to_dict(item) for item in value] if isinstance(value, tuple) else value
