"""Measure shmsync against baselines and against other libraries, in one run.

    python tools/bench                      # every row and peer
    python tools/bench --quick              # fewer rounds, shorter measurements
    python tools/bench --only lookup        # rows whose name contains the text, e.g. W4, Memory
    python tools/bench --peers lmdb,redis   # compare with these only; with none: --peers shmsync
    python tools/bench --json
    python tools/bench --plot docs/benchmarks   # also draw charts, write tables and data, update docs/benchmarks.md

The first rows compare shmsync with a baseline, the others with its peers. Compare ratios: absolute times depend on the
machine. The packages: pip install '.[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if missing := [name for name in ("msgpack", "numpy", "psutil", "rich") if find_spec(name) is None]:
    sys.exit(f"not installed: {', '.join(missing)}; run: pip install '.[bench]'")
sys.path[0] = str(Path(__file__).parent.parent)  # for `bench`; the modules of this directory are not top-level ones

import rich.console
import rich.live

from bench import baselines, comparisons, report, steps, targets
from bench.names import sweep
from bench.peers import chosen, versions
from bench.results import environment

if TYPE_CHECKING:
    from bench.peers import Peer
    from bench.results import Document


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="run fewer rounds and shorter measurements")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", metavar="TEXT", default="", help="measure only rows whose name contains TEXT")
    parser.add_argument("--peers", metavar="NAMES", default="all", help="compare with these peers, separated by commas")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="draw charts and write tables into DIR")
    options = parser.parse_args()
    try:
        peers = chosen(options.peers)
    except LookupError as error:
        parser.error(str(error))
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install '.[bench]'")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception, so that all is removed
    try:
        document = _measure(peers, options)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    if options.json:
        print(json.dumps(document, indent=1))
    if options.plot:
        from bench import plots  # noqa: PLC0415 - it needs matplotlib

        for path in [*plots.draw(document, options.plot), *report.write(document, options.plot)]:
            print(path, file=sys.stderr)
    return 0


def _measure(peers: list[Peer], options: argparse.Namespace) -> Document:
    """Measure all rows; print each table as soon as it is there, unless there will be JSON."""
    console = rich.console.Console(quiet=options.json, width=None if sys.stdout.isatty() else 180)
    document: dict[str, Any] = {
        "environment": environment() | {"peers": versions(peers)},
        "rows": [],
        "steps": [],
        "results": [],
        "targets": [],
    }
    console.print(" | ".join(f"{key} {value}" for key, value in environment().items()))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ["TMPDIR"] = folder  # for sockets of peers that are killed
        try:
            with rich.live.Live(console=console) as live:
                for row in baselines.measured(options.only, quick=options.quick):
                    document["rows"].append(row)
                    live.update(report.baseline_table(document["rows"]).rich())
            console.print()
            document["steps"] = list(steps.counted(options.only))
            console.print(report.steps_table(document["steps"]).rich("Python steps of one call"))
            for results in comparisons.measured(options.only, peers, quick=options.quick):
                document["results"] += results
                table, lacking = report.row_table(results)
                console.print(table.rich(results[0]["row"]), lacking)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            sweep()
    document["targets"] = targets.checked(document["results"])
    table = report.target_table(document)
    console.print("\u2020 crash-safe: after any process was killed, the others can still read complete values")
    console.print(table.rich("Performance targets"), report.target_summary(table))
    return document


if __name__ == "__main__":
    sys.exit(main())
