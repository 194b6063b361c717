"""W9: a version that is published on one host is visible on another, through a real server with an append-only file.

Publisher, server, replicas and observer are processes of their own, on one machine: different local names stand for
the hosts. A time begins before the value is written or updated, and ends when a reader of the replica has the version:
it contains the write itself, and the time until a reader that waits is woken. The baseline is measured in turn with
that, through the same server.
"""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import redis

from bench import settings as rows
from bench.names import new_name
from bench.processes import child, clock
from bench.results import Result, result
from bench.settings import KIB, LARGE, MIB
from replication_soak.server import Server, command
from shmsync import Reader, StateNotFoundError, UninitializedStateError, unlink
from shmsync.replication import Publisher, Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from bench.peers import Peer
    from bench.processes import Child, State
    from bench.settings import Settings
    from shmsync import WriteResult

_LIMIT = 50.0
_PAUSE = 0.02  # seconds before a version, in which the replica begins to wait
_SETTLED = 0.3  # seconds after a large version
_PING_PERIOD = 1e-3
_SAMPLE_PERIOD = 2e-3
_POLL = 1e-3
_SMALL_ROUNDS = 20
_UPDATES = 25  # after each version in full
_ROWS, _CHANGED, _COLUMNS = 1_000_000, 1000, 16  # float32: rows of 64 bytes
_REDIS = "Redis"


def versions(peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure versions of each size, updates, and what they cost the server and the replica."""
    if command() is None:
        yield result(rows.REPLICATED, peer.name, remark="not installed: the program redis-server")
        return
    with Hosts() as hosts:
        yield from _large(hosts, peer, plan)
        yield from _small(hosts, peer, plan)
        yield from _updates(hosts, peer, plan)
        yield from _many(hosts, peer, plan)


class Hosts:
    """A server, a publisher, and replicas, which are started with the observer of their local names."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.replicas: list[Child] = []
        self.sent = 0

    def __enter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-replication-"))
        self.server = Server(Path(folder), rewrites=False)
        self._stack.callback(self.server.kill)
        self.name = new_name("replicated")
        self.url = f"redis://127.0.0.1:{self.server.port}/0"
        self.client: Any = self._stack.enter_context(closing(self.server.client()))
        self.publisher = self.child()
        self.observer = self.child()
        self._stack.callback(unlink, self.name, force=True)
        self.publisher.call(open_publisher, self.name, self.url)
        self.add_replica()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def child(self) -> Child:
        """Start a process."""
        return self._stack.enter_context(child())

    def add_replica(self) -> None:
        """Start one more replica."""
        name = new_name("copy")
        replica = self.child()
        self._stack.callback(unlink, name, force=True)
        replica.call(start_replica, self.name, self.url, name)
        self.observer.call(observe, name)
        self.replicas.append(replica)

    def send(self, publish: Callable[..., tuple[float, int]], *args: Any) -> float:
        """Publish a version; return the time in seconds until all replicas have it."""
        self.sent += 1
        self.observer.submit(follow, self.sent)
        time.sleep(_PAUSE)
        start, checksum = self.publisher.call(publish, *args)
        end, found = self.observer.result(_LIMIT)
        if found != {checksum}:
            raise RuntimeError("wrong value")
        return float(end - start)

    def traffic(self) -> int:
        """Return how many bytes the server has received and sent."""
        found = self.client.info("stats")
        return int(found["total_net_input_bytes"] + found["total_net_output_bytes"])


def _large(hosts: Hosts, peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure 64 MiB; beside it the server's answers to another client, and the memory of the replica."""
    own, copied, memory = [], [], []
    pings: list[float] = []
    undisturbed: list[float] = []
    bystander, sampler, other = hosts.child(), hosts.child(), hosts.child()
    for process in (bystander, other):
        process.call(connect, hosts.server.port)
    hosts.publisher.call(prepare_payloads)
    for number in range(plan.rounds + 1):
        bystander.call(begin, ping, _PING_PERIOD)
        sampler.call(begin, private_memory, _SAMPLE_PERIOD, hosts.replicas[0].pid)
        duration = hosts.send(publish_payload)
        pinged, used = bystander.call(end), sampler.call(end)
        time.sleep(_SETTLED)
        bystander.call(begin, ping, _PING_PERIOD)
        time.sleep(_SETTLED)
        alone = bystander.call(end)
        sent = other.call(set_and_get)
        time.sleep(_SETTLED)
        if number:  # the first one allocates memory
            own.append(duration)
            copied.append(sent)
            pings += pinged
            undisturbed += alone
            memory.append(max(used))
    yield result(rows.REPLICATED, peer.name, "s", own)
    yield result(rows.REPLICATED, _REDIS, "s", copied, remark="SET, then GET, of parts of 1 MiB; one process")
    yield result(rows.BYSTANDER, peer.name, "s", pings)
    yield result(rows.UNDISTURBED, peer.name, "s", undisturbed)
    yield result(rows.REPLICA_MEMORY, peer.name, "bytes", memory)


def _small(hosts: Hosts, peer: Peer, plan: Settings) -> Iterator[Result]:
    hosts.send(publish_small)
    durations = [hosts.send(publish_small) for _ in range(_SMALL_ROUNDS * plan.rounds)]
    yield result(rows.REPLICATED_SMALL, peer.name, "s", durations)


def _updates(hosts: Hosts, peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure updates of a table after each version of it in full; the first update of each is not counted."""
    durations, alone, traffic = [], [], []
    for _ in range(plan.rounds):
        hosts.send(publish_table)
        time.sleep(_SETTLED)
        hosts.send(update_table)
        before = hosts.traffic()
        durations += [hosts.send(update_table) for _ in range(_UPDATES)]
        traffic.append((hosts.traffic() - before) / _UPDATES)
        alone += hosts.publisher.call(take_durations)[-_UPDATES:]
    yield result(rows.REPLICATED_UPDATE, peer.name, "s", durations)
    yield result(rows.LOCAL_UPDATE, peer.name, "s", alone)
    yield result(rows.UPDATE_TRAFFIC, peer.name, "bytes", traffic)


def _many(hosts: Hosts, peer: Peer, plan: Settings) -> Iterator[Result]:
    """Measure 64 MiB with more and more replicas on this machine."""
    for count in rows.REPLICA_COUNTS:
        while len(hosts.replicas) < count:
            hosts.add_replica()
        hosts.send(publish_payload)
        durations = []
        for _ in range(plan.rounds):
            time.sleep(_SETTLED)
            durations.append(hosts.send(publish_payload))
        yield result(rows.REPLICATED_TO_MANY, peer.name, "s", durations, count)


# ------------------------------------------------------------------------------------------------------ in a child


def open_publisher(state: State, name: str, url: str) -> None:
    state.publisher = Publisher[Any](name, url, retain=0.0)
    state.closing.callback(state.publisher.close)
    state.durations = []
    state.random = np.random.default_rng(1)


def prepare_payloads(state: State) -> None:
    state.payloads = itertools.cycle([bytes([number]) * LARGE for number in (1, 2)])


def publish_payload(state: State) -> tuple[float, int]:
    payload = next(state.payloads)
    return _timed(state, lambda: state.publisher.write_raw(payload))


def publish_small(state: State) -> tuple[float, int]:
    payload = state.random.bytes(KIB)
    return _timed(state, lambda: state.publisher.write_raw(payload))


def publish_table(state: State) -> tuple[float, int]:
    table = state.random.random((_ROWS, _COLUMNS), np.float32)
    return _timed(state, lambda: state.publisher.write(table))


def update_table(state: State) -> tuple[float, int]:
    """Change random rows."""
    numbers = state.random.choice(_ROWS, _CHANGED, replace=False)
    content = state.random.random((_CHANGED, _COLUMNS), np.float32)

    def update() -> WriteResult:
        with state.publisher.update() as draft:
            draft[numbers] = content
        result: WriteResult = draft.result
        return result

    return _timed(state, update)


def _timed(state: State, publish: Callable[[], WriteResult]) -> tuple[float, int]:
    """Publish a version; return when that began, and its checksum."""
    start = clock()
    published = publish()
    state.durations.append(clock() - start)
    return start, published.version.checksum


def take_durations(state: State) -> list[float]:
    """Return how long each publish has taken since the last call."""
    taken: list[float] = state.durations
    state.durations = []
    return taken


def start_replica(state: State, name: str, url: str, local_name: str) -> None:
    state.replica = Replica(name, url, local_name=local_name).start()
    state.closing.callback(state.replica.stop)


def observe(state: State, name: str) -> None:
    """Open a reader of one more replica."""
    if not hasattr(state, "readers"):
        state.readers = []
    state.readers.append(Reader[Any](name))
    state.closing.callback(state.readers[-1].close)


def follow(state: State, seq: int) -> tuple[float, set[int]]:
    """Wait until all replicas have a version; return when that was, and its checksums after a comparison."""
    left = list(state.readers)
    deadline = clock() + _LIMIT
    while left and clock() < deadline:
        left[0].wait(timeout=_LIMIT) if len(state.readers) == 1 else time.sleep(_POLL)
        left = [reader for reader in left if not _has(reader, seq)]
    found = clock()
    checksums = set()
    for reader in state.readers:
        with reader.read(check_bytes=True) as snapshot:
            checksums.add(snapshot.version.checksum)
    return found, checksums


def _has(reader: Reader[Any], seq: int) -> bool:
    try:
        with reader.read() as snapshot:
            return snapshot.origin is not None and snapshot.origin.seq >= seq
    except (StateNotFoundError, UninitializedStateError):
        return False


def connect(state: State, port: int) -> None:
    state.client = redis.Redis(port=port)
    state.closing.callback(state.client.close)


def set_and_get(state: State) -> float:
    """Return how long it takes to set and get 64 MiB in parts."""
    parts = [bytes([number]) * MIB for number in range(LARGE // MIB)]
    start = clock()
    for number, part in enumerate(parts):
        state.client.set(f"part:{number}", part)
    found = [state.client.get(f"part:{number}") for number in range(len(parts))]
    duration = clock() - start
    if found != parts:
        raise RuntimeError("wrong value")
    return duration


def ping(state: State) -> float:
    start = clock()
    state.client.ping()
    return clock() - start


def private_memory(_: State, pid: int) -> int:
    """Return how much memory a process has besides files and shared memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * KIB


def begin(state: State, sample: Callable[..., Any], period: float, *args: Any) -> None:
    """Take samples in a thread until `end` is called."""
    state.ended, state.samples = threading.Event(), []

    def run() -> None:
        state.samples.append(sample(state, *args))
        while not state.ended.wait(period):
            state.samples.append(sample(state, *args))

    state.thread = threading.Thread(target=run, daemon=True)
    state.thread.start()


def end(state: State) -> list[Any]:
    """Return the samples."""
    state.ended.set()
    state.thread.join()
    return list(state.samples)
