"""The command ls: rows, columns, patterns, orders, problems, and what a name costs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from command_line import (
    BOXES,
    ESCAPES,
    command,
    environment,
    only,
    run,
    run_failing,
    run_in_terminal,
    run_json,
    terminal,
)
from helpers import SHM, TIMEOUT, Child, open_snapshot, publish

from shmsync import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def publish_names(name: str) -> Iterator[Callable[..., list[str]]]:
    """A function that publishes one value under each of several names, which begin with `name`."""
    with ExitStack() as stack:

        def publish(*suffixes: str, value: Any = 1) -> list[str]:
            for suffix in suffixes:
                writer = stack.enter_context(Writer(f"{name}{suffix}", max_readers=4))
                stack.callback(writer.unlink)
                writer.write(value)
            return [f"{name}{suffix}" for suffix in suffixes]

        yield publish


def test_ls(writer: Writer, name: str) -> None:
    writer.write({"a": 1})
    done = run("ls", before=only(name))
    assert (done.status, done.err) == (0, "")
    assert not ESCAPES.search(done.out)
    assert not BOXES.search(done.out)
    heading, line = done.out.splitlines()
    assert heading.split() == ["NAME", "SIZE", "MEMORY", "VERSION", "AGE", "WRITER", "READERS", "CODEC"]
    assert re.fullmatch(rf"{name} +4 B +[\d.]+ KiB +1 +\d+s +alive {os.getpid()} +0 +msgpack", line)
    (found,) = run_json("ls", before=only(name))
    assert (found["seq"], found["writer"]["state"], found["readers"], found["problems"]) == (1, "alive", [], [])


def test_memory_includes_what_readers_hold(writer: Writer, name: str) -> None:
    size = 1 << 20
    writer.write_raw(bytes(size))
    with Child() as child:
        child.call(open_snapshot, name)
        for _ in range(3):
            writer.write_raw(bytes(size), grace_duration=0)
        found = run("ls", name).out.splitlines()[1]
        child.kill()
    assert re.search(r" 1\.0 MiB +3\.\d MiB ", found)


@pytest.mark.parametrize("size", [(20, 10), (40, 24), (80, 24), (120, 40), (200, 50)])
@pytest.mark.parametrize("number", [0, 1, 30, 500])
def test_one_row_for_each_name_at_any_width(
    publish_names: Callable[..., list[str]], name: str, size: tuple[int, int], number: int
) -> None:
    if number == 500 and size != (80, 24):
        pytest.skip("once is enough")
    names = publish_names(*(f"-service-of-the-recommendation-features-in-production-{at:03}" for at in range(number)))
    done = run_in_terminal("ls", before=only(name), size=size)
    lines = done.out.splitlines()
    assert done.status == 0
    if not number:
        assert " ".join(done.out.split()) == "no names: nothing is published on this host"
        return
    assert len(lines) == 1 + number
    assert max(map(len, lines)) <= size[0]
    assert [line.split()[0][-3:] for line in lines[1:]] == [each[-3:] for each in names]  # the ends tell them apart
    assert all(line.startswith("test") for line in lines[1:])
    wide = run_in_terminal("ls", "--wide", before=only(name), size=size).out
    assert wide.replace("\n", "").count(names[0]) == 1


def test_patterns(publish_names: Callable[..., list[str]], name: str) -> None:
    first, second, other = publish_names("-web-1", "-web-2", "-db")
    assert run("ls", "-q", f"{name}-web-*").out.split() == [first, second]
    assert run("ls", "-q", other, f"{name}-web-[2]", f"{name}-w*").out.split() == sorted([other, first, second])
    assert run("ls", other).out.splitlines()[1].startswith(f"{other} ")
    assert "no name matches" in run_failing("ls", f"{name}-x*")
    assert f"no such name: '{name}-x'" in run_failing("ls", f"{name}-x")


def test_orders(publish_names: Callable[..., list[str]], name: str) -> None:
    small, large = publish_names("-a"), publish_names("-b", value=bytes(100_000))
    assert run("ls", "-q", f"{name}*").out.split() == [*small, *large]
    for order in ("size", "memory"):
        assert run("ls", "-q", "-s", order, f"{name}*").out.split() == [*large, *small]
    with Child() as child:
        child.call(open_snapshot, *large)
        assert run("ls", "-q", "--sort", "readers", f"{name}*").out.split() == [*large, *small]


def test_problems_are_errors(cleaned_name: str) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"something else" * 1000)
    done = run("ls", before=only(cleaned_name))
    assert done.status == 1
    assert f"shmsync: {cleaned_name}: /{cleaned_name}_state is not a shmsync segment" in done.err
    assert len(done.out.splitlines()) == 2
    assert run_json("ls", before=only(cleaned_name), status=1)[0]["problems"]


def test_problems_are_printed_again_and_again(cleaned_name: str) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"something else" * 1000)
    with subprocess.Popen(
        command("ls", "-w", "-i", "0.05", cleaned_name),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert process.stderr is not None
        for _ in range(2):
            assert "is not a shmsync segment" in process.stderr.readline()
        process.kill()


def test_a_dead_writer_is_not_a_problem(cleaned_name: str) -> None:
    with Child() as child:
        child.call(publish, cleaned_name, 1)
        child.kill()
    done = run("ls", cleaned_name)
    assert (done.status, done.err) == (0, "")
    assert f" dead {child.pid} " in done.out


def test_watch_in_a_pipe(writer: Writer, name: str) -> None:
    writer.write(1)
    with subprocess.Popen(
        command("ls", "--watch", "-i", "0.05", "--json", name), stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for number in range(1, 4):
            while json.loads(process.stdout.readline())[0]["seq"] != number:
                assert process.poll() is None
            writer.write(number)
        process.kill()
        process.wait(TIMEOUT)


def test_watch_in_a_terminal(writer: Writer, name: str) -> None:
    writer.write(1)
    with terminal("ls", "-w", "-i", "0.05", before=only(name)) as screen:
        screen.wait_for(name)
        for number in range(2, 5):
            writer.write(number)
            screen.text = ""
            while not re.search(rf"KiB +{number} +\d", screen.text):
                screen.wait_for(name)
                assert screen.process.poll() is None
        screen.press("\x03")
        assert screen.wait() == 130
        assert "Traceback" not in screen.text


CALLS = """
import sys, shmsync
from shmsync.cli._infos import all_infos
names = [name for name in shmsync.names() if name.startswith(sys.argv[1])]
all_infos(names)
counts = {"call": 0, "c_call": 0}
def count(frame, event, arg):
    if event in counts:
        counts[event] += 1
sys.setprofile(count)
infos = all_infos(names)
sys.setprofile(None)
assert len(infos) == len(names) > 0
print(counts["call"] // len(names), counts["c_call"] // len(names))
"""


def test_what_a_name_costs(publish_names: Callable[..., list[str]], name: str) -> None:
    """Calls, not time: so many take about a tenth of a second of CPU for 1,000 names."""
    publish_names(*(f"-{at}" for at in range(20)))
    done = subprocess.run(
        [sys.executable, "-c", CALLS, name],
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
        env=environment(),
    )
    python, c = map(int, done.stdout.split())
    assert python <= 280
    assert c <= 200
