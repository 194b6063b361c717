"""The web server and the log of long-running commands, and how a replica's health is judged, without a server."""

from __future__ import annotations

import json
import logging
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from serving import get

from shmsync import ReplicationError
from shmsync.cli._http import Page, serving
from shmsync.cli._options import octal, size
from shmsync.cli._server import _OneLine, notify_service_manager
from shmsync.cli.replica import health_page
from shmsync.replication import ReplicaStatus

if TYPE_CHECKING:
    from pathlib import Path


class StubReplica:
    """A replica in a given state."""

    def __init__(self, status: ReplicaStatus, *, is_running: bool = True) -> None:
        self.local_name = "prices"
        self.is_running = is_running
        self._status = status

    def status(self) -> ReplicaStatus:
        return self._status


CURRENT = ReplicaStatus(True, 5, 7, (5, 7), 0.25, 3, 100, None)  # noqa: FBT003
FAILED = ReplicationError("cannot connect to redis://u:secret@h: no")


@pytest.mark.parametrize(
    ("replica", "status", "reason"),
    [
        (StubReplica(CURRENT), 200, None),
        (StubReplica(CURRENT._replace(connected=False, error=FAILED)), 200, None),
        (StubReplica(CURRENT._replace(lag=2.5)), 503, "not known to be the newest for 2.5 s, and 2 s are allowed"),
        (StubReplica(CURRENT._replace(lag=None, newest=(0, 0))), 503, "the server has no version of it"),
        (StubReplica(CURRENT._replace(lag=None, newest=(6, 1))), 503, "it has not been the newest yet"),
        (
            StubReplica(CURRENT._replace(lag=None, connected=False, error=FAILED)),
            503,
            "the server has not answered yet: cannot connect to redis://h: no",
        ),
        (StubReplica(CURRENT, is_running=False), 503, "its thread has ended; start the process again"),
    ],
)
def test_health(replica: Any, status: int, reason: str | None) -> None:
    page = health_page([replica], max_lag=2.0)
    assert page.status == status
    found = json.loads(page.body)
    assert found["healthy"] == (status == 200)
    assert found["names"]["prices"]["reason"] == reason
    assert found["names"]["prices"]["version"] == "5-7"


def test_one_name_that_is_behind_is_enough() -> None:
    behind = StubReplica(CURRENT._replace(lag=9.0))
    behind.local_name = "other"
    page = health_page([StubReplica(CURRENT), behind], 2.0)  # type: ignore[list-item]
    assert page.status == 503
    assert [each["healthy"] for each in json.loads(page.body)["names"].values()] == [True, False]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_pages(host: str, caplog: pytest.LogCaptureFixture) -> None:
    if host == "::1":
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind((host, 0))
        except OSError:
            pytest.skip("needs IPv6")
    caplog.set_level(logging.INFO, "shmsync.replication")
    pages = {"/good": lambda: Page(200, "text/plain", b"yes"), "/bad": lambda: Page(1 // 0, "", b"")}
    with serving(host, 0, pages):
        urls = dict(re.findall(r"serving (http://\S+:\d+)(/\w+)", caplog.text))
        base = next(iter(urls))
        assert get(f"{base}/good?x=1") == (200, b"yes")
        assert get(f"{base}/good", "HEAD") == (200, b"")
        assert get(f"{base}/other") == (404, b"there is /good, /bad\n")
        assert get(f"{base}/bad") == (500, b"an error, which is in the log\n")
        assert get(f"{base}/good", "POST")[0] == 501
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(OSError, match="refused"):
        get(f"{base}/good")


def test_an_event_is_one_line() -> None:
    record = logging.LogRecord("shmsync", logging.WARNING, "", 0, "%s: first\nsecond", ("prices",), None)
    assert _OneLine("%(levelname)s %(message)s").format(record) == "WARNING prices: first second"


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:  # noqa: FBT001
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_service_manager("READY=1")
    path = f"@{tmp_path}" if abstract else str(tmp_path / "socket")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify_service_manager("READY=1")  # to nowhere
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{path[1:]}" if abstract else path)
        notify_service_manager("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("64K", 65536), ("512m", 512 << 20), ("2 GiB", 2 << 30), ("3MB", 3 << 20), (4 << 30, 4 << 30)],
)
def test_sizes(text: Any, value: int) -> None:
    assert size(1, 1 << 40)(text) == value


@pytest.mark.parametrize("text", ["", "K", "1.5G", "-1", "5Q", "0", "2T", "9" * 19])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(Exception, match=r"is not a size such as|is out of range"):
        size(1, 1 << 40)(text)


def test_permission_bits() -> None:
    assert octal("640") == octal(0o640) == 0o640
    with pytest.raises(Exception, match="not a valid octal mode"):
        octal("8")
