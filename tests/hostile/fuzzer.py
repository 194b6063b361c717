"""A coverage-guided fuzzer of the segments.

A corruption that covers a new edge, a step from one line of the library to another, is kept and mutated further.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers import PACKAGE, SHM

from hostile.test_hostile_bytes import PARTS, published, read_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

Edge = tuple["CodeType", int, int]
"""A step from one line to another."""

INTERESTING = [0, 1, 63, 64, 65, 4095, 4096, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
MAX_CHANGES = 6


class Change(NamedTuple):
    """A change to a segment.

    Attributes:
        offset: where `raw` is written, modulo the size of the segment; if negative, the segment is truncated by so
            many bytes instead.
    """

    part: str
    offset: int
    raw: bytes


@dataclass
class Fuzzer:
    """A run, and its corpus.

    Attributes:
        runs: corruptions tried.
        edges: all steps from line to line that were reached.
    """

    seed: int
    runs: int = 0
    corpus: list[list[Change]] = field(default_factory=lambda: [[]])
    edges: set[Edge] = field(default_factory=set)

    def run(self, seconds: float) -> None:
        """Corrupt and read segments for a number of seconds.

        Raises:
            AssertionError: a call did not end in a ShmSyncError or a correct value.
        """
        rng = random.Random(self.seed)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._try(mutated(rng, rng.choice(self.corpus)) if self.runs else [])

    def _try(self, changes: list[Change]) -> None:
        self.runs += 1
        edges: set[Edge] = set()
        try:
            with published() as name:
                apply(name, changes)
                with traced(edges):
                    read_all(name)
        except Exception as error:
            raise AssertionError(f"{self}, in run {self.runs}: {error!r}\nchanges: {changes}") from error
        if not edges <= self.edges:
            self.edges |= edges
            self.corpus.append(changes)

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.runs:,} runs, {len(self.corpus):,} kept, {len(self.edges):,} branches reached"


@contextmanager
def traced(edges: set[Edge]) -> Iterator[None]:
    """Collect the steps from line to line within the package."""

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            return trace_lines(frame.f_code)
        return None

    def trace_lines(code: CodeType) -> Any:
        last = 0

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                edges.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return line

        return line

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(previous)


def apply(name: str, changes: list[Change]) -> None:
    """Make the changes to the segments of a name."""
    for part, offset, raw in changes:
        path = SHM / f"{name}_{part}"
        size = path.stat().st_size
        with path.open("r+b") as file:
            if offset < 0:
                file.truncate(max(0, size + offset))
            elif size:
                file.seek(offset % size)
                file.write(raw[: size - offset % size])


def mutated(rng: random.Random, changes: list[Change]) -> list[Change]:
    """Return these changes with one added, removed or replaced."""
    result = list(changes)
    if result and rng.random() < 0.4:
        del result[rng.randrange(len(result))]
    if not result or rng.random() < 0.8:
        word = rng.choice([*INTERESTING, rng.getrandbits(64), rng.getrandbits(8)]).to_bytes(8, sys.byteorder)
        offset = rng.choice([8 * rng.randrange(24), rng.randrange(4200), -rng.randrange(1, 4200)])
        result.append(Change(rng.choice(PARTS), offset, word[: rng.choice([1, 2, 4, 8])]))
    return result[-MAX_CHANGES:]
