"""Commands that run until they are stopped, with a real server."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from command_line import command, environment
from helpers import TIMEOUT, until
from replication.servers import RedisServer, server_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCAL = "-copy"
ELSEWHERE = f"""
import shmsync.cli.replica as _module
_Replica = _module.Replica
_module.Replica = lambda name, *args, **options: _Replica(name, *args, local_name=name + {LOCAL!r}, **options)
"""
"""Makes the command replica publish under another name: on this host, the publisher has the same one."""


@pytest.fixture
def needs_server() -> None:
    """Skip the test if there is no server."""
    if server_command() is None:
        pytest.skip("needs redis-server or valkey-server")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("needs the package redis")


@pytest.fixture
def server(needs_server: None, tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps its data over a restart."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


class Running:
    """A command that runs, and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def wait_for(self, words: str) -> None:
        """Wait until the command has logged these words; fail if it ends before."""
        until(lambda: words in self.log or self.process.poll() is not None)
        assert words in self.log, self.log

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)

    def pages(self) -> dict[str, str]:
        """Return the URLs of the pages that the command serves, by path."""
        found = re.findall(r"serving (http://[^/]+(/\w+))", self.log)
        return {path: url for url, path in found}


@contextmanager
def running(directory: Path, *args: str, before: str = "", **variables: str) -> Iterator[Running]:
    log = directory / f"log-{len(list(directory.glob('log-*')))}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command(*args, before=before),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env=environment(**variables),
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait(TIMEOUT)


def get(url: str, method: str = "GET") -> tuple[int, bytes]:
    """Return status and body of a page."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return int(answer.status), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def health(url: str, name: str) -> tuple[int, dict[str, Any]]:
    """Return the status of a health page, and what it says about a name."""
    status, body = get(url)
    found: dict[str, Any] = json.loads(body)
    assert found["healthy"] == (status == 200)
    return status, found["names"][name]
