"""The reader processes."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import Reader
from shmsync.errors import DataReadError, StateReadError
from stress import attempts
from stress.forks import c_fork, check_inherited_snapshot, run_forked
from stress.payloads import NUMBER, unpack, verify
from stress.settings import REPORT_INTERVAL, UNAVAILABLE, Settings, Violation
from stress.system import enter_pid_namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

MODES = ["single", "threads", "signals", "single", "namespace"]
"""How a reader process reads: in one thread, in three, interrupted by signals, in its own PID namespace."""

_MAX_RETAINED = 6
_CHECKED = 0.1
"""Share of the reads that compare the payload with its digests first."""
_RETAINING = {"read": 40, "get": 40, "retain": 10, "verify_retained": 6, "fork": 3, "c_fork": 1, "reopen": 1}
_COUNTS = ("forks", "c_forks", "removal_errors", "permitted_older")
_NOT_RETAINING = {"read": 85, "release": 10, "fork": 4, "c_fork": 1, "reopen": 1}


_send_lock = threading.Lock()
"""Held while a thread of this process writes to its pipe."""


def open_reader(settings: Settings, timeout: float = 0.0) -> Reader[Any]:
    """Return a reader that trusts the users of all writers."""
    return Reader(settings.name, timeout=timeout, owner=settings.other_user)


class Interrupt(Exception):  # noqa: N818 - as KeyboardInterrupt
    """Raised by a signal handler, at any instruction."""


def _interrupt(*_: object) -> None:
    raise Interrupt


class ReadLoop:
    """A thread that reads.

    Args:
        reader: the reader, which the threads of a process share.
        in_read: shared flags, one for each reader process: whether it holds a snapshot.
        index: index of this process in `in_read`.
        mode: one of MODES.
    """

    def __init__(
        self, settings: Settings, reader: Reader, pipe: Connection, in_read: Any, index: int, seed: int, mode: str
    ) -> None:
        self._settings = settings
        self._removals = settings.removals
        self._reader = reader
        self._pipe = pipe
        self._in_read = in_read
        self._index = index
        self._mode = mode
        self._rng = random.Random(seed)
        self._retained: list[tuple[Any, int]] = []
        self._reads = 0
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._newest = 0
        self._report_due = 0.0

    def run(self) -> None:
        """Read until this process is killed; report the first violation and return."""
        if self._mode == "signals":
            signal.signal(signal.SIGALRM, _interrupt)
        step = self._read_interrupted if self._mode == "signals" else self._act
        try:
            while True:
                step()
        except Exception as error:  # noqa: BLE001 - every error of a read is a violation
            self._send(violation=f"{type(error).__name__}: {error}")

    def _read_interrupted(self) -> None:
        """Read while a signal handler raises an exception after some microseconds."""
        with suppress(Interrupt):
            try:
                signal.setitimer(signal.ITIMER_REAL, self._rng.uniform(1e-5, 1e-3))
                self._call(self._read_and_get)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(Interrupt):
            self._reads += 1
            self._report()

    def _read_and_get(self) -> None:
        with self._reader.read() as snapshot:
            verify(snapshot.value, snapshot.version.seq, self._removals)
        self._reader.get()

    def _report(self) -> None:
        self._report_due = time.monotonic() + REPORT_INTERVAL
        self._send(reads=self._reads, attempts=attempts.counter.maximum, **self._counts)
        self._reads = 0
        self._counts = dict.fromkeys(_COUNTS, 0)

    def _send(self, **message: object) -> None:
        with _send_lock:
            self._pipe.send_bytes(json.dumps(message).encode())

    # -------------------------------------------------------------------------------------------------------- actions

    def _act(self) -> None:
        # Every other second no reader retains a value, or hardly any write would be in place.
        weights = _RETAINING if int(time.monotonic()) % 2 else _NOT_RETAINING
        action = self._rng.choices(list(weights), list(weights.values()))[0]
        self._call(getattr(self, f"_{action}"))
        self._reads += 1
        if time.monotonic() > self._report_due:
            self._report()

    def _call(self, action: Callable[[], None]) -> None:
        """Call something that reads; while a segment is missing, it may raise."""
        started = time.monotonic_ns()
        try:
            action()
        except UNAVAILABLE:
            pass
        except (DataReadError, StateReadError):
            if not self._removals.permit_error(started):
                raise
            self._counts["removal_errors"] += 1

    def _check_order(self, timestamp: int) -> None:
        if self._mode == "threads" or not timestamp:  # one thread may overtake another
            return
        if timestamp < self._newest and self._removals.permit_older(timestamp, self._newest):
            self._counts["permitted_older"] += 1
        elif timestamp < self._newest:
            raise Violation(f"an older version was read {self._newest - timestamp} ns after a newer one")
        self._newest = timestamp

    def _read(self) -> None:
        with self._reader.read(check_bytes=self._rng.random() < _CHECKED) as snapshot:
            self._in_read[self._index] = 1
            seq = snapshot.version.seq
            timestamp = verify(snapshot.value, seq, self._removals)
            if self._rng.random() < 0.05:
                time.sleep(self._rng.random() * 2 * self._settings.grace)
            verify(snapshot.value, seq, self._removals)
            self._check_order(timestamp)
        self._in_read[self._index] = 0

    def _get(self) -> None:
        value = self._reader.get()
        if isinstance(value, memoryview) and len(value) == NUMBER.size:
            return
        self._check_order(verify(value, unpack(value).number, self._removals))

    def _retain(self) -> None:
        with self._reader.read() as snapshot:
            self._retained.append((snapshot.value, snapshot.version.seq))
        if len(self._retained) > _MAX_RETAINED:
            del self._retained[: self._rng.randrange(_MAX_RETAINED)]

    def _release(self) -> None:
        self._retained.clear()

    def _verify_retained(self) -> None:
        for value, seq in self._retained:
            verify(value, seq, self._removals)

    def _reopen(self) -> None:
        if self._mode != "threads":
            self._reader.close()
            self._reader = open_reader(self._settings)

    def _fork(self) -> None:
        """Fork with an open snapshot; parent and child both continue to read it."""
        if self._mode == "threads":
            return
        with self._reader.read() as snapshot:
            seq = snapshot.version.seq
            child = os.fork()
            if child == 0:
                self._run_child(snapshot, seq)
            self._counts["forks"] += 1
            if self._rng.random() < 0.3:
                os.kill(child, signal.SIGKILL)
            verify(snapshot.value, seq, self._removals)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise Violation(f"a forked reader of version {seq} ended with status {os.WEXITSTATUS(status)}")

    def _c_fork(self) -> None:
        """Fork in C, with an open snapshot; of a process with more threads, the child could wait for a lost one."""
        if self._mode == "threads":
            return
        with self._reader.read() as snapshot:
            run_forked(c_fork, lambda: self._run_c_forked(snapshot))
            self._counts["c_forks"] += 1
            verify(snapshot.value, snapshot.version.seq, self._removals)

    def _run_c_forked(self, snapshot: Any) -> None:
        if self._settings.isolated:  # its memory is never written to again
            verify(snapshot.value, snapshot.version.seq, self._removals)
        else:
            check_inherited_snapshot(snapshot)
        self._call(self._read_and_get)

    def _run_child(self, snapshot: Any, seq: int) -> None:
        status = 3
        with suppress(Exception):
            verify(snapshot.value, seq, self._removals)
            time.sleep(self._rng.random() * self._settings.grace)
            verify(snapshot.value, seq, self._removals)
            self._call(self._read_and_get)
            snapshot.close()
            status = 0
        os._exit(status)


def run_reader(settings: Settings, pipe: Connection, in_read: Any, index: int, seed: int, mode: str) -> None:
    """Read until this process is killed. See `ReadLoop` and `MODES`."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # what is measured is the wait of the writer, not of the scheduler
    sys.unraisablehook = lambda _: None  # signals interrupt finalizers, too
    if mode == "namespace":
        enter_pid_namespace()
    attempts.count_attempts()
    reader = open_reader(settings)
    if mode == "threads":
        for number in range(2):
            loop = ReadLoop(settings, reader, pipe, in_read, index, seed + number, mode)
            threading.Thread(target=loop.run, daemon=True).start()
    ReadLoop(settings, reader, pipe, in_read, index, seed, mode).run()
