"""Unusual events are logged, at a limited rate. Ordinary calls log nothing and do not call the logger."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from helpers import TIMEOUT, Child, environment, open_snapshot, publish

from shmsync import Reader, Writer
from shmsync._session import log

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Records of all levels from DEBUG up."""
    with caplog.at_level(logging.DEBUG, logger="shmsync"):
        yield caplog


def warnings(logged: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in logged.records if record.levelno >= logging.WARNING]


def test_an_evicted_reader(writer: Writer, name: str, logged: pytest.LogCaptureFixture) -> None:
    writer.write(1)
    with Child() as child:
        child.call(open_snapshot, name)
        writer.write(2)
        assert warnings(logged) == []
        writer.write(3, grace_duration=0)
        evicted, replaced = warnings(logged)
        assert evicted == f"{name}: version 3: evicted readers of process {child.pid}"
        assert replaced.startswith(f"{name}: version 3 needed new memory")


def test_a_dead_reader(writer: Writer, name: str, logged: pytest.LogCaptureFixture) -> None:
    writer.write(1)
    with Child() as child:
        child.call(open_snapshot, name)
        child.kill()
    writer.write(2)
    writer.write(3)
    assert warnings(logged) == [f"{name}: version 3: reclaimed a dead reader"]


def test_not_more_than_once_a_second(
    writer: Writer, name: str, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("shmsync._session.log.time", SimpleNamespace(monotonic=lambda: clock[0]))
    kept = []
    with Reader(name) as reader:
        for _ in range(10):
            writer.write_raw(b"x" * 5000)
            kept.append(reader.get())
        (first,) = warnings(logged)
        assert "needed new memory" in first
        clock[0] += 1
        writer.write_raw(b"x" * 5000)
        assert warnings(logged)[1].endswith("(7 similar messages suppressed)")
        kept.clear()


def test_a_takeover(name: str, logged: pytest.LogCaptureFixture) -> None:
    with Child() as child:
        child.call(publish, name, 1)
        child.kill()
    with Writer(name) as writer:
        writer.write(2)
        text = f"{name}: took over from process {child.pid}, which exited without closing its writer"
        assert warnings(logged) == [text]
    with Writer(name) as writer:  # the previous writer was closed normally
        writer.write(3)
        assert warnings(logged) == [text]
        writer.unlink()


def test_debug(writer: Writer, name: str, logged: pytest.LogCaptureFixture) -> None:
    writer.write(1)
    with Reader(name) as reader:
        reader.get()
        said = [record.getMessage() for record in logged.records]
        assert said == [
            f"{name}: data_0 replaced, generation 1",
            f"attached to /{name}_state",
            f"claimed slot 0 of /{name}_readers",
        ]
        writer.write(2)
        logged.clear()
        for number in range(10):
            writer.write(number)
            assert reader.get() == reader.get() == number
        assert not logged.records


def test_ordinary_calls_do_not_call_the_logger(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reader(name) as reader:
        for number in range(4):
            writer.write(number)
            reader.get()
        for method in ("debug", "info", "warning", "isEnabledFor", "log"):
            monkeypatch.setattr(log.logger, method, lambda *_: pytest.fail("the logger was called"))
        for number in range(4):
            writer.write(number)
            assert reader.get() == reader.get() == number
            with reader.read() as snapshot:
                assert snapshot.value == number
        monkeypatch.undo()


def test_silent_by_default(name: str) -> None:
    script = f"""
from shmsync import Reader, Writer
writer = Writer({name!r}, grace_duration=0)
reader = Reader({name!r})
writer.write(1)
with reader.read():
    assert writer.write(2).reset + writer.write(3).reset
writer.unlink()
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True, env=environment())
    assert (done.stdout, done.stderr) == ("", "")
