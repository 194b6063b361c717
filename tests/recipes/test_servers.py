"""The recipes that serve HTTP, with real servers, workers and requests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import until
from load import Load, run
from recipe import get_json, renamed, served

if TYPE_CHECKING:
    from pathlib import Path

    from shmsync import Writer

WORKERS = 2
NOT_THERE = "[Errno 2] nothing is published as {!r}; start its writer first, or wait for it with Reader(timeout=...)"


def until_all_answer(port: int, wanted: Any, status: int = 200) -> None:
    """Make requests until each worker has given the expected response."""
    workers = set()

    def done() -> bool:
        answer = get_json(port, status)
        worker = answer.pop("worker")
        if answer == wanted:
            workers.add(worker)
        return len(workers) == WORKERS

    until(done)


@pytest.mark.parametrize(
    ("recipe", "value", "answer"),
    [
        ("starlette_app.py", {"limit": 1}, {"settings": {"limit": 1}}),
        ("watcher_app.py", {"b": 2.0, "a": 1.0}, {"ranking": ["a", "b"]}),
    ],
)
def test_uvicorn(tmp_path: Path, writer: Writer[Any], recipe: str, value: Any, answer: Any) -> None:
    renamed(recipe, tmp_path, writer.name)
    empty = {key: type(part)() for key, part in answer.items()}
    app = f"{recipe.removesuffix('.py')}:app"
    with served(tmp_path, "uvicorn", "--log-level", "critical", "--workers", str(WORKERS), "--fd", "{fd}", app) as port:
        if recipe == "starlette_app.py":
            until_all_answer(port, {"error": NOT_THERE.format(writer.name)}, 503)
        writer.write({})
        until_all_answer(port, empty)
        writer.write(value)
        until_all_answer(port, answer)
        if recipe == "watcher_app.py":
            writer.write([1, 2])  # not what it can rank
            time.sleep(0.1)
            until_all_answer(port, answer)
            writer.write({"c": 1.0})
            until_all_answer(port, {"ranking": ["c"]})


def test_gunicorn_before_anything_is_published(tmp_path: Path, writer: Writer[Any]) -> None:
    renamed("gunicorn_app.py", tmp_path, writer.name)
    quiet = ("--log-level", "critical", "--no-control-socket")
    with served(
        tmp_path, "gunicorn", *quiet, "--workers", str(WORKERS), "--bind", "fd://{fd}", "gunicorn_app:app"
    ) as port:
        until_all_answer(port, {"error": NOT_THERE.format(writer.name)}, 503)
        version = writer.write({"limit": 1}).version.seq
        until_all_answer(port, {"version": version, "settings": {"limit": 1}})


@pytest.mark.parametrize("requests", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_gunicorn_under_load_with_a_worker_killed(tmp_path: Path, writer: Writer[Any], requests: int) -> None:
    load: Load = run(tmp_path, writer, requests)
    print(load)
    assert load.failed == 0
    assert load.repeated <= 1  # a sync worker has one request at a time
    assert load.stale == 0  # each request that began after a publish was answered with it
    assert load.new_workers == 1
