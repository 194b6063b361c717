"""What the command publish does with --to: send to a server what is published."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import shmsync
from shmsync.cli._output import fail
from shmsync.cli._server import (
    checked_url,
    log,
    log_to_stderr,
    notify_service_manager,
    read_password,
    stop_on_signals,
)
from shmsync.errors import FencedError, ReplicationError, StateNotFoundError, UninitializedStateError, format_error
from shmsync.replication import Publisher, Relay
from shmsync.replication._urls import redacted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_CHECK_EVERY = 0.2  # seconds
_LINGER = 5.0  # seconds for which the newest version is still sent, before the command ends


class Server(NamedTuple):
    """Where to send to.

    Attributes:
        url: its URL.
        options: the password, if it is not that of the environment, and the compression.
    """

    url: str
    options: dict[str, Any]


def server(url: str, password_file: str | None, compression: str | None) -> Server:
    """Return the server that the options describe.

    Raises:
        BadParameter, InvalidArgumentError: an option is not valid.
        OSError: the file cannot be read.
        MissingExtraError: the package for it is not installed.
    """
    options = {"password": read_password(password_file), "compression": compression}
    return Server(checked_url(url, "--to"), options)


def publisher(
    name: str, server: Server, stop: threading.Event, timeout: float | None, **options: Any
) -> tuple[Publisher[Any], Callable[[], None]]:
    """Return a publisher for a file, and a function to call when it is published.

    Args:
        name: the name.
        server: where to send to.
        stop: set when another publisher has taken over.
        timeout: how long the function waits until the server has the value, in seconds; None if the file is followed,
            so that it only looks whether another publisher has taken over.
        options: those of `Writer`.
    """
    log_to_stderr(logging.INFO if timeout is None else logging.WARNING)
    linger = _LINGER if timeout is None else 0.0
    opened = Publisher[Any](name, server.url, linger=linger, **server.options, **options)
    opened.on_fenced = lambda _: stop.set()

    def finish() -> None:
        _raise_if_fenced(opened)
        if timeout is not None:
            _flush(opened, timeout)

    return opened, finish


def _flush(writer: Publisher[Any], timeout: float) -> None:
    """Wait until the server has the newest version; if that takes too long, exit with status 1."""
    try:
        writer.flush(timeout, last=True)
    except FencedError:
        raise
    except ReplicationError as error:
        fail(f"{format_error(error)}; it is published on this host only")


def _raise_if_fenced(sender: Publisher[Any] | Relay) -> None:
    error = sender.status().error
    if isinstance(error, FencedError):
        raise error


def relay(name: str, server: Server) -> None:
    """Send to a server what another program publishes under a name, until SIGTERM or SIGINT.

    Raises:
        FencedError: another publisher has taken over.
    """
    sender = Relay(name, server.url, **server.options)
    log_to_stderr()
    waiting = "" if _exists(name) else "; nothing is published under this name yet"
    log.info("%s: sends to %s%s", name, redacted(server.url), waiting)
    stop = stop_on_signals()
    sender.on_fenced = lambda _: stop.set()
    with sender:
        has_connected = has_sent = False
        while not stop.wait(_CHECK_EVERY) and sender.is_running:
            status = sender.status()
            if status.connected and not has_connected:
                has_connected = True
                notify_service_manager("READY=1")
            if status.seq and not has_sent:
                has_sent = True
                log.info("%s: the server has version %d-%d", name, status.epoch, status.seq)
        _raise_if_fenced(sender)
        if not sender.is_running:
            fail(f"{name}: it has ended because of an error in it, which is on stderr; start it again")
        notify_service_manager("STOPPING=1")
        _send_last(sender)
    log.info("%s: stopped", name)


def _exists(name: str) -> bool:
    try:
        shmsync.info(name)
    except StateNotFoundError:
        return False
    return True


def _send_last(sender: Relay) -> None:
    """Wait a moment until the server has the newest version: its writer may have ended together with this command."""
    if sender.status().connected:
        with suppress(StateNotFoundError, UninitializedStateError):
            try:
                sender.flush(_LINGER, last=True)
            except ReplicationError as error:
                log.warning("%s", format_error(error))
