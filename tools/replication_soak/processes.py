"""The processes: a publisher, a replica, a reader. Each runs until it is killed."""

from __future__ import annotations

import ctypes
import json
import random
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from replication_soak import bugs
from replication_soak.settings import STORM, Settings
from replication_soak.values import (
    Identity,
    TornError,
    change_table,
    identity_of,
    new_raw,
    new_table,
    sizes,
    verified,
)
from shmsync import FencedError, Reader
from shmsync.replication import Publisher, Replica
from shmsync.replication.redis import RedisEngine
from stress.settings import UNAVAILABLE

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from replication_soak.history import Place
    from shmsync import Snapshot

_POLL = 0.01
_PR_SET_PDEATHSIG = 1
_UPDATES = 0.85
"""Share of the versions after a table that are updates of it."""
_CHUNK_SIZES = (64 << 10, 256 << 10, 512 << 10)
_KEPT = 3
_LARGE = 1 << 20
"""More bytes than this take a while to send."""
_LINGERING = 0.1
"""Share of the reads that check the value again after a while."""
_LONGEST_HOLD = 0.2


def _prepare(settings: Settings) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdin.close()
    bugs.install(settings.bug)


def _send(pipe: Connection, **message: object) -> None:
    """Send a message. Each is written at once, as the harness would wait for the rest of one of a stopped process."""
    pipe.send_bytes(json.dumps(message).encode())


# ---------------------------------------------------------------------------------------------------------- publisher


class PublishLoop:
    """A publisher.

    Args:
        settings: of the run.
        pipe: to the harness.
        index: which of the two publishers it is.
        seed: of its random choices.
    """

    def __init__(self, settings: Settings, pipe: Connection, index: int, seed: int) -> None:
        self._settings = settings
        self._pipe = pipe
        self._rng = rng = random.Random(seed)
        self._name = settings.source(index)
        self._sizes = sizes(rng, settings.largest)
        self._newest, self._is_table = self._found()
        self._calm = STORM
        self._publisher = Publisher[Any](
            self._name,
            settings.url,
            engine=lambda url, _name, *, password: RedisEngine(url, settings.name, password=password),
            chunk_size=rng.choice(_CHUNK_SIZES),
            full_after=rng.choice([3, 20, 100]),
            keep=_KEPT,
            retain=rng.choice([0.0, 0.3]),
        )

    def _found(self) -> tuple[Identity, bool]:
        """Return the newest value that a publisher before this one has left, and whether it is a table."""
        try:
            with Reader[Any](self._name) as reader:
                value = reader.get()
                return identity_of(value), not isinstance(value, memoryview)
        except UNAVAILABLE:
            return self._new_incarnation(), False

    def _new_incarnation(self) -> Identity:
        return Identity(self._rng.getrandbits(62), 0, 0)

    def run(self) -> None:
        """Publish until another publisher has taken over."""
        try:
            while True:
                phase, needs_full = self._settings.phase
                if phase == STORM:
                    self._publish(in_full=False)
                    time.sleep(min(self._rng.expovariate(1 / self._settings.pause), 1.0))
                elif phase != self._calm:
                    self._publish(in_full=bool(needs_full))
                    self._publisher.flush(self._settings.timeout)
                    _send(self._pipe, calm=phase, newest=self._newest)
                    self._calm = phase
                else:
                    time.sleep(_POLL)
        except FencedError:
            _send(self._pipe, fenced=1)
        self._publisher.close()

    def _publish(self, *, in_full: bool) -> None:
        unlinks = self._settings.unlinks
        if unlinks and self._newest.seq and self._rng.randrange(unlinks) == 0:
            self._publisher.unlink()
            self._newest, self._is_table = self._new_incarnation(), False
            _send(self._pipe, incarnations=1)
        tag, seq, _ = self._newest
        self._newest = identity = Identity(tag, seq + 1, self._rng.getrandbits(62))
        _send(self._pipe, announced=identity)
        if not in_full and self._is_table and self._rng.random() < _UPDATES:
            self._update(identity)
        else:
            self._write(identity)

    def _update(self, identity: Identity) -> None:
        with self._publisher.update() as draft:
            change_table(draft, self._rng, identity)
        assert draft.result is not None
        self._note("updates", draft.result.version.seq)

    def _write(self, identity: Identity) -> None:
        self._is_table = self._rng.random() < 0.4
        size = next(self._sizes)
        if self._is_table:
            result = self._publisher.write(new_table(self._rng, identity, size))
        else:
            result = self._publisher.write_raw(new_raw(self._rng, identity, size))
        self._note("writes", result.version.seq)
        _send(self._pipe, uploads=int(size > _LARGE))

    def _note(self, kind: str, seq: int) -> None:
        _send(self._pipe, **{kind: 1})
        if seq != self._newest.seq:
            _send(self._pipe, violation=f"version {self._newest.seq} was published as {seq}")


def run_publisher(settings: Settings, pipe: Connection, index: int, seed: int) -> None:
    """Publish until this process is killed, or fenced. See `PublishLoop`."""
    _prepare(settings)
    _reported(pipe, PublishLoop(settings, pipe, index, seed).run)


# ------------------------------------------------------------------------------------------------------------ replica


def run_replica(settings: Settings, pipe: Connection, index: int) -> None:
    """Run a replica until this process is killed."""
    _prepare(settings)
    _reported(pipe, Replica(settings.name, settings.url, local_name=settings.copy(index)).run)


# ------------------------------------------------------------------------------------------------------------- reader


class ReadLoop:
    """A reader of a replica.

    Args:
        settings: of the run.
        pipe: to the harness.
        index: of the replica.
        seed: of its random choices.
        newest: the newest version that readers of this replica have seen: no older one may follow.
    """

    def __init__(self, settings: Settings, pipe: Connection, index: int, seed: int, newest: Place) -> None:
        self._pipe = pipe
        self._rng = random.Random(seed)
        self._name = settings.copy(index)
        self._newest = newest
        self._seen: tuple[Place, Identity] | None = None

    def run(self) -> None:
        """Read until this process is killed."""
        reader = Reader[Any](self._name)
        while True:
            try:
                with reader.read() as snapshot:
                    self._check(snapshot)
            except UNAVAILABLE:
                time.sleep(_POLL)
            except TornError as error:
                _send(self._pipe, torn=f"{self._name}: {error}")
                time.sleep(0.1)
            reader.wait(timeout=0.1)

    def _check(self, snapshot: Snapshot[Any]) -> None:
        identity, origin = verified(snapshot.value), snapshot.origin
        if origin is None:
            _send(self._pipe, violation=f"{self._name}: {identity} has no origin")
            return
        place = origin.epoch, origin.seq
        if place < self._newest:
            _send(self._pipe, backward=f"{self._name}: {place} follows {self._newest}")
        self._newest = place
        if self._seen != (place, identity):
            self._seen = place, identity
            _send(self._pipe, name=self._name, place=place, seen=identity)
        _send(self._pipe, reads=1)
        if self._rng.random() < _LINGERING:
            time.sleep(self._rng.random() * _LONGEST_HOLD)
            verified(snapshot.value)


def run_reader(settings: Settings, pipe: Connection, index: int, seed: int, newest: Place) -> None:
    """Read until this process is killed. See `ReadLoop`."""
    _prepare(settings)
    _reported(pipe, ReadLoop(settings, pipe, index, seed, newest).run)


def _reported(pipe: Connection, run: Any) -> None:
    try:
        run()
    except Exception as error:  # noqa: BLE001 - none is expected
        _send(pipe, violation=f"{run.__qualname__}: {type(error).__name__}: {error}"[:1000])
