"""Replica: publishes on this host what a publisher elsewhere sends to an engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import names_of
from shmsync._handles.receiving import Incoming, ReceivingWriter
from shmsync._types import Origin
from shmsync._util.arguments import flag, integer
from shmsync._util.duration import seconds
from shmsync.codecs import name_of
from shmsync.codecs._changes import Changes
from shmsync.errors import DataReadError, IntegrityError, ReplicationError
from shmsync.replication._changes import ReceivedChanges
from shmsync.replication._download import Download, GoneError
from shmsync.replication._entry import BEGINNING, DamagedError, Entry, VersionId
from shmsync.replication._service import Service, forget_frames, log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from shmsync.errors import ShmSyncError
    from shmsync.replication._service import OpenEngine
    from shmsync.replication.engine import Engine

_WAIT = 0.5  # seconds after which a stop is noticed
_COMPARE = 10.0  # seconds between two looks at the newest entry, if there is no later one
_PAUSE = 0.05  # seconds
_MOST_MISSED = 40  # attempts until a version that is not there is reported
_LARGEST = 1 << 40


class ReplicaStatus(NamedTuple):
    """What a replica does.

    Attributes:
        connected: whether the engine answered last.
        epoch: epoch of the newest version on this host; 0 if there is none.
        seq: its sequence number at its publisher; 0 if there is none.
        newest: epoch and sequence number of the newest version in the engine, as far as it is known; (0, 0) if none is.
        lag: seconds since this host was last known to have the newest version of the engine, at most 0.5 in normal
            operation; None if it never had one.
        versions: how many versions it has published.
        received: how many bytes of payloads and changes it has received.
        error: the last error, if nothing has worked since; else None.
    """

    connected: bool
    epoch: int
    seq: int
    newest: tuple[int, int]
    lag: float | None
    versions: int
    received: int
    error: Exception | None


class _RefusedError(ReplicationError):
    """A version that this replica does not take, now or later."""


class Replica(Service):
    """Publishes each version that a publisher elsewhere sends under a name, on this host and under the same name.

    Readers use it as the name of a local writer. A version is visible when it was received completely, and its checksum
    was compared. Versions are never replaced by older ones. After errors the replica connects again until it is
    stopped, and continues with the newest version; the last one stays readable meanwhile, and when it is stopped.

    Args:
        name: the name.
        url: of the engine: see `shmsync.replication`.
        password: of the engine; by default, that in the environment variable SHMSYNC_REDIS_PASSWORD.
        local_name: the name on this host; by default, the same.
        mode: permission bits of the segments: see `Writer`.
        max_size: the largest payload that is accepted, in bytes.
        allow_pickle: accept values of `codec="pickle"`. The replica does not load them, but readers might.
        engine: opens the connection to the engine; by default, to Redis.

    Raises:
        InvalidArgumentError: an argument is not valid.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        password: str | None = None,
        local_name: str | None = None,
        mode: int = 0o600,
        max_size: int = 4 << 30,
        allow_pickle: bool = False,
        engine: OpenEngine | None = None,
    ) -> None:
        super().__init__(name, url, password, engine)
        self.local_name = name if local_name is None else local_name
        names_of(self.local_name)
        self._mode = mode
        self._max_size = integer(max_size, "max_size", 1, _LARGEST, "bytes")
        self._allow_pickle = flag(allow_pickle, "allow_pickle")
        self._cursor = BEGINNING  # the newest version on this host
        self._highest = BEGINNING  # the newest version that this host has had
        self._refused = BEGINNING  # the newest version that was refused, and why
        self._refusal: ShmSyncError | None = None
        self._newest = BEGINNING  # the newest version in the engine
        self._current_at: float | None = None
        self._versions = self._received = 0
        ReceivingWriter(self.local_name, mode=mode).close()  # checks the arguments

    def status(self) -> ReplicaStatus:
        """Return what the replica does."""
        lag = None if self._current_at is None else time.monotonic() - self._current_at
        error = self._refusal if self._error is None else self._error
        return ReplicaStatus(self._connected, *self._cursor, self._newest, lag, self._versions, self._received, error)

    def wait(self, timeout: float | timedelta | None = None) -> None:
        """Wait until this host has a version, and it is the newest that the engine has.

        Args:
            timeout: how long to wait, in seconds or as a timedelta; blocks indefinitely if None.

        Raises:
            ReplicationError: that takes longer, or this replica was stopped; with the last error.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        self._wait_until(lambda: self._current_at is not None, limit, "nothing was received")

    def _work(self, engine: Engine) -> Iterator[None]:
        with ReceivingWriter(self.local_name, mode=self._mode) as writer:
            self._find_cursor(writer)
            yield from self._catch_up(engine, writer)
            compared = time.monotonic()
            while not self._stopped.is_set():
                try:
                    entries = engine.wait(self._after, _WAIT, 2)
                except DamagedError:
                    yield from self._catch_up(engine, writer)
                    continue
                if len(entries) == 1 and self._is_next(entries[0]):
                    self._take(engine, writer, entries[0])
                    self._note_newest(entries[0])
                elif entries:
                    yield from self._catch_up(engine, writer)
                else:
                    self._find_cursor(writer)  # perhaps another program has removed the name
                    # Seldom: an entry may have some 100 KiB, and each of many idle hosts would receive it.
                    if time.monotonic() - compared >= _COMPARE:
                        compared = time.monotonic()
                        yield from self._catch_up(engine, writer)
                    self._note_current()
                yield

    def _find_cursor(self, writer: ReceivingWriter) -> None:
        """Find which version this host has."""
        origin = writer.origin()
        self._cursor = BEGINNING if origin is None else VersionId(origin.epoch, origin.seq)
        self._highest = max(self._highest, self._cursor)

    @property
    def _after(self) -> VersionId:
        """The version, or one before it, after which versions are taken."""
        if self._cursor < self._highest:  # it was removed here: the same version again, but none before it
            epoch, seq = self._highest
            return max(self._refused, VersionId(epoch, seq - 1))
        return max(self._refused, self._cursor)

    def _catch_up(self, engine: Engine, writer: ReceivingWriter) -> Iterator[None]:
        """Take the newest version; yield after each step."""
        missed = 0
        while not self._stopped.is_set():
            try:
                newest = engine.newest()
            except DamagedError as error:
                if error.id is None:
                    raise
                if error.id > self._after:  # else it was refused before
                    self._refuse(error.id, error)
                yield
                return
            if newest is None or newest.id < self._refused:
                self._refused = BEGINNING  # it was removed from the engine, so older ones may follow
            if newest is None or newest.id <= self._after:
                self._note_newest(newest)
                yield
                return
            self._newest = newest.id
            try:
                self._take(engine, writer, newest)
            except GoneError:  # it was replaced meanwhile
                missed += 1
                if missed >= _MOST_MISSED:
                    raise
                self._stopped.wait(_PAUSE)
            else:
                missed = 0
                yield

    def _note_newest(self, newest: Entry | None) -> None:
        before, self._newest = self._newest, BEGINNING if newest is None else newest.id
        self._note_current()
        if BEGINNING.epoch < self._newest.epoch < self._cursor.epoch and before != self._newest:
            log.warning(
                "%s: ignored version %s, the newest of the server, because this host has %s; if a publisher sends it, "
                "correct the clock of its host, then start it again",
                self.name,
                self._newest,
                self._cursor,
            )

    def _note_current(self) -> None:
        if BEGINNING < self._newest <= self._cursor:
            self._current_at = time.monotonic()

    def _is_next(self, entry: Entry) -> bool:
        return entry.data is not None or entry.base == self._cursor

    def _take(self, engine: Engine, writer: ReceivingWriter, entry: Entry) -> None:
        """Publish a version; or the one after that of this host, if its changes lead to it."""
        try:
            self._check(entry)
            if entry.data is None and not entry.is_full and self._cursor not in {BEGINNING, entry.base}:
                following = engine.after(self._cursor, 1) if self._cursor >= entry.full else []
                if following and following[0].base == self._cursor:
                    entry = following[0]
                    self._check(entry)
            taken = self._take_changes(engine, writer, entry) if entry.base == self._cursor else False
            if not taken:
                self._take_full(engine, writer, entry)
        except (_RefusedError, DamagedError, IntegrityError) as error:
            self._refuse(entry.id, error)
            return
        self._cursor = entry.id
        self._highest = max(self._highest, entry.id)
        self._refusal = None
        self._versions += 1

    def _refuse(self, version: VersionId, error: ShmSyncError) -> None:
        """Keep the last value, and wait for a version after the one that is refused."""
        forget_frames(error)
        self._refused, self._refusal = version, error
        log.warning("%s: kept the last value, and not version %s: %s", self.name, version, error)

    def _check(self, entry: Entry) -> None:
        if entry.size > self._max_size:
            raise _RefusedError(
                f"its size of {entry.size:,} bytes is more than the limit, {self._max_size:,}; raise max_size"
            )
        if name_of(entry.codec) == "pickle" and not self._allow_pickle:
            raise _RefusedError(
                'it was published with codec="pickle", and unpickling runs code that the publisher chose; if the '
                "readers of this host trust it, start the replica with allow_pickle"
            )

    def _take_changes(self, engine: Engine, writer: ReceivingWriter, entry: Entry) -> bool:
        """Publish the version of this host with the changes of an entry; return False if that is not possible."""
        try:
            received = ReceivedChanges(entry.changes, entry.size, entry.changed)
            changes = Changes()
            received.record(changes)
            with writer.receive_changes(_incoming(entry), changes) as block:
                received.scatter(block.memory, self._download(engine).content(entry))
        except (DataReadError, IntegrityError, DamagedError):  # from the version in full, it may be possible
            return False
        return True

    def _take_full(self, engine: Engine, writer: ReceivingWriter, entry: Entry) -> None:
        """Publish a version from the one in full that it names, and the changes since."""
        full = entry if entry.is_full else engine.entry(entry.full)
        if full is None or not full.is_full:
            raise GoneError(f"version {entry.full} is not in the engine any more")
        download = self._download(engine)
        with writer.receive(_incoming(entry)) as block:
            download.full(full, entry, block.memory)
            for each in download.chain(full, entry):
                received = ReceivedChanges(each.changes, each.size, each.changed)
                received.scatter(block.memory, download.content(each))

    def _download(self, engine: Engine) -> Download:
        return Download(engine, self._note_received)

    def _note_received(self, size: int) -> None:
        self._check_stopped()
        self._received += size


def _incoming(entry: Entry) -> Incoming:
    origin = Origin(entry.id.epoch, entry.id.seq, entry.published, 0.0)
    return Incoming(entry.size, entry.codec, entry.checksum, origin)
