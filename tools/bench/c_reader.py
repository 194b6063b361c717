"""Measure the C reader beside bare atomic additions, and beside Python, in one run.

    python tools/bench/c_reader.py
    python tools/bench/c_reader.py --json

Needs a C compiler. Compare the ratios: absolute times depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from shmsync import ArrayMap, Reader, Writer, get_include

SOURCE = Path(__file__).with_suffix(".c")
KEYS = 1_000_000
STEP = 7919
LOOKUPS = 200_000
ROUNDS = 9
TARGETS = {
    "pinned unchanged read / two atomic additions": ("read", "additions", 1.6),
    f"look-up among {KEYS:,} int keys at random / Python": ("lookup", "python", 0.5),
}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="c_reader", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="run fewer rounds")
    options = parser.parse_args()
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        parser.error("no C compiler is installed")
    name = f"bench-c-{os.getpid()}"
    with Writer(name) as writer, Writer(f"{name}-map", codec="archive") as maps:
        try:
            writer.write({"EURUSD": 1.08})
            maps.write(ArrayMap(np.arange(KEYS) * STEP, np.arange(KEYS)))
            rounds = 3 if options.quick else ROUNDS
            found = {**measured(compiler, name, 20 * rounds), "python": python_lookup(f"{name}-map", rounds)}
        finally:
            writer.unlink()
            maps.unlink()
    rows = [
        {
            "target": target,
            "at_most": limit,
            "value": round(found[of] / found[to], 2),
            "met": found[of] <= limit * found[to],
        }
        for target, (of, to, limit) in TARGETS.items()
    ]
    if options.json:
        print(json.dumps({"ns": found, "targets": rows}))
        return 0
    print(" | ".join(f"{key} {value} ns" for key, value in found.items()))
    for row in rows:
        print(f"{row['target']}: {row['value']}, at most {row['at_most']}: {'met' if row['met'] else 'missed'}")
    return 0


def measured(compiler: str, name: str, rounds: int) -> dict[str, float]:
    """Return what the C program prints: nanoseconds of each of its calls."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = f"{folder}/c_reader"
        options = ("-O2", f"-DROUNDS={rounds}", "-I", get_include())
        subprocess.run([compiler, *options, str(SOURCE), "-o", program], check=True)
        done = subprocess.run([program, name, f"{name}-map"], check=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def python_lookup(name: str, rounds: int) -> float:
    """Return the nanoseconds of a look-up in Python."""
    rng = random.Random(1)
    keys = [rng.randrange(KEYS) * STEP for _ in range(LOOKUPS)]
    least = float("inf")
    with Reader[dict[int, int]](name) as reader:
        value = reader.get()
        for _ in range(rounds):
            started = time.perf_counter_ns()
            for key in keys:
                value[key]
            least = min(least, time.perf_counter_ns() - started)
    return round(least / LOOKUPS, 1)


if __name__ == "__main__":
    sys.exit(main())
