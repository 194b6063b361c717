"""Signal handlers call any method of a Writer in the middle of any other, at every line of the library."""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from helpers import PACKAGE, SHM, TIMEOUT

from shmsync import ClosedError, Reader, WriteLockConflictError, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from typing_extensions import Self


def reserves(writer: Writer) -> None:
    with writer.reserve(3) as slot:
        slot.buffer[:] = b"new"


def updates(writer: Writer) -> None:
    with writer.update(initial=b"old") as draft:
        draft.value = b"new"


CALLS: dict[str, Callable[[Writer], object]] = {
    "write": lambda writer: writer.write(b"new"),
    "write_raw": lambda writer: writer.write_raw(bytearray(b"new")),
    "reserve": reserves,
    "update": updates,
    "unlink": Writer.unlink,
    "close": Writer.close,
}


class Interruption:
    """Calls a function before the n-th line of the library that runs in a block."""

    def __init__(self, nth: int, handler: Callable[[], object]) -> None:
        self._left = nth
        self._handler = handler
        self.happened = False

    def __enter__(self) -> Self:
        self._previous = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._previous)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                self.happened = True
                self._handler()
                return None
        return self._trace


@pytest.mark.timeout(0)
@pytest.mark.parametrize("published", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("inner", CALLS)
@pytest.mark.parametrize("outer", CALLS)
def test_a_call_in_the_middle_of_another(name: str, outer: str, inner: str, published: bool) -> None:  # noqa: FBT001
    """No value is torn or lost without notice, no lock is kept, and nothing is left behind."""
    for nth in itertools.count(1):
        writer = Writer(name)
        if published:
            writer.write(b"old")

        def handler(writer: Writer = writer) -> None:
            with suppress(WriteLockConflictError, ClosedError):
                CALLS[inner](writer)

        with Interruption(nth, handler) as interruption, suppress(ClosedError):
            CALLS[outer](writer)
        with Reader(name) as reader:
            value = reader.get(default=None)
            value = bytes(value) if isinstance(value, memoryview) else value
            assert value in ((b"old", b"new", None) if published else (b"new", None))
            if "unlink" not in {outer, inner}:
                assert value is not None or not published
        writer.close()
        with closing(Writer(name)) as successor:  # no lock was kept
            successor.write(b"next")
            with Reader(name) as reader:
                assert reader.get() == b"next"
            successor.unlink()
        assert not list(SHM.glob(f"{name}_*"))
        if not interruption.happened:
            return


def test_a_nested_write_does_not_wait_for_the_lock(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds the name is the interrupted call, which cannot end before the handler does."""

    def refuse_to_sleep(seconds: float) -> None:
        pytest.fail(f"the handler waits for {seconds} s")

    monkeypatch.setattr(time, "sleep", refuse_to_sleep)
    refused = 0
    for nth in itertools.count(1, 23):  # a sample of the lines
        with closing(Writer(name, lock_timeout=TIMEOUT)) as writer:

            def handler(writer: Writer = writer) -> None:
                nonlocal refused
                try:
                    writer.write(b"new")
                except WriteLockConflictError:
                    refused += 1

            with Interruption(nth, handler) as interruption:
                writer.write(b"old")
            writer.unlink()
        if not interruption.happened:
            break
    assert refused
