"""Replicate versions through a real server, while everything is killed and stopped, and check what readers read.

    python tools/replication_soak --seconds 600

Publishers, replicas, readers and the server are killed or stopped at random instants. The server is restarted with its
data, without them, or with an older copy; chunks in it are damaged. Publishers write small and large versions and
changes, begin new incarnations of the name, and are started twice, so that one is fenced.

Each value contains its own number and a digest of all that it contains, which every reader checks at every read. Each
reader checks that the origin of its versions never goes back, and the harness, that each version contains the value
that a publisher has announced under that number, the same on all replicas. Between two storms all faults end and the
publisher is quiet: then each replica has to get the newest version, in some cases with the publisher gone. The exit
status is 1 if a newest version was lost, a value was torn, an older version followed a newer one, or anything is left
behind; stderr then shows the seed and a command to repeat the run.

Needs redis-server or valkey-server. As root, it runs in a mount namespace with its own /dev/shm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[0] = str(Path(__file__).parent.parent)  # the modules of this directory are not top-level ones

from replication_soak import server
from replication_soak.bugs import BUGS
from replication_soak.calm import KINDS, Calm
from replication_soak.crew import Crew
from replication_soak.storm import Storm
from stress.system import become_subreaper, has_private_shm, run_with_private_shm

if TYPE_CHECKING:
    from replication_soak.report import Report

_PRIVATE_SHM_SIZE = "2g"


def main() -> int:
    """Run the command."""
    options = _parse_options()
    if not has_private_shm() and shutil.which("unshare") and os.geteuid() == 0:
        status = run_with_private_shm(_PRIVATE_SHM_SIZE, [sys.executable, *sys.argv])
        if status is not None:
            return status
    if not options.json:
        print(f"seed {options.seed}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception, so that all is removed
    become_subreaper()
    report = asdict(_run(options))
    print(json.dumps(report) if options.json else "\n" + "\n".join(f"{key}: {value}" for key, value in report.items()))
    if not report["violations"]:
        return 0
    command = ["python", "tools/replication_soak", *sys.argv[1:], "--seed", str(options.seed)]  # the last seed counts
    print(f"seed {options.seed}; repeat this run: {' '.join(command)}", file=sys.stderr)
    return 1


def _run(options: argparse.Namespace) -> Report:
    """Alternate storms and calms until the time is up; the last one is a calm."""
    crew = Crew(options)
    storm, calm = Storm(crew, options), Calm(crew, options)
    try:
        crew.start()
        while crew.elapsed < options.seconds:
            storm.run()
            calm.run()
        crew.report.seconds = round(crew.elapsed, 1)
    finally:
        calm.close()
        crew.finish()
    return crew.report


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="replication_soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seconds", type=float, default=60.0, help="duration of the run; the last check may take longer")
    add("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="seed of the random choices")
    add("--replicas", type=int, default=3, help="number of replica processes")
    add("--readers", type=int, default=1, help="number of reader processes of each replica")
    add("--largest", type=int, default=8 << 20, help="largest payload, in bytes")
    add("--pause", type=float, default=0.03, help="mean pause between two versions, in seconds")
    add("--storm", type=float, default=3.0, help="mean time between two checks of the newest version, in seconds")
    add("--unlinks", type=int, default=200, help="begin another incarnation after one in N versions; 0: never")
    add("--start-method", default="fork", choices=multiprocessing.get_all_start_methods())
    add("--publisher-kills", type=float, default=0.5, help="publishers killed per second")
    add("--replica-kills", type=float, default=0.8, help="replicas killed per second")
    add("--reader-kills", type=float, default=0.5, help="readers killed per second")
    add("--server-kills", type=float, default=0.3, help="how often per second the server is killed")
    add("--stops", type=float, default=1.0, help="processes stopped per second")
    add("--returns", type=float, default=2.0, help="how often per second a publisher is started if none runs")
    add("--takeovers", type=float, default=0.2, help="how often per second a second publisher is started")
    add("--damage", type=float, default=0.2, help="chunks damaged per second")
    add("--timeout", type=float, default=60.0, help="seconds after which something counts as hanging")
    add("--calm", default="", choices=["", *KINDS], help="kind of all checks; by default, all kinds in random order")
    add("--bug", default="", choices=["", *BUGS], help="a known bug, which the run has to find")
    add("--json", action="store_true", help="print the report as one JSON object, without progress")
    options = parser.parse_args()
    if server.command() is None:
        parser.error("neither redis-server nor valkey-server is installed")
    return options


if __name__ == "__main__":
    sys.exit(main())
