"""The fork harness: real writers and readers under real signals, and two independent detectors.

    python tools/stress.py --seconds 60

It kills readers and writers, stops readers past the grace duration, has them fork with live snapshots, read under a
storm of signals, unlinks the name under them and fills /dev/shm up. Every payload carries its sequence number, a stamp
and a digest, checked at the start and at the end of each hold; the parent keeps a ledger of what was published. Exit
status 1, with the seed and a line to replay the run, if anything was torn, lost, reordered or left behind.

As root it runs in a mount namespace with a /dev/shm of its own; otherwise it leaves out what needs that.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shmsync import Reader, Writer
from shmsync._core.layout import HIGH_WATER_AT, slot_offset
from stress_actors import NOT_THERE, Plan, read, stamp_of, write

SHM = Path("/dev/shm")
PRIVATE = "SHMSYNC_STRESS_PRIVATE"
PATIENCE = 30.0
_PR_SET_CHILD_SUBREAPER = 36
MANNERS = ["alone", "threads", "storm", "alone", "namespace"]


@dataclass
class Tally:
    """What a run has done and found."""

    seed: int
    seconds: float = 0.0
    written: int = 0
    reads: int = 0
    reader_kills: int = 0
    kills_inside: int = 0
    writer_kills: int = 0
    takeovers: int = 0
    stops: int = 0
    forks: int = 0
    full_episodes: int = 0
    capacity_errors: int = 0
    resets: int = 0
    replaced: int = 0
    most_rounds_of_a_read: int = 0
    longest_wait_beyond_grace_ms: float = 0.0
    most_shm_mib: float = 0.0
    pss_mib: float = 0.0
    violations: list[str] = field(default_factory=list)


class Actor:
    """A process and what the harness knows of it."""

    def __init__(self, context: Any, target: Any, *args: Any) -> None:
        self.pipe, theirs = context.Pipe(duplex=False)
        plan, *rest = args
        self.process = context.Process(target=target, args=(plan, theirs, *rest))
        self.process.start()
        theirs.close()
        self.stopped_until = 0.0
        self.stats: dict[str, Any] = {}

    def heard(self) -> list[dict[str, Any]]:
        """Return what it has said."""
        said = []
        try:
            while self.pipe.poll():
                said.append(json.loads(self.pipe.recv_bytes()))
        except (EOFError, OSError):
            pass
        return said

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.join(PATIENCE)
        assert not self.process.is_alive(), "SIGKILL did not end a process"


class Harness:
    """One run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.rng = random.Random(args.seed)
        self.tally = Tally(args.seed)
        self.plan = Plan(f"stress-{os.getpid()}", args.grace, args.largest, args.unlinks, not args.no_locks)
        self.context = multiprocessing.get_context(args.start_method)
        self.inside = self.context.RawArray("b", args.readers)
        self.writers = [self._writer() for _ in range(2)]
        self.readers = [self._reader(place) for place in range(args.readers)]
        self.own = Reader(self.plan.name, timeout=PATIENCE)
        self.newest = 0
        self.look_at = 0.0

    def _writer(self) -> Actor:
        return Actor(self.context, write, self.plan, self.rng.getrandbits(32))

    def _reader(self, place: int) -> Actor:
        self.inside[place] = 0
        manner = MANNERS[place % len(MANNERS)]
        return Actor(self.context, read, self.plan, self.inside, place, self.rng.getrandbits(32), manner)

    # ---------------------------------------------------------------------------------------------------------- chaos

    def run(self) -> None:
        """Do all of it until the time is over."""
        start = time.monotonic()
        due = dict.fromkeys(self._acts(), 0.0)
        show_at = 0.0
        while (now := time.monotonic()) < start + self.args.seconds:
            for act, rate in self._acts().items():
                if rate and now >= due[act]:
                    due[act] = max(now, due[act]) + self.rng.expovariate(rate)
                    act()
            self._listen()
            self._look()
            self._go_on_with_the_stopped(now)
            if now >= show_at and not self.args.json:
                show_at = now + 1.0
                self._show(now - start)
            time.sleep(0.001)
        self.tally.seconds = round(time.monotonic() - start, 1)

    def _acts(self) -> dict[Any, float]:
        args = self.args
        return {
            self._kill_a_reader: args.reader_kills,
            self._kill_a_writer: args.writer_kills,
            self._stop_a_reader: args.stops,
            self._fill_up: args.full if os.environ.get(PRIVATE) else 0.0,
        }

    def _kill_a_reader(self) -> None:
        place = self.rng.randrange(len(self.readers))
        reader = self.readers[place]
        if reader.stopped_until:
            return
        self.tally.kills_inside += self.inside[place]
        reader.end()
        self._note(reader)
        self.tally.reader_kills += 1
        self.readers[place] = self._reader(place)

    def _kill_a_writer(self) -> None:
        number = self.rng.randrange(len(self.writers))
        writer = self.writers[number]
        writer.end()
        self._note(writer)
        self.tally.writer_kills += 1
        self.writers[number] = self._writer()

    def _stop_a_reader(self) -> None:
        reader = self.rng.choice(self.readers)
        if not reader.stopped_until and reader.process.is_alive():
            os.kill(reader.process.pid, signal.SIGSTOP)
            reader.stopped_until = time.monotonic() + self.args.grace * self.rng.uniform(1.5, 4)
            self.tally.stops += 1

    def _go_on_with_the_stopped(self, now: float) -> None:
        for reader in self.readers:
            if reader.stopped_until and now >= reader.stopped_until:
                os.kill(reader.process.pid, signal.SIGCONT)
                reader.stopped_until = 0.0

    def _fill_up(self) -> None:
        filler = SHM / "filler"
        free = shutil.disk_usage(SHM).free
        with filler.open("wb") as file, suppress(OSError):  # if the writers were quicker, it is full in any case
            os.posix_fallocate(file.fileno(), 0, max(free - self.rng.randrange(1 << 20), 1))
        self.tally.full_episodes += 1
        time.sleep(0.01)
        self._look()
        filler.unlink()

    # -------------------------------------------------------------------------------------------------------- detection

    def _look(self) -> None:
        """Read as everybody does: what a writer has said to be published must be there, or something newer."""
        if time.monotonic() < self.look_at:
            return
        self.look_at = time.monotonic() + 0.02
        try:
            with self.own.read() as snapshot:
                stamp = stamp_of(snapshot.value, snapshot.version.seq)
        except NOT_THERE:
            return
        except Exception as finding:  # noqa: BLE001 - whatever a read raises here is one
            self.tally.violations.append(f"{type(finding).__name__}: {finding}")
            return
        if stamp and stamp < self.newest:
            self.tally.violations.append("a version that was published is gone")
        self.newest = max(self.newest, stamp)
        used = shutil.disk_usage(SHM).used if os.environ.get(PRIVATE) else 0
        self.tally.most_shm_mib = max(self.tally.most_shm_mib, round(used / (1 << 20), 1))

    def _listen(self) -> None:
        for actor in (*self.writers, *self.readers):
            self._note(actor)
            if not actor.process.is_alive():
                self.tally.violations.append(f"a process ended by itself, status {actor.process.exitcode}")
        self.readers = [r if r.process.is_alive() else self._reader(place) for place, r in enumerate(self.readers)]
        self.writers = [w if w.process.is_alive() else self._writer() for w in self.writers]

    def _note(self, actor: Actor) -> None:
        tally = self.tally
        for said in actor.heard():
            if "violation" in said:
                tally.violations.append(said["violation"])
            tally.reads += said.get("reads", 0)
            tally.forks += said.get("forks", 0)
            tally.most_rounds_of_a_read = max(tally.most_rounds_of_a_read, said.get("rounds", 0))
            tally.written += said.get("written", 0)
            tally.capacity_errors += said.get("full", 0)
            beyond = round(1000 * said.get("beyond", 0.0), 1)
            tally.longest_wait_beyond_grace_ms = max(tally.longest_wait_beyond_grace_ms, beyond)
            for count in ("resets", "replaced", "takeovers"):
                now = said.get(count, actor.stats.get(count, 0))
                setattr(tally, count, getattr(tally, count) + now - actor.stats.get(count, 0))
                actor.stats[count] = now
            self.newest = max(self.newest, said.get("stamp", 0))

    # -------------------------------------------------------------------------------------------------------------- end

    def finish(self) -> None:
        """End all processes by force; what is left must serve the next writer and every reader at once."""
        self._go_on_with_the_stopped(float("inf"))
        self.tally.pss_mib = round(sum(_pss(actor.process.pid) for actor in self.readers) / 1024, 1)
        for actor in (*self.writers, *self.readers):
            actor.end()
            self._note(actor)
        violations = self.tally.violations
        if not _all_children_end():
            violations.append("a process is left")
        with Writer(self.plan.name, grace_duration=PATIENCE) as writer:
            started = time.monotonic()
            for number in range(4):
                writer.write(number)
                if self.own.get() != number:
                    violations.append("the next version is not the newest")
            if self.plan.locks and time.monotonic() - started > PATIENCE / 2:
                violations.append("a dead reader delayed a write")
            self._check_counts(violations)
            self.own.close()
            writer.unlink()
        violations += [f"{left.name} is left in /dev/shm" for left in SHM.glob(f"{self.plan.name}*")]

    def _check_counts(self, violations: list[str]) -> None:
        if not self.plan.locks:
            return
        table = (SHM / f"{self.plan.name}_readers").read_bytes()
        high = int.from_bytes(table[HIGH_WATER_AT : HIGH_WATER_AT + 8], sys.byteorder)
        left = [index for index in range(high) if any(table[slot_offset(index) : slot_offset(index) + 8])]
        if left:
            violations.append(f"counts are left in slots {left}")

    def _show(self, elapsed: float) -> None:
        tally = self.tally
        print(
            f"\r{elapsed:4.0f} s  {tally.written:,} writes  {tally.reads:,} reads  killed {tally.reader_kills} readers "
            f"({tally.kills_inside} inside), {tally.writer_kills} writers  {tally.stops} stops  {tally.forks} forks  "
            f"{tally.full_episodes} full  {len(tally.violations)} violations",
            end="" if sys.stderr.isatty() else "\n",
            file=sys.stderr,
            flush=True,
        )


def _all_children_end() -> bool:
    """Wait for the orphans, whose forebears were killed: they still hold what they share."""
    helpers = {"resource_tracker", "forkserver"}  # multiprocessing's own; they end with us
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        pids = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        if all(any(helper in _command(pid) for helper in helpers) for pid in pids):
            return True
        time.sleep(0.01)
    return False


def _command(pid: str) -> str:
    with suppress(OSError):
        return Path("/proc", pid, "cmdline").read_text()
    return ""


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def in_private_shm(size: str) -> int | None:
    """Run this program again with a /dev/shm of its own; return its status, or None if that cannot be."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        return None
    command = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, *sys.argv]
    return subprocess.run(command, env={**os.environ, PRIVATE: "1"}, check=False).returncode


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--readers", type=int, default=5, help="reader processes at a time")
    parser.add_argument("--grace", type=float, default=0.02, help="grace duration of the writers, in seconds")
    parser.add_argument("--largest", type=int, default=1 << 26, help="largest payload, in bytes")
    parser.add_argument("--unlinks", type=int, default=2000, help="one write in so many unlinks the name; 0: none")
    parser.add_argument("--start-method", default="fork", choices=multiprocessing.get_all_start_methods())
    parser.add_argument("--reader-kills", type=float, default=15.0, help="per second")
    parser.add_argument("--writer-kills", type=float, default=2.0, help="per second")
    parser.add_argument("--stops", type=float, default=3.0, help="per second")
    parser.add_argument("--full", type=float, default=1.0, help="times per second that /dev/shm fills up")
    parser.add_argument("--no-locks", action="store_true", help="no proof of death: only the grace duration recovers")
    parser.add_argument("--json", action="store_true", help="print the tally as one JSON object, and no progress")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if PRIVATE not in os.environ and shutil.which("unshare") and os.geteuid() == 0:
        status = in_private_shm("1g")
        if status is not None:
            return status
    if not args.json:
        print(f"seed {args.seed}", file=sys.stderr)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    harness = Harness(args)
    harness.run()
    harness.finish()
    tally = asdict(harness.tally)
    print(json.dumps(tally) if args.json else "\n" + "\n".join(f"{name}: {value}" for name, value in tally.items()))
    if not tally["violations"]:
        return 0
    options = [option for option in sys.argv[1:] if not option.startswith("--seed")]
    print(f"seed {args.seed}; replay: python tools/stress.py --seed {args.seed} {' '.join(options)}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
