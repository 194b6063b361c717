"""The writer processes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import CapacityError, ClosedError, UninitializedStateError, WriteLockConflictError, Writer, codecs
from shmsync._core import slots
from shmsync.errors import DataReadError, DataWriteError, StateReadError
from stress import tables
from stress.forks import c_fork, check_inherited_writer, run_forked
from stress.interruptions import Interruptions, check_closed
from stress.payloads import HEADER, NUMBER, Fields, digest_of, random_content, size_limits
from stress.sequence import Sequence
from stress.settings import REPORT_INTERVAL, Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_RETRY_INTERVAL = 0.002
_C_FORKS = 1 / 4000
"""Share of the writes that are followed by a fork in C."""
_TOTALS = ("resets", "replaced", "takeovers")
_COUNTS = (
    *("writes", "updates", "aborted_updates", "capacity_errors", "restarts", "refused_writes", "handler_calls"),
    *("handler_refusals", "c_forks"),
)
_UPDATES = 10
"""How many updates follow the full write of a table, at most."""


class Abandoned(Exception):  # noqa: N818 - raised on purpose
    """A write in place ends half-way."""


def run_writer(settings: Settings, pipe: Connection, seed: int, user: int | None) -> None:
    """Compete for the name; once it is ours, publish without a pause until this process is killed."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    if not settings.locks:
        slots.reap = lambda *_: False  # only the grace duration recovers
    rng = random.Random(seed)
    process = _WriterProcess(settings, pipe, rng)
    try:
        for limit in size_limits(rng, settings.largest):
            process.write(random_content(rng, limit))
    except Exception as error:  # noqa: BLE001 - every error that is not expected is a violation
        process.send(violation=f"write: {type(error).__name__}: {error}")


class _WriterProcess:
    """A writer and what it has to report."""

    def __init__(self, settings: Settings, pipe: Connection, rng: random.Random) -> None:
        self._settings = settings
        self._pipe = pipe
        self._rng = rng
        self._writer = self._open()
        self._sequence = Sequence(settings.removals)
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._closed_totals = dict.fromkeys(_TOTALS, 0)
        self._max_wait_beyond_grace = 0.0
        self._report_due = 0.0
        self._interruptions = Interruptions(rng)
        self._updates_left = 0
        self._has_restarted = False

    def _open(self) -> Writer[Any]:
        settings = self._settings
        return Writer(settings.name, grace_duration=settings.grace, mode=0o600, reuse_memory=not settings.isolated)

    def write(self, content: bytes) -> None:
        """Try to publish this content once."""
        if self._rng.random() < self._settings.reentrant:
            self._write_interrupted(content)
            return
        seq = self._sequence.seq
        timestamp = time.monotonic_ns() if seq else 0
        number = seq + 1 if seq else 0
        epoch = self._settings.removals.epoch()
        started, cpu_started = time.perf_counter(), time.thread_time()
        if (published := self._try_to_publish(timestamp, number, content)) is None:
            return
        waited = time.perf_counter() - started - (time.thread_time() - cpu_started)
        self._max_wait_beyond_grace = max(self._max_wait_beyond_grace, waited - self._settings.grace)
        self._note_published(published, epoch)
        if time.monotonic() > self._report_due:
            self._report(timestamp)
        if self._rng.random() < _C_FORKS:
            self._c_fork()
        if self._settings.unlinks and self._rng.randrange(self._settings.unlinks) == 0:
            self._unlink()

    def _try_to_publish(self, timestamp: int, number: int, content: bytes) -> int | None:
        """Return the sequence number of the new version; None after an error that is expected."""
        started = time.monotonic_ns()
        try:
            seq: int = self._publish(timestamp, number, content).version.seq
        except CapacityError:
            self._counts["capacity_errors"] += 1
            if self._writer._ownership is None:
                self._sequence.lose()
        except WriteLockConflictError:
            self._sequence.lose()
        except (StateReadError, DataReadError, DataWriteError):
            self._check_refused(started)
            self._sequence.lose()
        else:
            return seq
        time.sleep(_RETRY_INTERVAL)
        return None

    def _check_refused(self, started: int) -> None:
        """Raise the current exception, unless the segments may belong to the other user or be missing."""
        if self._settings.other_user is None and not self._settings.removals.permit_error(started):
            raise  # noqa: PLE0704 - called where an exception is handled
        self._counts["refused_writes"] += 1

    def _note_published(self, seq: int, epoch: int) -> None:
        self._counts["writes"] += 1
        self._has_restarted = seq <= self._sequence.seq
        self._counts["restarts"] += self._has_restarted
        if not self._sequence.seq:
            self._check_owner()
        state = self._writer._owner.state
        if violation := self._sequence.publish(seq, state.header.incarnation if state else 0, epoch):
            self.send(violation=violation)

    def _check_owner(self) -> None:
        """Check that this writer has not adopted segments of the other user, who could read and change them."""
        state = self._writer._owner.state
        if state is not None and state._locks.status().st_uid != os.geteuid():
            self.send(violation="a writer publishes into segments of another user")

    def _c_fork(self) -> None:
        run_forked(c_fork, lambda: check_inherited_writer(self._writer))
        self._counts["c_forks"] += 1

    def _unlink(self) -> None:
        self._sequence.lose()
        with suppress(WriteLockConflictError, StateReadError, DataWriteError):  # another writer was faster
            self._writer.unlink()

    def _write_interrupted(self, content: bytes) -> None:
        """Publish while a signal handler calls the same writer."""
        writer, epoch = self._writer, self._settings.removals.epoch()
        seq, started = None, time.monotonic_ns()
        try:
            with self._interruptions.during(writer):
                seq = self._try_to_publish(0, 0, content)
        except ClosedError:
            if not self._interruptions.accepted:
                raise
        try:
            if self._interruptions.error:
                raise self._interruptions.error
        except (StateReadError, DataWriteError):
            self._check_refused(started)
        accepted = self._interruptions.accepted
        self._counts["handler_calls"] += self._interruptions.calls
        self._counts["handler_refusals"] += self._interruptions.refused
        self._interruptions.calls = self._interruptions.refused = 0
        if seq is not None and not accepted:
            self._note_published(seq, epoch)
        else:
            self._sequence.lose()
        if "close" in accepted:
            self._reopen()

    def _reopen(self) -> None:
        if violation := check_closed(self._writer):
            self.send(violation=violation)
        stats = self._writer.stats()
        for total in _TOTALS:
            self._closed_totals[total] += getattr(stats, total)
        self._writer = self._open()

    def _report(self, timestamp: int) -> None:
        self._report_due = time.monotonic() + REPORT_INTERVAL
        stats = self._writer.stats()
        totals = {total: getattr(stats, total) + self._closed_totals[total] for total in _TOTALS}
        self.send(wait_beyond_grace=self._max_wait_beyond_grace, timestamp=timestamp, **self._counts, **totals)
        self._counts = dict.fromkeys(_COUNTS, 0)

    def send(self, **message: object) -> None:
        """Send a message to the harness."""
        self._pipe.send_bytes(json.dumps(message).encode())

    # ------------------------------------------------------------------------------------------------ ways to publish

    def _publish(self, timestamp: int, number: int, content: bytes) -> Any:
        if self._updates_left:
            self._updates_left -= 1
            return self._publish_update(timestamp, number)
        kind = self._rng.randrange(6)
        if kind == 5:
            return self._publish_table(timestamp, number)
        if kind == 0 and number and len(content) < 64:
            return self._writer.write_raw(NUMBER.pack(number, self._sequence.epoch))
        digest = digest_of(content)
        header = HEADER.pack(timestamp, number, self._sequence.epoch, digest)
        if kind < 2:
            return self._writer.write_raw(header + content)
        if kind == 2:
            return self._publish_in_place(header, content)
        codec = codecs.by_name("msgpack" if kind == 3 else "archive")
        value = Fields(timestamp, number, self._sequence.epoch, digest, content)._asdict()
        return self._writer._publish(codec, codec.encode(value), None)

    def _publish_table(self, timestamp: int, number: int) -> Any:
        self._updates_left = self._rng.randrange(_UPDATES)
        rows = tables.new_rows(self._rng, number)
        fields = Fields(timestamp, number, self._sequence.epoch, 0, b"")._asdict()
        counts = {"base": number, "updates": 0}
        return self._writer.write({**fields, **counts, "rows": rows, "total": tables.total_of(rows)})

    def _publish_update(self, timestamp: int, number: int) -> Any:
        if self._rng.randrange(8) == 0:
            with suppress(Abandoned, UninitializedStateError), self._writer.update() as draft:
                if self._is_table(draft):
                    tables.scribble(draft, self._rng)
                self._counts["aborted_updates"] += 1
                raise Abandoned
        draft = self._writer.update()
        with suppress(Abandoned, UninitializedStateError), draft:
            if not self._is_table(draft):  # of another writer, or of a new incarnation
                raise Abandoned
            draft.update(timestamp=timestamp, number=number, epoch=self._sequence.epoch)
            tables.change(draft, self._rng, number, restarted=self._has_restarted)
            self._counts["updates"] += 1
        return draft.result or self._publish_table(timestamp, number)

    @staticmethod
    def _is_table(draft: Any) -> bool:
        return isinstance(draft.value, MutableMapping) and "rows" in draft

    def _publish_in_place(self, header: bytes, content: bytes) -> Any:
        if self._rng.randrange(4) == 0:
            with suppress(Abandoned), self._writer.reserve(len(content)) as reservation:
                reservation.buffer[: len(content) // 2] = content[: len(content) // 2]
                raise Abandoned
        with self._writer.reserve(len(header) + len(content)) as reservation:
            reservation.buffer[: len(header)] = header
            reservation.buffer[len(header) :] = content
        return reservation.result
