"""The Publisher: in the arbiter of a real gunicorn, in the workers of a real uvicorn, and alone."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import TIMEOUT, Child, State, until
from recipe import get_json, renamed, served

from shmsync import InvalidArgumentError, MissingExtraError, Reader, Writer
from shmsync.publisher import Publisher


def replace(path: Path, text: str) -> None:
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


def test_the_arbiter_of_gunicorn_publishes_a_file(tmp_path: Path, cleaned_name: str) -> None:
    for recipe in ("gunicorn_publisher.py", "gunicorn_app.py"):
        renamed(recipe, tmp_path, cleaned_name)
    file = tmp_path / "settings.toml"
    file.write_text("limit = 1")
    options = ("--log-level", "critical", "--no-control-socket", "--workers", "2", "--bind", "fd://{fd}")
    with served(tmp_path, "gunicorn", *options, "--config", "gunicorn_publisher.py", "gunicorn_app:app") as port:

        def until_all_answer(limit: int) -> set[int]:
            workers: set[int] = set()

            def done() -> bool:
                try:
                    answer = get_json(port)
                except AssertionError:  # 503: not published yet
                    return False
                if answer["settings"] == {"limit": limit}:
                    workers.add(answer["worker"])
                return len(workers) == 2

            until(done)
            return workers

        workers = until_all_answer(1)
        replace(file, "limit = 2")
        until_all_answer(2)
        os.kill(min(workers), signal.SIGKILL)  # it is replaced by a fork of the arbiter, in which the thread runs
        replace(file, "limit = 3")
        assert until_all_answer(3) != workers
    with Writer(cleaned_name) as writer:  # the arbiter has closed its writer
        assert writer.stats().takeovers == 0


def test_one_worker_of_uvicorn_publishes(tmp_path: Path, cleaned_name: str) -> None:
    renamed("lifespan_publisher.py", tmp_path, cleaned_name)
    with served(
        tmp_path, "uvicorn", "--log-level", "critical", "--workers", "2", "--fd", "{fd}", "lifespan_publisher:app"
    ) as port:
        publishers: list[int] = []
        workers: set[int] = set()

        def seen(number: int) -> bool:
            answer = get_json(port)
            workers.add(answer["worker"])
            if answer["publisher"] not in publishers:
                publishers.append(answer["publisher"])
            return len(workers) >= 2 and len(publishers) == number

        until(lambda: seen(1))
        assert publishers[0] in workers
        os.kill(publishers[0], signal.SIGKILL)

        def taken_over() -> bool:
            try:
                return seen(2)
            except (OSError, AssertionError):  # the request was made to the killed worker
                return False

        until(taken_over)


def test_follows_a_file(tmp_path: Path, cleaned_name: str, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "value.json"
    file.write_text("1")
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    publisher = Publisher(cleaned_name, file, mode=0o640)
    with Reader(cleaned_name, timeout=TIMEOUT) as reader:
        publisher.start()
        try:
            assert reader.get() == 1
            with caplog.at_level(logging.WARNING, "shmsync"):
                replace(file, "{")
                until(lambda: any("kept the last value" in record.message for record in caplog.records))
            assert reader.get() == 1
            replace(file, "2")
            until(lambda: reader.get() == 2)
        finally:
            publisher.stop()
        assert reader.get() == 2
    assert not [thread for thread in threading.enumerate() if "publisher" in thread.name]
    until(lambda: len(list(Path("/proc/self/fd").iterdir())) == descriptors)  # watchfiles closes its own in a thread


def test_a_callable(cleaned_name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The same object is not published again, and an exception keeps the last value."""
    kept: dict[str, int] = {"kept": 1}
    values: list[Any] = [kept, kept, ValueError("no value"), {"other": 2}]
    calls = iter(values)

    def call() -> Any:
        value = next(calls, values[-1])
        if isinstance(value, Exception):
            raise value
        return value

    publisher = Publisher(cleaned_name, call, interval=0.01)
    publisher.start()
    try:
        with Reader[Any](cleaned_name, timeout=TIMEOUT) as reader:
            until(lambda: reader.get() == {"other": 2})

            assert reader.version().seq == 2
    finally:
        publisher.stop()
    assert [record.message for record in caplog.records] == [f"{cleaned_name}: kept the last value: no value"]


def start(state: State, name: str) -> None:
    """Publish the pid of this process from now on."""
    state.publisher = Publisher(name, lambda: {"pid": os.getpid()}, interval=0.01)
    state.publisher.start()


def stop(state: State) -> None:
    """Stop publishing."""
    state.publisher.stop()


def test_the_next_process_takes_over(cleaned_name: str) -> None:
    with Child() as first, Child() as second, Reader[Any](cleaned_name, timeout=TIMEOUT) as reader:
        first.call(start, cleaned_name)
        assert reader.get() == {"pid": first.pid}
        second.call(start, cleaned_name)
        first.kill()
        until(lambda: reader.get() == {"pid": second.pid})
        second.call(stop)
    with Writer(cleaned_name) as writer:
        assert writer.stats().takeovers == 0


def test_bad_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="interval"):
        Publisher(name, dict, interval=0)
    with pytest.raises(InvalidArgumentError, match="invalid name"):
        Publisher("a/b", dict)
    with pytest.raises(InvalidArgumentError, match="codec"):
        Publisher(name, dict, codec="none")
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(MissingExtraError, match=r"shmsync\[publish\]"):
        Publisher(name, "file.json")
