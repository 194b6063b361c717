"""StopEvent: a signal handler may set it at any instant of a wait of the same thread."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from helpers import TIMEOUT, until

from shmsync._util.stop_event import StopEvent

if TYPE_CHECKING:
    from types import FrameType


def interrupted(event: threading.Event, line: int) -> bool:
    """Wait for an event, which a handler sets when that executes its n-th line; return whether there is such a line."""
    left = line
    reached = False

    def trace(frame: FrameType, _kind: str, _argument: Any) -> Any:
        nonlocal left, reached
        if frame.f_code.co_filename != __file__:
            left -= 1
            if left == 0:
                reached = True
                sys.settrace(None)
                event.set()
        return trace

    sys.settrace(trace)
    try:
        event.wait(0.01)
    finally:
        sys.settrace(None)
    assert event.is_set() == reached
    return reached


def test_a_handler_that_interrupts_a_wait() -> None:
    """Those of threading.Event end in a deadlock, for some of these lines."""

    def interrupt_each_line() -> None:
        line = 1
        while interrupted(StopEvent(), line):
            line += 1
        lines.append(line)

    lines: list[int] = []
    thread = threading.Thread(target=interrupt_each_line, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive(), "a handler waits for the call that it has interrupted"
    assert lines[0] > 5


def test_it_is_an_event() -> None:
    event = StopEvent()
    assert not event.wait(0)
    waiting = threading.Thread(target=event.wait, daemon=True)
    waiting.start()
    event.set()
    until(lambda: not waiting.is_alive())
    assert event.wait()
    event.clear()
    assert not event.is_set()
