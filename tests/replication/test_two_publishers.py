"""Two publishers of one name, on two hosts: the one that was started last wins, the other one gets an error, and stops.

Each host has a /dev/shm of its own, so its publisher begins an incarnation of its own. The replicas are on a third one.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT, Child, State, until

from replication.processes import (
    OWN_SHM,
    Host,
    can_own_shm,
    close_publisher,
    flush,
    is_connected,
    newest_number,
    open_publisher,
    publish_blob,
    publish_until_fenced,
    replicating,
    take_name,
)
from replication.watching import Watcher
from shmsync import FencedError, Reader, ReplicationError
from shmsync.replication import Publisher, Replica
from shmsync.replication._service import log

if TYPE_CHECKING:
    import logging

    from replication.servers import RedisServer

pytestmark = pytest.mark.skipif(not can_own_shm(), reason="needs the right to mount a file system for /dev/shm")

SIZE = 200_000
FAR = 1_000_000
"""The numbers of each publisher begin so much later than those of the one before."""


@pytest.mark.parametrize("size", [100, SIZE])
def test_the_older_publisher_is_fenced(server: RedisServer, name: str, local: str, size: int) -> None:
    with (
        Child(OWN_SHM) as old,
        Child(OWN_SHM) as new,
        replicating(name, server.url, local),
        Watcher(local, numbers_are_seqs=False) as watcher,
    ):
        old.call(open_publisher, name, server.url)
        old.call(publish_blob, 1, size)
        watcher.until_number(1)
        new.call(open_publisher, name, server.url)
        new.call(publish_blob, FAR, size)
        watcher.until_number(FAR)
        with pytest.raises(FencedError, match="another publisher"):
            publish_and_flush(old, 2, size)
        with pytest.raises(FencedError, match="stop one of the two"):
            old.call(publish_blob, 3, size)
        with pytest.raises(FencedError, match="stop one of the two"):
            old.call(flush, TIMEOUT)
        new.call(publish_blob, FAR + 1, size)
        watcher.until_number(FAR + 1)
        assert [version.number for version in watcher.versions] == [1, FAR, FAR + 1]
        old.call(close_publisher)
        new.call(close_publisher)


def publish_and_flush(child: Child, number: int, size: int) -> None:
    """Publish; the error is raised by `write`, if the relay knows already, or by `flush`."""
    child.call(publish_blob, number, size)
    child.call(flush, TIMEOUT)


def test_the_error() -> None:
    assert issubclass(FencedError, ReplicationError)
    assert issubclass(FencedError, PermissionError)


def test_a_fenced_publisher_that_writes_without_waiting(
    server: RedisServer, name: str, local: str, other_local: str
) -> None:
    """While both write, replicas see the versions of the old one, then only those of the new one."""
    with ExitStack() as stack:
        hosts = [stack.enter_context(Host(OWN_SHM)) for _ in range(2)]
        stack.enter_context(replicating(name, server.url, local, other_local))
        watchers = [stack.enter_context(Watcher(each, numbers_are_seqs=False)) for each in (local, other_local)]
        programs = []
        for period in range(4):
            host = hosts[period % 2]
            first = (period + 1) * FAR
            programs.append(host.start(publish_until_fenced, name, server.url, first=first, pause=0.003, retain=0))
            for watcher in watchers:
                watcher.until_number(first + 5)
            if period:
                assert programs[period - 1].wait() == 0  # fenced
        programs[-1].kill()
    for watcher in watchers:
        periods = {(version.epoch, version.number // FAR) for version in watcher.versions}
        assert len(periods) == len({epoch for epoch, _ in periods}) == 4


@pytest.mark.parametrize("size", [100, SIZE])
def test_an_earlier_value_is_not_sent_again(server: RedisServer, name: str, local: str, size: int) -> None:
    """Back on the first host, where the value from before is still in memory: replicas never see that one again."""
    with (
        Child(OWN_SHM) as first,
        Child(OWN_SHM) as second,
        replicating(name, server.url, local),
        Watcher(local, numbers_are_seqs=False, repeats=True) as watcher,
    ):
        first.call(open_publisher, name, server.url, retain=0)
        first.call(publish_blob, 1, size)
        first.call(close_publisher)
        second.call(open_publisher, name, server.url, retain=0)
        second.call(publish_blob, FAR, size)
        watcher.until_number(FAR)
        first.call(open_publisher, name, server.url, retain=0)
        first.call(take_name)
        first.call(flush, TIMEOUT)  # there is nothing to send
        second.suspend()
        server.kill()
        server.erase()
        until(lambda: not first.call(is_connected))
        server.start()
        until(lambda: first.call(is_connected))
        second.resume()
        second.call(publish_blob, FAR + 1, size)  # it is not fenced, though the engine has lost its versions
        second.call(flush, TIMEOUT)
        watcher.until_number(FAR + 1)
        first.call(publish_blob, 2 * FAR, size)
        watcher.until_number(2 * FAR)
        assert watcher.versions[0].number == 1
        first.call(close_publisher)
        with pytest.raises(FencedError):
            publish_and_flush(second, FAR + 2, size)


def test_flush_before_the_first_write_sends_no_earlier_value(server: RedisServer, name: str, local: str) -> None:
    with Child(OWN_SHM) as first, Child(OWN_SHM) as second, replicating(name, server.url, local):
        first.call(open_publisher, name, server.url)
        first.call(publish_blob, 1, 100)
        first.call(close_publisher)
        second.call(open_publisher, name, server.url)
        second.call(publish_blob, FAR, 100)
        second.call(flush, TIMEOUT)
        first.call(open_publisher, name, server.url)
        first.call(flush, TIMEOUT)
        second.call(publish_blob, FAR + 1, 100)
        second.call(flush, TIMEOUT)  # it is not fenced
        until(lambda: newest_number(local) == FAR + 1)


def test_a_publisher_begins_where_a_replica_was(server: RedisServer, name: str) -> None:
    """What the replica has left is not sent, and there is nothing to wait for."""
    with Child(OWN_SHM) as first:
        first.call(open_publisher, name, server.url)
        first.call(publish_blob, 1, 100)
        first.call(close_publisher)
        with Replica(name, server.url) as replica:
            replica.wait(TIMEOUT)
        with Publisher[Any](name, server.url) as publisher, server.client() as client:
            publisher.flush(TIMEOUT)
            assert publisher.status().error is None
            assert client.xlen(f"shmsync:{{{name}}}:log") == 1


def test_a_replica_has_left_what_the_engine_has_lost(server: RedisServer, name: str, local: str) -> None:
    """As after a restore from a backup: the version of this host is the newest one."""
    with server.client() as client:
        for number in (1, 2):
            with Child(OWN_SHM) as first:
                first.call(open_publisher, name, server.url)
                first.call(publish_blob, number, 100)
                first.call(close_publisher)
        with Replica(name, server.url) as replica:
            replica.wait(TIMEOUT)
        log = f"shmsync:{{{name}}}:log"
        newest, _ = client.xrevrange(log)[0]
        client.xdel(log, newest)
        with Publisher[Any](name, server.url) as publisher, replicating(name, server.url, local):
            publisher.flush(TIMEOUT)
            until(lambda: newest_number(local) == 2)


def test_a_block_that_ends_after_another_publisher_has_taken_over(server: RedisServer, name: str) -> None:
    fenced = threading.Event()
    with Child(OWN_SHM) as second, Publisher[Any](name, server.url) as publisher:
        publisher.write({"a": 1})
        publisher.flush(TIMEOUT)
        publisher.on_fenced = lambda _: fenced.set()
        with pytest.raises(FencedError), publisher.reserve(100):
            second.call(open_publisher, name, server.url)
            second.call(publish_blob, FAR, 100)
            assert fenced.wait(TIMEOUT)
        assert Reader[Any](name).get() == {"a": 1}
        second.call(close_publisher)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_publisher_is_fenced_though_a_handler_of_the_log_raises(server: RedisServer, name: str) -> None:
    fenced = threading.Event()

    def fail(_: logging.LogRecord) -> bool:
        raise ValueError("a mistake in a handler")

    with Child(OWN_SHM) as second, Publisher[int](name, server.url) as publisher:
        publisher.write(1)
        publisher.flush(TIMEOUT)
        publisher.on_fenced = lambda _: fenced.set()
        log.addFilter(fail)
        try:
            second.call(open_publisher, name, server.url)
            second.call(publish_blob, FAR, 100)
            assert fenced.wait(TIMEOUT)
        finally:
            log.removeFilter(fail)
        with pytest.raises(FencedError):
            publisher.write(2)
        second.call(close_publisher)


def test_a_zombie_that_was_suspended_in_an_upload(server: RedisServer, name: str, local: str) -> None:
    """It continues after another publisher has taken over: what it sends is refused."""
    with (
        Child(OWN_SHM) as zombie,
        replicating(name, server.url, local),
        Watcher(local, numbers_are_seqs=False) as watcher,
    ):
        zombie.call(open_publisher, name, server.url, retain=0)
        zombie.call(publish_blob, 1, 3_000_000)
        watcher.until_number(1)
        zombie.send(publish_many, 2, 200)
        until(lambda: len(watcher.versions) > 3)
        zombie.suspend()
        with Publisher[Any](name, server.url) as publisher:
            publisher.write_raw(FAR.to_bytes(8, "little"))
            publisher.flush(TIMEOUT)
            watcher.until_number(FAR)
            zombie.resume()
            assert zombie.receive() == "fenced"
            publisher.write_raw((FAR + 1).to_bytes(8, "little"))
            watcher.until_number(FAR + 1)


def publish_many(state: State, first: int, count: int) -> str:
    try:
        for number in range(first, first + count):
            publish_blob(state, number, 3_000_000)
            time.sleep(0.01)
        state.publisher.flush(TIMEOUT)
    except FencedError:
        return "fenced"
    return "not fenced"


def test_a_publisher_that_takes_over_on_the_same_host(server: RedisServer, name: str, local: str) -> None:
    """It begins an epoch, so what the one before may still send is refused; the local name continues."""
    with replicating(name, server.url, local), Watcher(local) as watcher:
        for number in range(1, 4):
            with Publisher[Any](name, server.url) as publisher:
                publisher.write_raw(number.to_bytes(8, "little"))
                watcher.until_number(number)
    epochs = [version.epoch for version in watcher.versions]
    assert epochs == sorted(set(epochs))
    with Reader[object](local) as reader, reader.read() as snapshot:
        assert snapshot.version.seq == 3
