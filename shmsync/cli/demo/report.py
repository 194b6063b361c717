"""Output of the demo: progress on stderr while it runs, then a summary on stdout."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from shmsync.cli._units import count_text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from typing_extensions import Self

_LINE_EVERY = 2.0


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        versions: versions published.
        lookups, lookups_per_s: airports looked up by the pool.
        staleness_ms: longest time from the end of a publish to a pool worker's first read of it, in milliseconds.
        recovered: dead readers whose slot was reclaimed.
        replaced: writes that allocated a new segment, not counting the first two.
        takeovers: writers that took over from one that had died.
        torn: versions that did not match their digest, or changed while they were held.
        problems: guarantees that were violated, one sentence each.
    """

    versions: int = 0
    lookups: int = 0
    lookups_per_s: float = 0.0
    staleness_ms: float = 0.0
    recovered: int = 0
    replaced: int = 0
    takeovers: int = 0
    torn: int = 0
    problems: list[str] = field(default_factory=list)


class Progress:
    """Lines about events; in a terminal also a status line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._next_line = 0.0
        self._status = console.status("starting", spinner="line") if console.is_terminal else None

    def event(self, text: str) -> None:
        """Print an event."""
        self._console.print(
            f"{time.monotonic() - self._start:5.1f} s  {text}", markup=False, highlight=False, soft_wrap=True
        )

    def update(self, summary: Summary) -> None:
        """Update the status line; without a terminal, print it every two seconds."""
        line = f"{summary.versions} versions, {summary.lookups:,} lookups, {summary.torn} torn"
        now = time.monotonic()
        if self._status is not None:
            self._status.update(line)
        elif now >= self._next_line:
            self._next_line = now + _LINE_EVERY
            self.event(line)

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()


_NEXT = """\
Next: publish a value of your own, and look at it:
  echo '{"limit": 10}' | shmsync put settings -
  shmsync get settings limit; shmsync ls; shmsync rm settings
In Python: Writer("settings").write({...}) and Reader("settings").get()."""


def show(summary: Summary, console: Console) -> None:
    """Print the figures with their meaning, what to try next, and in the last line whether the run passed."""
    figures = (
        (f"{summary.versions:,}", "versions published: tables of all airports, each with a digest"),
        (f"{summary.lookups:,}", f"lookups by the pool, {summary.lookups_per_s:,.0f} per second"),
        (f"{summary.staleness_ms:,.0f} ms", "at most from a publish to a worker's first read, with decoding"),
        (f"{summary.recovered:,}", "slots of dead readers reclaimed: a killed reader blocks no one"),
        (f"{summary.replaced:,}", "segments replaced: a stopped reader kept the old memory"),
        (f"{summary.takeovers:,}", "writer takeovers: the next writer continued from a killed one"),
        (f"{summary.torn:,}", "torn reads: versions unlike their digest, or changed while held"),
    )
    width = max(len(value) for value, _ in figures)
    lines = [f"{value:>{width}}  {what}" for value, what in figures]
    for line in (*lines, "", *_NEXT.splitlines(), "", _verdict(summary)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _verdict(summary: Summary) -> str:
    if summary.problems:
        return f"FAIL: {count_text(len(summary.problems), 'guarantee')} violated: {summary.problems[0]}"
    return "PASS: no torn read, no version lost, nothing left in /dev/shm"


def as_json(summary: Summary) -> str:
    """Return the summary as one JSON object."""
    return json.dumps(asdict(summary))
