"""Processes in which one thread opens and closes writers and readers, while another one forks."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync import CapacityError, Reader, Writer
from stress.forks import run_forked
from stress.payloads import HEADER, digest_of, random_content, verify
from stress.settings import REPORT_INTERVAL, UNAVAILABLE, Settings, Violation
from stress.system import SHM

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_CONTENT_LIMIT = 8192
_LONGEST_PAUSE = 0.003
_LOCK_TIMEOUT = 30.0


def run_opener(settings: Settings, pipe: Connection, index: int, seed: int) -> None:
    """Open, close and fork until this process is killed. Each opener has its own name."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer: of forks in a process with threads
    _Opener(settings, pipe, opener_name(settings.name, index), random.Random(seed)).run()


def opener_name(name: str, index: int) -> str:
    """Return the name that an opener writes and reads."""
    return f"{name}-first-{index}"


class _Opener:
    """One process."""

    def __init__(self, settings: Settings, pipe: Connection, name: str, rng: random.Random) -> None:
        self._settings = settings
        self._pipe = pipe
        self._name = name
        self._rng = rng
        self._first_writes = 0
        self._error = ""

    def run(self) -> None:
        thread = threading.Thread(target=self._open_and_close, daemon=True)
        thread.start()
        forks, reported, due = 0, 0, 0.0
        while not self._error:
            time.sleep(self._rng.random() * _LONGEST_PAUSE)
            self._fork()
            forks += 1
            if time.monotonic() > due:
                due = time.monotonic() + REPORT_INTERVAL
                first_writes = self._first_writes
                self._send(forks_while_opening=forks, first_writes=first_writes - reported)
                forks, reported = 0, first_writes
        self._send(violation=self._error)

    def _send(self, **message: object) -> None:
        self._pipe.send_bytes(json.dumps(message).encode())

    def _open_and_close(self) -> None:
        rng = random.Random(self._rng.random())
        try:
            while True:
                self._write_first(rng)
                self._first_writes += 1
        except Exception as error:  # noqa: BLE001 - this process is the only writer of its name
            self._error = f"{self._name}: {type(error).__name__}: {error}"

    def _write_first(self, rng: random.Random) -> None:
        content = random_content(rng, _CONTENT_LIMIT)
        digest = digest_of(content)
        writer = Writer(self._name, lock_timeout=_LOCK_TIMEOUT)  # a child of a killed opener may not have closed it yet
        try:
            seq = writer.write_raw(HEADER.pack(0, 0, 0, digest) + content).version.seq
        except CapacityError:  # the harness has filled up /dev/shm
            writer.close()
            return
        with Reader(self._name) as reader, reader.read() as snapshot:
            if snapshot.version.seq != seq:
                raise Violation(f"version {snapshot.version.seq} was read, and {seq} published")
            verify(snapshot.value, seq, self._settings.removals)
        if rng.random() < 0.5:
            writer.unlink()
        writer.close()

    def _fork(self) -> None:
        try:
            run_forked(os.fork, self._check_child)
        except Violation as error:
            self._error = self._error or str(error)

    def _check_child(self) -> None:
        if self._has_descriptors():
            raise Violation("it has a descriptor of its parent")
        with suppress(*UNAVAILABLE), Reader(self._name) as reader, reader.read() as snapshot:
            verify(snapshot.value, snapshot.version.seq, self._settings.removals)

    def _has_descriptors(self) -> bool:
        prefix = str(SHM / self._name)
        for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - only the numbers are needed
            with suppress(OSError):  # that of the directory itself
                if os.readlink(f"/proc/self/fd/{entry}").startswith(prefix):  # noqa: PTH115
                    return True
        return False
