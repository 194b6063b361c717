"""The warning for a uWSGI that forks without Python's hooks; see tests/recipes/test_uwsgi.py for a real one."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import Any

import pytest

from shmsync import Reader, Writer
from shmsync._session import uwsgi


@pytest.mark.parametrize(
    ("options", "worker", "warned"),
    [
        ({"master": True}, 0, True),
        ({b"master": True}, 0, True),
        ({"master": True}, 1, False),
        ({"http": b":80"}, 0, False),
        ({"master": True, "lazy-apps": True}, 0, False),
        ({"master": True, "py-call-uwsgi-fork-hooks": True}, 0, False),
    ],
)
def test_a_master_that_forks_silently_is_warned_once(
    writer: Writer[Any],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    options: dict[Any, Any],
    worker: int,
    warned: bool,  # noqa: FBT001
) -> None:
    writer.write(1)
    module = ModuleType("uwsgi")
    module.opt = options  # type: ignore[attr-defined]
    module.worker_id = lambda: worker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    monkeypatch.setattr(uwsgi, "_warned", False)
    with caplog.at_level(logging.WARNING, logger="shmsync"), Reader(name) as reader, Reader(name) as other:
        reader.get()
        other.get()
    assert sum("py-call-uwsgi-fork-hooks" in record.message for record in caplog.records) == warned
