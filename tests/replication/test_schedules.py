"""Publishers, replicas and an engine that fails, in random schedules of their steps, without threads and processes.

Each call of the engine may fail before or after it has taken effect, and between the steps the engine loses data, and
processes restart. Two things must hold at each step: a replica never goes back, and what it publishes is what was
published under that id. At the end, without failures, it has the newest version. Broken variants have to fail.
"""

from __future__ import annotations

import random
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import zstandard
from helpers import NEVER, without_waiting

from replication.memory_engine import MemoryEngine, Server
from shmsync import FencedError, Reader, ReplicationError, StateNotFoundError, UninitializedStateError, Writer, info
from shmsync._handles.receiving import ReceivingWriter
from shmsync.replication import Relay, Replica, replica
from shmsync.replication._download import Download
from shmsync.replication._entry import INLINE, MIN_CHUNK, VersionId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from shmsync.replication.engine import Engine

URL = "redis://nowhere"
STEPS = 40
ROWS = 3 * INLINE // 8
SCHEDULES = 100
MUTANT_SCHEDULES = 1000


class Source:
    """A name with a writer and a relay."""

    compression: str | None = None

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.writer = Writer[Any](name)
        self.reader = Reader[Any](name)
        self.is_fenced = False
        self.restart()

    def restart(self) -> None:
        if not self.is_fenced:
            options: dict[str, Any] = {"full_after": 3, "keep": 2, "retain": 0.0, "chunk_size": MIN_CHUNK}
            self.relay = Relay(self.writer.name, URL, compression=self.compression, **options)
            self.connected = False

    def send(self, engine: Engine) -> None:
        """Do what the loop of the relay does."""
        if self.is_fenced:
            return
        try:
            if not self.connected or self.world.random.random() < 0.1:
                self.relay._compare(engine, fast=self.connected)
                self.connected = True
            self.relay._send_newest(engine, self.reader)
        except FencedError:
            self.is_fenced = True
        except ReplicationError:
            self.connected = False

    def close(self) -> None:
        self.reader.close()
        self.writer.unlink()
        self.writer.close()


class Target:
    """A replica."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.writer = ReceivingWriter(name)
        self.writer.__enter__()
        self.reader = Reader[Any](name)
        self.seen = VersionId(0, 0)
        self.restart()

    def restart(self) -> None:
        self.replica = Replica("any", URL, local_name=self.name)
        self.writer.__exit__(None, None, None)
        self.writer = ReceivingWriter(self.name)
        self.writer.__enter__()
        self.replica._find_cursor(self.writer)

    def receive(self, engine: Engine) -> None:
        with suppress(ReplicationError):
            for _ in self.replica._catch_up(engine, self.writer):
                self.check()
        self.check()

    def check(self) -> None:
        with suppress(StateNotFoundError, UninitializedStateError), self.reader.read(check_bytes=True) as snapshot:
            assert snapshot.origin is not None
            version = VersionId(*snapshot.origin[:2])
            assert version >= self.seen, f"went back from {self.seen} to {version}"
            self.seen = version
            expected = self.world.sent[version]
            assert bytes(snapshot.buffer) == expected, f"{version} has another content"

    def close(self) -> None:
        self.reader.close()
        self.writer.unlink()
        self.writer.close()


class World:
    """All of them, and the schedule."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.number = 0
        self.failures = 0.0
        self.is_damaged = False
        self.server = Server()
        self.older = self.server.copy()
        self.sent: dict[VersionId, bytes] = {}
        self.sources = [Source(self, f"{name}-{number}") for number in range(2)]
        self.active = self.sources[:1]
        self.target = Target(self, f"{name}-copy")

    def interrupt(self) -> None:
        if self.random.random() < self.failures:
            raise ReplicationError("no connection")

    def engine(self) -> MemoryEngine:
        engine = MemoryEngine(self.server, self.interrupt)
        add = engine.add

        def recorded(entry: Any, locations: Any) -> Any:
            try:
                return add(entry, locations)
            finally:
                self.record(entry)

        engine.add = recorded  # type: ignore[method-assign]
        return engine

    def record(self, entry: Any) -> None:
        """Record what was published under an id that the server has accepted."""
        fields = self.server.entries.get(entry.id)
        if fields is not None and fields[b"incarnation"] == str(entry.incarnation).encode():
            for source in self.active:
                with suppress(StateNotFoundError, UninitializedStateError), source.reader.read() as snapshot:
                    if (snapshot._pinned.incarnation, snapshot.version.seq) == (entry.incarnation, entry.id.seq):
                        content = bytes(snapshot.buffer)
                        assert self.sent.setdefault(entry.id, content) == content, "an id for two versions"

    def step(self) -> None:
        source = self.random.choice(self.active)
        action: Callable[[], object] = self.random.choice(
            [
                lambda: source.writer.write(self.next()),
                lambda: source.writer.write(np.full(ROWS, self.next())),
                lambda: self.update(source),
                lambda: self.update(source),
                lambda: source.send(self.engine()),
                lambda: source.send(self.engine()),
                lambda: self.target.receive(self.engine()),
                lambda: self.target.receive(self.engine()),
                source.restart,
                self.target.restart,
                self.lose,
                self.take_over,
            ]
        )
        action()

    def next(self) -> int:
        self.number += 1
        return self.number

    def update(self, source: Source) -> None:
        with source.writer.update(initial=np.zeros(ROWS)) as draft:
            if isinstance(draft.value, int):
                draft.value = np.zeros(ROWS)
            else:
                draft.value[self.number % ROWS] = self.next()

    def lose(self) -> None:
        what = self.random.randrange(8)
        if what == 0:
            self.server.restore(Server())
        elif what == 1:
            self.server.restore(self.older)
        elif what == 2:
            self.older = self.server.copy()
        elif what == 3 and self.server.chunks:
            del self.server.chunks[self.random.choice(sorted(self.server.chunks))]
        elif what in {4, 5}:
            self.server.lose_newest()
        elif what == 6:
            self.damage()

    def damage(self) -> None:
        """Change a byte of a chunk, or of what an entry contains."""
        self.is_damaged = True
        if self.server.chunks and self.random.random() < 0.5:
            key = self.random.choice(sorted(self.server.chunks))
            self.server.chunks[key] = b"X" + self.server.chunks[key][1:]
        elif self.server.entries:
            fields = self.server.entries[self.random.choice(sorted(self.server.entries))]
            name = self.random.choice([b"data", b"content"])
            if fields.get(name):
                fields[name] = b"X" + fields[name][1:]

    def take_over(self) -> None:
        if self.random.random() < 0.2:
            self.active = self.sources

    def settle(self) -> None:
        """Let everything become quiet, and compare: the publisher that began last has won, and the others know it."""
        self.failures = 0.0
        if self.is_damaged:  # the engine's copy is not compared: the next version replaces it
            for source in self.active:
                source.writer.write(self.next())
        for _ in range(3):
            for source in self.active:
                source.connected = False
                source.send(self.engine())
            self.target.receive(self.engine())
        working = [source for source in self.active if source.relay._epoch and not source.is_fenced]
        assert len(working) <= 1, "two publishers, and both believe that they publish"
        if not working:  # nothing was published
            return
        source = working[0]
        with source.reader.read() as snapshot, self.target.reader.read() as arrived:
            assert bytes(arrived.buffer) == bytes(snapshot.buffer), "the newest version was lost"

    def run(self) -> None:
        self.failures = self.random.choice([0.0, 0.02, 0.1])
        for _ in range(STEPS):
            self.step()
        self.settle()

    def close(self) -> None:
        for source in self.sources:
            source.close()
        self.target.close()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "_PAUSE", 0.0)
    monkeypatch.setattr(replica, "_MOST_MISSED", 2)
    clock = count(10**15, 10**6)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))


def explore(name: str, schedules: int, first: int = 0) -> None:
    for seed in range(first, first + schedules):
        world = World(name, seed)
        try:
            world.run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        finally:
            world.close()


def test_random_schedules(name: str) -> None:
    explore(name, SCHEDULES)


def test_compressed_chunks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Source, "compression", "zstd")
    explore(name, SCHEDULES // 2)


@pytest.mark.slow
def test_many_random_schedules(name: str) -> None:
    explore(name, 40 * SCHEDULES, SCHEDULES)


@pytest.fixture
def world(name: str) -> Iterator[World]:
    world = World(name, 0)
    yield world
    world.close()


def array_at(world: World) -> list[float]:
    found: list[float] = world.target.reader.get()[:3].tolist()
    return found


def test_changes_are_not_added_without_their_base(world: World) -> None:
    (source,) = world.active
    source.writer.write(np.zeros(ROWS))
    source.send(world.engine())
    world.server.lose_newest()  # and the relay does not notice
    with source.writer.update() as draft:
        draft.value[0] = 1.0
    source.send(world.engine())
    source.send(world.engine())
    world.target.receive(world.engine())
    assert array_at(world) == [1.0, 0.0, 0.0]


def test_a_relay_is_newer_than_what_the_engine_has_lost_of_an_earlier_one(world: World) -> None:
    (source,) = world.active
    source.writer.write(np.zeros(ROWS))
    source.send(world.engine())
    older = world.server.copy()
    source.restart()
    source.writer.write(np.ones(ROWS))
    source.send(world.engine())
    world.target.receive(world.engine())
    assert array_at(world) == [1.0, 1.0, 1.0]
    world.server.restore(older)
    source.restart()
    source.writer.write(np.full(ROWS, 2.0))
    source.send(world.engine())
    world.target.receive(world.engine())
    assert array_at(world) == [2.0, 2.0, 2.0]


def test_a_relay_that_is_restarted_does_not_send_everything_again(world: World) -> None:
    (source,) = world.active
    source.writer.write(np.zeros(ROWS))
    source.send(world.engine())
    world.target.receive(world.engine())
    for number in (1.0, 2.0):
        source.restart()
        with source.writer.update() as draft:
            draft.value[0] = number
        source.send(world.engine())
        world.target.receive(world.engine())
        assert array_at(world) == [number, 0.0, 0.0]
        assert source.relay.status().sent == 8
    source.restart()
    source.send(world.engine())  # a new epoch, and no change
    world.target.receive(world.engine())
    assert array_at(world) == [2.0, 0.0, 0.0]
    assert source.relay.status().sent == 0 < source.relay.status().epoch == world.target.replica.status().epoch


def test_chunks_are_compressed_if_that_makes_them_shorter(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setattr(Source, "compression", "zstd")
    (source,) = world.active
    source.restart()
    for value, least, most in ((bytes(8 * ROWS), 0, 1000), (random.Random(0).randbytes(8 * ROWS), ROWS * 8, 2**60)):
        world.server.chunks.clear()
        source.writer.write(value)
        source.send(world.engine())
        assert least <= sum(map(len, world.server.chunks.values())) <= most
        world.target.receive(world.engine())
        with world.target.reader.read() as snapshot:
            assert value in bytes(snapshot.buffer)
    for damaged in (b"spam", zstandard.compress(bytes(10)), zstandard.compress(bytes(MIN_CHUNK + 1)), b""):
        source.writer.write(value)
        source.send(world.engine())
        world.server.chunks[max(world.server.chunks)] = damaged
        seen = world.target.seen
        world.target.receive(world.engine())
        assert world.target.seen == seen
        assert "one of its chunks" in str(world.target.replica.status().error)


def test_no_write_waits_for_an_upload(world: World) -> None:
    (source,) = world.active
    source.writer.write(np.zeros(ROWS))
    engine = world.engine()
    put = engine.put

    def put_slowly(location: Any, chunks: Any) -> None:
        sent = list(chunks)
        world.sent[location.id] = b"".join(sent)
        with without_waiting():
            for _ in range(4):
                source.writer.write(np.full(ROWS, world.next()), grace_duration=NEVER)
        put(location, sent)

    engine.put = put_slowly  # type: ignore[method-assign]
    source.send(engine)
    world.target.receive(world.engine())
    assert array_at(world) == [0.0, 0.0, 0.0]  # what was sent is the version that was the newest then
    assert source.writer.stats().resets == 0
    source.send(world.engine())
    world.target.receive(world.engine())
    assert array_at(world) == [4.0, 4.0, 4.0]


def test_an_error_keeps_no_memory(world: World) -> None:
    (source,) = world.active
    source.writer.write(np.zeros(ROWS))
    engine = world.engine()

    def put(location: Any, chunks: Any) -> None:
        next(iter(chunks))
        _fail()

    engine.put = put  # type: ignore[method-assign]
    with pytest.raises(ReplicationError) as failure:
        source.relay._compare(engine, fast=False)
        source.relay._send_newest(engine, source.reader)
    source.relay._note(failure.value)
    del failure
    for _ in range(3):
        source.writer.write(np.zeros(ROWS))
    source.reader.get()
    assert info(source.writer.name).held_memory == 0


def test_a_refusal_keeps_no_memory(world: World) -> None:
    (source,) = world.active
    for value in (np.zeros(ROWS), np.ones(ROWS)):
        source.writer.write(value)
        source.send(world.engine())
        world.target.receive(world.engine())
    source.writer.write(np.ones(2 * ROWS))
    source.send(world.engine())
    world.server.chunks[max(world.server.chunks)] = b"damaged"
    world.target.receive(world.engine())
    assert "one of its chunks" in str(world.target.replica.status().error)
    for number in range(3):
        source.writer.write(np.full(3 * ROWS, number))
        source.send(world.engine())
        world.target.receive(world.engine())
    world.target.reader.get()
    assert info(world.target.name).held_memory == 0


def test_an_interrupted_upload_leaves_no_chunks(world: World) -> None:
    (source,) = world.active
    for number in range(5):
        source.writer.write(np.full(ROWS, number))
        engine = world.engine()
        engine.add = lambda *_: _fail()  # type: ignore[method-assign]
        source.send(engine)
        assert {version.seq for version, _, _ in world.server.chunks} == {number + 1}
    source.send(world.engine())
    assert {version.seq for version, _, _ in world.server.chunks} == {5}


def _fail() -> bool:
    raise ReplicationError("no connection")


def test_a_version_that_is_there_already_counts_as_sent(world: World) -> None:
    (source,) = world.active
    source.writer.write(1)
    engine = world.engine()
    add = engine.add

    def interrupted(entry: Any, locations: Any) -> bool:
        add(entry, locations)
        raise ReplicationError("the answer is lost")

    engine.add = interrupted  # type: ignore[method-assign]
    source.send(engine)
    assert not source.connected
    source.send(world.engine())
    assert list(world.server.entries) == [VersionId(source.relay._epoch, 1)]
    source.relay.flush(0)


def _forgotten_cursor(patch: pytest.MonkeyPatch) -> None:
    def find_cursor(self: Any, _: Any) -> None:
        self._cursor = self._highest = VersionId(0, 0)

    patch.setattr(Replica, "_find_cursor", find_cursor)


def _no_checksum(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(replica, "_incoming", lambda entry: _incoming(entry)._replace(checksum=cast("Any", None)))


def _no_comparison_after_a_failure(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Source, "connected", property(lambda _: True, lambda _, value: None), raising=False)
    patch.setattr(Relay, "_compare", lambda *_, fast: None)


def _chain_with_a_gap(patch: pytest.MonkeyPatch) -> None:
    def chain(self: Any, full: Any, last: Any) -> Any:
        return [each for each in self._engine.after(full.id, 1000) if each.id <= last.id and each.base]

    patch.setattr(Download, "chain", chain)
    _no_checksum(patch)


def _lost_chunks_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryEngine, "has", lambda *_: True)


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    def id_of(self: Any, snapshot: Any) -> VersionId:
        try:
            return normal(self, snapshot)
        except FencedError:
            return VersionId(self._epoch, snapshot.version.seq)

    normal = Relay._id_of
    patch.setattr(Relay, "_id_of", id_of)


_incoming = replica._incoming
MUTANTS = [
    _forgotten_cursor,
    _no_checksum,
    _no_comparison_after_a_failure,
    _chain_with_a_gap,
    _lost_chunks_unnoticed,
    _no_fence,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_broken_variant_is_found(name: str, mutant: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        mutant(patch)
        with pytest.raises(AssertionError) as failure:
            explore(name, MUTANT_SCHEDULES)
    print(f"{mutant.__name__}: {failure.value}".splitlines()[0])
