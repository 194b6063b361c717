"""The verb demo: thin; the story is told in `shmsync.cli.demo`."""

from __future__ import annotations

import os
import signal
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shmsync.cli._output import INTERRUPTED, Json, fail
from shmsync.errors import ShmSyncError, format_error

if TYPE_CHECKING:
    from types import FrameType


class StartMethod(str, Enum):
    """How multiprocessing starts processes."""

    FORK = "fork"
    SPAWN = "spawn"
    FORKSERVER = "forkserver"


def demo(
    *,
    seconds: Annotated[float, typer.Option(min=0, help="How long at least, in seconds.")] = 10.0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes in the pool.")] = min(4, os.cpu_count() or 1),
    rate: Annotated[float, typer.Option(min=0.1, max=1000, help="Versions per second.")] = 4.0,
    start_method: Annotated[StartMethod, typer.Option(help="Of multiprocessing.")] = StartMethod.FORK,
    json: Json = False,
) -> None:
    """Show it: real data, killed readers, a killed writer.

    Publishes the airports of the world to a pool of readers, while readers and the writer are killed.

    Exit status 0: nothing was torn, every process that survived saw the last version, nothing is left in
    shared memory. 1: otherwise. 130: after Ctrl-C.
    """
    from shmsync.cli.demo import report, run  # noqa: PLC0415 - not before it is asked for

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # its pipes lead to processes that it kills
    try:
        summary = run.run(run.Options(seconds, workers, rate, start_method.value), report.Progress(console))
    except ShmSyncError as error:
        fail(format_error(error))
    except KeyboardInterrupt:
        console.print("interrupted; everything is cleaned up")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        typer.echo(report.as_json(summary))
    else:
        report.show(summary, Console())
    if summary.problems:
        fail(*summary.problems)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
