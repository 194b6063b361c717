"""How publishers, relays and replicas begin and end: threads, forks, `async with`, and the end of the process."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

import pytest
from helpers import TIMEOUT, environment, until

from replication.values import blob
from shmsync import InvalidArgumentError, Reader, ReplicationError, StateNotFoundError, Writer, unlink
from shmsync.replication import Publisher, Relay, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from replication.servers import RedisServer

NOWHERE = "redis://127.0.0.1:1"


class Unexpected(Exception):  # noqa: N818 - as a KeyError
    """What no engine raises."""


def broken(*_: Any, **__: Any) -> NoReturn:
    raise Unexpected("a mistake")


def test_the_last_version_is_sent_at_the_end_of_the_process(server: RedisServer, name: str, local: str) -> None:
    code = f"from shmsync.replication import Publisher; p = Publisher({name!r}, {server.url!r}); p.write('last')"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True, timeout=TIMEOUT)
    with Replica(name, server.url, local_name=local) as replica:
        replica.wait(TIMEOUT)
    assert Reader[str](local).get() == "last"


def test_an_asynchronous_publisher(server: RedisServer, name: str, local: str) -> None:
    async def publish() -> None:
        async with Publisher[int](name, server.url) as publisher:
            publisher.write(1)
        assert publisher.closed

    asyncio.run(publish())
    with Replica(name, server.url, local_name=local) as replica:
        replica.wait(TIMEOUT)
    assert Reader[int](local).get() == 1


def test_a_close_that_is_interrupted_releases_the_name(name: str) -> None:
    publisher = Publisher[int](name, NOWHERE)
    publisher.write(1)
    with (
        mock.patch.object(publisher._relay, "flush", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        publisher.close()
    assert publisher.closed
    with Publisher[int](name, NOWHERE, linger=0) as other:
        other.write(2)
    publisher._relay.stop()
    assert not publisher._relay.is_running


def test_a_write_beside_close_leaves_no_thread(name: str) -> None:
    publisher = Publisher[int](name, NOWHERE, linger=0)
    publisher.write(1)
    stop = publisher._relay.stop

    def stop_beside_a_write() -> None:
        stop()
        publisher._relay.start()  # as a write that acquires the name again does

    with mock.patch.object(publisher._relay, "stop", stop_beside_a_write):
        publisher.close()
    until(lambda: not publisher._relay.is_running)


def test_a_loop_that_ends_with_an_error_says_so(name: str, local: str) -> None:
    """The thread that waits would wait without end, and the status would say nothing."""
    with mock.patch("threading.excepthook") as report:
        replica = Replica(name, NOWHERE, local_name=local, engine=broken).start()
        with pytest.raises(ReplicationError, match="Unexpected: a mistake"):
            replica.wait()
        replica.stop()
    report.assert_called_once()
    assert "Unexpected: a mistake" in str(replica.status().error)


def in_thread(function: Callable[[], object]) -> Future[object]:
    """Run a function in a thread, which does not keep the process alive."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - raised by `result`
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


@contextmanager
def flushing(name: str, url: str) -> Iterator[Future[object]]:
    """Flush a large version that cannot be sent: there is no server, or it has as many as it may keep for a minute."""
    with Relay(name, url, keep=2, retain=60) as relay:
        for number in range(1, 4):
            with Writer[bytes](name) as writer:
                writer.write_raw(blob(number, 200_000))
            if number <= 2 and url != NOWHERE:
                relay.flush(TIMEOUT)
        flushed = in_thread(relay.flush)
        time.sleep(0.5)
        assert not flushed.done()
        yield flushed


def test_flush_ends_when_the_name_is_removed(server: RedisServer, name: str) -> None:
    for url in (server.url, NOWHERE):
        with flushing(name, url) as flushed:
            with Writer[bytes](name) as writer:
                writer.unlink()
            with pytest.raises(StateNotFoundError):
                flushed.result(TIMEOUT)


def test_a_relay_that_has_sent_nothing_has_no_epoch(server: RedisServer, name: str) -> None:
    with flushing(name, server.url), Relay(name, server.url, keep=2, retain=60) as relay:
        until(lambda: relay.status().connected)
        with pytest.raises(ReplicationError):
            relay.flush(0.5)
        assert relay.status()[:4] == (True, 0, 0, 0)
        unlink(name)


def test_flush_waits_for_what_follows_a_version_that_was_removed(server: RedisServer, name: str) -> None:
    with flushing(name, server.url) as flushed, Writer[int](name) as writer:
        writer.unlink()
        writer.write(1)
        flushed.result(TIMEOUT)


def test_the_last_version_is_sent_at_once(server: RedisServer, name: str, local: str) -> None:
    """Programs that publish a large value and end, more often than `keep` and `retain` admit: each one is sent."""
    for number in range(1, 6):
        with Publisher[bytes](name, server.url, keep=2, retain=3600, linger=TIMEOUT) as publisher:
            publisher.write_raw(blob(number, 200_000))
        assert publisher.status().seq == number
    with Replica(name, server.url, local_name=local) as replica:
        replica.wait(TIMEOUT)
        assert replica.status().seq == 5


@pytest.mark.parametrize("retain", [3601, math.inf, timedelta(hours=2)])
def test_a_retention_that_is_too_long(name: str, retain: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="retain must be 3,600 seconds or less"):
        Relay(name, NOWHERE, retain=retain)


def test_stop_ends_a_wait(name: str, local: str) -> None:
    replica = Replica(name, NOWHERE, local_name=local).start()
    errors: list[ReplicationError] = []

    def wait() -> None:
        with pytest.raises(ReplicationError) as raised:
            replica.wait()
        errors.append(raised.value)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    until(lambda: replica.status().error)
    replica.stop()
    waiting.join(TIMEOUT)
    assert errors


def test_starts_of_several_threads_start_one(name: str) -> None:
    relay = Relay(name, NOWHERE)
    before = threading.active_count()

    def is_running(self: Relay) -> bool:
        found = self._thread is not None and self._thread.is_alive()
        time.sleep(0.01)
        return found

    with mock.patch.object(Relay, "is_running", property(is_running)):
        starting = [threading.Thread(target=relay.start) for _ in range(4)]
        for each in starting:
            each.start()
        for each in starting:
            each.join()
    assert threading.active_count() == before + 1
    relay.stop()


@pytest.mark.parametrize("timeout", ["1", -1, math.nan, b"1"])
def test_timeouts_that_are_not_valid(name: str, local: str, timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="timeout must be"):
        Replica(name, NOWHERE, local_name=local).wait(timeout)


@pytest.mark.parametrize("timeout", [math.inf, 1e12, timedelta(days=999_999)])
def test_long_timeouts(server: RedisServer, name: str, local: str, timeout: Any) -> None:
    with Publisher[int](name, server.url) as publisher, Replica(name, server.url, local_name=local) as replica:
        publisher.write(1)
        publisher.flush(timeout)
        replica.wait(timeout)


@pytest.mark.parametrize("option", [{"engine": "redis"}, {"password": b"x"}, {"password": ["secret"]}])
@pytest.mark.parametrize("kind", [Publisher, Relay, Replica])
def test_options_that_are_not_valid(name: str, kind: Any, option: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{next(iter(option))} must be") as raised:
        kind(name, NOWHERE, **option)
    assert "secret" not in str(raised.value)


def test_a_compression_that_is_not_hashable(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="compression must be"):
        Relay(name, NOWHERE, compression=[])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_waits_for_nothing_of_the_parent(name: str, local: str) -> None:
    """The thread may hold any lock at the fork. Here it is this one, which can ask for it."""
    replica = Replica(name, NOWHERE, local_name=local).start()
    until(lambda: replica.status().error)
    holds, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with replica._changed, replica._stopped._changed:
            holds.set()
            forked.wait(TIMEOUT)

    holder = threading.Thread(target=hold)
    holder.start()
    holds.wait(TIMEOUT)
    pid = os.fork()
    if pid == 0:
        replica.stop()
        try:
            replica.wait()
        except ReplicationError:
            os._exit(0 if not replica.is_running else 1)
        finally:
            os._exit(2)
    forked.set()
    holder.join()
    until(lambda: os.waitpid(pid, os.WNOHANG) == (pid, 0))
    assert replica.is_running
    replica.stop()


def test_a_publisher_and_its_relay_need_one_reader_slot(server: RedisServer, name: str) -> None:
    with Publisher[int](name, server.url, max_readers=1) as publisher:
        for number in range(3):
            publisher.write(number)
            publisher.flush(TIMEOUT)
        publisher.unlink()


@pytest.mark.parametrize("kind", [Relay, Replica])
def test_what_runs_in_this_process_is_not_pickled(name: str, kind: type[Relay | Replica]) -> None:
    with pytest.raises(TypeError, match="belongs to the process that runs it"):
        pickle.dumps(kind(name, NOWHERE))
