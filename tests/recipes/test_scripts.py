"""The recipes that are scripts print what the page says, and each has at most 30 lines."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from helpers import TIMEOUT, environment, until
from recipe import EXAMPLES, renamed

from shmsync import Reader, Writer

if TYPE_CHECKING:
    from pathlib import Path

START_METHODS = ("fork", "spawn", "forkserver")


def printed(recipe: str, tmp_path: Path, name: str, *arguments: str) -> list[str]:
    command = [sys.executable, str(renamed(recipe, tmp_path, name)), *arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT, env=environment())
    finally:
        with Writer(name) as writer:
            writer.unlink()
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("recipe", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_each_has_at_most_30_lines(recipe: str) -> None:
    assert len((EXAMPLES / recipe).read_text(encoding="utf-8").splitlines()) <= 30


@pytest.mark.parametrize("method", START_METHODS)
def test_pool(tmp_path: Path, name: str, method: str) -> None:
    assert printed("pool.py", tmp_path, name, method) == ["[0.0, 2.0, 4.0]", "[0.0, 3.0, 6.0]"]


@pytest.mark.parametrize("method", START_METHODS)
def test_executor(tmp_path: Path, name: str, method: str) -> None:
    assert printed("executor.py", tmp_path, name, method) == ["[1000.0, 1000.0, 1000.0]", "[2000.0, 2000.0, 2000.0]"]


def test_joblib(tmp_path: Path, name: str) -> None:
    assert printed("joblib_workers.py", tmp_path, name) == ["[1000.0, 1000.0, 1000.0]", "[2000.0, 2000.0, 2000.0]"]


def test_feature_store(tmp_path: Path, name: str) -> None:
    (line,) = printed("feature_store.py", tmp_path, name)
    assert line.startswith("[50, 50, 50, 50] ")
    assert line.endswith("% copied")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_dataloader(tmp_path: Path, name: str) -> None:
    assert printed("dataloader.py", tmp_path, name) == ["1000.0"] * 3


def test_publisher(tmp_path: Path, name: str) -> None:
    script, source = renamed("publisher.py", tmp_path, name), tmp_path / "settings.json"
    source.write_text(json.dumps({"limit": 1}))
    reader = Reader(name, timeout=TIMEOUT)
    process = subprocess.Popen(
        [sys.executable, script, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    try:
        assert reader.get() == {"limit": 1}
        source.write_text(json.dumps({"limit": 2}))
        process.send_signal(signal.SIGHUP)
        until(lambda: reader.get() == {"limit": 2})
        assert process.stderr is not None
        source.write_text("no JSON")
        process.send_signal(signal.SIGHUP)
        assert process.stderr.readline().startswith(b"kept the last version: ")
        source.unlink()
        process.send_signal(signal.SIGHUP)
        assert b"No such file" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        assert output == b"published version 1\npublished version 2\n"
        assert errors == b""
        assert reader.get() == {"limit": 2}
    finally:
        process.kill()
        process.communicate()
        reader.close()
        with Writer(name) as writer:
            writer.unlink()
