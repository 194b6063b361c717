"""gevent and eventlet: waiting lets other greenlets run, and ends."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from helpers import TIMEOUT, environment

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all(); from gevent import spawn, sleep",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import spawn, sleep",
}
IMPORT = "import asyncio, shmsync; from shmsync import Reader, Writer"
WAIT = """
def ticker():
    while True:
        ticks.append(1)
        sleep(0.001)

def late_writer():
    seen = len(ticks)
    while len(ticks) < seen + 20:  # other greenlets run while this process waits
        sleep(0.001)
    writer.write("new")

ticks = []
writer = Writer(NAME)
writer.write("old")
reader = Reader(NAME)
reader.get()
spawn(ticker)
"""
CALLS = {
    "wait": "assert reader.wait(timeout=LONG) == 2; assert reader.wait(timeout=0.05) is None",
    "watch": "assert [s.value for s in reader.watch(timeout=LONG, stop_event=Stop())] == ['new']",
    "wait_async": """
assert asyncio.run(reader.wait_async(timeout=LONG)) == 2
assert asyncio.run(reader.wait_async(timeout=0.05)) is None""",
    "grace": """
with reader.read():
    seen = len(ticks)
    for _ in range(2):
        writer.write("newer", grace_duration=0.2)  # the second one waits for the snapshot
    assert len(ticks) > seen""",
}
PREPARE = {
    "wait": "spawn(late_writer)",
    "watch": """
class Stop:
    def is_set(self):
        return reader._seen == 2
spawn(late_writer)""",
    "wait_async": "spawn(late_writer)",
    "grace": "",
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("first", ["patch", "import"])
@pytest.mark.parametrize("package", PATCH)
def test_other_greenlets_run(name: str, package: str, first: str, call: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    start = [PATCH[package], IMPORT] if first == "patch" else [IMPORT, PATCH[package]]
    script = "\n".join(
        [*start, f"NAME, LONG = {name!r}, {TIMEOUT / 3}", WAIT, PREPARE[call], CALLS[call], "writer.unlink()"]
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
