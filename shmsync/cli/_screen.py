"""The whole terminal for a while, and the keys that are pressed meanwhile; left as it was found, however that ends."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import termios
import tty
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from rich.control import Control
from rich.screen import Screen as Whole

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from rich.console import Console, RenderableType
    from typing_extensions import Self

_SIGNALLED = 128
_TAKE = b"\x1b[?1049h\x1b[H\x1b[?25l"  # the alternate screen, its corner, no cursor
_GIVE_BACK = b"\x1b[?25h\x1b[?1049l"


class Key(Enum):
    """What a key means."""

    QUIT = auto()
    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()


_ONE_KEY = re.compile(rb"\x1b[\[O][\d;]*[A-Za-z~]|.", re.DOTALL)
_KEYS = {
    **dict.fromkeys((b"q", b"Q"), Key.QUIT),
    **dict.fromkeys((b"\x1b[A", b"\x1bOA", b"k"), Key.UP),
    **dict.fromkeys((b"\x1b[B", b"\x1bOB", b"j"), Key.DOWN),
    **dict.fromkeys((b"\x1b[5~", b"b"), Key.PAGE_UP),
    **dict.fromkeys((b"\x1b[6~", b" "), Key.PAGE_DOWN),
}


class Screen:
    """The terminal's alternate screen, without a cursor, and its keyboard without echo and line editing.

    Ctrl-C raises KeyboardInterrupt as ever, SIGTERM and SIGQUIT SystemExit; Ctrl-Z gives the terminal back until `fg`.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._keys = sys.stdin.fileno()
        self._screen = console.file.fileno()
        self._before: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        return self._console.size

    def draw(self, picture: RenderableType) -> None:
        """Show a picture."""
        self._console.print(Control.home(), Whole(picture), sep="", end="")

    def keys_within(self, seconds: float) -> list[Key]:
        """Wait for so long, or until keys are pressed; return them. QUIT, too, if nobody can press any more."""
        if not select.select([self._keys], [], [], max(0.0, seconds))[0]:
            return []
        pressed = os.read(self._keys, 1024)
        return [_KEYS[key] for key in _ONE_KEY.findall(pressed) if key in _KEYS] if pressed else [Key.QUIT]

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._keys)
        for number, handler in ((signal.SIGTERM, _end), (signal.SIGQUIT, _end), (signal.SIGTSTP, self._pause)):
            self._handlers[number] = signal.signal(number, handler)
        try:
            self._take()
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.file.flush()
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    # Written past the console: a signal may come while that is in the middle of a picture.

    def _take(self) -> None:
        tty.setcbreak(self._keys)
        os.write(self._screen, _TAKE)

    def _give_back(self) -> None:
        os.write(self._screen, _GIVE_BACK)
        termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _pause(self, _number: int, _frame: FrameType | None) -> None:
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_SIGNALLED + number)
