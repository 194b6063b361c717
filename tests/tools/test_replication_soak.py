"""What the soak of replication calls a violation; short runs, without and with a known bug."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from shmsync import Reader, Writer

pytest.importorskip("redis")

from replication_soak.history import History
from replication_soak.values import Identity, TornError, change_table, new_raw, new_table, sizes, verified

TOOL = Path(__file__).parents[2] / "tools" / "replication_soak"
FIRST, SECOND = Identity(7, 1, 100), Identity(7, 2, 101)
_MAX_RUNS = 10
needs_server = pytest.mark.skipif(
    not any(map(shutil.which, ("redis-server", "valkey-server"))), reason="needs redis-server"
)


@pytest.mark.parametrize("size", [32, 33, 5_000, 300_000])
def test_raw_values(size: int) -> None:
    raw = new_raw(random.Random(size), FIRST, size)
    assert len(raw) == size
    assert verified(memoryview(raw)) == FIRST
    for at in {0, 8, 16, 24, size - 1}:
        damaged = bytearray(raw)
        damaged[at] ^= 1
        with pytest.raises(TornError):
            verified(memoryview(damaged))


def test_tables_that_are_updated(name: str) -> None:
    rng = random.Random(1)
    with Writer[Any](name) as writer, Reader[Any](name) as reader:
        writer.write(new_table(rng, FIRST, 300_000))
        for seq in range(2, 20):
            identity = Identity(7, seq, rng.getrandbits(62))
            with writer.update() as draft:
                change_table(draft, rng, identity)
            assert verified(reader.get()) == identity
        value = dict(reader.get())
        value["rows"] = value["rows"].copy()
        value["rows"][-1, -1] ^= 1
        with pytest.raises(TornError):
            verified(value)
        writer.unlink()


def test_sizes_are_those_of_payloads() -> None:
    rng = random.Random(1)
    found = [size for size, _ in zip(sizes(rng, 4 << 20), range(500), strict=False)]
    assert all(len(new_raw(rng, FIRST, size)) == size for size in set(found))
    assert max(found) <= 4 << 20


def test_what_readers_may_see() -> None:
    history = History()
    assert "was not published" in history.see((5, 1), FIRST)
    history.announce(FIRST)
    history.announce(SECOND)
    assert history.see((5, 1), FIRST) == history.see((5, 1), FIRST) == ""
    assert "contains" in history.see((5, 1), SECOND)
    assert history.see((5, 2), SECOND) == history.see((6, 2), SECOND) == ""


def test_two_values_as_one_version_are_found() -> None:
    history = History()
    for number in (100, 101):
        history.announce(Identity(7, 1, number))
    assert history.see((5, 1), Identity(7, 1, 100)) == ""
    assert "elsewhere" in history.see((5, 1), Identity(7, 1, 101))


def test_two_incarnations_in_one_epoch_are_found() -> None:
    history = History()
    history.announce(FIRST)
    history.announce(Identity(8, 2, 101))
    assert history.see((5, 1), FIRST) == ""
    assert "two incarnations" in history.see((5, 2), Identity(8, 2, 101))


def run_soak(*options: str) -> dict[str, Any]:
    faults = ("--server-kills", "1", "--takeovers", "0.5", "--publisher-kills", "1", "--largest", "2000000", "--json")
    run = subprocess.run(
        [sys.executable, TOOL, "--storm", "0.7", *faults, *options], stdout=subprocess.PIPE, check=False, timeout=300
    )
    report: dict[str, Any] = json.loads(run.stdout)
    assert run.returncode == bool(report["violations"])
    return report


@needs_server
def test_a_short_run_finds_no_violation_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    report = run_soak("--seconds", "4")
    assert not report["violations"], report
    assert report["calms"]
    assert not list(tmp_path.iterdir())


@needs_server
@pytest.mark.slow
def test_runs_with_all_faults_find_no_violation() -> None:
    seen: Counter[str] = Counter()
    faults = ("fenced", "emptied", "restored", "damaged", "incarnations", "publisher_gone", "publisher_killed")
    for _ in range(_MAX_RUNS):  # how much happens in one run depends on the machine
        report = run_soak("--seconds", "20", "--damage", "1", "--unlinks", "50")
        assert not report["violations"], report
        seen.update({fault: report[fault] for fault in faults})
        if all(seen[fault] for fault in faults):
            break
    assert all(seen[fault] for fault in faults), seen


@needs_server
@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "finding", "options"),
    [
        ("older", "backward", ["--calm", "restored"]),
        ("unchecked", "torn", ["--damage", "1"]),
        ("entry-first", "lost_newest", ["--calm", "publisher killed", "--largest", "16000000"]),
    ],
)
def test_a_known_bug_is_found(bug: str, finding: str, options: list[str]) -> None:
    reports = (
        run_soak("--seconds", "20", "--bug", bug, "--damage", "0", "--timeout", "8", *options) for _ in range(_MAX_RUNS)
    )
    assert any(report[finding] for report in reports)
