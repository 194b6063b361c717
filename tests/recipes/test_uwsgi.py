"""A real uWSGI, which forks its workers in C: with Python's fork hooks, without them, and with an app per worker."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import environment, slots_locked, until
from recipe import get_json, renamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync import Writer

UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or shutil.which("uwsgi")
WORKERS = 2
APP = """
import json, logging, os, random
logging.basicConfig()
from shmsync import Reader
reader = Reader({name!r})
reader.get()  # in the master, unless each worker loads the app
kept = []
def app(environ, start_response):
    start_response("200 OK", [])
    value = reader.get()
    kept.append((int(value[0]), value))
    del kept[:-random.randint(1, 5)]
    torn = [number for number, array in kept if not (array == number).all()]
    return [json.dumps({{"worker": os.getpid(), "torn": torn}}).encode()]
"""
pytestmark = pytest.mark.skipif(UWSGI is None, reason="needs uWSGI: pip install uwsgi")


@contextmanager
def uwsgi(directory: Path, module: str, *options: str) -> Iterator[tuple[int, Path]]:
    """Run uWSGI; yield its port and its log."""
    log = directory / "log"
    paths = [f"--pythonpath={path}" for path in (directory, *filter(None, sys.path))]
    # Port 0: the kernel chooses one, and uWSGI prints it. A worker that has just been forked has no signal handler yet
    # and can miss the one SIGTERM that the master sends it; the master kills it after its mercy, a minute by default.
    command = [str(UWSGI), "--http-socket=127.0.0.1:0", "--master", f"--processes={WORKERS}", "--die-on-term"]
    command += ["--worker-reload-mercy=5"]
    command += [f"--virtualenv={sys.prefix}", *paths, f"--module={module}", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment())

    def port() -> int:
        assert process.poll() is None, log.read_text()
        found = re.search(r"bound to TCP address 127\.0\.0\.1:(\d+)", log.read_text())
        return int(found[1]) if found and f"spawned uWSGI worker {WORKERS}" in log.read_text() else 0

    try:
        until(port)
        yield port(), log
    finally:

        def has_ended() -> bool:
            # Again and again: the master may not have installed its handler yet.
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
            return process.returncode is not None

        try:
            until(has_ended)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("options", [(), ("--py-call-uwsgi-fork-hooks",), ("--lazy-apps",)], ids=" ".join)
def test_no_worker_sees_a_torn_array(tmp_path: Path, writer: Writer[Any], options: tuple[str, ...]) -> None:
    (tmp_path / "kept.py").write_text(APP.format(name=writer.name))
    writer.write(np.full(5000, 0))
    with uwsgi(tmp_path, "kept:app", *options) as (port, log):
        workers = set()
        for number in range(1, 301):
            writer.write(np.full(5000, number), grace_duration=0.001)
            answer = get_json(port)
            workers.add(answer["worker"])
            assert answer["torn"] == []

        def all_have_answered() -> bool:
            workers.add(get_json(port)["worker"])
            return len(workers) == WORKERS

        until(all_have_answered)
        in_master = "--lazy-apps" not in options
        assert len(slots_locked(writer.name)) == WORKERS + in_master
        assert ("forks its workers without Python's fork hooks" in log.read_text()) == (options == ())


def test_the_recipe(tmp_path: Path, writer: Writer[Any]) -> None:
    recipe = renamed("uwsgi_app.py", tmp_path, writer.name)
    assert "--py-call-uwsgi-fork-hooks" in recipe.read_text()
    with uwsgi(tmp_path, "uwsgi_app:app", "--py-call-uwsgi-fork-hooks") as (port, _):
        assert "nothing is published" in get_json(port, 503)["error"]
        version = writer.write({"limit": 1}).version.seq
        answer = get_json(port)
        assert (answer["version"], answer["settings"]) == (version, {"limit": 1})
