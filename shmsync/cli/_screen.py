"""Full-screen mode of the terminal with keyboard input. The terminal is restored even if the command fails."""

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
from rich.screen import Screen as FullScreen

if TYPE_CHECKING:
    from types import FrameType, TracebackType

    from rich.console import Console, RenderableType
    from typing_extensions import Self

_SIGNALLED = 128
_ENTER = b"\x1b[?1049h\x1b[H\x1b[?25l"  # alternate screen, cursor home, cursor hidden
_LEAVE = b"\x1b[?25h\x1b[?1049l"


class Key(Enum):
    """Meaning of a key."""

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
    """The terminal's alternate screen without a cursor, and its keyboard without echo and line editing.

    Ctrl-C raises KeyboardInterrupt as usual, SIGTERM and SIGQUIT raise SystemExit, and Ctrl-Z restores the terminal
    until the process is continued.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._keyboard = sys.stdin.fileno()
        self._display = console.file.fileno()
        self._saved_modes: list[Any] = []
        self._saved_handlers: dict[signal.Signals, Any] = {}

    def size(self) -> tuple[int, int]:
        """Return the number of columns and of lines."""
        return self._console.size

    def draw(self, content: RenderableType) -> None:
        """Replace the content of the screen."""
        self._console.print(Control.home(), FullScreen(content), sep="", end="")

    def read_keys(self, timeout: float) -> list[Key]:
        """Wait until keys are pressed and return them.

        Args:
            timeout: seconds after which an empty list is returned.

        Returns:
            The keys that have a meaning; QUIT if the keyboard was disconnected.
        """
        if not select.select([self._keyboard], [], [], max(0.0, timeout))[0]:
            return []
        pressed = os.read(self._keyboard, 1024)
        return [_KEYS[key] for key in _ONE_KEY.findall(pressed) if key in _KEYS] if pressed else [Key.QUIT]

    def __enter__(self) -> Self:
        self._saved_modes = termios.tcgetattr(self._keyboard)
        for number, handler in ((signal.SIGTERM, _exit), (signal.SIGQUIT, _exit), (signal.SIGTSTP, self._suspend)):
            self._saved_handlers[number] = signal.signal(number, handler)
        try:
            self._enter()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._console.file.flush()
        self._leave()
        for number, handler in self._saved_handlers.items():
            signal.signal(number, handler)

    # These bypass the console: a signal may arrive while it is writing.

    def _enter(self) -> None:
        tty.setcbreak(self._keyboard)
        os.write(self._display, _ENTER)

    def _leave(self) -> None:
        os.write(self._display, _LEAVE)
        termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._saved_modes)

    def _suspend(self, _number: int, _frame: FrameType | None) -> None:
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_SIGNALLED + number)
