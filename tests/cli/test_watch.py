"""The command watch, and waiting."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING

from command_line import command, environment, run, run_failing, run_in_terminal, run_json
from helpers import TIMEOUT

if TYPE_CHECKING:
    from shmsync import Writer

PRINTS_BEFORE_IT_READS = """
from shmsync import Reader
read = Reader.read
def print_and_read(self):
    print(flush=True)
    return read(self)
Reader.read = print_and_read
"""


def test_ctrl_c_while_waiting(name: str) -> None:
    with subprocess.Popen(
        command("get", name, "--timeout", "60", before=PRINTS_BEFORE_IT_READS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_watch(writer: Writer, name: str) -> None:
    with subprocess.Popen(
        command("watch", name, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for number in range(3):
            size = writer.write(number).size
            line = json.loads(process.stdout.readline())
            assert (line["seq"], line["size"]) == (number + 1, size)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, "", "")
    done = run("watch", name, "--count", "1")
    assert (done.status, len(done.out.splitlines())) == (0, 1)
    assert "no new version for 0.1 s" in run("watch", name, "--count", "2", "--timeout", "0.1").err


def test_watch_of_a_key(writer: Writer, name: str) -> None:
    writer.write({"a": {"b": "x" * 200}})
    assert '  "xxx' in run("watch", name, "a.b", "-n", "1").out
    assert len(run_in_terminal("watch", name, "a", "-n", "1", size=(60, 24)).out.rstrip()) == 60
    (line,) = run("watch", name, "a", "b", "--json", "--count", "1").out.splitlines()
    assert json.loads(line)["value"] == "x" * 200
    done = run("watch", name, "c", "-n", "1")  # a later version may have it
    assert done.status == 0
    assert "no key 'c' in the value, which has 1 key: a" in done.out
    assert "no key 'c'" in run_json("watch", name, "c", "-n", "1")["error"]


def test_watch_of_a_name_that_does_not_exist(name: str) -> None:
    message = run_failing("watch", name, "--timeout", "0.1")
    assert f"no such name: '{name}', and no writer created it within 0.1 s" in message
