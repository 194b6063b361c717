"""The command replica, with a real server: logs, readiness, health, metrics, signals."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Any

import pytest
import serving
from command_line import run, run_failing, run_json
from helpers import TIMEOUT, until
from serving import ELSEWHERE, LOCAL, get, health, running

from shmsync import Reader, Writer, unlink
from shmsync.replication import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from replication.servers import RedisServer

needs_server, server = serving.needs_server, serving.server
pytestmark = pytest.mark.usefixtures("needs_server")
NOWHERE = "redis://127.0.0.1:1"


@pytest.fixture
def publisher(name: str, server: RedisServer) -> Iterator[Publisher[Any]]:
    with Publisher[Any](name, server.url) as publisher:
        yield publisher
        publisher.unlink()


@pytest.fixture
def copy(name: str) -> Iterator[str]:
    """The name of the replica; it is unlinked after the test."""
    yield name + LOCAL
    unlink(name + LOCAL, force=True)


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(TIMEOUT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_publishes_until_a_signal(
    publisher: Publisher[Any], server: RedisServer, copy: str, tmp_path: Path, number: signal.Signals
) -> None:
    publisher.write(1)
    name = publisher.name
    with running(tmp_path, "replica", name, "--from", server.url, "--mode", "640", before=ELSEWHERE) as replica:
        replica.wait_for("ready: 1 name")
        with Reader(copy) as reader:
            assert reader.get() == 1
            publisher.write(2)
            until(lambda: reader.get() == 2)
            assert replica.stop(number) == 0
            assert reader.get() == 2
        info = run_json("inspect", copy)
        assert (info["writer"]["state"], info["origin"]["seq"]) == ("closed", 2)
        assert info["segments"][2]["mode"] == 0o640
        events = [line.split(maxsplit=3)[2:] for line in replica.log.splitlines()]
    assert [level for level, _ in events] == ["INFO"] * 4
    assert [text.partition(" ")[0] for _, text in events] == [f"{name}:", f"{name}:", "ready:", "stopped;"]


def test_readiness(name: str, server: RedisServer, copy: str, tmp_path: Path, notified: socket.socket) -> None:
    """It is ready when each name has a value; also that of an earlier run, if the server cannot be reached."""
    with running(tmp_path, "replica", name, "--from", server.url, before=ELSEWHERE) as replica:
        with server.client() as client:
            until(lambda: client.info("commandstats").get("cmdstat_xread", {}).get("calls", 0) >= 3)
        assert "has version" not in replica.log
        notified.settimeout(0)
        with pytest.raises(BlockingIOError):
            notified.recv(100)
        notified.settimeout(TIMEOUT)
        with Publisher[Any](name, server.url) as publisher:
            publisher.write(1)
            assert notified.recv(100) == b"READY=1"
            publisher.unlink()
        assert replica.stop() == 0
        assert notified.recv(100) == b"STOPPING=1"
    with running(tmp_path, "replica", name, "--from", NOWHERE, before=ELSEWHERE) as replica:
        assert notified.recv(100) == b"READY=1"
        replica.wait_for(f"WARNING {name}: cannot connect to 127.0.0.1:1: Connection refused")


def test_health(publisher: Publisher[Any], server: RedisServer, copy: str, tmp_path: Path) -> None:
    args = ("replica", publisher.name, "--from", server.url, "--health", "0", "--max-lag", "1")
    with running(tmp_path, *args, before=ELSEWHERE) as replica:
        replica.wait_for("/health")
        url = replica.pages()["/health"]
        assert url.startswith("http://127.0.0.1:")
        until(lambda: health(url, copy)[1]["connected"])
        status, found = health(url, copy)
        assert (status, found["healthy"], found["lag"]) == (503, False, None)
        assert found["reason"] == "the server has no version of it"
        publisher.write(1)
        found = health_once(url, copy, 200)
        assert (found["reason"], found["connected"], found["version"]) == (None, True, found["newest"])
        assert get(url, "HEAD") == (200, b"")
        assert get(url.replace("health", "other")) == (404, b"there is /health\n")
        server.kill()
        until(lambda: "1 s are allowed: cannot connect to 127.0.0.1:" in (health(url, copy)[1]["reason"] or ""))
        assert health(url, copy)[0] == 503
        server.start()
        health_once(url, copy, 200)
        replica.wait_for(f"INFO {publisher.name}: works again")


def health_once(url: str, name: str, status: int) -> dict[str, Any]:
    """Wait until the page has a status; return what it then says about a name."""
    found: list[tuple[int, dict[str, Any]]] = []

    def has_it() -> bool:
        found.append(health(url, name))
        return found[-1][0] == status

    until(has_it)
    return found[-1][1]


def test_health_of_a_value_that_is_refused(
    publisher: Publisher[Any], server: RedisServer, copy: str, tmp_path: Path
) -> None:
    args = ("replica", publisher.name, "--from", server.url, "--health", "0", "--max-size", "1K")
    with running(tmp_path, *args, before=ELSEWHERE) as replica:
        publisher.write("x" * 1025)
        replica.wait_for("is more than the limit, 1,024")
        until(lambda: "is more than the limit" in health(replica.pages()["/health"], copy)[1]["reason"])


def test_pickle_has_to_be_allowed(name: str, server: RedisServer, copy: str, tmp_path: Path) -> None:
    with Publisher[Any](name, server.url, codec="pickle") as publisher:
        publisher.write({1, 2})
        with running(tmp_path, "replica", name, "--from", server.url, before=ELSEWHERE) as replica:
            replica.wait_for("start the replica with allow_pickle")
        args = ("replica", name, "--from", server.url, "--allow-pickle")
        with running(tmp_path, *args, before=ELSEWHERE) as replica, Reader(copy, allow_pickle=True) as reader:
            replica.wait_for("ready: 1 name")
            assert reader.get() == {1, 2}
        publisher.unlink()


@pytest.mark.parametrize("ports", ["one", "two"])
def test_metrics_and_health_on_one_port_or_two(
    publisher: Publisher[Any], server: RedisServer, copy: str, tmp_path: Path, ports: str
) -> None:
    publisher.write([1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    second = "0" if ports == "one" else str(other)
    args = ("replica", publisher.name, "--from", server.url, "--health", "0", "--metrics", second)
    with running(tmp_path, *args, before=ELSEWHERE) as replica:
        replica.wait_for("ready: 1 name")
        pages = {path: url.split("/")[2] for path, url in replica.pages().items()}
        assert len(set(pages.values())) == (1 if ports == "one" else 2)
        until(lambda: health(replica.pages()["/health"], copy)[0] == 200)
        status, body = get(replica.pages()["/metrics"])
        assert status == 200
        text = body.decode()
        for line in (
            f'shmsync_replica_connected{{name="{copy}"}} 1.0',
            f'shmsync_replica_versions_total{{name="{copy}"}} 1.0',
            f'shmsync_replica_seq{{name="{copy}"}} 1.0',
            f'shmsync_origin_seq{{name="{copy}"}} 1.0',
            f'shmsync_publishes_total{{name="{copy}"}} 1.0',
        ):
            assert f"{line}\n" in text
        assert f'shmsync_replica_lag_seconds{{name="{copy}"}} ' in text
        assert "process_resident_memory_bytes" in text


def test_several_names(name: str, server: RedisServer, tmp_path: Path) -> None:
    names = [f"{name}-{number}" for number in range(3)]
    try:
        for number, each in enumerate(names):
            with Publisher[Any](each, server.url) as publisher:
                publisher.write(number)
        for each in names:
            unlink(each)
        with running(tmp_path, "replica", *names, names[0], "--from", server.url) as replica:
            replica.wait_for("ready: 3 names")
            for number, each in enumerate(names):
                with Reader(each) as reader:
                    assert reader.get() == number
            assert replica.stop() == 0
    finally:
        for each in names:
            unlink(each, force=True)


def test_a_local_writer_has_the_name(writer: Writer, name: str, server: RedisServer, tmp_path: Path) -> None:
    """The replica says which process it is, and takes over when that ends."""
    writer.write(1)
    with running(tmp_path, "replica", name, "--from", server.url) as replica:
        replica.wait_for(f"WARNING {name}: ")
        replica.wait_for("already has a writer (pid ")
        assert "close that one first\n" in replica.log  # it waits: no argument for that
        writer.close()
        replica.wait_for("works again")
        assert replica.stop() == 0


def test_a_replica_that_fails_ends_the_command(name: str, server: RedisServer, tmp_path: Path) -> None:
    """A service manager then starts it again."""
    before = "from shmsync.replication import Replica\nReplica._work = lambda self, engine: 1 / 0"
    with running(tmp_path, "replica", name, "--from", server.url, before=before) as replica:
        assert replica.process.wait(TIMEOUT) == 1
        assert f"shmsync: {name}: the replica has ended because of an error in it" in replica.log


def test_a_port_that_is_taken(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run("replica", name, "--from", NOWHERE, "--health", port)
        assert done.status == 1
        assert f"cannot listen on port {port}: Address already in use" in done.err
    done = run("replica", name, "--from", NOWHERE, "--health", "0", "--listen", "no such host")
    assert (done.status, done.err.splitlines()[-1][:45]) == (1, "shmsync: no such host: cannot listen on port ")


@pytest.mark.parametrize(("module", "extra"), [("redis", "redis"), ("prometheus_client", "prometheus")])
def test_without_an_extra(name: str, module: str, extra: str) -> None:
    hidden = f"import sys; sys.modules[{module!r}] = None"
    message = run_failing("replica", name, "--from", NOWHERE, "--metrics", "0", before=hidden)
    assert f"pip install 'shmsync[{extra}]'" in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--from"),
        (("--from", "localhost:6379"), "the URL of a server is redis://HOST:PORT"),
        (("--from", "http://localhost"), "does not begin with redis://"),
        (("--from", "redis://h:70000"), "is not a number up to 65535"),
        (("--from", "redis://h/0?colour=red"), "has an option that is not valid"),
        (("--from", NOWHERE, "--max-size", "5Q"), "is not a size such as"),
        (("--from", NOWHERE, "--max-size", "2T"), "out of range"),
        (("--from", NOWHERE, "--mode", "999"), "not a valid octal mode"),
        (("--from", NOWHERE, "--health", "70000"), "at most 65535"),
        (("--from", NOWHERE, "a/b"), "invalid name 'a/b'"),
    ],
)
def test_usage(name: str, args: tuple[str, ...], message: str) -> None:
    done = run("replica", name, *args)
    assert done.status == 2
    assert message in done.err
