"""The recipes of examples/ under names of their own, and a client for those that serve HTTP on loopback."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 60.0
"""Seconds after which something is taken to hang. Nothing is timed by it."""

_NAMED = re.compile(r'(?<=\(")(?:features|model|prices|settings)(?="[,)])')


def renamed(recipe: str, directory: Path, name: str) -> Path:
    """Write a recipe into a directory, its names changed to `name`; return where."""
    text, count = _NAMED.subn(name, (EXAMPLES / recipe).read_text(encoding="utf-8"))
    assert count, f"{recipe} names nothing"
    target = directory / recipe
    target.write_text(text, encoding="utf-8")
    return target


def wait_until(done: Callable[[], bool]) -> None:
    """Wait for something that must happen."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


@contextmanager
def served(directory: Path, *server: str) -> Iterator[int]:
    """Run a server (a module of Python, and its arguments) on a free port of loopback; `{fd}` is its socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        fd = listening.fileno()
        command = [sys.executable, "-m", *(part.format(fd=fd) for part in server)]
        process = subprocess.Popen(command, cwd=directory, pass_fds=[fd])
        try:
            yield listening.getsockname()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()


def ask(port: int, status: int = http.client.OK) -> Any:
    """Make one request on a connection of its own; fail if it is not answered with this status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == status, body
    return json.loads(body)
