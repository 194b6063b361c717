"""Calms: everything runs, the publisher is quiet, and each replica has to get the newest version."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from replication_soak.crew import SOURCES
from replication_soak.values import Identity, identity_of
from shmsync import Reader, unlink
from shmsync.replication.redis import RedisEngine
from stress.settings import UNAVAILABLE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from replication_soak.crew import Crew
    from replication_soak.history import Place
    from shmsync.replication._entry import Entry

KINDS = {"flushed": 3, "publisher gone": 3, "publisher killed": 2, "restored": 2}
"""The kinds of calms, and how often each is chosen."""
_UPLOAD = 0.01
"""Mean time in seconds from the publish of a large version until the middle of its upload."""
_UPLOAD_LIMIT = 2.0
"""Seconds in which a large version probably begins."""
_RECONNECTING = 0.5
"""Seconds in which a replica usually connects again."""


class Calm:
    """Checks what replicas have.

    Args:
        crew: the processes.
        options: of the command.
    """

    def __init__(self, crew: Crew, options: argparse.Namespace) -> None:
        self._crew = crew
        self._report = crew.report
        self._rng = crew.rng
        self._options = options
        self._number = 0
        self._readers = [Reader[Any](crew.settings.copy(index)) for index in range(options.replicas)]

    def run(self) -> None:
        """Let all processes run; check that each replica gets the newest version."""
        started = time.monotonic()
        kind = self._options.calm or self._rng.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "publisher killed" and not self._crew.server.is_damaged:
            self._report.publisher_killed += 1
            self._check_without_flush()
        else:
            self._check_flushed(kind)
        self._report.calms += 1
        self._report.longest_calm = max(self._report.longest_calm, round(time.monotonic() - started, 2))

    def close(self) -> None:
        """Close the readers."""
        for reader in self._readers:
            reader.close()

    def _check_flushed(self, kind: str) -> None:
        """Check that each replica gets the newest version of the publisher that is left."""
        if kind == "restored":
            self._restore_without_publisher()
        newest = self._flushed_version()
        if newest is None:
            return
        self._crew.server.is_damaged = False  # as far as it matters from here on
        self._check_all(newest)
        if kind == "publisher gone":
            self._report.publisher_gone += 1
            self._check_joining(newest)

    def _flushed_version(self) -> Identity | None:
        """Wait until only one publisher is left, and the server has its newest version; return that."""
        crew = self._crew
        if not crew.wait(lambda: len(crew.publishers) < SOURCES):
            self._report.violations.append("of two publishers none was fenced")
            crew.kill_publishers()
        crew.publish_again()
        self._number += 1
        crew.settings.phase[1] = crew.server.is_damaged
        crew.settings.phase[0] = self._number
        if not crew.wait(lambda: self._number in crew.flushed):
            self._report.violations.append("the newest version does not reach the server")
            return None
        return crew.flushed.pop(self._number)

    def _restore_without_publisher(self) -> None:
        """Kill the publishers and restore an older copy of the data, which the replicas find first."""
        crew = self._crew
        crew.kill_publishers()
        crew.kill("server", crew.server)
        if crew.server.restart_restored(self._rng):
            self._report.restored += 1
        else:
            crew.server.restart()
        time.sleep(self._rng.uniform(0.0, _RECONNECTING))

    def _check_joining(self, newest: Identity) -> None:
        """Check that a replica without a version gets it while no publisher runs."""
        self._crew.kill_publishers()
        index = self._rng.randrange(len(self._readers))
        self._crew.kill("replica", self._crew.replicas[index])
        unlink(self._crew.settings.copy(index))
        self._crew.start_replica(index)
        self._check_all(newest)

    def _check_without_flush(self) -> None:
        """Kill the publishers, often during an upload; check that each replica gets what the server has then."""
        crew, before = self._crew, self._crew.uploads
        if crew.publishers and crew.wait(lambda: crew.uploads > before, _UPLOAD_LIMIT):
            time.sleep(self._rng.expovariate(1 / _UPLOAD))
        crew.kill_publishers()
        newest = self._newest_entry()
        if newest is not None:
            self._check_replicas(lambda found: found[0] >= newest.id, f"version {newest.id} of the server")

    def _newest_entry(self) -> Entry | None:
        settings = self._crew.settings
        with closing(RedisEngine(settings.url, settings.name, timeout=settings.timeout)) as engine:
            return engine.newest()

    def _check_all(self, newest: Identity) -> None:
        """Check that each replica gets a version, as the same one."""
        self._check_replicas(lambda found: found[1] == newest, f"the newest version, {newest}")
        versions = [self._found(index) for index in range(len(self._readers))]
        places = {found[0] for found in versions if found is not None and found[1] == newest}
        if len(places) > 1:
            self._report.violations.append(f"{newest} is {places} on different hosts")

    def _check_replicas(self, has_it: Callable[[tuple[Place, Identity]], bool], what: str) -> None:
        lacking = set(range(len(self._readers)))

        def is_done() -> bool:
            for index in list(lacking):
                if (found := self._found(index)) is not None and has_it(found):
                    lacking.discard(index)
            return not lacking

        if not self._crew.wait(is_done):
            self._report.lost_newest += len(lacking)
            found = {index: self._found(index) for index in lacking}
            self._report.violations.append(f"replicas do not get {what}; they have {found}")

    def _found(self, index: int) -> tuple[Place, Identity] | None:
        """Return the version that a replica has now."""
        try:
            with self._readers[index].read() as snapshot:
                origin = snapshot.origin
                return None if origin is None else ((origin.epoch, origin.seq), identity_of(snapshot.value))
        except UNAVAILABLE:
            return None
