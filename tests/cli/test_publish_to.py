"""The command publish with --to, with a real server: what another program publishes, and files."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import serving
from command_line import run, run_failing, run_json
from helpers import TIMEOUT, until
from replication.servers import RedisServer
from serving import LOCAL, running

from shmsync import Reader, Writer, unlink
from shmsync.cli._send import Server, _send_last, publisher
from shmsync.replication import Publisher, Relay, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_server, server = serving.needs_server, serving.server
pytestmark = pytest.mark.usefixtures("needs_server")
NOWHERE = "redis://127.0.0.1:1"
LARGE = 200_000  # bytes
SECRET = "not-to-be-seen"
FENCED = 3


@pytest.fixture
def copy(name: str) -> Iterator[str]:
    """The name of the replica; it is unlinked after the test."""
    yield name + LOCAL
    unlink(name + LOCAL, force=True)


def received(name: str, url: str, copy: str, **options: Any) -> Any:
    """Return what a replica receives."""
    with Replica(name, url, local_name=copy, **options) as replica, Reader[Any](copy) as reader:
        replica.wait(TIMEOUT)
        return reader.get()


# --------------------------------------------------------------------------------------------------- a name, as it is


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sends_what_another_program_publishes(
    name: str, server: RedisServer, copy: str, tmp_path: Path, number: signal.Signals
) -> None:
    with (
        running(tmp_path, "publish", name, "--to", server.url) as relay,
        Replica(name, server.url, local_name=copy),
        Reader(copy, timeout=TIMEOUT) as reader,
    ):
        relay.wait_for("nothing is published under this name yet")
        with Writer(name) as writer:
            writer.write(1)
            assert reader.get() == 1
            relay.wait_for(f"INFO {name}: the server has version ")
            writer.write(2)
            until(lambda: reader.get() == 2)
            assert relay.stop(number) == 0
            assert f"INFO {name}: stopped" in relay.log
            writer.unlink()


def test_the_last_version_does_not_wait_until_older_ones_may_be_removed(name: str, server: RedisServer) -> None:
    with Relay(name, server.url, keep=2, retain=3600) as relay:
        for number in range(1, 4):
            with Writer[bytes](name) as writer:
                writer.write_raw(bytes([number]) * LARGE)
            if number < 3:
                relay.flush(TIMEOUT)
        _send_last(relay)
        assert relay.status().seq == 3
    unlink(name)


def test_a_file_does_not_wait_for_that_either(name: str, server: RedisServer) -> None:
    to = Server(server.url, {"keep": 2, "retain": 3600})
    for number in range(1, 4):
        writer, finish = publisher(name, to, threading.Event(), TIMEOUT)
        with writer:
            writer.write_raw(bytes([number]) * LARGE)
            finish()
            assert writer.status().seq == number
    unlink(name)


SLOWLY = """
import time
from shmsync.replication.relay import Relay
parts = Relay._parts
def slowly(self, *args):
    for part in parts(self, *args):
        time.sleep(0.05)
        yield part
Relay._parts = slowly
"""


def test_the_last_version_is_sent_before_it_ends(
    writer: Writer[Any], server: RedisServer, copy: str, tmp_path: Path
) -> None:
    writer.write(1)
    with running(tmp_path, "publish", writer.name, "--to", server.url, before=SLOWLY) as relay:
        relay.wait_for("the server has version")
        writer.write_raw(bytes(5_000_000))
        assert relay.stop() == 0
    assert received(writer.name, server.url, copy) == bytes(5_000_000)


def test_it_waits_for_the_server(writer: Writer, server: RedisServer, tmp_path: Path) -> None:
    writer.write(1)
    server.kill()
    with running(tmp_path, "publish", writer.name, "--to", server.url) as relay:
        relay.wait_for(f"WARNING {writer.name}: cannot connect to 127.0.0.1:")
        server.start()
        relay.wait_for("the server has version")
        assert relay.stop() == 0


def test_a_publisher_that_takes_over(writer: Writer, server: RedisServer, copy: str, tmp_path: Path) -> None:
    """The one that was started first exits with a status of its own, so that it is not started again."""
    writer.write(1)
    with running(tmp_path, "publish", writer.name, "--to", server.url) as relay:
        relay.wait_for("the server has version")
        _take_over(writer.name, server.url, tmp_path)
        assert relay.process.wait(TIMEOUT) == FENCED
        last = relay.log.splitlines()[-1]
    assert last.startswith(f"shmsync: another publisher of {writer.name!r} has begun epoch ")
    assert last.endswith("; stop one of the two")
    assert received(writer.name, server.url, copy) == "other"


def _take_over(name: str, url: str, directory: Path) -> None:
    """Publish as a program of another host does: the name is local there."""
    elsewhere = """
import shmsync.replication.relay as _relay, shmsync.replication.publisher as _publisher
_Relay = _publisher.Relay
class Renamed(_Relay):
    def __init__(self, name, *args, **options):
        super().__init__(name, *args, **options)
        self.name = name + "-elsewhere"
_publisher.Relay = Renamed
_Writer = _publisher.Publisher.__mro__[1]
_init = _Writer.__init__
_Writer.__init__ = lambda self, name, **options: _init(self, name + "-elsewhere", **options)
import shmsync.replication._service as _service
_Engine = _service.RedisEngine
_service.RedisEngine = lambda url, name, **options: _Engine(url, name.removesuffix("-elsewhere"), **options)
"""
    file = directory / "other.json"
    file.write_text('"other"')
    done = run("publish", name, str(file), "--to", url, before=elsewhere)
    assert done.status == 0, done.err
    assert unlink(f"{name}-elsewhere")


def test_a_replica_is_not_sent_to_where_it_comes_from(name: str, server: RedisServer, tmp_path: Path) -> None:
    """The command waits for a writer on this host."""
    with Publisher[Any](name, server.url) as publisher:
        publisher.write(1)
    with running(tmp_path, "publish", name, "--to", server.url) as relay:
        with Replica(name, server.url) as replica:
            unlink(name, force=True)
            until(lambda: replica.status().versions)
            relay.wait_for(f"WARNING {name}: a replica publishes {name!r} on this host")
        with Writer[Any](name) as writer:
            writer.write(2)
            relay.wait_for(f"INFO {name}: works again")
            assert relay.stop() == 0
            writer.unlink()


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file(name: str, cleaned_name: str, server: RedisServer, copy: str, tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    for value in (1, 2):
        file.write_text(str(value))
        assert run_json("publish", cleaned_name, str(file), "--to", server.url)["seq"] == value
        assert received(name, server.url, copy) == value
    assert run("publish", cleaned_name, "-", "--to", server.url, stdin=b"[3]").err == ""
    assert received(name, server.url, copy) == [3]


def test_a_file_that_is_followed(cleaned_name: str, server: RedisServer, copy: str, tmp_path: Path) -> None:
    file = tmp_path / "value.json"
    file.write_text("1")
    with (
        running(tmp_path, "publish", cleaned_name, str(file), "--watch", "--to", server.url) as command,
        Replica(cleaned_name, server.url, local_name=copy),
        Reader(copy, timeout=TIMEOUT) as reader,
    ):
        assert reader.get() == 1
        file.write_text("2")
        until(lambda: reader.get() == 2)
        _take_over(cleaned_name, server.url, tmp_path)
        assert command.process.wait(TIMEOUT) == FENCED
        assert "stop one of the two" in command.log.splitlines()[-1]


def test_a_file_without_a_server(cleaned_name: str) -> None:
    done = run("publish", cleaned_name, "-", "--to", NOWHERE, "--timeout", "0.1", stdin=b"1")
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert last.startswith(f"shmsync: {cleaned_name!r}: the newest version was not sent within 0.1 s: ")
    assert last.endswith("cannot connect to 127.0.0.1:1: Connection refused; it is published on this host only")
    assert "closed before" not in done.err
    assert run_json("get", cleaned_name) == 1


# ------------------------------------------------------------------------------------------------------- the password


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    """A server with users."""
    acl = [f"user app on >{SECRET} ~shmsync:* +@all"]
    with RedisServer(tmp_path / "guarded", acl=acl) as server:
        yield server


def test_a_password_in_a_file_or_the_environment(
    cleaned_name: str, guarded: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str
) -> None:
    url = guarded.url.replace("//", "//app@")
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    args = ("publish", cleaned_name, "-", "--to", url, "--timeout", "2")
    assert run(*args, "--password-file", str(file), stdin=b"1").status == 0
    done = run(*args, stdin=b"1")
    assert done.status == 1
    assert "the server refuses the user or the password" in done.err
    file.write_text(f"{SECRET}!")
    done = run(*args, "--password-file", str(file), stdin=b"1")
    assert "the server refuses the user or the password" in done.err
    assert SECRET not in done.err
    monkeypatch.setenv("SHMSYNC_REDIS_PASSWORD", SECRET)
    assert run(*args, stdin=b"1").status == 0
    with running(tmp_path, "publish", cleaned_name, "--to", url) as relay:
        relay.wait_for("the server has version")
        shown = Path(f"/proc/{relay.process.pid}/cmdline").read_bytes()
        assert b"--to" in shown
        assert SECRET.encode() not in shown
        assert SECRET not in relay.log
    assert received(cleaned_name, url, copy, password=SECRET) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"redis://app:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:6379/0",
        f"redis://:{SECRET}/with/slash@localhost",
        f"redis://:with@{SECRET}@localhost",
        f"redis+sentinel://app:{SECRET}@a:1,b:2/service",
        f"redis://localhost?password={SECRET}",
    ],
)
@pytest.mark.parametrize("command", [("publish", "--to"), ("replica", "--from")])
def test_a_password_in_the_url_is_refused(name: str, url: str, command: tuple[str, str]) -> None:
    done = run(command[0], name, command[1], url)
    assert done.status == 2
    assert f"Invalid value for {command[1]}: the URL contains a password" in done.err
    assert "--password-file FILE, or set SHMSYNC_REDIS_PASSWORD" in " ".join(done.err.split())
    assert SECRET not in done.err


@pytest.mark.parametrize(("content", "message"), [(b"", "is empty"), (b"\n", "is empty"), (b"\xff", "is not UTF-8")])
def test_a_password_file_that_is_not_one(name: str, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content)
    done = run("publish", name, "--to", NOWHERE, "--password-file", str(file))
    assert done.status == 2
    assert message in done.err
    assert "No such file" in run_failing("publish", name, "--to", NOWHERE, "--password-file", str(tmp_path / "none"))


def test_usage_and_a_missing_extra(name: str) -> None:
    for args in ((), ("--watch",), ("--watch", "--to", NOWHERE)):
        done = run("publish", name, *args)
        assert done.status == 2
        assert "Invalid value for FILE: missing" in done.err
    hidden = "import sys; sys.modules['redis'] = None"
    assert "pip install 'shmsync[redis]'" in run_failing("publish", name, "--to", NOWHERE, before=hidden)
