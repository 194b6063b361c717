"""What the commands that use a server have in common: its URL and password, the log, signals, and readiness."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import typer

from shmsync._util.stop_event import StopEvent
from shmsync.cli._output import in_commands
from shmsync.replication.redis import PASSWORD_VARIABLE, check_url

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger("shmsync.replication")


def checked_url(url: str, option: str) -> str:
    """Return the URL of a server, if it is valid and contains no password.

    Args:
        url: the URL.
        option: the option that has it, for messages.

    Raises:
        BadParameter: it contains a password. The message does not.
        InvalidArgumentError: it is not valid.
        MissingExtraError: the package for it is not installed.
    """
    if _has_password(url):
        raise typer.BadParameter(
            "the URL contains a password, which `ps` would show to all users of this host; write it to a file and pass "
            f"--password-file FILE, or set {PASSWORD_VARIABLE}",
            param_hint=option,
        )
    check_url(url)
    return url


def _has_password(url: str) -> bool:
    # Not by `urlsplit` alone: a password may contain a slash, which ends what it takes for the user and the password.
    user, separator, _ = url.partition("//")[2].rpartition("@")
    if separator and ":" in user:
        return True
    try:
        return "password" in parse_qs(urlsplit(url).query, keep_blank_values=True)
    except ValueError:
        return False


def read_password(path: str | None) -> str | None:
    """Return the password in a file, without the end of the line; None if no file is given.

    Raises:
        BadParameter: the file is empty, or not text.
        OSError: it cannot be read.
    """
    if path is None:
        return None
    try:
        password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is not UTF-8 text", param_hint="--password-file") from None
    if not password:
        raise typer.BadParameter(f"{path} is empty", param_hint="--password-file")
    return password


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return in_commands(" ".join(super().format(record).splitlines()))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the log of shmsync to stderr: one line for each event, with its time, level and name."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    logger = logging.getLogger("shmsync")
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False


def stop_on_signals() -> StopEvent:
    """Return an event that SIGTERM and SIGINT set. A second signal ends the process at once."""
    stop = StopEvent()

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return stop


def notify_service_manager(state: str) -> None:
    """Tell the service manager that started this process of a state, such as `READY=1`, if it wants to know.

    See sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
