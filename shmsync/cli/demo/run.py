"""Run the demo."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from shmsync.cli.demo import airports
from shmsync.cli.demo.scenario import Options, Scenario

if TYPE_CHECKING:
    from shmsync.cli.demo.report import Progress, Summary


def run(options: Options, progress: Progress) -> Summary:
    """Run the demo. Even if it fails, no process and no segment is left behind.

    Raises:
        MissingExtraError: the package airportsdata is not installed.
        DemoError: a child process failed or did not respond.
    """
    count = len(airports.initial_table()["airports"])
    progress.event(f"{count:,} airports, {options.workers} pool workers, start method {options.start_method}")
    with ExitStack() as stack:
        scenario = Scenario(options, progress, stack)
        start = time.monotonic()
        with progress:
            scenario.drive(scenario.run())
            while time.monotonic() < start + options.seconds:
                scenario.tick()
            elapsed = time.monotonic() - start
            scenario.drive(scenario.finish(), submit=False)
        scenario.summary.lookups_per_s = round(scenario.summary.lookups / elapsed, 1)
        return scenario.summary
