"""The command line: thin; each command's work is done elsewhere. Needs the extra `cli`."""

from __future__ import annotations

import os
import signal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from shmsync.errors import ShmSyncError

if TYPE_CHECKING:
    from types import FrameType

FAILED = 1
INTERRUPTED = 130

app = typer.Typer(
    name="shmsync",
    help="Publish a value into shared memory; read the newest version from every process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class StartMethod(str, Enum):
    """How multiprocessing starts processes."""

    FORK = "fork"
    SPAWN = "spawn"
    FORKSERVER = "forkserver"


@app.callback()
def shmsync() -> None:
    """Have commands, even while there is only one."""


@app.command()
def demo(
    *,
    seconds: Annotated[float, typer.Option(min=0, help="How long at least, in seconds.")] = 10.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes in the pool.")] = min(4, os.cpu_count() or 1),
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Versions per second.")] = 4.0,
    start_method: Annotated[StartMethod, typer.Option(help="Of multiprocessing.")] = StartMethod.FORK,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Publish the airports of the world to a pool of readers, while readers and the writer are killed.

    Exit status 0: nothing was torn, every process that survived saw the last version, nothing is left in
    shared memory. 1: otherwise. 130: after Ctrl-C.
    """
    from shmsync.demo import report, run  # noqa: PLC0415 - not before it is asked for

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        summary = run.run(run.Options(seconds, workers, rate, start_method.value), report.Progress(console))
    except ShmSyncError as error:
        _fail(console, [str(error)])
    except KeyboardInterrupt:
        console.print("interrupted; everything is cleaned up")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        typer.echo(report.as_json(summary))
    else:
        report.show(summary, Console())
    if summary.problems:
        _fail(console, summary.problems)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(console: Console, sentences: list[str]) -> NoReturn:
    for sentence in sentences:
        console.print(f"shmsync: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED)
