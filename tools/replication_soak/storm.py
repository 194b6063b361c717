"""Storms: everything is killed, stopped and damaged for some seconds."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import redis

from replication_soak.settings import STORM

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from replication_soak.crew import Crew

_LONG_STOP = (5.5, 8.0)  # seconds; longer than the time that a command of a client may take
_LONGEST_PAUSE = 1.0


class Storm:
    """Injects faults.

    Args:
        crew: the processes.
        options: of the command.
    """

    def __init__(self, crew: Crew, options: argparse.Namespace) -> None:
        self._crew = crew
        self._rng = crew.rng
        self._report = crew.report
        self._seconds = options.storm
        self._faults: dict[Callable[[], None], float] = {  # with their rates per second
            self._kill_publisher: options.publisher_kills,
            self._kill_replica: options.replica_kills,
            self._kill_reader: options.reader_kills,
            self._kill_server: options.server_kills,
            self._stop: options.stops,
            self._take_over: options.takeovers,
            self._damage: options.damage,
            crew.publish_again: options.returns,
        }

    def run(self) -> None:
        """Inject faults for some seconds."""
        now = time.monotonic()
        end = now + self._seconds * self._rng.uniform(0.5, 1.5)
        due = {inject: now + self._rng.expovariate(rate) for inject, rate in self._faults.items() if rate}
        self._crew.settings.phase[0] = STORM
        while (now := time.monotonic()) < end:
            for inject, at in due.items():
                if now >= at:
                    due[inject] = now + self._rng.expovariate(self._faults[inject])
                    inject()
            self._crew.attend()
        self._crew.continue_stopped()

    def _kill_publisher(self) -> None:
        if self._crew.publishers:
            index = self._rng.choice(list(self._crew.publishers))
            self._crew.kill("publisher", self._crew.publishers.pop(index))
            if self._rng.random() < 0.5:
                self._crew.start_publisher(index)

    def _kill_replica(self) -> None:
        index = self._rng.choice(list(self._crew.replicas))
        self._crew.kill("replica", self._crew.replicas[index])
        self._crew.start_replica(index)

    def _kill_reader(self) -> None:
        if self._crew.readers:
            key = self._rng.choice(list(self._crew.readers))
            self._crew.kill("reader", self._crew.readers[key])
            self._crew.start_reader(*key)

    def _kill_server(self) -> None:
        """Kill the server, and restart it after a while: with its data, without them, or with an older copy."""
        rng, server = self._rng, self._crew.server
        self._crew.kill("server", server)
        choice = rng.random()
        time.sleep(min(rng.expovariate(5), _LONGEST_PAUSE))
        if choice < 0.2:
            server.restart_empty()
            self._report.emptied += 1
        elif choice < 0.45 and server.restart_restored(rng):
            self._report.restored += 1
        else:
            if rng.random() < 0.7:
                server.copy(rng)
            server.restart()

    def _stop(self) -> None:
        kind, process = self._rng.choice(self._crew.processes())
        if process.exit_status is None and not process.is_stopped:
            is_long = self._rng.random() < 0.1
            process.stop(self._rng.uniform(*_LONG_STOP) if is_long else self._rng.uniform(0.05, 1.0))
            self._report.stops[kind] = self._report.stops.get(kind, 0) + 1

    def _take_over(self) -> None:
        """Start a publisher on another host, beside the one that runs."""
        if len(self._crew.publishers) == 1:
            self._crew.start_publisher(1 - next(iter(self._crew.publishers)))
            self._report.takeovers += 1

    def _damage(self) -> None:
        """Damage a chunk at the server."""
        server = self._crew.server
        with suppress(redis.RedisError), closing(server.client(0.2)) as client:
            keys = list(client.scan_iter(f"shmsync:{{{self._crew.settings.name}}}:*-*:*", count=1000))
            if keys:
                key = self._rng.choice(keys)
                server.is_damaged = True  # before: the answer may be lost
                client.setrange(key, self._rng.randrange(64 << 10), self._rng.randbytes(8))
                self._report.damaged += 1
