"""Publishers and replicas are killed and suspended at random instants: nothing is torn, and nothing goes back."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from helpers import TIMEOUT

from replication.processes import Host, newest_number, publish_blobs, publish_tables, relay, replicate
from replication.values import number_of
from replication.watching import Watcher
from shmsync import Reader, Writer
from shmsync.replication import Relay

if TYPE_CHECKING:
    from collections.abc import Callable

    from replication.processes import Program
    from replication.servers import RedisServer

MEAN = 0.06
"""Between two instants, in seconds."""
PAUSE = 0.003
"""Between two versions, in seconds: the machine then has time for the replicas."""


@pytest.mark.parametrize("publish", [publish_blobs, publish_tables], ids=["blobs", "tables"])
@pytest.mark.parametrize("times", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_random_instants(
    server: RedisServer,
    name: str,
    local: str,
    other_local: str,
    seed: int,
    times: int,
    publish: Callable[..., None],
) -> None:
    generator = random.Random(seed)
    done: Counter[str] = Counter()
    with ExitStack() as stack:
        host = stack.enter_context(Host())

        def start(number: int) -> Program:
            if number == 0:
                return host.start(publish, name, server.url, pause=PAUSE, seed=seed, retain=0)
            return host.start(replicate, name, server.url, (local, other_local)[number - 1])

        watchers = [stack.enter_context(Watcher(each)) for each in (local, other_local)]
        programs = [start(number) for number in range(3)]
        for watcher in watchers:
            watcher.until_number(1)
        for _ in range(times):
            time.sleep(generator.expovariate(1 / MEAN))
            number = generator.randrange(3)
            action = generator.choice(["kill", "kill", "suspend"])
            done[f"{action} {number}"] += 1
            if action == "kill":
                programs[number].kill()
                programs[number] = start(number)
            else:
                programs[number].signal(signal.SIGSTOP)
                time.sleep(generator.uniform(0, 0.05))
                programs[number].signal(signal.SIGCONT)
        programs[0].kill()
        last = newest_number(name)
        with Relay(name, server.url, retain=0) as last_relay:  # what the publisher had no time to send
            last_relay.flush(TIMEOUT)
        for watcher in watchers:
            watcher.until_number(last)
            assert watcher.versions[-1].number == last
    print(done, last, [len(watcher.versions) for watcher in watchers])


def test_a_relay_killed_beside_the_writer(server: RedisServer, name: str, local: str, seed: int) -> None:
    """The writer does not notice. A relay that is started again sends what is the newest then."""
    generator = random.Random(seed)
    with ExitStack() as stack:
        host = stack.enter_context(Host())
        watcher = stack.enter_context(Watcher(local))
        writer = stack.enter_context(Writer[bytes](name))
        host.start(replicate, name, server.url, local)
        number = 0
        for _ in range(8):
            program = host.start(relay, name, server.url, retain=0)
            deadline = time.monotonic() + generator.uniform(0, 0.2)
            while time.monotonic() < deadline:
                number += 1
                writer.write_raw(number.to_bytes(8, "little"))
                time.sleep(0.001)
            program.kill()
        host.start(relay, name, server.url, retain=0)
        watcher.until_number(number)


def test_a_replica_killed_in_a_download_leaves_the_last_value(server: RedisServer, name: str, local: str) -> None:
    """Readers keep it, and the next replica continues."""
    with ExitStack() as stack:
        host = stack.enter_context(Host())
        watcher = stack.enter_context(Watcher(local))
        publisher = host.start(publish_blobs, name, server.url, pause=PAUSE, seed=1, retain=0)
        for _ in range(5):
            replica = host.start(replicate, name, server.url, local)
            seen = len(watcher.versions)
            watcher.until_versions(seen + 4)
            replica.kill()
            with Reader[object](local) as reader, reader.read(check_bytes=True) as snapshot:
                assert number_of(snapshot.value) >= watcher.versions[seen].number
        publisher.kill()


def test_a_replica_ends_on_a_signal(server: RedisServer, name: str, local: str) -> None:
    """`stop` may be called in a signal handler; the status of the process is 0."""
    with Host() as host:
        publisher = host.start(publish_blobs, name, server.url, pause=PAUSE, seed=1, retain=0)
        replica = host.start(replicate_until_signal, name, server.url, local)
        with Watcher(local) as watcher:
            watcher.until_number(5)
        replica.signal(signal.SIGTERM)
        assert replica.wait() == 0
        publisher.kill()
        assert newest_number(local) >= 5


def replicate_until_signal(name: str, url: str, local_name: str) -> None:
    from shmsync.replication import Replica  # noqa: PLC0415 - as in a program of its own

    replica = Replica(name, url, local_name=local_name)
    signal.signal(signal.SIGTERM, lambda *_: replica.stop())
    replica.run()
