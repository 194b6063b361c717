"""The recipes that serve HTTP, with real servers, workers and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from load import Load, run
from recipe import ask, renamed, served, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from shmsync import Writer

WORKERS = 2


def until_all_answer(port: int, wanted: Any) -> None:
    """Ask until each worker has given the wanted answer."""
    workers = set()

    def done() -> bool:
        answer = ask(port)
        worker = answer.pop("worker")
        if answer == wanted:
            workers.add(worker)
        return len(workers) == WORKERS

    wait_until(done)


@pytest.mark.parametrize(
    ("recipe", "value", "answer"),
    [
        ("starlette_app.py", {"limit": 1}, {"settings": {"limit": 1}}),
        ("watcher_app.py", {"b": 2.0, "a": 1.0}, {"ranking": ["a", "b"]}),
    ],
)
def test_uvicorn(tmp_path: Path, writer: Writer[Any], recipe: str, value: Any, answer: Any) -> None:
    renamed(recipe, tmp_path, writer.name)
    writer.write({})
    empty = {key: type(part)() for key, part in answer.items()}
    app = f"{recipe.removesuffix('.py')}:app"
    with served(tmp_path, "uvicorn", "--log-level", "warning", "--workers", str(WORKERS), "--fd", "{fd}", app) as port:
        until_all_answer(port, empty)
        writer.write(value)
        until_all_answer(port, answer)


@pytest.mark.timeout(300)
def test_gunicorn_under_load_with_a_worker_killed(tmp_path: Path, writer: Writer[Any]) -> None:
    load: Load = run(tmp_path, writer)
    print(load)
    assert load.requests == 10_000
    assert load.failed == 0
    assert load.repeated <= 1  # a sync worker has one request at a time
    assert load.stale == 0
    assert load.new_workers == 1
    assert load.versions > 5
    assert load.longest < 2.0
