"""The parent process: injects faults, records what is published, and checks what is left at the end."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import random
import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shmsync import codecs
from shmsync._core.layout import names_of
from shmsync._session.unlink import unlink_name
from shmsync.errors import DataReadError, StateReadError
from stress.c_readers import CReader, CReaders
from stress.ending import check_end
from stress.openers import opener_name, run_opener
from stress.payloads import verify
from stress.processes import TIMEOUT, ChildProcess
from stress.readers import MODES, open_reader, run_reader
from stress.removals import Removals
from stress.remover import Remover
from stress.report import Report
from stress.settings import UNAVAILABLE, Settings
from stress.system import SHM, has_private_shm, pss_kib, used_shm_mib, wait_for_descendants
from stress.writers import run_writer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

_WRITERS = 2
_CHECK_INTERVAL = 0.02
_PROGRESS_INTERVAL = 1.0
_TOTALS = ("resets", "replaced", "takeovers")
_COUNTS = (
    *("reads", "forks", "c_forks", "writes", "capacity_errors", "first_writes", "forks_while_opening", "restarts"),
    *("updates", "aborted_updates", "c_reads", "c_reader_forks"),
    *("removal_errors", "permitted_older", "refused_writes", "handler_calls", "handler_refusals"),
)


class Harness:
    """One run.

    Attributes:
        report: what it did and found so far.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        codecs.load()  # now: the writer of another user may not be able to read the interpreter's library
        self.report = Report(options.seed)
        self._options = options
        self._rng = random.Random(options.seed)
        self._context = multiprocessing.get_context(options.start_method)
        self._removals = Removals(self._context)
        self._settings = Settings(
            f"stress-{os.getpid()}",
            options.grace,
            options.largest,
            options.unlinks,
            not options.no_locks,
            options.reentrant,
            self._find_other_user(),
            self._removals,
            options.isolated,
        )
        self._remover = Remover(self._settings.name, self._removals, self._rng, self.report, isolated=options.isolated)
        self._in_read = self._context.RawArray("b", options.readers)
        self._users: list[int | None] = [None] * _WRITERS
        if self._settings.other_user is not None:
            self._users.append(self._settings.other_user)
        self._writers = [self._start_writer(index) for index in range(len(self._users))]
        self._readers = [self._start_reader(index) for index in range(options.readers)]
        self._program = CReaders(options.c_options, options.c_mutant) if options.c_readers else None
        self._c_readers = [self._start_c_reader(index) for index in range(options.c_readers)]
        self._openers = [self._start_opener(index) for index in range(options.openers)]
        self._reader = open_reader(self._settings)
        self._newest = 0
        self._check_due = 0.0
        self._progress_due = 0.0

    def _find_other_user(self) -> int | None:
        """Return the id of the user of the additional writer; None if there is none."""
        name = self._options.other_user
        if name and os.geteuid() == 0:
            return pwd.getpwnam(name).pw_uid
        self.report.left_out.append(f"writers of two users: {'needs root' if name else 'no --other-user'}")
        return None

    def _start_writer(self, index: int) -> ChildProcess:
        seed, user = self._rng.getrandbits(32), self._users[index]
        return ChildProcess(self._context, run_writer, self._settings, seed, user)

    def _start_opener(self, index: int) -> ChildProcess:
        return ChildProcess(self._context, run_opener, self._settings, index, self._rng.getrandbits(32))

    def _start_reader(self, index: int) -> ChildProcess:
        self._in_read[index] = 0
        seed, mode = self._rng.getrandbits(32), MODES[index % len(MODES)]
        return ChildProcess(self._context, run_reader, self._settings, self._in_read, index, seed, mode)

    def _start_c_reader(self, _: int) -> CReader:
        assert self._program is not None
        return CReader(self._program.path, self._settings, self._rng.getrandbits(32))

    def run(self) -> None:
        """Inject faults and check until the time is up, or until the first violation if that is enough."""
        start = time.monotonic()
        faults = self._faults()
        due = dict.fromkeys(faults, 0.0)
        while (now := time.monotonic()) < start + self._options.seconds:
            if self._options.fail_fast and self.report.violations:
                break
            for inject, rate in faults.items():
                if rate and now >= due[inject]:
                    due[inject] = max(now, due[inject]) + self._rng.expovariate(rate)
                    inject()
            self._check_processes()
            self._check_newest()
            self._check_healed()
            self._continue_stopped(now)
            self._show_progress(now - start)
            time.sleep(0.001)
        self.report.seconds = round(time.monotonic() - start, 1)

    def _show_progress(self, elapsed: float) -> None:
        if self._options.json or elapsed < self._progress_due:
            return
        self._progress_due = elapsed + _PROGRESS_INTERVAL
        end = "" if sys.stderr.isatty() else "\n"
        print(f"\r{self.report.progress(elapsed)}", end=end, file=sys.stderr, flush=True)

    # --------------------------------------------------------------------------------------------------------- faults

    def _faults(self) -> dict[Callable[[], None], float]:
        """Return each fault with its rate per second."""
        options = self._options
        return {
            self._kill_reader: options.reader_kills,
            self._kill_c_reader: options.reader_kills if self._c_readers else 0.0,
            self._kill_writer: options.writer_kills,
            self._stop_reader: options.stops,
            self._kill_opener: options.writer_kills / 4 if self._openers else 0.0,
            self._fill_shm: options.full if has_private_shm() else 0.0,
            self._remover.remove_segment: options.removals,
            self._remover.force: options.forced,
        }

    def _kill_reader(self) -> None:
        index = self._rng.randrange(len(self._readers))
        reader = self._readers[index]
        if reader.is_stopped:
            return
        self.report.kills_in_read += self._in_read[index]
        self._kill(reader)
        self.report.reader_kills += 1
        self._readers[index] = self._start_reader(index)

    def _kill_c_reader(self) -> None:
        index = self._rng.randrange(len(self._c_readers))
        reader = self._c_readers[index]
        if not reader.is_stopped:
            self._kill(reader)
            self.report.c_reader_kills += 1
            self._c_readers[index] = self._start_c_reader(index)

    def _kill_writer(self) -> None:
        index = self._rng.randrange(len(self._writers))
        self._kill(self._writers[index])
        self.report.writer_kills += 1
        self._writers[index] = self._start_writer(index)

    def _kill_opener(self) -> None:
        index = self._rng.randrange(len(self._openers))
        self._kill(self._openers[index])
        self._openers[index] = self._start_opener(index)

    def _kill(self, process: ChildProcess | CReader) -> None:
        process.kill()
        self._collect(process)

    def _stop_reader(self) -> None:
        reader = self._rng.choice([*self._readers, *self._c_readers])
        if not reader.is_stopped and reader.exit_status is None:
            reader.stop(self._options.grace * self._rng.uniform(1.5, 4))
            self.report.stops += 1

    def _continue_stopped(self, now: float) -> None:
        for reader in (*self._readers, *self._c_readers):
            reader.continue_if_due(now)

    def _fill_shm(self) -> None:
        filler = SHM / "filler"
        free = shutil.disk_usage(SHM).free
        with filler.open("wb") as file, suppress(OSError):  # if the writers were faster, it is full anyway
            os.posix_fallocate(file.fileno(), 0, max(free - self._rng.randrange(1 << 20), 1))
        self.report.full_episodes += 1
        time.sleep(0.01)
        self._check_newest()
        filler.unlink()

    # --------------------------------------------------------------------------------------------------------- checks

    def _check_newest(self) -> None:
        """Read as any reader does: a version that a writer reported as published, or a newer one, must be there."""
        if time.monotonic() < self._check_due:
            return
        self._check_due = time.monotonic() + _CHECK_INTERVAL
        started = time.monotonic_ns()
        try:
            with self._reader.read() as snapshot:
                timestamp = verify(snapshot.value, snapshot.version.seq, self._removals)
        except UNAVAILABLE:
            return
        except (DataReadError, StateReadError) as error:
            if self._removals.permit_error(started):
                self.report.removal_errors += 1
            else:
                self.report.violations.append(f"{type(error).__name__}: {error}")
            return
        except Exception as error:  # noqa: BLE001 - every error of a read is a violation
            self.report.violations.append(f"{type(error).__name__}: {error}")
            return
        if timestamp and timestamp < self._newest:
            if self._removals.permit_older(timestamp, self._newest):
                self.report.permitted_older += 1
            else:
                self.report.violations.append("a published version is lost")
            self._newest = timestamp
        self._newest = max(self._newest, timestamp)
        self.report.max_shm_mib = max(self.report.max_shm_mib, used_shm_mib())

    def _check_healed(self) -> None:
        if violation := self._remover.check():
            self.report.violations.append(violation)

    def _check_processes(self) -> None:
        """Collect the messages; replace processes that ended on their own, which they never should."""
        for process in self._processes():
            self._collect(process)
            if process.exit_status is not None:
                self.report.violations.append(f"a process ended on its own with status {process.exit_status}")
        for processes, start in (
            (self._readers, self._start_reader),
            (self._writers, self._start_writer),
            (self._openers, self._start_opener),
            (self._c_readers, self._start_c_reader),
        ):
            _replace_ended(processes, start)

    def _processes(self) -> list[ChildProcess | CReader]:
        return [*self._writers, *self._readers, *self._c_readers, *self._openers]

    def _collect(self, process: ChildProcess | CReader) -> None:
        for message in process.received():
            self._add(process.totals, message)

    def _add(self, totals: dict[str, int], message: dict[str, Any]) -> None:
        report = self.report
        if "violation" in message:
            report.violations.append(message["violation"])
        for count in _COUNTS:
            setattr(report, count, getattr(report, count) + message.get(count, 0))
        for total in _TOTALS:
            if total in message:
                setattr(report, total, getattr(report, total) + message[total] - totals.get(total, 0))
                totals[total] = message[total]
        report.max_read_attempts = max(report.max_read_attempts, message.get("attempts", 0))
        wait_ms = round(1000 * message.get("wait_beyond_grace", 0.0), 1)
        report.max_wait_beyond_grace_ms = max(report.max_wait_beyond_grace_ms, wait_ms)
        self._newest = max(self._newest, message.get("timestamp", 0))

    # ------------------------------------------------------------------------------------------------------------- end

    def finish(self) -> None:
        """Kill all processes, and check what they leave."""
        self._continue_stopped(float("inf"))
        self.report.readers_pss_mib = round(sum(pss_kib(reader.pid) for reader in self._readers) / 1024, 1)
        for process in self._processes():
            self._kill(process)
        if self._program is not None:
            self._program.close()
        violations = self.report.violations
        if not wait_for_descendants(TIMEOUT):
            violations.append("a process is left")
        for index in range(len(self._openers)):
            unlink_name(names_of(opener_name(self._settings.name, index)))
        self._remover.finish()
        violations += check_end(self._settings, self._reader)


def _replace_ended(processes: list[Any], start: Callable[[int], Any]) -> None:
    for index, process in enumerate(processes):
        if process.exit_status is not None:
            processes[index] = start(index)
