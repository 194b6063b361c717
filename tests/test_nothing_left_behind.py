"""The check in conftest.py: a test that leaves something behind fails, even if it failed before, and it is removed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import SHM, TIMEOUT, environment

LEAVING = """
import os, subprocess, sys
from pathlib import Path
from shmsync import Reader, Writer

kept = []

def test_segments(name):
    Writer(name).write(1)

def test_segments_when_it_fails(name):
    with Writer(name) as writer:
        writer.write(1)
        assert Reader(name).get() == 2

def test_a_process(name):
    kept.append(subprocess.Popen(["sleep", "3600"]))
    Path("pid").write_text(str(kept[0].pid))

def test_a_descriptor():
    kept.append(open(os.devnull))

def test_nothing(name, writer):
    writer.write(1)
"""


def test_what_is_left_fails_the_test_and_is_removed(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_leaving.py").write_text(LEAVING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    before = set(SHM.iterdir())
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as pytest:
        out, _ = pytest.communicate(timeout=TIMEOUT)
    for test, left in (
        ("test_segments", f"{SHM}/test-{pytest.pid}-"),
        ("test_segments_when_it_fails", f"{SHM}/test-{pytest.pid}-"),
        ("test_a_process", "process [0-9]+: "),  # its command line may not be set yet, right after exec
        ("test_a_descriptor", f"descriptor [0-9]+: {os.devnull}"),
    ):
        assert re.search(rf"^ERROR .*::{test} - AssertionError: ", out, re.MULTILINE), out
        assert re.search(f"left behind: .*{left}", out), out
    assert re.search(r"^1 failed, 4 passed, 4 errors", out, re.MULTILINE), out
    assert not [segment for segment in set(SHM.iterdir()) - before if f"-{pytest.pid}-" in segment.name]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
