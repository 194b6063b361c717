"""The processes of a run and their messages, seen from the harness."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication_soak.history import History
from replication_soak.processes import run_publisher, run_reader, run_replica
from replication_soak.report import Report
from replication_soak.server import Server
from replication_soak.settings import STORM, Settings
from replication_soak.values import Identity
from shmsync import unlink
from stress.processes import ChildProcess
from stress.system import SHM, wait_for_descendants

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from replication_soak.history import Place
    from stress.processes import Stoppable

SOURCES = 2
"""How many publishers there are: at most one of them for long."""
_TICK = 0.005
_PROGRESS_INTERVAL = 1.0
_BEGINNING = (0, 0)
_COUNTS = ("writes", "updates", "incarnations", "reads", "fenced")
_FINDINGS = ("torn", "backward")


class Crew:
    """The server, the publishers, the replicas and their readers.

    Args:
        options: of the command.

    Attributes:
        report: what the run did and found so far.
        rng: the random choices of the run.
        settings: of the processes.
        server: the server.
        publishers: those that run, by number.
        replicas: the replicas, by number.
        readers: the readers, by replica and number.
        flushed: the newest version of a publisher in each calm, once the server has it.
        uploads: how many large versions were published.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.report = Report(options.seed)
        self.rng = random.Random(options.seed)
        self.publishers: dict[int, ChildProcess] = {}
        self.replicas: dict[int, ChildProcess] = {}
        self.readers: dict[tuple[int, int], ChildProcess] = {}
        self.flushed: dict[int, Identity] = {}
        self.uploads = 0
        self._options = options
        self._history = History()
        self._seen: dict[str, Place] = {}
        self._start = time.monotonic()
        self._progress_due = 0.0
        self._context = multiprocessing.get_context(options.start_method)
        self._folder = Path(tempfile.mkdtemp(prefix="replication-soak-"))
        self.server = Server(self._folder)
        self.settings = Settings(
            f"replication-soak-{os.getpid()}",
            f"redis://127.0.0.1:{self.server.port}/0",
            options.largest,
            options.unlinks,
            options.pause,
            options.timeout,
            self._context.RawArray("i", [STORM, 0]),
            options.bug,
        )

    @property
    def elapsed(self) -> float:
        """Duration of the run so far, in seconds."""
        return time.monotonic() - self._start

    def start(self) -> None:
        """Start all of them, and one publisher."""
        for index in range(self._options.replicas):
            self.start_replica(index)
            for number in range(self._options.readers):
                self.start_reader(index, number)
        self.start_publisher(0)

    def start_publisher(self, index: int) -> None:
        """Start a publisher."""
        seed = self.rng.getrandbits(32)
        self.publishers[index] = ChildProcess(self._context, run_publisher, self.settings, index, seed)

    def publish_again(self) -> None:
        """Start a publisher if none runs."""
        if not self.publishers:
            self.start_publisher(self.rng.randrange(SOURCES))

    def start_replica(self, index: int) -> None:
        """Start a replica."""
        self.replicas[index] = ChildProcess(self._context, run_replica, self.settings, index)

    def start_reader(self, index: int, number: int) -> None:
        """Start a reader of a replica. It finds no version that is older than those that others have found there."""
        seed, newest = self.rng.getrandbits(32), self._seen.get(self.settings.copy(index), _BEGINNING)
        process = ChildProcess(self._context, run_reader, self.settings, index, seed, newest)
        self.readers[index, number] = process

    def processes(self) -> list[tuple[str, Stoppable]]:
        """Return all processes with their kinds."""
        kinds: dict[str, Iterable[Stoppable]] = {
            "publisher": self.publishers.values(),
            "replica": self.replicas.values(),
            "reader": self.readers.values(),
            "server": [self.server],
        }
        return [(kind, process) for kind, found in kinds.items() for process in found]

    def kill(self, kind: str, process: Any) -> None:
        """Kill a process, and collect its last messages."""
        process.kill()
        self._collect(process)
        self.report.kills[kind] = self.report.kills.get(kind, 0) + 1

    def kill_publishers(self) -> None:
        """Kill the publishers."""
        while self.publishers:
            self.kill("publisher", self.publishers.popitem()[1])

    def continue_stopped(self, now: float = float("inf")) -> None:
        """Continue the processes that were stopped until some moment; by default, all."""
        for _, process in self.processes():
            process.continue_if_due(now)

    def wait(self, condition: Callable[[], bool], limit: float | None = None) -> bool:
        """Attend the processes until a condition is met; return False if it never is.

        Args:
            condition: called again and again.
            limit: seconds after which it counts as never met; by default, those of the option `--timeout`.
        """
        deadline = time.monotonic() + (self._options.timeout if limit is None else limit)
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.attend()
        return True

    # -------------------------------------------------------------------------------------------------------- messages

    def attend(self) -> None:
        """Collect messages, continue what was stopped, and replace what has ended."""
        self._collect()
        self._replace_ended()
        self.continue_stopped(time.monotonic())
        self._show_progress()
        time.sleep(_TICK)

    def _collect(self, killed: Any = None) -> None:
        """Collect the messages, also of a process that was killed.

        They are noted in the opposite order, so that what readers have seen was announced before.
        """
        writing = [*self.publishers.values(), *self.replicas.values()]
        processes = [*self.readers.values(), *([killed] if isinstance(killed, ChildProcess) else ()), *writing]
        messages = [process.received() for process in processes]
        for message in chain.from_iterable(reversed(messages)):
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        report = self.report
        for count in _COUNTS:
            setattr(report, count, getattr(report, count) + message.get(count, 0))
        for finding in _FINDINGS:
            if finding in message:
                setattr(report, finding, getattr(report, finding) + 1)
                report.violations.append(f"{finding}: {message[finding]}")
        if "violation" in message:
            report.violations.append(message["violation"])
        if "announced" in message:
            self._history.announce(Identity(*message["announced"]))
        self.uploads += message.get("uploads", 0)
        if "calm" in message:
            self.flushed[message["calm"]] = Identity(*message["newest"])
        if "seen" in message:
            self._note_seen(message["name"], tuple(message["place"]), Identity(*message["seen"]))

    def _note_seen(self, name: str, place: Place, identity: Identity) -> None:
        self.report.versions += 1
        self._seen[name] = max(self._seen.get(name, _BEGINNING), place)
        if wrong := self._history.see(place, identity):
            self.report.violations.append(f"{name}: {wrong}")

    def _replace_ended(self) -> None:
        """Replace processes that have ended on their own, which only a publisher does that was fenced."""
        violations = self.report.violations
        for index, publisher in list(self.publishers.items()):
            if publisher.exit_status is not None:
                self._collect(self.publishers.pop(index))
                if publisher.exit_status:
                    violations.append(f"a publisher has ended with status {publisher.exit_status}")
        for index, replica in list(self.replicas.items()):
            if replica.exit_status is not None:
                violations.append("a replica has ended")
                self.start_replica(index)
        for key, reader in list(self.readers.items()):
            if reader.exit_status is not None:
                violations.append("a reader has ended")
                self.start_reader(*key)
        if self.server.exit_status is not None:
            raise RuntimeError("the server has ended")

    def _show_progress(self) -> None:
        elapsed = self.elapsed
        if self._options.json or elapsed < self._progress_due:
            return
        self._progress_due = elapsed + _PROGRESS_INTERVAL
        end = "" if sys.stderr.isatty() else "\n"
        print(f"\r{self.report.progress(elapsed)}", end=end, file=sys.stderr, flush=True)

    # ------------------------------------------------------------------------------------------------------------- end

    def finish(self) -> None:
        """Kill all processes, and remove what they leave."""
        for _, process in self.processes():
            process.kill()  # type: ignore[attr-defined] # all of them have it
        copies, sources = range(self._options.replicas), range(SOURCES)
        for name in (*map(self.settings.copy, copies), *map(self.settings.source, sources)):
            unlink(name)
        violations = self.report.violations
        violations += [f"{path.name} is left in /dev/shm" for path in SHM.glob(f"{self.settings.name}-*")]
        if not wait_for_descendants(self._options.timeout):
            violations.append("a process is left")
        shutil.rmtree(self._folder)
