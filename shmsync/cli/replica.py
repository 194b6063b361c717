"""The command replica: publish on this host what is published on another one."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shmsync.cli._http import Page, serving
from shmsync.cli._names import complete
from shmsync.cli._options import PasswordFile, integer, number, octal, size
from shmsync.cli._output import fail
from shmsync.cli._server import (
    checked_url,
    log,
    log_to_stderr,
    notify_service_manager,
    read_password,
    stop_on_signals,
)
from shmsync.cli._units import count_text
from shmsync.errors import format_error
from shmsync.replication import Replica
from shmsync.replication._urls import redacted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

_CHECK_EVERY = 0.2  # seconds
_MAX_PORT = 65535
_OK, _UNAVAILABLE = 200, 503  # of HTTP


def replica(
    names: Annotated[
        list[str],
        typer.Argument(help="Names to replicate.", metavar="NAME", show_default=False, autocompletion=complete),
    ],
    *,
    source: Annotated[
        str, typer.Option("--from", help="Server that the publisher sends to.", metavar="URL", show_default=False)
    ],
    password_file: PasswordFile = None,
    mode: Annotated[
        int,
        typer.Option(
            "--mode",
            "-m",
            help="Permission bits of new names, in octal; by default 600.",
            parser=octal,
            metavar="MODE",
            show_default=False,
        ),
    ] = 0o600,
    max_size: Annotated[
        int,
        typer.Option(
            "--max-size",
            help="Size of the largest value that is accepted, such as 512M; by default 4G.",
            parser=size(1, 1 << 40),
            metavar="SIZE",
            show_default=False,
        ),
    ] = 4 << 30,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Accept pickled values: readers that load them run code of it.")
    ] = False,
    max_lag: Annotated[
        float, typer.Option("--max-lag", help="Healthy up to a lag of N seconds.", parser=number(0), metavar="N")
    ] = 10.0,
    health: Annotated[
        int | None,
        typer.Option("--health", help="Serve /health on this port.", parser=integer(0, _MAX_PORT), metavar="PORT"),
    ] = None,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics",
            help="Serve /metrics for Prometheus on this port.",
            parser=integer(0, _MAX_PORT),
            metavar="PORT",
        ),
    ] = None,
    listen: Annotated[str, typer.Option("--listen", help="Address of these ports.", metavar="ADDRESS")] = "127.0.0.1",
) -> None:
    """Publish on this host what is published on another one.

    A server is in between, to which `shmsync publish --to` or a Publisher sends; the names are the same.

    Runs until SIGTERM or SIGINT, and then exits with status 0. The last values stay published. After errors it connects
    again; they are logged on stderr. Under systemd with Type=notify, it is ready when each name has a value.

    /health answers 200 if each name has been the newest within --max-lag, else 503, with the reasons as JSON. The two
    ports may be the same.
    """
    url, password = checked_url(source, "--from"), read_password(password_file)
    replicas = [
        Replica(name, url, password=password, mode=mode, max_size=max_size, allow_pickle=allow_pickle)
        for name in dict.fromkeys(names)
    ]
    log_to_stderr()
    with ExitStack() as stack:
        for port, pages in _pages(replicas, health, metrics, max_lag).items():
            stack.enter_context(serving(listen, port, pages))
        stop = stop_on_signals()
        stack.callback(_stop, replicas)
        for each in replicas:
            log.info("%s: replicates from %s", each.name, redacted(url))
            each.start()
        ended = _wait(replicas, stop)
        notify_service_manager("STOPPING=1")
    if ended is not None:
        fail(f"{ended.name}: the replica has ended because of an error in it, which is on stderr; start it again")
    log.info("stopped; the last values stay published")


def _wait(replicas: Sequence[Replica], stop: threading.Event) -> Replica | None:
    """Wait for the signal to stop; return a replica that has ended before."""
    without_value = list(replicas)
    while not stop.wait(_CHECK_EVERY):
        for each in list(without_value):
            status = each.status()
            if status.seq:
                log.info("%s: has version %d-%d", each.name, status.epoch, status.seq)
                without_value.remove(each)
                if not without_value:
                    notify_service_manager("READY=1")
                    log.info("ready: %s", count_text(len(replicas), "name"))
        ended = next((each for each in replicas if not each.is_running), None)
        if ended is not None:
            return ended
    return None


def _stop(replicas: Iterable[Replica]) -> None:
    for each in replicas:
        each.end()
    for each in replicas:
        each.stop()


# ----------------------------------------------------------------------------------------------------------- the pages


def _pages(
    replicas: Sequence[Replica], health: int | None, metrics: int | None, max_lag: float
) -> dict[int, dict[str, Callable[[], Page]]]:
    """Return the pages by port and path."""
    pages: dict[int, dict[str, Callable[[], Page]]] = {}
    if health is not None:
        pages.setdefault(health, {})["/health"] = lambda: health_page(replicas, max_lag)
    if metrics is not None:
        pages.setdefault(metrics, {})["/metrics"] = _metrics(replicas)
    return pages


def health_page(replicas: Iterable[Replica], max_lag: float) -> Page:
    """Return which names are healthy, and why the others are not.

    Args:
        replicas: the replicas.
        max_lag: the largest lag of a healthy name in seconds.
    """
    names = {each.local_name: _health(each, max_lag) for each in replicas}
    healthy = all(found["healthy"] for found in names.values())
    body = json.dumps({"healthy": healthy, "max_lag": max_lag, "names": names}, allow_nan=False)
    return Page(_OK if healthy else _UNAVAILABLE, "application/json", f"{body}\n".encode())


def _health(replica: Replica, max_lag: float) -> dict[str, Any]:
    status = replica.status()
    reason = None
    if not replica.is_running:
        reason = "its thread has ended; start the process again"
    elif status.lag is None:
        has_none = "the server has no version of it" if status.newest == (0, 0) else "it has not been the newest yet"
        reason = has_none if status.connected else "the server has not answered yet"
    elif status.lag > max_lag:
        reason = f"not known to be the newest for {status.lag:.1f} s, and {max_lag:g} s are allowed"
    if reason is not None and status.error is not None:
        reason += f": {redacted(format_error(status.error))}"
    return {
        "healthy": reason is None,
        "reason": reason,
        "connected": status.connected,
        "lag": status.lag,
        "version": f"{status.epoch}-{status.seq}",
        "newest": f"{status.newest[0]}-{status.newest[1]}",
    }


def _metrics(replicas: Sequence[Replica]) -> Callable[[], Page]:
    from shmsync.prometheus import Collector, ReplicaCollector  # noqa: PLC0415 - needs an extra

    local = Collector([each.local_name for each in replicas])
    import prometheus_client  # noqa: PLC0415 - the collector has checked that it is installed

    registry = prometheus_client.CollectorRegistry()
    registry.register(local)
    registry.register(ReplicaCollector(replicas))
    prometheus_client.ProcessCollector(registry=registry)
    return lambda: Page(_OK, prometheus_client.CONTENT_TYPE_LATEST, prometheus_client.generate_latest(registry))
