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
    from collections.abc import Iterator
    from types import FrameType, TracebackType

    from rich.console import Console, RenderableType
    from typing_extensions import Self

_SIGNALLED = 128
_ENTER = b"\x1b[?1049h\x1b[H\x1b[?25l"  # alternate screen, cursor home, cursor hidden
_LEAVE = b"\x1b[?25h\x1b[?1049l"


class Key(Enum):
    """A key that is not a character."""

    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    HOME = auto()
    END = auto()
    ENTER = auto()
    ESCAPE = auto()
    BACKSPACE = auto()
    DISCONNECTED = auto()


_ONE_KEY = re.compile(rb"\x1b[\[O][\d;]*[A-Za-z~]|.", re.DOTALL)
_KEYS = {
    **dict.fromkeys((b"\x1b[A", b"\x1bOA"), Key.UP),
    **dict.fromkeys((b"\x1b[B", b"\x1bOB"), Key.DOWN),
    b"\x1b[5~": Key.PAGE_UP,
    b"\x1b[6~": Key.PAGE_DOWN,
    **dict.fromkeys((b"\x1b[H", b"\x1bOH", b"\x1b[1~", b"\x1b[7~"), Key.HOME),
    **dict.fromkeys((b"\x1b[F", b"\x1bOF", b"\x1b[4~", b"\x1b[8~"), Key.END),
    **dict.fromkeys((b"\r", b"\n"), Key.ENTER),
    b"\x1b": Key.ESCAPE,
    **dict.fromkeys((b"\x7f", b"\x08"), Key.BACKSPACE),
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
        self._signalled = (-1, -1)
        self._saved_wakeup = -1

    def size(self) -> tuple[int, int]:
        """Return the number of columns and of lines."""
        return self._console.size

    def draw(self, content: RenderableType) -> None:
        """Replace the content of the screen."""
        self._console.print(Control.home(), FullScreen(content), sep="", end="")

    def read_keys(self, timeout: float) -> list[Key | str]:
        """Wait until keys are pressed and return them.

        Args:
            timeout: seconds after which an empty list is returned. Also returned after a signal, as of a resize.

        Returns:
            The keys; those of printable ASCII characters as characters.
        """
        ready = select.select([self._keyboard, self._signalled[0]], [], [], max(0.0, timeout))[0]
        if self._signalled[0] in ready:
            os.read(self._signalled[0], 1024)
        if self._keyboard not in ready:
            return []
        pressed = os.read(self._keyboard, 1024)
        return list(_keys(pressed)) if pressed else [Key.DISCONNECTED]

    def __enter__(self) -> Self:
        self._saved_modes = termios.tcgetattr(self._keyboard)
        # A signal that comes just before `select` does not interrupt it; a handler in Python would run after it.
        self._signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._saved_wakeup = signal.set_wakeup_fd(self._signalled[1], warn_on_full_buffer=False)
        handlers = {
            signal.SIGTERM: _exit,
            signal.SIGQUIT: _exit,
            signal.SIGTSTP: self._suspend,
            signal.SIGWINCH: _wake,
        }
        for number, handler in handlers.items():
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
        signal.set_wakeup_fd(self._saved_wakeup)
        for end in self._signalled:
            os.close(end)

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


def _keys(pressed: bytes) -> Iterator[Key | str]:
    for key in _ONE_KEY.findall(pressed):
        if key in _KEYS:
            yield _KEYS[key]
        elif len(key) == 1 and key.isascii() and key.decode().isprintable():
            yield key.decode()


def _wake(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that has only to end `select`: without a handler, nothing would be written to its pipe."""


def _exit(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_SIGNALLED + number)
