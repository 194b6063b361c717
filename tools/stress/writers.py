"""The writer processes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import CapacityError, WriteLockConflictError, Writer, codecs
from shmsync._core import slots
from stress.payloads import HEADER, NUMBER, digest_of, random_content, size_limits
from stress.settings import REPORT_INTERVAL, Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_RETRY_INTERVAL = 0.002


class Abandoned(Exception):  # noqa: N818 - raised on purpose
    """A write in place ends half-way."""


def run_writer(settings: Settings, pipe: Connection, seed: int) -> None:
    """Compete for the name; once it is ours, publish without a pause until this process is killed."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if not settings.locks:
        slots.reap = lambda *_: False  # only the grace duration recovers
    rng = random.Random(seed)
    process = _WriterProcess(settings, pipe, rng)
    for limit in size_limits(rng, settings.largest):
        process.write(random_content(rng, limit))


class _WriterProcess:
    """A writer and what it has to report."""

    def __init__(self, settings: Settings, pipe: Connection, rng: random.Random) -> None:
        self._settings = settings
        self._pipe = pipe
        self._rng = rng
        self._writer = Writer(settings.name, grace_duration=settings.grace, mode=0o600)
        self._seq = 0  # of our last version; 0: another writer may have published since
        self._writes = 0
        self._capacity_errors = 0
        self._max_wait_beyond_grace = 0.0
        self._report_due = 0.0

    def write(self, content: bytes) -> None:
        """Try to publish this content once."""
        timestamp = time.monotonic_ns() if self._seq else 0
        number = self._seq + 1 if self._seq else 0
        started, cpu_started = time.perf_counter(), time.thread_time()
        try:
            result = self._publish(timestamp, number, content)
        except (WriteLockConflictError, CapacityError) as error:
            self._handle_failure(error)
            return
        waited = time.perf_counter() - started - (time.thread_time() - cpu_started)
        self._max_wait_beyond_grace = max(self._max_wait_beyond_grace, waited - self._settings.grace)
        self._handle_success(result.version.seq, timestamp)

    def _handle_failure(self, error: Exception) -> None:
        if isinstance(error, CapacityError):
            self._capacity_errors += 1
        if isinstance(error, WriteLockConflictError) or self._writer._ownership is None:
            self._seq = 0
        time.sleep(_RETRY_INTERVAL)

    def _handle_success(self, seq: int, timestamp: int) -> None:
        if self._seq and seq != self._seq + 1:
            self._send(violation=f"version {seq} follows {self._seq}")
        self._seq = seq
        self._writes += 1
        if time.monotonic() > self._report_due:
            self._report(timestamp)
        if self._settings.unlinks and self._rng.randrange(self._settings.unlinks) == 0:
            self._writer.unlink()
            self._seq = 0

    def _report(self, timestamp: int) -> None:
        self._report_due = time.monotonic() + REPORT_INTERVAL
        stats = self._writer.stats()
        self._send(
            writes=self._writes,
            capacity_errors=self._capacity_errors,
            wait_beyond_grace=self._max_wait_beyond_grace,
            timestamp=timestamp,
            resets=stats.resets,
            replaced=stats.replaced,
            takeovers=stats.takeovers,
        )
        self._writes = self._capacity_errors = 0

    def _send(self, **message: object) -> None:
        self._pipe.send_bytes(json.dumps(message).encode())

    # ------------------------------------------------------------------------------------------------ ways to publish

    def _publish(self, timestamp: int, number: int, content: bytes) -> Any:
        kind = self._rng.randrange(5)
        if kind == 0 and number and len(content) < 64:
            return self._writer.write_raw(NUMBER.pack(number))
        digest = digest_of(content)
        header = HEADER.pack(timestamp, number, digest)
        if kind < 2:
            return self._writer.write_raw(header + content)
        if kind == 2:
            return self._publish_in_place(header, content)
        codec = codecs.by_name("msgpack" if kind == 3 else "archive")
        value = {"timestamp": timestamp, "number": number, "digest": digest, "content": content}
        return self._writer._publish(codec, codec.encode(value), None)

    def _publish_in_place(self, header: bytes, content: bytes) -> Any:
        if self._rng.randrange(4) == 0:
            with suppress(Abandoned), self._writer.reserve(len(content)) as reservation:
                reservation.buffer[: len(content) // 2] = content[: len(content) // 2]
                raise Abandoned
        with self._writer.reserve(len(header) + len(content)) as reservation:
            reservation.buffer[: len(header)] = header
            reservation.buffer[len(header) :] = content
        return reservation.result
