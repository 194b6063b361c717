"""Run writers and readers under real signals, and check every value that is read.

    python tools/stress --seconds 60

Readers and writers are killed; readers are stopped past the grace duration, fork with open snapshots, and are
interrupted by signals; the name is unlinked while it is read; /dev/shm is filled up. Readers and writers fork in C, and
other processes fork while one of their threads opens a name. Signal handlers call the writer in the middle of a write.
Single segments are removed or renamed, and the name is removed by force, under a live writer.

Every payload carries its sequence number, a timestamp and a digest, verified at the start and at the end of each
snapshot. The parent process records what was published, and when it removed something: until two seconds after the name
is complete again, that permits certain errors, and the loss of values of the incarnation that ended. The exit status is
1 if a value was corrupt, lost or out of order, or if anything is left behind; stderr then shows the seed and a command
to repeat the run.

As root, it runs in a mount namespace with its own /dev/shm, and one more writer belongs to another user. Otherwise it
never fills up /dev/shm, and all writers have the same user.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

sys.path[0] = str(Path(__file__).parent.parent)  # for `stress`; the modules of this directory are not top-level ones

from stress.c_mutants import MUTANTS
from stress.harness import Harness
from stress.system import become_subreaper, has_private_shm, run_with_private_shm

_PRIVATE_SHM_SIZE = "1g"


def main() -> int:
    """Run the command."""
    options = _parse_options()
    if not has_private_shm() and shutil.which("unshare") and os.geteuid() == 0:
        status = run_with_private_shm(_PRIVATE_SHM_SIZE, [sys.executable, *sys.argv])
        if status is not None:
            return status
    if not options.json:
        print(f"seed {options.seed}", file=sys.stderr)
    become_subreaper()
    harness = Harness(options)
    harness.run()
    harness.finish()
    report = asdict(harness.report)
    print(json.dumps(report) if options.json else "\n" + "\n".join(f"{key}: {value}" for key, value in report.items()))
    if not report["violations"]:
        return 0
    command = ["python", "tools/stress", *sys.argv[1:], "--seed", str(options.seed)]  # of two seeds the last counts
    print(f"seed {options.seed}; repeat this run: {' '.join(command)}", file=sys.stderr)
    return 1


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="stress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, help="duration of the run")
    add("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="seed of the random choices")
    add("--readers", type=int, default=5, help="number of reader processes")
    add("--c-readers", type=int, default=0, help="number of reader processes in C; needs a C compiler")
    add("--c-option", dest="c_options", action="append", default=[], help="of their compiler; may be repeated")
    add("--c-mutant", default="", choices=["", *MUTANTS], help="break a rule of theirs: a violation must be found")
    add("--fail-fast", action="store_true", help="end with the first violation")
    add("--grace", type=float, default=0.02, help="grace duration of the writers, in seconds")
    add("--largest", type=int, default=1 << 26, help="largest payload, in bytes")
    add("--unlinks", type=int, default=2000, help="unlink the name after one in N writes; 0: never")
    add("--start-method", default="fork", choices=multiprocessing.get_all_start_methods())
    add("--reader-kills", type=float, default=15.0, help="readers killed per second")
    add("--writer-kills", type=float, default=2.0, help="writers killed per second")
    add("--stops", type=float, default=3.0, help="readers stopped per second")
    add("--full", type=float, default=1.0, help="how many times per second to fill up /dev/shm")
    add("--removals", type=float, default=0.2, help="segments removed or renamed per second")
    add("--forced", type=float, default=0.1, help="forced removals of the name per second")
    add("--reentrant", type=float, default=0.02, help="share of the writes in which a signal handler calls the writer")
    add("--openers", type=int, default=1, help="number of processes that fork during first writes")
    add("--other-user", default="nobody", help="user of one more writer; '': none")
    add("--isolated", action="store_true", help="in isolated mode: every version gets an inode of its own")
    add("--no-locks", action="store_true", help="never detect dead readers by their locks; only evict them")
    add("--json", action="store_true", help="print the report as one JSON object, without progress")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
