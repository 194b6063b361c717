"""Explore the protocol under every interleaving, by hand.

python tools/explore.py                 what the tests explore, to the end
python tools/explore.py --deep 600      larger scenarios, each for at most so many seconds
python tools/explore.py --mutants       known-bad variants, each with its shortest failing schedule
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from model.explore import Outcome, Scenario, explore
from model.mutants import MUTANTS
from model.scenarios import deep, standard


def told(scenario: Scenario, outcome: Outcome, started: float) -> str:
    """Return in one line what a search has found."""
    extent = "all" if outcome.complete else "the first"
    finding = f"VIOLATION: {outcome.violation}" if outcome.violation else "no violation"
    return (
        f"{scenario.name}: {extent} {outcome.states:,} states, {outcome.schedules:,} schedules, "
        f"{time.monotonic() - started:.1f} s: {finding}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Explore the shipped protocol under every interleaving.")
    parser.add_argument("--deep", type=float, metavar="SECONDS", help="larger scenarios, each for at most so long")
    parser.add_argument("--mutants", action="store_true", help="the known-bad variants, each with its shortest failure")
    args = parser.parse_args()
    if args.mutants:
        return show_mutants()
    found = 0
    for scenario in deep() if args.deep else standard():
        started = time.monotonic()
        outcome = explore(scenario, seconds=args.deep or 3600.0)
        print(told(scenario, outcome, started), *outcome.story, sep="\n    ", flush=True)
        found += outcome.violation is not None
    return int(found > 0)


def show_mutants() -> int:
    missed = 0
    for mutant in MUTANTS:
        scenario, started = mutant.scenario(), time.monotonic()
        with mutant.applied():
            outcome = explore(scenario)
        print(f"\n{mutant.name}\n{told(scenario, outcome, started)}", *outcome.story, sep="\n    ", flush=True)
        missed += outcome.violation is None
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
