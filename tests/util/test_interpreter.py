"""The interpreter must have a GIL."""

from __future__ import annotations

import sys

import pytest

from shmsync import UnsupportedInterpreterError
from shmsync._util.interpreter import check_gil


def test_an_interpreter_without_the_gil_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with pytest.raises(UnsupportedInterpreterError, match="PYTHON_GIL=0"):
        check_gil()


def test_an_interpreter_with_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    check_gil()
    monkeypatch.delattr(sys, "_is_gil_enabled")
    check_gil()
