"""Measure shmsync against a baseline, and against what could be taken instead of it, in the same run; print ratios.

    python tools/bench.py                      # every row and peer
    python tools/bench.py --quick              # shorter
    python tools/bench.py --only lookup        # the rows with that in their names, e.g. W4, Memory
    python tools/bench.py --peers lmdb,redis   # only these besides shmsync; none with --peers shmsync
    python tools/bench.py --json
    python tools/bench.py --plot docs/benchmarks   # charts and tables, besides; fills in docs/benchmarks.md

The first rows take a subject and its baseline in turn, round by round, so that a drift of the machine meets both. What
to look at is the ratio of the medians; the absolute times are this machine's. Where a row claims a limit, the limit is
for the subject's median. The others show shmsync and its peers, one table for each row, and what is claimed of it. The
baselines of some rows, and most peers, need packages: pip install 'shmsync[bench]'.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark import report
from benchmark.baselines import rows
from benchmark.claims import checked
from benchmark.comparisons import figures
from benchmark.measure import sweep
from benchmark.peers import chosen, versions
from benchmark.table import environment, heading, tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmark.figures import Figure
    from benchmark.peers import Peer
    from benchmark.table import Row


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter phases")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", metavar="TEXT", default="", help="the rows whose name contains TEXT")
    parser.add_argument("--peers", metavar="NAMES", default="all", help="all, or names with commas between them")
    parser.add_argument("--plot", metavar="DIR", type=Path, help="draw charts into this directory")
    options = parser.parse_args()
    try:
        peers = chosen(options.peers)
    except LookupError as error:
        parser.error(str(error))
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install 'shmsync[bench]'")
    signal.signal(signal.SIGTERM, _terminate)
    found = rows(options.only, quick=options.quick)
    compared = figures(options.only, peers, quick=options.quick)
    try:
        document = _document(found, compared, peers) if options.json else _show(found, compared, peers)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        found.close()
        compared.close()
        sweep()
    if options.json:
        print(json.dumps(document, indent=1))
    if options.plot:
        draw = importlib.import_module("benchmark.plots").draw  # it needs matplotlib
        for path in [*draw(document, options.plot), *report.write(document, options.plot)]:
            print(path, file=sys.stderr)
    return 0


def _terminate(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # by way of an exception, so that everything is removed


def _document(found: Iterable[Row], compared: Iterable[Figure], peers: Iterable[Peer]) -> dict[str, Any]:
    """Return what --json prints."""
    measured, drawn = list(found), list(compared)
    return {
        "environment": environment() | {"peers": versions(peers)},
        "rows": [row.as_dict() for row in measured],
        "figures": [figure.as_dict() for figure in drawn],
        "claims": [claim.as_dict() for claim in checked(drawn)],
    }


def _show(found: Iterable[Row], compared: Iterable[Figure], peers: Iterable[Peer]) -> dict[str, Any]:
    """Print everything as soon as it is there; return it as for --json."""
    print(heading())
    measured: list[Row] = []
    for row in found:
        measured.append(row)
        print(row.as_text(), flush=True)
    drawn: list[Figure] = []
    for _, group in itertools.groupby(compared, key=lambda figure: figure.row):
        drawn += (together := list(group))
        for table in tables(together):
            print(table, flush=True)
    if drawn:
        print("\n* crash-safe: a process killed anywhere leaves the others able to read whole values\n")
    for claim in checked(drawn):
        print(claim.as_text())
    return _document(measured, drawn, peers)


if __name__ == "__main__":
    sys.exit(main())
