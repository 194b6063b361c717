"""The commands inspect, readers and top; colours."""

from __future__ import annotations

import os
import re
import signal

import pytest
from command_line import BOXES, ESCAPES, only, run, run_json, terminal
from helpers import SHM, Child, open_snapshot

from shmsync import Writer
from shmsync.cli import _sampler
from shmsync.cli._units import size_text, span_text


def test_inspect_and_readers(writer: Writer, name: str) -> None:
    writer.write("value")
    with Child() as child:
        child.call(open_snapshot, name)
        done = run("inspect", name)
        assert (done.status, done.err) == (0, "")
        for words in ("alive, pid", "1 of 256 slots", "data_0", "pins v1 (4.0 KiB)"):
            assert words in done.out
        assert run_json("inspect", name)["segments"][2]["generation"] == 1
        writer.write(2, grace_duration=0)
        writer.write(3, grace_duration=0)
        (reader,) = run_json("readers", name)
        assert (reader["pid"], reader["state"]) == (child.pid, "evicted")
        child.kill()
    assert re.search(rf"0 +{child.pid} +- +dead +\d+s +0 B +\d+s +pins old data_0 +-", run("readers", name).out)
    writer.write(4)
    writer.write(5)
    done = run("readers", name)
    assert (done.status, done.out) == (0, "")


def test_inspect_of_damaged_segments(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    (SHM / f"{cleaned_name}_data_0").write_bytes(b"no")
    done = run("inspect", cleaned_name)
    assert done.status == 1
    assert "is truncated" in done.err
    assert run_json("inspect", cleaned_name, status=1)["problems"]
    assert run_json("readers", cleaned_name) == []
    (SHM / f"{cleaned_name}_readers").write_bytes(b"no")
    assert "is truncated" in run("readers", cleaned_name).err


# ----------------------------------------------------------------------------------------------------------- terminals

FAILS_LATER = """
from shmsync.cli._sampler import Sampler
sample, calls = Sampler.sample, []
def fail(self):
    calls.append(1)
    if len(calls) > 2:
        raise OSError(5, "it broke")
    return sample(self)
Sampler.sample = fail
"""


@pytest.mark.parametrize(
    ("end", "before", "status"), [("q", "", 0), ("\x03", "", 0), (signal.SIGTERM, "", 143), (None, FAILS_LATER, 1)]
)
def test_top_restores_the_terminal(
    writer: Writer, name: str, end: str | signal.Signals | None, before: str, status: int
) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1", before=only(name) + before) as screen:
        screen.wait_for("publishes/s")
        if end is not None:
            screen.wait_for("q quit")
            assert screen.modes_now() != screen.modes
        if isinstance(end, str):
            screen.press(end)
        elif end is not None:
            screen.process.send_signal(end)
        assert screen.wait() == status
        assert screen.modes_now() == screen.modes
        assert screen.text.count("\x1b[?1049h") == screen.text.count("\x1b[?1049l") == 1
        assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")
        assert "Traceback" not in screen.text
        assert ("it broke" in screen.text.rpartition("\x1b[?1049l")[2]) == bool(before)


def test_top_is_suspended_and_continued(writer: Writer, name: str) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1", before=only(name)) as screen:
        screen.wait_for("publishes/s")
        screen.process.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)
        screen.wait_for("\x1b[?1049l")
        assert screen.modes_now() == screen.modes
        screen.process.send_signal(signal.SIGCONT)
        screen.text = ""
        screen.wait_for("\x1b[?1049h")
        screen.press("q")
        assert screen.wait() == 0


def test_top_in_a_pipe(writer: Writer, name: str) -> None:
    writer.write(1)
    done = run("top", "--interval", "0.1", "--count", "2")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("publishes/s") == 2
    assert not ESCAPES.search(done.out)
    (row,) = [row for row in run_json("top", "--interval", "0.1", "--count", "1") if row["name"] == name]
    assert (row["rate"], row["holders"], row["lag"]) == (0.0, 0, None)


def test_the_lag_of_readers(writer: Writer, name: str) -> None:
    def row() -> _sampler.Row:
        (found,) = [each for each in sampler.sample() if each.info.name == name]
        return found

    sampler = _sampler.Sampler()
    writer.write(1)
    assert row().rate is None
    with Child() as child:
        child.call(open_snapshot, name)
        writer.write(2)
        assert (row().holders, row().lag, row().lag_is_exact) == (1, 1, True)
        writer.write(3, grace_duration=0)
        seen = row()
        assert (seen.evicted, seen.lag, seen.lag_is_exact) == (1, 2, True)
        sampler = _sampler.Sampler()
        writer.write(4)
        seen = row()
        assert (seen.lag, seen.lag_is_exact) == (0, False)
        writer.write(5)
        assert row().lag == 1
        assert row().rate is not None
        child.kill()
    assert (row().holders, row().lag) == (0, None)


def test_colours_in_a_terminal_only(writer: Writer, name: str) -> None:
    writer.write(1)
    colour = re.compile(r"\x1b\[(?:\d+;)*3\d")
    own = only(name)
    with (
        terminal("inspect", name) as screen,
        terminal("ls", before=own) as other,
        terminal("ls", before=own, NO_COLOR="1") as plain,
    ):
        assert screen.wait() == other.wait() == plain.wait() == 0
        assert colour.search(other.text)
        assert not colour.search(plain.text)
        for each in (screen, other, plain):
            assert name in each.text
            assert not BOXES.search(each.text)


def test_units() -> None:
    assert [size_text(size) for size in (None, 0, 1023, 1024, 5 << 20, 1 << 60)] == [
        "-",
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "1048576.0 TiB",
    ]
    spans = (None, -1, 0.4, 119, 120, 7199, 7200, 48 * 3600, 1e7)
    assert [span_text(span) for span in spans] == ["-", "0s", "0s", "119s", "2m", "119m", "2h", "2d", "115d"]
