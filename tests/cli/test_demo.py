"""The demo as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from helpers import SHM, TIMEOUT, environment, until

from shmsync import WriterStats
from shmsync.cli.demo import airports
from shmsync.cli.demo.history import History
from shmsync.cli.demo.processes import WriteFinished, WriteStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = {"versions", "lookups", "lookups_per_s", "staleness_ms", "recovered", "replaced", "takeovers", "torn"}
MAIN = "from shmsync.__main__ import main; main()"


@contextmanager
def shmsync(*args: str, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run the command line, as the leader of a new process group."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"{before}\n{MAIN}", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(COLUMNS="80"),
    ) as process:
        yield process
    assert not [entry.name for entry in SHM.iterdir() if entry.name.startswith(f"demo-{process.pid}-")]
    until(lambda: not group_exists(process.pid))  # helper processes of multiprocessing exit after their parent


def group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, err


@pytest.mark.parametrize(
    "method",
    ["fork", pytest.param("spawn", marks=pytest.mark.slow), pytest.param("forkserver", marks=pytest.mark.slow)],
)
def test_the_demo_shows_each_recovery_and_nothing_torn(method: str) -> None:
    with shmsync("demo", "--seconds", "1", "--workers", "2", "--start-method", method, "--json") as process:
        status, out, err = ended(process)
    assert status == 0, err
    summary = json.loads(out)
    assert summary.keys() >= KEYS
    assert summary["torn"] == 0
    assert min(summary[key] for key in KEYS - {"torn"}) > 0
    assert "Traceback" not in err


def test_the_summary_is_readable() -> None:
    with shmsync("demo", "--seconds", "0", "--workers", "1", "--rate", "10") as process:
        status, out, err = ended(process)
    assert status == 0, err
    for words in (
        "versions published",
        "dead readers reclaimed",
        "segments replaced",
        "writer takeovers",
        "torn reads",
    ):
        assert words in out
    assert out.splitlines()[-1].startswith("PASS: ")
    assert "Next: " in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_cleans_up(number: int) -> None:
    with shmsync("demo", "--seconds", "60") as process:
        assert process.stderr is not None
        while "is stopped" not in process.stderr.readline():
            assert process.poll() is None
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        status, out, err = ended(process)
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted; all processes and segments have been removed"
    assert "Traceback" not in err


def test_torn_reads_are_failures() -> None:
    before = "from shmsync.cli.demo import airports; airports.is_intact = lambda value: False"
    with shmsync("demo", "--seconds", "0", "--json", before=before) as process:
        status, out, err = ended(process)
    assert status == 1
    assert json.loads(out)["torn"] > 0
    assert "torn reads" in err.splitlines()[-1]


def test_a_dead_process_is_a_failure() -> None:
    before = "from shmsync.cli.demo import processes; processes._newest_table = lambda name: 1 / 0"
    with shmsync("demo", "--json", before=before) as process:
        status, out, err = ended(process)
    assert (status, out) == (1, "")
    assert "the writer (pid " in err.splitlines()[-1]
    assert "exited unexpectedly" in err.splitlines()[-1]


def test_without_the_extras() -> None:
    for module, args, expected, hint in (
        ("typer", ["demo"], 2, "pip install 'shmsync[cli]'"),
        ("rich", ["demo"], 2, "pip install 'shmsync[cli]'"),
        ("airportsdata", ["demo"], 1, "pip install 'shmsync[demo]'"),
    ):
        with shmsync(*args, before=f"import sys; sys.modules[{module!r}] = None") as process:
            status, out, err = ended(process)
        assert (status, out, len(err.splitlines())) == (expected, "", 1), err
        assert hint in err


@pytest.mark.parametrize(
    "option", [["--workers", "0"], ["--rate", "0"], ["--start-method", "thread"], ["--seconds", "x"]]
)
def test_bad_options(option: list[str]) -> None:
    with shmsync("demo", *option) as process:
        status, _, err = ended(process)
    assert status == 2
    assert option[0] in err


def test_the_digest_covers_the_table() -> None:
    value = airports.next_table(airports.initial_table())
    assert airports.is_intact(value)
    table = value["airports"]
    code = next(iter(table))
    assert not airports.is_intact({**value, "airports": {**table, code: {**table[code], "elevation": 1.5}}})
    assert airports.next_table(value)["airports"] != table


def history(*numbers: int) -> History:
    recorded = History()
    for number in numbers:
        recorded.record("writer", WriteStarted(number))
        recorded.record("writer", WriteFinished(number, number, 0.0, reset=False, stats=WriterStats(number, 0, 2, 0)))
    return recorded


def test_the_history() -> None:
    assert history(1, 2, 3).problems == []
    assert len(history(1, 2, 2).problems) == 1
    assert len(history(1, 3, 2).problems) == 1
    recorded = history(1, 2)
    recorded.record("writer", WriteStarted(3))  # killed here: it may or may not have been published
    recorded.record("successor", WriteStarted(4))
    recorded.record("successor", WriteFinished(4, 4, 0.0, reset=False, stats=WriterStats(1, 0, 0, 1)))
    assert recorded.problems == []
    assert (recorded.last, recorded.takeovers) == (4, 1)
    recorded.record("successor", WriteFinished(6, 6, 0.0, reset=False, stats=WriterStats(1, 0, 0, 1)))
    assert len(recorded.problems) == 1
