"""The parent process: alternates storms, in which it injects faults, with calms, in which it checks the replicas."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from replication_soak.history import History
from replication_soak.processes import run_publisher, run_reader, run_replica
from replication_soak.report import Report
from replication_soak.server import Server
from replication_soak.settings import STORM, Settings
from replication_soak.values import Identity, identity_of
from shmsync import Reader, unlink
from shmsync.replication.redis import RedisEngine
from stress.processes import ChildProcess
from stress.settings import UNAVAILABLE
from stress.system import SHM, wait_for_descendants

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from replication_soak.history import Place
    from shmsync.replication._entry import Entry
    from stress.processes import Stoppable

_TICK = 0.005
_PROGRESS_INTERVAL = 1.0
_SOURCES = 2
_BEGINNING = (0, 0)
_COUNTS = ("writes", "updates", "incarnations", "reads")
_FINDINGS = ("torn", "backward")
CALMS = {"flushed": 3, "publisher gone": 3, "publisher killed": 2, "restored": 2}
"""The kinds of calms, and how often each is chosen."""
_UPLOAD = 0.01
"""Mean time in seconds from the publish of a large version until the middle of its upload."""
_RECONNECTING = 0.5
"""Seconds in which a replica usually connects again."""
_UPLOAD_LIMIT = 2.0
"""Seconds in which a large version probably begins."""
_LONG_STOP = (5.5, 8.0)  # seconds; longer than the time that a command of a client may take


class Harness:
    """One run.

    Attributes:
        report: what it did and found so far.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.report = Report(options.seed)
        self._options = options
        self._rng = random.Random(options.seed)
        self._context = multiprocessing.get_context(options.start_method)
        self._history = History()
        self._start = time.monotonic()
        self._progress_due = 0.0
        self._calm_count = 0
        self._uploads = 0
        self._flushed: dict[int, Identity] = {}
        self._readers: dict[tuple[int, int], ChildProcess] = {}
        self._seen: dict[str, Place] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="replication-soak-"))
        self._server = Server(self._folder)
        self._settings = Settings(
            f"replication-soak-{os.getpid()}",
            f"redis://127.0.0.1:{self._server.port}/0",
            options.largest,
            options.unlinks,
            options.pause,
            options.timeout,
            self._context.RawArray("i", 2),
            options.bug,
        )
        self._publishers: dict[int, ChildProcess] = {}
        self._replicas: dict[int, ChildProcess] = {}
        self._own = [Reader[Any](self._settings.copy(index)) for index in range(options.replicas)]

    def run(self) -> None:
        """Alternate storms and calms until the time is up; the last one is a calm."""
        for index in range(self._options.replicas):
            self._start_replica(index)
            for number in range(self._options.readers):
                self._start_reader(index, number)
        self._start_publisher(0)
        while time.monotonic() < self._start + self._options.seconds:
            self._storm()
            self._calm()
        self.report.seconds = round(time.monotonic() - self._start, 1)

    # ------------------------------------------------------------------------------------------------------ processes

    def _start_publisher(self, index: int) -> None:
        seed = self._rng.getrandbits(32)
        self._publishers[index] = ChildProcess(self._context, run_publisher, self._settings, index, seed)

    def _start_replica(self, index: int) -> None:
        self._replicas[index] = ChildProcess(self._context, run_replica, self._settings, index)

    def _start_reader(self, index: int, number: int) -> None:
        seed, newest = self._rng.getrandbits(32), self._seen.get(self._settings.copy(index), _BEGINNING)
        process = ChildProcess(self._context, run_reader, self._settings, index, seed, newest)
        self._readers[index, number] = process

    def _processes(self) -> list[tuple[str, Stoppable]]:
        kinds: dict[str, Iterable[Stoppable]] = {
            "publisher": self._publishers.values(),
            "replica": self._replicas.values(),
            "reader": self._readers.values(),
            "server": [self._server],
        }
        return [(kind, process) for kind, found in kinds.items() for process in found]

    def _kill(self, kind: str, process: Any) -> None:
        process.kill()
        self._collect(process)
        self.report.kills[kind] = self.report.kills.get(kind, 0) + 1

    # ---------------------------------------------------------------------------------------------------------- storm

    def _storm(self) -> None:
        """Inject faults for some seconds."""
        faults = self._faults()
        now = time.monotonic()
        end = now + self._options.storm * self._rng.uniform(0.5, 1.5)
        due = {inject: now + self._rng.expovariate(rate) for inject, rate in faults.items() if rate}
        self._settings.phase[0] = STORM
        while (now := time.monotonic()) < end:
            for inject, at in due.items():
                if now >= at:
                    due[inject] = now + self._rng.expovariate(faults[inject])
                    inject()
            self._attend(now)
        self._continue_stopped(float("inf"))

    def _faults(self) -> dict[Callable[[], None], float]:
        """Return each fault with its rate per second."""
        options = self._options
        return {
            self._kill_publisher: options.publisher_kills,
            self._kill_replica: options.replica_kills,
            self._kill_reader: options.reader_kills,
            self._kill_server: options.server_kills,
            self._stop: options.stops,
            self._take_over: options.takeovers,
            self._damage: options.damage,
            self._publish_again: options.returns,
        }

    def _kill_publisher(self) -> None:
        if self._publishers:
            index = self._rng.choice(list(self._publishers))
            self._kill("publisher", self._publishers.pop(index))
            if self._rng.random() < 0.5:
                self._start_publisher(index)

    def _kill_replica(self) -> None:
        index = self._rng.choice(list(self._replicas))
        self._kill("replica", self._replicas[index])
        self._start_replica(index)

    def _kill_reader(self) -> None:
        if self._readers:
            key = self._rng.choice(list(self._readers))
            self._kill("reader", self._readers[key])
            self._start_reader(*key)

    def _kill_server(self) -> None:
        """Kill the server, and restart it after a while: with its data, without them, or with an older copy."""
        rng, server = self._rng, self._server
        self._kill("server", server)
        choice = rng.random()
        time.sleep(min(rng.expovariate(5), 1.0))
        if choice < 0.2:
            server.restart_empty()
            self.report.emptied += 1
        elif choice < 0.45 and server.restart_restored(rng):
            self.report.restored += 1
        else:
            if rng.random() < 0.7:
                server.copy(rng)
            server.restart()

    def _stop(self) -> None:
        kind, process = self._rng.choice(self._processes())
        if process.exit_status is None and not process.is_stopped:
            is_long = self._rng.random() < 0.1
            process.stop(self._rng.uniform(*_LONG_STOP) if is_long else self._rng.uniform(0.05, 1.0))
            self.report.stops[kind] = self.report.stops.get(kind, 0) + 1

    def _continue_stopped(self, now: float) -> None:
        for _, process in self._processes():
            process.continue_if_due(now)

    def _take_over(self) -> None:
        """Start a publisher on another host, beside the one that runs."""
        if len(self._publishers) == 1:
            self._start_publisher(1 - next(iter(self._publishers)))
            self.report.takeovers += 1

    def _publish_again(self) -> None:
        """Start a publisher if none runs."""
        if not self._publishers:
            self._start_publisher(self._rng.randrange(_SOURCES))

    def _damage(self) -> None:
        """Damage a chunk at the server."""
        with suppress(redis.RedisError), closing(self._server.client(0.2)) as client:
            keys = list(client.scan_iter(f"shmsync:{{{self._settings.name}}}:*-*:*", count=1000))
            if keys:
                key = self._rng.choice(keys)
                self._server.is_damaged = True  # before: the answer may be lost
                client.setrange(key, self._rng.randrange(64 << 10), self._rng.randbytes(8))
                self.report.damaged += 1

    # ----------------------------------------------------------------------------------------------------------- calm

    def _calm(self) -> None:
        """Let all processes run; check that each replica gets the newest version."""
        started = time.monotonic()
        kind = self._options.calm or self._rng.choices(list(CALMS), list(CALMS.values()))[0]
        if kind == "publisher killed" and not self._server.is_damaged:
            self.report.publisher_killed += 1
            self._check_without_flush()
        else:
            self._check_flushed(kind)
        self.report.calms += 1
        self.report.longest_calm = max(self.report.longest_calm, round(time.monotonic() - started, 2))

    def _check_flushed(self, kind: str) -> None:
        """Check that each replica gets the newest version of the publisher that is left."""
        if kind == "restored":
            self._restore_without_publisher()
        newest = self._flushed_version()
        if newest is None:
            return
        self._server.is_damaged = False  # as far as it matters from here on
        self._check_all(newest)
        if kind == "publisher gone":
            self.report.publisher_gone += 1
            self._check_joining(newest)

    def _flushed_version(self) -> Identity | None:
        """Wait until only one publisher is left, and the server has its newest version; return that."""
        if not self._await(lambda: len(self._publishers) < _SOURCES):
            self.report.violations.append("of two publishers none was fenced")
            self._kill_publisher_at(0)
        self._publish_again()
        self._calm_count += 1
        self._settings.phase[1] = self._server.is_damaged
        self._settings.phase[0] = number = self._calm_count
        if not self._await(lambda: number in self._flushed):
            self.report.violations.append("the newest version does not reach the server")
            return None
        return self._flushed.pop(number)

    def _kill_publisher_at(self, index: int) -> None:
        if (publisher := self._publishers.pop(index, None)) is not None:
            self._kill("publisher", publisher)

    def _check_all(self, newest: Identity) -> None:
        """Check that each replica gets a version, as the same one."""
        self._check_replicas(lambda found: found[1] == newest, f"the newest version, {newest}")
        places = {found[0] for index in range(len(self._own)) if (found := self._found(index)) and found[1] == newest}
        if len(places) > 1:
            self.report.violations.append(f"{newest} is {places} on different hosts")

    def _check_replicas(self, has_it: Callable[[tuple[Place, Identity]], bool], what: str) -> None:
        lacking = set(range(len(self._own)))

        def is_done() -> bool:
            for index in list(lacking):
                if (found := self._found(index)) is not None and has_it(found):
                    lacking.discard(index)
            return not lacking

        if not self._await(is_done):
            self.report.lost_newest += len(lacking)
            found = {index: self._found(index) for index in lacking}
            self.report.violations.append(f"replicas do not get {what}; they have {found}")

    def _found(self, index: int) -> tuple[Place, Identity] | None:
        """Return the version that a replica has now."""
        try:
            with self._own[index].read() as snapshot:
                origin = snapshot.origin
                return None if origin is None else ((origin.epoch, origin.seq), identity_of(snapshot.value))
        except UNAVAILABLE:
            return None

    def _restore_without_publisher(self) -> None:
        """Kill the publishers and restore an older copy of the data, which the replicas find first."""
        for index in list(self._publishers):
            self._kill_publisher_at(index)
        self._kill("server", self._server)
        if self._server.restart_restored(self._rng):
            self.report.restored += 1
        else:
            self._server.restart()
        time.sleep(self._rng.uniform(0.0, _RECONNECTING))

    def _check_joining(self, newest: Identity) -> None:
        """Check that a replica without a version gets it while no publisher runs."""
        for index in list(self._publishers):
            self._kill_publisher_at(index)
        index = self._rng.randrange(len(self._own))
        self._kill("replica", self._replicas[index])
        unlink(self._settings.copy(index))
        self._start_replica(index)
        self._check_all(newest)

    def _check_without_flush(self) -> None:
        """Kill the publishers, often during an upload; check that each replica gets what the server has then."""
        before = self._uploads
        if self._publishers and self._await(lambda: self._uploads > before, _UPLOAD_LIMIT):
            time.sleep(self._rng.expovariate(1 / _UPLOAD))
        for index in list(self._publishers):
            self._kill_publisher_at(index)
        newest = self._newest_entry()
        if newest is not None:
            self._check_replicas(lambda found: found[0] >= newest.id, f"version {newest.id} of the server")

    def _newest_entry(self) -> Entry | None:
        with closing(RedisEngine(self._settings.url, self._settings.name, timeout=self._options.timeout)) as engine:
            return engine.newest()

    def _await(self, condition: Callable[[], bool], limit: float | None = None) -> bool:
        """Attend the processes until a condition is met; return False if it never is."""
        deadline = time.monotonic() + (self._options.timeout if limit is None else limit)
        while not condition():
            now = time.monotonic()
            if now > deadline:
                return False
            self._attend(now)
        return True

    # -------------------------------------------------------------------------------------------------------- messages

    def _attend(self, now: float) -> None:
        """Collect messages, continue what was stopped, and replace what has ended."""
        self._collect()
        self._replace_ended()
        self._continue_stopped(now)
        self._show_progress(now - self._start)
        time.sleep(_TICK)

    def _collect(self, killed: Any = None) -> None:
        """Collect the messages, also of a process that was killed.

        They are noted in the opposite order, so that what readers have seen was announced before.
        """
        writing = [*self._publishers.values(), *self._replicas.values()]
        processes = [*self._readers.values(), *([killed] if isinstance(killed, ChildProcess) else ()), *writing]
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
        self._uploads += message.get("uploads", 0)
        if "calm" in message:
            self._flushed[message["calm"]] = Identity(*message["newest"])
        if "fenced" in message:
            report.fenced += 1
        if "seen" in message:
            self._note_seen(message["index"], tuple(message["place"]), Identity(*message["seen"]))

    def _note_seen(self, name: str, place: Place, identity: Identity) -> None:
        self.report.versions += 1
        self._seen[name] = max(self._seen.get(name, _BEGINNING), place)
        if wrong := self._history.see(place, identity):
            self.report.violations.append(f"{name}: {wrong}")

    def _replace_ended(self) -> None:
        """Replace processes that have ended on their own, which only a publisher does that was fenced."""
        for index, publisher in list(self._publishers.items()):
            if publisher.exit_status is not None:
                self._collect()
                del self._publishers[index]
                self._check_status(publisher)
        for index, replica in list(self._replicas.items()):
            if replica.exit_status is not None:
                self._start_replica(index)
                self.report.violations.append("a replica has ended")
        for key, reader in list(self._readers.items()):
            if reader.exit_status is not None:
                self._start_reader(*key)
                self.report.violations.append("a reader has ended")
        if self._server.exit_status is not None:
            raise RuntimeError("the server has ended")

    def _check_status(self, publisher: ChildProcess) -> None:
        if publisher.exit_status:
            self.report.violations.append(f"a publisher has ended with status {publisher.exit_status}")

    def _show_progress(self, elapsed: float) -> None:
        if self._options.json or elapsed < self._progress_due:
            return
        self._progress_due = elapsed + _PROGRESS_INTERVAL
        end = "" if sys.stderr.isatty() else "\n"
        print(f"\r{self.report.progress(elapsed)}", end=end, file=sys.stderr, flush=True)

    # ------------------------------------------------------------------------------------------------------------- end

    def finish(self) -> None:
        """Kill all processes, and remove what they leave."""
        for _, process in self._processes():
            process.kill()  # type: ignore[attr-defined] # all of them have it
        for reader in self._own:
            reader.close()
        names = [*map(self._settings.copy, range(len(self._own))), *map(self._settings.source, range(_SOURCES))]
        for name in names:
            unlink(name)
        violations = self.report.violations
        violations += [f"{path.name} is left in /dev/shm" for path in SHM.glob(f"{self._settings.name}-*")]
        if not wait_for_descendants(self._options.timeout):
            violations.append("a process is left")
        shutil.rmtree(self._folder)
