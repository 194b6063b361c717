"""gunicorn with 4 workers under load, while settings are published and a worker is killed; prints the results.

python tests/recipes/load.py
"""

from __future__ import annotations

import http.client
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from helpers import until
from recipe import get_json, renamed, served

from shmsync import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUESTS = 10_000
CLIENTS = 4
WORKERS = 4
PUBLISHES = 50


class Answer(NamedTuple):
    """One request: when it began and ended, who answered it, and with which version."""

    begun: float
    ended: float
    worker: int
    version: int


@dataclass
class Load:
    """The results of the load test.

    Attributes:
        requests: number of requests, each on a new connection.
        repeated: requests that were made again, because their worker was killed before it answered.
        failed: requests that were not answered at the second attempt either.
        versions: number of publishes during the requests.
        stale: requests that began after a publish had returned, and were answered from an older version.
        delays: seconds from the return of a publish until each worker had answered with its version or a later one, for
            each publish before and after which all workers answered.
        new_workers: workers that were started in place of the killed one.
    """

    requests: int
    repeated: int
    failed: int
    versions: int
    stale: int
    delays: list[float]
    new_workers: int

    @property
    def longest(self) -> float:
        """The longest delay."""
        return max(self.delays)

    def __str__(self) -> str:
        median, longest = 1000 * statistics.median(self.delays), 1000 * self.longest
        return (
            f"{self.requests:,} requests, {self.failed} failed, {self.repeated} repeated because "
            f"their worker was killed; {self.versions} publishes, {self.stale} stale answers; from a publish until all "
            f"{WORKERS} workers had answered with it ({len(self.delays)} times): median {median:.1f} ms, "
            f"longest {longest:.1f} ms"
        )


class _Client:
    """A client with the usual retry policy: a GET whose connection broke is made once more."""

    def __init__(self, port: int, requests: int) -> None:
        self.answers: list[Answer] = []
        self.repeated = 0
        self.failed = 0
        self.done = 0
        self._port = port
        self._requests = requests
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for _ in range(self._requests):
            try:
                self._request()
            except (ConnectionError, http.client.HTTPException):
                self.repeated += 1
                try:
                    self._request()
                except (OSError, AssertionError, http.client.HTTPException):
                    self.failed += 1
            except (OSError, AssertionError):
                self.failed += 1
            self.done += 1

    def _request(self) -> None:
        begun = time.monotonic()
        answer = get_json(self._port)
        self.answers.append(Answer(begun, time.monotonic(), answer["worker"], answer["version"]))


def run(directory: Path, writer: Writer[Any], requests: int = REQUESTS) -> Load:
    """Run the server and the clients; publish at regular intervals of the requests."""
    renamed("gunicorn_app.py", directory, writer.name)
    writer.write({"limit": 0})
    quiet = ("--log-level", "critical", "--no-control-socket")
    served_by = ("gunicorn", *quiet, "--workers", str(WORKERS), "--preload", "--bind", "fd://{fd}", "gunicorn_app:app")
    with served(directory, *served_by) as port:
        first: set[int] = set()

        def all_seen() -> bool:
            first.add(get_json(port)["worker"])
            return len(first) == WORKERS

        until(all_seen)
        clients = [_Client(port, requests // CLIENTS) for _ in range(CLIENTS)]
        for client in clients:
            client.thread.start()
        published = list(_publish(writer, clients, min(first), requests))
        for client in clients:
            client.thread.join()
    answers = sorted((answer for client in clients for answer in client.answers), key=lambda answer: answer.ended)
    return Load(
        requests=requests,
        repeated=sum(client.repeated for client in clients),
        failed=sum(client.failed for client in clients),
        versions=len(published),
        stale=sum(_is_stale(answer, published) for answer in answers),
        delays=[delay for version, at in published if (delay := _delay(version, at, answers)) is not None],
        new_workers=len({answer.worker for answer in answers} - first),
    )


def _publish(writer: Writer[Any], clients: list[_Client], victim: int, requests: int) -> Iterable[tuple[int, float]]:
    """Publish at regular intervals of the requests; yield version and time. Kill the victim halfway."""
    for number in range(PUBLISHES):
        due = requests * number / PUBLISHES
        while sum(client.done for client in clients) < due:
            time.sleep(0.001)
        if number == PUBLISHES // 2:
            os.kill(victim, signal.SIGKILL)
        version = writer.write({"limit": writer.stats().writes}).version.seq
        yield version, time.monotonic()


def _is_stale(answer: Answer, published: list[tuple[int, float]]) -> bool:
    return answer.version < max((version for version, at in published if at < answer.begun), default=0)


def _delay(version: int, at: float, answers: list[Answer]) -> float | None:
    """Return how long after a publish the last worker responded with it; None after the kill, and at the end."""
    before = {answer.worker for answer in answers if answer.ended < at}
    alive = before & {answer.worker for answer in answers if answer.begun > at}
    if len(alive) < WORKERS:
        return None
    served_at: dict[int, float] = {}
    for answer in answers:
        if answer.version >= version and answer.worker in alive:
            served_at.setdefault(answer.worker, answer.ended)
    return max(served_at.values()) - at


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, Writer[Any](f"load-{os.getpid()}") as writer:
        try:
            print(run(Path(directory), writer))
        finally:
            writer.unlink()


if __name__ == "__main__":
    main()
