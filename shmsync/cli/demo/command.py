"""The command demo: its options; `shmsync.cli.demo.run` runs it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from shmsync.cli._options import choice, integer, number
from shmsync.cli._output import INTERRUPTED, Json, fail
from shmsync.errors import ShmSyncError, format_error

if TYPE_CHECKING:
    from types import FrameType


_START_METHODS = ("fork", "spawn", "forkserver")


def demo(
    *,
    seconds: Annotated[
        float, typer.Option("--seconds", "-s", help="Minimum duration in seconds.", parser=number(0), metavar="N")
    ] = 10.0,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            "-w",
            help="Processes in the pool.",
            parser=integer(1, 64),
            metavar="N",
            show_default="the number of CPUs, at most 4",
        ),
    ] = min(4, os.cpu_count() or 1),
    rate: Annotated[
        float, typer.Option("--rate", "-r", help="Versions per second.", parser=number(0.1, 1000), metavar="N")
    ] = 4.0,
    start_method: Annotated[
        str,
        typer.Option(
            "--start-method",
            help="Start method of multiprocessing.",
            parser=choice(*_START_METHODS),
            metavar="|".join(_START_METHODS),
        ),
    ] = "fork",
    json: Json = False,
) -> None:
    """Publish real data while processes are killed.

    Publishes the airports of the world to a pool of readers that verify every version. One reader is killed, another
    one is stopped, and the writer is killed during a write.

    Ends with a line that begins with PASS or FAIL.

    Exits with status 0 if no read was torn, every surviving process read the last version, and no segment was left
    behind; with 130 if it was interrupted; and otherwise with 1.
    """
    from shmsync.cli.demo import report, run, scenario  # noqa: PLC0415 - slow to import; other commands do not need it

    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # it writes to pipes of processes that it kills
    try:
        options = scenario.Options(seconds, workers, rate, start_method)
        summary = run.run(options, report.Progress(console))
    except ShmSyncError as error:
        fail(format_error(error))
    except KeyboardInterrupt:
        console.print("interrupted; all processes and segments have been removed")
        raise typer.Exit(INTERRUPTED) from None
    if json:
        typer.echo(report.as_json(summary))
    else:
        report.show(summary, Console())
    if summary.problems:
        fail(*summary.problems)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
