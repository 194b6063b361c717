"""Relay: sends the versions of a local name to an engine."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import CLOSED, names_of
from shmsync._handles.reader import Reader
from shmsync._session.state import NO_VALUE, open_channel
from shmsync._util.arguments import flag, integer
from shmsync._util.duration import seconds
from shmsync.errors import (
    FencedError,
    InvalidArgumentError,
    ReplicationError,
    StateNotFoundError,
    UninitializedStateError,
    not_published,
)
from shmsync.replication._description import Describer
from shmsync.replication._entry import (
    BEGINNING,
    INLINE_CHANGES,
    MAX_CHUNK,
    MIN_CHUNK,
    ZSTD,
    DamagedError,
    Entry,
    VersionId,
)
from shmsync.replication._service import Service
from shmsync.replication._stored import StoredVersions
from shmsync.replication._zstd import Compressor
from shmsync.replication.engine import locations_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from shmsync._handles.snapshot import Snapshot
    from shmsync._session.pinned import PinnedVersion
    from shmsync.replication._service import OpenEngine
    from shmsync.replication.engine import Engine, Location

_POLL = 0.2  # seconds after which a stop is noticed
_COMPARE = 1.0  # seconds between two comparisons with what the engine has
_PAGE = 16  # entries in one answer
_LEAST_KEPT = 2
_MAX_RETAIN = 3600  # seconds
_MILLISECOND = 1_000_000  # in nanoseconds


class RelayStatus(NamedTuple):
    """What a relay does.

    Attributes:
        connected: whether the engine answered last.
        epoch: number of its period; 0 if it has sent nothing yet.
        seq: sequence number of the newest version that the engine has; 0 if it has none of this relay.
        versions: how many versions it has sent.
        sent: how many bytes of payloads and changes it has sent, before compression.
        error: the last error, if nothing has worked since; else None.
    """

    connected: bool
    epoch: int
    seq: int
    versions: int
    sent: int
    error: Exception | None


class Relay(Service):
    """Sends each version of a local name to an engine, from which a `Replica` on each host takes it.

    The program that writes does not have to know. If versions are published faster than they can be sent, some are
    skipped: the newest always arrives. What the engine loses, at a failover or a restart without its data, is sent
    again. After errors the relay connects again until it is stopped.

    One relay sends under a name at a time. The one that began to send last wins, and the one before raises FencedError:
    what it sends is refused by the engine.

    Args:
        name: the name. It may not exist yet.
        url: of the engine: see `shmsync.replication`.
        password: of the engine; by default, that in the environment variable SHMSYNC_REDIS_PASSWORD.
        chunk_size: size in bytes of the parts in which a large payload is sent, 64 KiB to 16 MiB.
        full_after: a version in full is sent after so many that were sent as changes.
        keep: how many large versions in full the engine keeps, at least 2.
        retain: a large version in full is kept for so long after a newer one has replaced it, so that a replica behind
            a slow network can finish its download; in seconds or as a timedelta, at most one hour. Where that and
            `keep` exclude each other, the relay sends the next one later, and skips those in between.
        compression: "zstd" compresses large versions in full, which needs the extra `zstd` here and at the replicas. It
            is worth it where the network is slower than about 1 Gbit/s, or the server short of memory.
        engine: opens the connection to the engine; by default, to Redis.

    Raises:
        InvalidArgumentError: an argument is not valid.
        MissingExtraError: the package for the engine or the compression is not installed.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        password: str | None = None,
        chunk_size: int = 512 << 10,
        full_after: int = 100,
        keep: int = 3,
        retain: float | timedelta = 5.0,
        compression: str | None = None,
        engine: OpenEngine | None = None,
    ) -> None:
        super().__init__(name, url, password, engine)
        chunk_size = integer(chunk_size, "chunk_size", MIN_CHUNK, MAX_CHUNK, "bytes")
        full_after = integer(full_after, "full_after", 0, 1 << 20)
        self._stored = StoredVersions(integer(keep, "keep", _LEAST_KEPT, 1 << 20), _retention(retain))
        if compression not in (None, ZSTD):  # not a set: what is not hashable is refused, too
            raise InvalidArgumentError(f'compression must be "zstd" or None, not {compression!r}')
        self._compressor = None if compression is None else Compressor()
        self._describe = Describer(chunk_size, full_after, compression or "").describe
        self._epoch = 0
        self._epochs: set[int] = set()  # all that the engine is known to have had
        self._incarnation = 0
        self._top: Entry | None = None  # the newest entry in the engine
        self._lost = False  # whether the newest entry is of no use: what it refers to is not there
        self._uploading: list[Location] = []  # chunks whose entry is not added yet
        self._sent = (0, 0)  # incarnation and sequence number of the newest version that the engine has
        self._earlier = (0, 0)  # the same of the version that was there before the publisher
        self._is_last = False  # whether no version follows the newest one
        self._versions = self._bytes = 0

    def status(self) -> RelayStatus:
        """Return what the relay does."""
        top = self._top
        seq = top.id.seq if top is not None and top.id.epoch == self._epoch else 0
        epoch = self._epoch if self._versions else 0
        return RelayStatus(self._connected, epoch, seq, self._versions, self._bytes, self._error)

    def flush(self, timeout: float | timedelta | None = None, *, last: bool = False) -> None:
        """Wait until the engine has the version that is the newest now, or a newer one.

        Args:
            timeout: how long to wait, in seconds or as a timedelta; blocks indefinitely if None.
            last: whether the program ends then. What is sent meanwhile is not delayed by `retain`: a replica that loses
                its download takes the last version instead.

        Raises:
            ReplicationError: it has not within that time, or this relay was stopped; with the last error.
            FencedError: a newer publisher has taken the name over.
            StateNotFoundError, UninitializedStateError: nothing is published, or the name was removed meanwhile.
        """
        limit = None if timeout is None else seconds(timeout, "timeout")
        incarnation, seq = self._newest_here()

        def is_sent() -> bool:
            if self._sent[0] == incarnation and self._sent[1] >= seq:
                return True
            return self._sent[0] == self._newest_here()[0] != incarnation  # the name was removed and written again

        if flag(last, "last"):
            self._is_last = True
        try:
            self._wait_until(is_sent, limit, "the newest version was not sent")
        finally:
            if last:
                self._is_last = False

    def _newest_here(self) -> tuple[int, int]:
        """Return incarnation and sequence number of the newest version on this host. Takes no reader slot.

        Raises:
            StateNotFoundError, UninitializedStateError: nothing is published.
        """
        channel = open_channel(names_of(self.name))
        seq = channel.version.load()
        if seq in NO_VALUE:
            raise not_published(self.name)
        return channel.header.incarnation, seq

    def note_earlier(self) -> None:
        """Note that the newest version on this host was there before the publisher.

        It is not sent if the engine has one that a publisher on another host has sent since.
        """
        with suppress(StateNotFoundError, UninitializedStateError):
            self._earlier = self._newest_here()

    def _work(self, engine: Engine) -> Iterator[None]:
        self._compare(engine, fast=False)
        compared = time.monotonic()
        with Reader[object](self.name) as reader:
            while not self._stopped.is_set():
                if time.monotonic() - compared >= _COMPARE:
                    self._compare(engine, fast=True)
                    compared = time.monotonic()
                self._send_newest(engine, reader)
                yield  # not before: a version that the engine refuses would be sent again and again without a pause
                reader.wait(timeout=_POLL)

    def _compare(self, engine: Engine, *, fast: bool) -> None:
        """Note what the engine has: another relay may have sent something, or the engine may have lost something.

        Args:
            engine: the engine.
            fast: do not ask for the newest entry if it seems to be the one that is known.
        """
        if not (fast and self._top is not None and engine.is_newest(self._top.id)):
            try:
                self._note_all(engine)
            except DamagedError as error:  # in an epoch of this relay, it is not a newer publisher, but damage
                self._top = Entry(error.id or BEGINNING, self._incarnation, 0.0, 0, 0, 0, full=BEGINNING)
                self._lost = True
                return
        top = self._top
        self._lost = top is not None and not self._stored.is_complete(engine, top.full)

    def _note_all(self, engine: Engine) -> None:
        top = engine.newest()
        if top is None or self._top is None or top.id != self._top.id:
            self._stored.clear()
            last = BEGINNING
            while page := engine.after(last, _PAGE):
                for entry in page:
                    self._epochs.add(entry.id.epoch)
                    self._stored.note(entry)
                last = page[-1].id
        if top is not None:
            self._epochs.add(top.id.epoch)
        self._top = top

    def _send_newest(self, engine: Engine, reader: Reader[object]) -> None:
        """Send the newest version, unless the engine has it."""
        try:
            snapshot = reader.read()
        except (StateNotFoundError, UninitializedStateError):
            with self._changed:  # `flush` looks whether its version was removed
                self._changed.notify_all()
            return
        with snapshot:
            if self._is_replaced(snapshot):
                self._note_sent(*self._earlier)
                return
            self._check_origin(engine, snapshot)
            version, entry = self._id_of(snapshot), None
            if self._top is None or self._top.id < version:
                pinned: PinnedVersion = snapshot._pinned  # type: ignore[assignment] # it is open
                entry, content = self._describe(pinned, version, None if self._lost else self._top)
                if not (self._is_last or self._stored.has_room(entry)):
                    return
                # For a view no write waits, as it would for an open snapshot: see `grace_duration` of the Writer.
                payload = snapshot.buffer if entry.chunk else None
        if entry is not None:
            if not self._upload(engine, entry, payload, content):
                return
            self._versions += 1
        self._note_sent(self._incarnation, version.seq)

    def _check_origin(self, engine: Engine, snapshot: Snapshot[object]) -> None:
        """Raise ReplicationError if a version comes from the engine: it would be sent and received in a circle."""
        origin = snapshot.origin
        if origin is None:
            return
        if origin.epoch not in self._epochs:  # it may have begun since the last comparison
            self._compare(engine, fast=True)
        if origin.epoch in self._epochs:
            raise ReplicationError(
                f"a replica publishes {self.name!r} on this host, so it is not sent to where it comes from; run "
                "replicas on other hosts than that of the writer"
            )

    def _is_replaced(self, snapshot: Snapshot[object]) -> bool:
        """Return whether a publisher on another host has replaced a version that was here before this publisher.

        As that one may have been stopped, nothing newer would follow: replicas would show the old value for good.
        """
        local = snapshot._pinned.incarnation, snapshot.version.seq
        if self._epoch or local != self._earlier:
            return False
        if self._sent == local:  # also when the engine has lost its data since: the other publisher sends it again
            return True
        top, origin = self._top, snapshot.origin
        # What a replica has left here may be newer than what the engine has: it may have lost that.
        return top is not None and top.incarnation != local[0] and (origin is None or origin[:2] <= top.id)

    def _id_of(self, snapshot: Snapshot[object]) -> VersionId:
        """Return the id of a version. An epoch begins with the first version of an incarnation that a relay sends.

        So what a relay sends is newer than all that earlier relays have sent, also what the engine has lost of it.

        Raises:
            FencedError: the engine has versions of a later epoch.
        """
        incarnation, top = snapshot._pinned.incarnation, self._top
        newest = BEGINNING.epoch if top is None else top.id.epoch
        is_mine = top is None or top.incarnation == self._incarnation
        if self._epoch and newest >= self._epoch and (newest > self._epoch or not is_mine):
            raise FencedError(
                errno.EPERM,
                f"another publisher of {self.name!r} has begun epoch {newest}, so the engine accepts nothing of this "
                f"one any more, which is of epoch {self._epoch}; stop one of the two",
            )
        # What is lost cannot be added again under the same id, so that begins an epoch, too; and so does a version that
        # this relay has not sent: a name has only one sequence number at a time.
        is_forged = top is not None and newest == self._epoch and top.id.seq > snapshot.version.seq
        if incarnation != self._incarnation or (self._lost and newest >= self._epoch) or is_forged:
            if newest >= CLOSED:
                raise ReplicationError(
                    f"an entry in the engine has epoch {newest}, so it is not one of shmsync, and no version can "
                    f"follow it; remove the keys of {self.name!r} from the server"
                )
            self._epoch = max(self._epoch + 1, newest + 1, time.time_ns() // _MILLISECOND)
            self._epochs.add(self._epoch)
            self._incarnation = incarnation
        return VersionId(self._epoch, snapshot.version.seq)

    def _upload(self, engine: Engine, entry: Entry, payload: memoryview | None, content: bytes) -> bool:
        """Send an entry with its chunks; return whether the engine has it now."""
        locations = locations_of(entry)
        if self._uploading and self._uploading[0].id != entry.id:  # interrupted: it would take memory until it expires
            engine.trim(BEGINNING, self._uploading)
        self._uploading = locations
        for location in locations:
            if location.of_changes:
                engine.put(location, self._parts(memoryview(content), INLINE_CHANGES))
            else:
                assert payload is not None
                parts = self._parts(payload, entry.chunk)
                engine.put(location, map(self._compressor.shorter, parts) if self._compressor else parts)
        if not engine.add(entry, locations):
            self._compare(engine, fast=False)
            return False
        self._bytes += (entry.size if entry.is_full else 0) + entry.changed
        self._top, self._lost = entry._replace(data=None, changes=b"", content=None), False
        self._uploading = []
        self._stored.note(entry)
        self._stored.trim(engine)
        return True

    def _parts(self, source: memoryview, size: int) -> Iterator[memoryview]:
        for at in range(0, len(source), size):
            self._check_stopped()
            yield source[at : at + size]

    def _note_sent(self, incarnation: int, seq: int) -> None:
        if self._sent != (incarnation, seq):
            self._note(None)  # before `flush` returns
            self._sent = incarnation, seq
            with self._changed:
                self._changed.notify_all()


def _retention(retain: float | timedelta) -> float:
    duration = seconds(retain, "retain")
    if duration > _MAX_RETAIN:  # nothing would be sent for so long
        raise InvalidArgumentError(f"retain must be {_MAX_RETAIN:,} seconds or less, not {retain!r}")
    return duration
