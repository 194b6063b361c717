"""A longer, coverage-guided run of the hostile bytes: corrupt the segments, and follow what reaches new lines.

    python tools/fuzz.py --seconds 300

A change of the segments that makes the library run a line, or take a branch between two, that no other change has
reached, is kept and changed further. Every call has to end in a ShmSyncError or a correct value.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from hostile.test_hostile_bytes import PARTS, published, read_all

import shmsync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

Change = tuple[str, int, bytes]
"""(segment, offset, bytes that are written there); an offset below 0: the segment is cut to that many bytes less."""
Edge = tuple["CodeType", int, int]

SHM = Path("/dev/shm")
PACKAGE = str(Path(shmsync.__file__).parent)
INTERESTING = [0, 1, 63, 64, 65, 4095, 4096, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
MOST_CHANGES = 6


@contextmanager
def traced(edges: set[Edge]) -> Iterator[None]:
    """Collect the steps from line to line that the package takes."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            return local_trace(frame) if frame.f_code.co_filename.startswith(PACKAGE) else None
        return None

    def local_trace(frame: FrameType) -> Any:
        last = 0
        code = frame.f_code

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                edges.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def apply(name: str, changes: list[Change]) -> None:
    """Make the changes to the segments of a name."""
    for part, at, raw in changes:
        path = SHM / f"{name}_{part}"
        size = path.stat().st_size
        with path.open("r+b") as file:
            if at < 0:
                file.truncate(max(0, size + at))
            elif size:
                file.seek(at % size)
                file.write(raw[: size - at % size])


def changed(rng: random.Random, changes: list[Change]) -> list[Change]:
    """Return changes like these, with one more, one less or one other."""
    result = list(changes)
    if result and rng.random() < 0.4:
        del result[rng.randrange(len(result))]
    if not result or rng.random() < 0.8:
        part = rng.choice(PARTS)
        word = rng.choice([*INTERESTING, rng.getrandbits(64), rng.getrandbits(8)]).to_bytes(8, sys.byteorder)
        at = rng.choice([8 * rng.randrange(24), rng.randrange(4200), -rng.randrange(1, 4200)])
        result.append((part, at, word[: rng.choice([1, 2, 4, 8])]))
    return result[-MOST_CHANGES:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    corpus: list[list[Change]] = [[]]
    seen: set[Edge] = set()
    runs = 0
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        changes = changed(rng, rng.choice(corpus)) if runs else []
        edges: set[Edge] = set()
        runs += 1
        try:
            with published() as name:
                apply(name, changes)
                with traced(edges):
                    read_all(name)
        except Exception as finding:  # noqa: BLE001 - whatever it is, it is one
            print(f"seed {args.seed}, run {runs}: {type(finding).__name__}: {finding}\nchanges: {changes}")
            return 1
        if not edges <= seen:
            seen |= edges
            corpus.append(changes)
    print(f"seed {args.seed}: {runs:,} runs, {len(corpus):,} kept, {len(seen):,} branches reached, no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
