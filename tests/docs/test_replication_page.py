"""docs/howto/replication.md: its tutorial with a real server, its users, its services and its compose file."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from helpers import TIMEOUT, environment, until
from replication.servers import RedisServer, server_command
from test_pages import ROOT, run, text_of

from shmsync import unlink
from shmsync.replication import Publisher, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = "docs/howto/replication.md"
URL = "redis://engine:6379"
EXAMPLES = ROOT / "examples" / "replication"
UNITS = sorted(EXAMPLES.glob("*.service"))
COPY = "-copy"
MAIN = f"""
import shmsync.cli.replica as module
Replica = module.Replica
module.Replica = lambda name, *args, **options: Replica(name, *args, local_name=name + {COPY!r}, **options)
from shmsync.__main__ import main; main()
"""
"""The command line. Its replica publishes under another name: the publisher is on this host, too."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if server_command() is None:
        pytest.skip("needs redis-server or valkey-server")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("needs the package redis")
    with RedisServer(tmp_path / "redis") as server:
        yield server


def blocks() -> list[tuple[str, str]]:
    """Return the blocks of Python and of the shell, in their order."""
    return re.findall(r"```(python|sh)\n(.*?)```", text_of(PAGE), re.DOTALL)


def test_the_tutorial_runs(name: str, server: RedisServer) -> None:
    found = blocks()
    assert [kind for kind, _ in found] == ["python", "sh", "sh", "python", "python", "python"]
    assert sum(len(block.splitlines()) for _, block in found[:4]) <= 10
    names = {each: f"{name}-{each}" for each in ("prices", "limits")}
    variables: dict[str, object] = {"__name__": "__main__"}
    with ExitStack() as stack:
        for each in names.values():
            stack.callback(unlink, each, force=True)
            stack.callback(unlink, each + COPY, force=True)
        stack.callback(variables.clear)
        for kind, block in found:
            here = block.replace(URL, server.url)
            for each, full in names.items():
                here = here.replace(f" {each} ", f" {full} ").replace(f'Reader("{each}"', f'Reader("{full}{COPY}"')
                local = f'Replica("{full}", local_name="{full}{COPY}", url='
                here = here.replace(f'Replica("{each}", ', local).replace(f'("{each}"', f'("{full}"')
            if kind == "python":
                run(here, variables)
            else:
                program, *words = shlex.split(here)
                assert program == "shmsync"
                process = subprocess.Popen([sys.executable, "-c", MAIN, *words], env=environment())
                stack.callback(process.wait, TIMEOUT)
                stack.callback(process.terminate)


# --------------------------------------------------------------------------------------------------------------- users


def rights(user: str) -> set[str]:
    """Return the commands that the page permits a user."""
    (line,) = re.findall(rf"^user {user} .*$", text_of(PAGE), re.MULTILINE)
    assert "-@all" in line
    return set(re.findall(r" \+(\S+)", line))


def test_each_right_is_needed(name: str, server: RedisServer) -> None:
    """That they suffice is tested with the users themselves, in tests/replication."""
    value = {"rows": np.zeros((100_000, 4))}
    with server.client() as client, ExitStack() as stack:
        stack.callback(unlink, name, force=True)
        stack.callback(unlink, name + COPY, force=True)

        def used() -> set[str]:
            own = {"info", "config|resetstat", "client|setinfo", "hello", "auth", "flushall", "ping"}
            return {key.removeprefix("cmdstat_") for key in client.info("commandstats")} - own

        client.config_resetstat()
        with Publisher[Any](name, server.url, keep=2, retain=0, full_after=1) as publisher:
            publisher.write(value)
            publisher.flush(TIMEOUT)  # else it may be skipped, and the last one is in full
            for number in range(5):  # the last one is not in full
                with publisher.update() as draft:
                    draft["rows"][number] = 1.0
                publisher.flush(TIMEOUT)
            until(lambda: {"unlink", "xtrim", "exists", "xlen"} <= used())
        assert used() == rights("shmsync-publisher")
        client.config_resetstat()
        with Replica(name, server.url, local_name=name + COPY) as replica:
            replica.wait(TIMEOUT)
            until(lambda: "xread" in used())
        assert used() == rights("shmsync-replica")


# ------------------------------------------------------------------------------------------------------------ services


def options_of(words: list[str]) -> set[str]:
    return {word for word in words if word.startswith("--")}


def help_of(verb: str) -> str:
    command = [sys.executable, "-c", "from shmsync.__main__ import main; main()", verb, "--help"]
    return subprocess.run(command, env=environment(), check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=((?:.*\\\n)*.*)$", text, re.MULTILINE)
    program, verb, *words = shlex.split(line)
    assert program.endswith("/shmsync")
    shown = help_of(verb)
    assert all(f"{option} " in shown for option in options_of(words))
    assert f"examples/replication/{unit.name}\n" in text_of(PAGE)
    assert ("RestartPreventExitStatus=3" in text) == (verb == "publish")
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    copy = tmp_path / unit.name
    copy.write_text(text.replace(program, "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    if "Failed to" in done.stderr and "initialize" in done.stderr:
        pytest.skip(done.stderr)
    assert not [line for line in done.stderr.splitlines() if unit.name in line]


def test_the_compose_file() -> None:
    path = EXAMPLES / "compose.yaml"
    compose = yaml.safe_load(path.read_text(encoding="utf-8"))
    replica, app = compose["services"]["replica"], compose["services"]["app"]
    program, verb, *words = shlex.split(replica["command"])
    assert (program, verb) == ("shmsync", "replica")
    assert all(f"{option} " in help_of(verb) for option in options_of(words))
    assert (replica["ipc"], app["ipc"]) == ("shareable", "service:replica")
    assert f"/run/secrets/{replica['secrets'][0]}" in words
    assert set(replica["secrets"]) <= set(compose["secrets"])
    compile(replica["healthcheck"]["test"][-1], str(path), "exec")
    assert f":{words[words.index('--health') + 1]}/health" in replica["healthcheck"]["test"][-1]
    if shutil.which("docker") is not None:
        command = ["docker", "compose", "--file", str(path), "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
        if "is not a docker command" not in done.stderr and "unknown" not in done.stderr:
            assert done.returncode == 0, done.stderr


def test_hosts_may_read_from_a_replica_of_the_server(name: str, server: RedisServer, tmp_path: Path) -> None:
    """As the plan for many hosts does."""
    with RedisServer(tmp_path / "second", replica_of=server) as second, ExitStack() as stack:
        stack.callback(unlink, name, force=True)
        stack.callback(unlink, name + COPY, force=True)
        with (
            Publisher[Any](name, server.url) as publisher,
            Replica(name, second.url, local_name=name + COPY) as replica,
        ):
            publisher.write(np.arange(100_000))
            replica.wait(TIMEOUT)
            with publisher.update() as draft:
                draft[5] = 0
            until(lambda: replica.status().seq == 2)


def test_a_publisher_cannot_use_a_replica_of_the_server(name: str, server: RedisServer, tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "second", replica_of=server) as second,
        Publisher[Any](name, second.url, linger=0) as publisher,
    ):
        publisher.write(1)
        until(lambda: publisher.status().error is not None)
        assert "a publisher needs the URL of the primary server" in str(publisher.status().error)
        publisher.unlink()
