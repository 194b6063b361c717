"""The examples of each command: the words after `shmsync`, and code that makes them the same on every host."""

from __future__ import annotations

_TICKING = """
import time as _time
_start, _real = _time.perf_counter(), _time.monotonic()
_time.monotonic = lambda: _real + _time.perf_counter() - _start
"""
_DOCTOR = """
from shmsync.cli import _checks
from shmsync.cli._checks import Check
host = {
    "python": Check("python", "ok", "CPython 3.13.1, shmsync 0.1.0"),
    "space": Check("space", "warn", "48.0 MiB of 64.0 MiB free", "each name needs twice the size of its value; enlarge "
                   "/dev/shm (docker run --shm-size=1g, mount -o remount,size=...), or remove names with shmsync rm"),
    "shared_memory": Check("/dev/shm", "ok", "tmpfs, mode 1777"),
    "kernel_locks": Check("kernel locks", "ok", "open file description locks work"),
    "futexes": Check("futex", "ok", "futex and futex_waitv"),
    "namespaces": Check("namespaces", "ok", "not in a container"),
    "remove_ipc": Check("RemoveIPC", "ok", "does not apply to system users (uid 0)"),
}
_checks._CHECKS = tuple(
    (lambda found=host[each.__name__]: found) if each.__name__ in host else each for each in _checks._CHECKS
)
"""
_BENCH = """
from shmsync.cli import bench
microseconds = {"get(), unchanged": 0.09, "write() of 1 KiB, one reader attached": 8.4,
                "write() of 1 KiB and get() of it": 14.7, "write_raw() of 16.0 MiB": 1754.2}
bench._measure = lambda name, seconds: [bench.Timing(what, us, us * 0.95) for what, us in microseconds.items()]
"""
_DEMO = """
from shmsync.cli.demo import run
from shmsync.cli.demo.report import Summary
run.run = lambda options, progress: Summary(41, 5_420_000, 541_000.0, 87.0, 1, 1, 1, 0)
"""

EXAMPLES: dict[str, list[tuple[str, ...]]] = {
    "ls": [("ls",), ("ls 's*' model --quiet",), ("ls --sort memory model prices",)],
    "inspect": [("inspect model",), ("inspect broken",)],
    "readers": [("readers model",)],
    "top": [("top --count 2 --interval 0.3", _TICKING)],
    "get": [("get prices",), ("get prices users.17.groups",), ("get model --type",)],
    "watch": [("watch prices EURUSD --count 1",)],
    "publish": [("publish settings settings.json",)],
    "dump": [("dump prices prices.tar.gz",)],
    "restore": [("restore prices.tar.gz prices-copy",)],
    "rm": [("rm prices",), ("rm 'prices-*'", "", "y\n"), ("rm --force broken",)],
    "prune": [("prune --dry-run",), ("prune --yes",)],
    "doctor": [("doctor", _DOCTOR)],
    "bench": [("bench", _BENCH)],
    "demo": [("demo", _DEMO)],
}
"""In the order in which they run: some change what the next ones show."""

INTRODUCTIONS = {
    "publish": "With `--to`, see [Other hosts](howto/replication.md).",
    "replica": "See [Other hosts](howto/replication.md).",
    "prune": "`prune` is `rm --dead`.",
    "doctor": "An example; the findings are those of your host.",
    "bench": "An example; the figures are those of your host.",
    "demo": "Without the progress, which is written to stderr. An example; the figures are those of your host.",
    "top": "Without colours.",
}
