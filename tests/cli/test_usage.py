"""What all commands have in common: usage, errors, pipes and streams."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from command_line import BOXES, command, environment, run, run_failing, run_in_terminal, run_json
from helpers import SHM, TIMEOUT, command_works

from shmsync import Writer, __version__
from shmsync.cli import _SECTIONS
from shmsync.cli.completion import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable


COMMANDS = [name for section in _SECTIONS.values() for name in section]


@pytest.mark.parametrize("verb", ["inspect", "readers", "get", "rm"])
def test_no_such_name(verb: str, name: str) -> None:
    assert name in run_failing(verb, name)
    done = run(verb, "a/b")
    assert done.status == 2
    assert "invalid name 'a/b'" in done.err


def test_summaries_are_not_cut_off_at_80_columns() -> None:
    done = run_in_terminal("--help")
    assert done.status == 0
    assert "..." not in done.out.replace("[ARGS]...", "")


def test_remedies_are_those_of_the_command_line(cleaned_name: str) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"no magic" * 600)
    for verb in ("get", "inspect", "ls", "readers"):
        assert f"`shmsync rm --force {cleaned_name}`" in run(verb, cleaned_name).err
    assert re.search(r"replaced +unknown", run("inspect", cleaned_name).out)
    assert run("rm", "--force", cleaned_name).status == 0
    with Writer(cleaned_name) as writer:
        assert "`shmsync get --timeout`" in run_failing("get", cleaned_name)
        writer.write(1)
        message = run_failing("publish", cleaned_name, "-", stdin=b"1")
        assert "close that one first" in message
        assert "lock_timeout" not in message
        writer.unlink()


def test_version() -> None:
    assert run("--version").out == f"{__version__}\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_that_is_not_a_segment(name: str, make: Callable[[Path], None]) -> None:
    """Any user may create it; opening a FIFO must not block."""
    path = SHM / f"{name}_state"
    make(path)
    try:
        assert f"shmsync: {name}: " in run("ls").err
        for verb in ("inspect", "get", "rm", "readers"):
            assert (
                "not a shared memory segment but another kind of file, such as a directory or a FIFO; remove it"
                in run_failing(verb, name)
            )
        assert "not a shared memory segment" in run_failing("put", name, "-", stdin=b"1")
        if make is os.mkdir:
            assert "Is a directory" in run_failing("rm", "--force", name)
        else:
            assert run("rm", "--force", name).status == 0
    finally:
        if path.is_dir():
            path.rmdir()


@pytest.mark.skipif(not command_works("unshare", "--mount", "true"), reason="needs a mount namespace")
def test_without_shared_memory() -> None:
    hide = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "
    words = " ".join(f"'{word}'" for word in command("put", "any", "-"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide + words],
        input=b"1",
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert done.returncode == 1
    assert "/dev/shm does not exist" in done.stderr.decode()


def test_usage() -> None:
    for args in (["get"], ["nonsense"], ["get", "a", "--raw", "--json"], ["bench", "--seconds", "0"]):
        done = run(*args)
        assert done.status == 2
        assert "Usage:" in done.err
        assert not BOXES.search(done.err)
    done = run("--help")
    assert done.status == 0
    for verb in COMMANDS:
        assert re.search(rf"^  {verb} ", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


def test_a_closed_pipe(writer: Writer, name: str) -> None:
    writer.write(list(range(200_000)))
    with subprocess.Popen(
        command("get", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"["
        process.stdout.close()
        assert process.wait(TIMEOUT) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("verb", ["get", "inspect"])
def test_a_full_disk(writer: Writer, name: str, verb: str) -> None:
    writer.write("value")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(verb, name), stdout=full, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT, env=environment()
        )
    assert done.returncode == 1
    assert done.stderr == b"shmsync: cannot write the output: No space left on device\n"


def test_closed_streams(cleaned_name: str) -> None:
    words = " ".join(f"'{word}'" for word in command("put", cleaned_name, "-"))
    for streams, status, message in (("<&-", 1, "stdin is not valid json"), (">&- <<< 1", 0, ""), ("2>&- <&-", 1, "")):
        done = subprocess.run(
            ["bash", "-c", f"exec {words} {streams}"], capture_output=True, check=False, env=environment()
        )
        assert done.returncode == status
        assert message in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert run_json("get", cleaned_name) == 1


@pytest.mark.parametrize("verb", COMMANDS)
def test_help(verb: str) -> None:
    short, long = run(verb, "-h"), run(verb, "--help")
    assert short.status == long.status == 0
    assert short.out == long.out
    assert short.out.startswith(f"Usage: shmsync {verb} ")
    assert not re.search(r"[{}<>\[]\w*\]?str|required|\{NAME", short.out.split("\n\n")[0])
    assert "<" not in short.out.partition("Options:")[0].partition("Arguments:")[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["get", "a", "--timeout", "x"], "'x' is not a number"),
        (["get", "a", "-t", "-1"], "-1 is out of range; it must be at least 0"),
        (["get", "a", "-t", "nan"], "'nan' is not a number"),
        (["watch", "a", "--count", "1.5"], "'1.5' is not an integer"),
        (["publish", "a", "b", "--format", "xml"], "'xml' is not one of json, toml, yaml, msgpack, raw"),
        (["publish", "a", "b", "--mode", "9"], "'9' is not a valid octal mode"),
        (["ls", "--sort", "x"], "'x' is not one of name, size, memory, age, readers"),
        (["bench", "--seconds", "1e9"], "1e+09 is out of range; it must be at most 600"),
        (["demo", "--start-method", "thread"], "'thread' is not one of fork, spawn, forkserver"),
        (["completion", "csh"], "'csh' is not one of bash, zsh, fish"),
    ],
)
def test_messages_about_options_are_ours(args: list[str], message: str) -> None:
    done = run(*args)
    assert done.status == 2
    assert message in done.err
    assert "Value error" not in done.err
    assert "Input should be" not in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = run("completion", shell)
    assert (done.status, done.err) == (0, "")
    assert f"{VARIABLE}=complete_{shell}" in done.out


def completed(*words: str) -> list[str]:
    """Return what bash is offered for the last word."""
    asked = {VARIABLE: "complete_bash", "COMP_WORDS": " ".join(["shmsync", *words]), "COMP_CWORD": str(len(words))}
    done = subprocess.run(
        command(), capture_output=True, text=True, check=True, timeout=TIMEOUT, env=environment(**asked)
    )
    return done.stdout.split()


def test_completion(writer: Writer, name: str) -> None:
    writer.write(1)
    for verb in ("get", "inspect", "rm", "ls", "watch", "readers", "dump", "publish"):
        assert completed(verb, name[:-2]) == [name]
    assert completed("re") == ["readers", "replica", "restore"]
    assert completed("get", "--ti") == ["--timeout"]


@pytest.mark.skipif(not command_works("bash", "-c", "true"), reason="needs bash")
def test_completion_in_bash(writer: Writer, name: str, tmp_path: Path) -> None:
    writer.write(1)
    program = tmp_path / "shmsync"
    program.write_text('#!/bin/sh\nexec "$PYTHON" -m shmsync "$@"\n')
    program.chmod(0o755)
    script = f"""
eval "$(shmsync completion bash)"
COMP_WORDS=(shmsync get {name[:-2]}) COMP_CWORD=2
_shmsync_completion shmsync
echo "${{COMPREPLY[@]}}"
"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
        env=environment(PATH=path, PYTHON=sys.executable),
    )
    assert done.stdout.split() == [name]
