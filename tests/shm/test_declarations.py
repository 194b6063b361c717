"""The generated declarations are those of `tools/declarations.py`, and load the functions that atomics uses itself."""

from __future__ import annotations

import ctypes
import importlib.util
from typing import TYPE_CHECKING, Any

from atomics._impl.patomic import Patomic

import declarations
from shmsync._shm import atomics
from shmsync._shm.ffi import ffi

if TYPE_CHECKING:
    import pytest


def test_the_module_is_up_to_date() -> None:
    assert declarations.TARGET.read_text(encoding="utf-8") == declarations.generate()


def test_the_functions_are_those_of_the_package() -> None:
    """A layout that is wrong by one pointer would call another operation."""
    functions, ops = atomics._Functions(), Patomic.ops(8)

    def address(function: Any) -> int:
        return ctypes.cast(function, ctypes.c_void_p).value or 0

    expected = {
        "load": ops.fp_load,
        "store": ops.fp_store,
        "add": ops.unsigned_ops.fp_add,
        "fetch_or": ops.binary_ops.fp_fetch_or,
        "compare_exchange": ops.xchg_ops.fp_cmpxchg_strong,
    }
    found = {name: int(ffi.cast("uintptr_t", function)) for name, function in vars(functions).items()}
    assert found == {name: address(function) for name, function in expected.items()}


def test_another_version_of_the_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert atomics._functions() is not None
    monkeypatch.setattr(atomics, "_VERSION", (0, 3, 0))
    assert atomics._functions() is None


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert atomics._functions() is None
