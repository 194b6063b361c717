"""What the stress test calls a violation, and what a removal from outside permits; a short run of all of it."""

from __future__ import annotations

import ctypes
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shmsync import Reader, Writer, get_include
from shmsync._session import updates
from shmsync.codecs._changes import Changes
from stress import tables
from stress.c_mutants import MUTANTS
from stress.c_readers import judged
from stress.forks import c_fork, run_forked
from stress.payloads import HEADER, NUMBER, Fields, digest_of, verify
from stress.removals import Removals
from stress.sequence import Sequence
from stress.settings import Violation

TOOL = Path(__file__).parents[2] / "tools" / "stress"
SECOND = 1_000_000_000
CONTENT = b"content"
_MAX_RUNS = 20
_HANG = 280  # seconds; one mutant takes up to half a minute on a busy machine
_FOR_MUTANTS = (  # short writes, and many incarnations; no removal from outside, which would permit some errors
    *("--readers", "1", "--c-readers", "4", "--largest", "4096", "--grace", "0.002", "--unlinks", "15"),
    *("--openers", "0", "--reader-kills", "2", "--removals", "0", "--forced", "0", "--full", "0"),
)


@pytest.fixture
def removals() -> Removals:
    return Removals(SimpleNamespace(RawArray=lambda _, size: (ctypes.c_ulonglong * size)()))


def value(number: int, epoch: int = 0, content: bytes = CONTENT) -> memoryview:
    return memoryview(HEADER.pack(time.monotonic_ns(), number, epoch, digest_of(CONTENT)) + content)


def test_a_value_that_is_what_was_published(removals: Removals) -> None:
    assert verify(value(7), 7, removals) > 0
    assert verify(value(0), 7, removals) > 0
    assert verify(memoryview(NUMBER.pack(7, 0)), 7, removals) == 0


def test_torn_content_is_found_even_after_a_removal(removals: Removals) -> None:
    with removals.recorded(ends_incarnation=True):
        pass
    with pytest.raises(Violation, match="digest"):
        verify(value(7, content=b"contenT"), 7, removals)


@pytest.mark.parametrize("published", [value(6), memoryview(NUMBER.pack(6, 0))])
def test_the_value_of_another_version_is_found(removals: Removals, published: memoryview) -> None:
    with pytest.raises(Violation, match="version 7 carries number 6"):
        verify(published, 7, removals)


def table(number: int) -> dict[str, Any]:
    rows = tables.new_rows(random.Random(number), number)
    fields = Fields(time.monotonic_ns(), number, 0, 0, b"")._asdict()
    return {**fields, "base": number, "updates": 0, "rows": rows, "total": tables.total_of(rows)}


def test_a_table_that_is_updated(name: str, removals: Removals) -> None:
    with Writer(name) as writer, Reader(name) as reader:
        writer.write(table(1))
        for number in range(2, 9):
            with suppress(ZeroDivisionError), writer.update() as draft:
                tables.scribble(draft, random.Random(number))
                raise ZeroDivisionError
            with writer.update() as draft:
                draft["number"] = number
                tables.change(draft, random.Random(number), number)
            with reader.read(check_bytes=True) as snapshot:
                assert verify(snapshot.value, number, removals)
        writer.unlink()


@pytest.mark.parametrize("column", range(4))
def test_a_damaged_row_is_found(column: int, removals: Removals) -> None:
    value = table(7)
    value["rows"][tables.ROWS - 1, column] ^= np.uint64(1)
    with pytest.raises(Violation, match="a row of the table is damaged"):
        verify(value, 7, removals)


def test_a_row_of_another_version_is_found(removals: Removals) -> None:
    value = table(7)
    value["rows"][5] = table(6)["rows"][5]
    with pytest.raises(Violation, match="not those of one version"):
        verify(value, 7, removals)


def test_an_update_that_forgets_what_is_stale_is_found(
    name: str, removals: Removals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "stale_bytes", lambda *_: Changes())
    with Writer(name) as writer, Reader(name) as reader:
        writer.write(table(1))
        writer.write(table(2))
        with writer.update() as draft:
            draft["number"] = 3
            tables.change(draft, random.Random(3), 3)
        with pytest.raises(Violation):
            verify(reader.get(), 3, removals)
        writer.unlink()


def test_a_forced_removal_permits_a_writer_to_start_over(removals: Removals) -> None:
    with removals.recorded(ends_incarnation=True):
        verify(value(7, epoch=0), 1, removals)
    verify(value(7, epoch=0), 1, removals)
    with pytest.raises(Violation):
        verify(value(7, epoch=removals.epoch()), 1, removals)


def test_a_version_follows_its_predecessor(removals: Removals) -> None:
    sequence = Sequence(removals)
    assert sequence.publish(7, 1, 0) == ""
    assert sequence.publish(8, 1, 0) == ""
    assert sequence.publish(10, 1, 0) == "version 10 follows 8"
    assert sequence.publish(1, 2, 0) == "version 1 follows 10"
    sequence.lose()
    assert sequence.publish(30, 2, 0) == ""


def test_a_removal_permits_one_new_incarnation(removals: Removals) -> None:
    sequence = Sequence(removals)
    sequence.publish(7, 1, 0)
    with removals.recorded(ends_incarnation=True):
        pass
    assert sequence.publish(1, 1, 1) == "version 1 follows 7"
    assert sequence.publish(1, 2, 1) == ""
    assert sequence.publish(1, 3, 1) == "version 1 follows 1"


def test_a_removal_permits_a_new_incarnation_until_the_writer_notices_it(removals: Removals) -> None:
    sequence = Sequence(removals)
    sequence.publish(7, 1, 0)
    with removals.recorded(ends_incarnation=True):
        pass
    sequence.lose()  # a signal handler wrote meanwhile
    assert sequence.publish(9, 1, removals.epoch()) == ""
    assert sequence.publish(1, 2, removals.epoch()) == ""


def test_removal_of_a_data_segment_permits_errors_only(removals: Removals) -> None:
    started = time.monotonic_ns()
    assert not removals.permit_error(started)
    with removals.recorded(ends_incarnation=False):
        pass
    assert removals.permit_error(started + 60 * SECOND)  # as long as the name is not complete
    removals.note_healed()
    assert removals.permit_error(started)
    assert not removals.permit_older(started, time.monotonic_ns())
    assert not removals.permit_restart(0)


def test_a_removal_permits_older_values_of_its_time_only(removals: Removals) -> None:
    before = time.monotonic_ns()
    assert not removals.permit_older(before, before + 1)
    with removals.recorded(ends_incarnation=True):
        pass
    removals.note_healed()
    after = time.monotonic_ns()
    assert removals.permit_older(before, after)
    assert removals.permit_older(after, after + 1)
    assert not removals.permit_older(before - 2, before - 1)
    assert not removals.permit_older(after + 3 * SECOND, after + 4 * SECOND)
    assert not removals.permit_error(after + 3 * SECOND)


def test_an_error_in_a_child_that_was_forked_in_c_is_found() -> None:
    def fail() -> None:
        raise ValueError("reason")

    run_forked(c_fork, lambda: None)
    with pytest.raises(Violation, match="in a child of c_fork: ValueError: reason"):
        run_forked(c_fork, fail)


def test_what_a_reader_in_c_reports(removals: Removals) -> None:
    started = time.monotonic_ns()
    messages = ({"mismatch": [7, 6, 0]}, {"older": [started, started + SECOND]}, {"result": -4, "started": started})
    assert all("violation" in judged(message, removals) for message in messages)
    with removals.recorded(ends_incarnation=True):
        pass
    assert [judged(message, removals) for message in messages] == [{}, {"permitted_older": 1}, {"removal_errors": 1}]
    assert judged({"violation": "torn"}, removals) == {"violation": "torn"}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_in_c_differs_from_the_header(tmp_path: Path, mutant: str) -> None:
    MUTANTS[mutant].write(str(tmp_path))
    assert (tmp_path / "shmsync.h").read_text() != (Path(get_include()) / "shmsync.h").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["", *MUTANTS])
def test_a_violation_is_found_in_every_mutant_in_c_and_in_nothing_else(mutant: str) -> None:
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler is installed")
    seconds = str(_HANG) if mutant else "15"
    arguments = ["--seconds", seconds, "--fail-fast", "--c-mutant", mutant, *_FOR_MUTANTS, "--json"]
    run = subprocess.run([sys.executable, TOOL, *arguments], stdout=subprocess.PIPE, check=False, timeout=2 * _HANG)
    report = json.loads(run.stdout)
    print(report["seconds"], "s", report["violations"])
    assert mutant or report["c_reads"]  # a violation may come before the first count of reads
    assert bool(report["violations"]) == bool(mutant)
    assert run.returncode == bool(mutant)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--isolated"], ["--c-readers", "2"], ["--c-readers", "2", "--isolated"]])
def test_a_short_run_finds_no_violation(mode: list[str]) -> None:
    if "--c-readers" in mode and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("no C compiler is installed")
    arguments = ["--seconds", "5", "--readers", "3", "--largest", "65536", "--removals", "1", "--forced", "1", "--json"]
    faults: tuple[str, ...] = (
        "c_forks",
        "forks_while_opening",
        "handler_calls",
        "writer_kills",
        "forced",
        "updates",
        "aborted_updates",
    )
    faults += ("c_reads", "c_reader_kills", "c_reader_forks") if "--c-readers" in mode else ()
    seen: Counter[str] = Counter()
    for _ in range(_MAX_RUNS):  # how much happens in one run depends on the machine
        run = subprocess.run(
            [sys.executable, TOOL, *mode, *arguments], stdout=subprocess.PIPE, check=False, timeout=120
        )
        report = json.loads(run.stdout)
        assert not report["violations"], report
        assert run.returncode == 0
        seen.update({fault: report[fault] for fault in faults})
        if all(seen[fault] for fault in faults):
            break
    assert all(seen[fault] for fault in faults), seen
