"""The benchmark of the C reader runs, and measures what its targets name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import SHM, environment

TOOL = Path(__file__).parents[2] / "tools" / "bench" / "c_reader.py"


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler is installed")
def test_every_target_is_measured() -> None:
    before = set(SHM.glob("bench-c-*"))
    command = [sys.executable, str(TOOL), "--quick", "--json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env=environment())
    report = json.loads(done.stdout)
    assert all(value > 0 for value in report["ns"].values())
    assert len(report["targets"]) == 2
    assert set(SHM.glob("bench-c-*")) <= before
