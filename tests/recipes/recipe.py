"""Run the recipes of examples/ with unique names; an HTTP client for those that are servers."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

_NAMED = re.compile(r'(?<=\(")(?:features|model|prices|settings)(?="[,)])')


def renamed(recipe: str, directory: Path, name: str) -> Path:
    """Copy a recipe into a directory with its names replaced by `name`; return the path."""
    text, count = _NAMED.subn(name, (EXAMPLES / recipe).read_text(encoding="utf-8"))
    assert count, f"{recipe} contains none of the names to replace"
    target = directory / recipe
    target.write_text(text, encoding="utf-8")
    return target


@contextmanager
def served(directory: Path, *server: str) -> Iterator[int]:
    """Run a server (a Python module and its arguments) on a free port of localhost; `{fd}` is its socket."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        fd = listening.fileno()
        command = [sys.executable, "-m", *(part.format(fd=fd) for part in server)]
        process = subprocess.Popen(command, cwd=directory, pass_fds=[fd], env=environment())
        try:
            yield listening.getsockname()[1]
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TIMEOUT)
            finally:
                process.kill()
                process.wait()


def get_json(port: int, status: int = http.client.OK) -> Any:
    """Make one request on a new connection; return the JSON of the response, which must have this status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == status, body
    return json.loads(body)
