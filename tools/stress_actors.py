"""The processes of the stress harness: what they publish, what they read, how they check it."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import random
import resource
import select
import signal
import struct
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from shmsync import (
    CapacityError,
    Reader,
    ReadersFullError,
    StateNotFoundError,
    UninitializedStateError,
    WriteLockConflictError,
    Writer,
    codecs,
)
from shmsync._core import protocol, slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

HEAD = struct.Struct("=QQQ")  # stamp, sequence number, digest of the content
BLOCK = 4096
REPORT_EVERY = 0.1
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
NOT_THERE = (StateNotFoundError, UninitializedStateError, ReadersFullError)


class Plan(NamedTuple):
    """What all processes of a run know.

    Attributes:
        grace: grace duration of the writers, in seconds.
        largest: of a payload, in bytes.
        unlinks: one write in so many is followed by an unlink; 0 for none.
        locks: whether the writers may take a slot's lock to prove its reader dead.
    """

    name: str
    grace: float
    largest: int
    unlinks: int
    locks: bool


class GivenUp(Exception):  # noqa: N818 - no error either
    """A write ends half-way."""


class Torn(Exception):  # noqa: N818 - a finding, not an error
    """What was read is not what was published."""


# ----------------------------------------------------------------------------------------------------------- payloads


def limits(rng: random.Random, largest: int) -> Iterator[int]:
    """Choose the largest size of the next payloads: mostly small, seldom as large as allowed.

    It stays for a while, so that many fit into the memory that is there, and are written in place.
    """
    while True:
        limit = min(rng.choices([64, 4096, 1 << 18, 1 << 22, largest], [300, 450, 200, 48, 2])[0], largest)
        yield from itertools.repeat(limit, rng.randrange(1, 60 if limit <= 1 << 18 else 4))


def content(rng: random.Random, limit: int) -> bytes:
    """Return content of a random size."""
    size = rng.randrange(limit // 2, limit + 1)
    return (rng.randbytes(BLOCK) * (size // BLOCK + 1))[:size]


def stamp_of(value: Any, seq: int) -> int:
    """Check a value against the digest and the sequence number that it carries; return its stamp.

    The first write of a tenure does not know its number, nor a stamp that follows its predecessor's: both are 0.
    """
    if isinstance(value, memoryview):
        if len(value) == 8:  # the smallest payload: a sequence number
            number, stamp, digest, body = struct.unpack("=Q", value)[0], 0, 0, b""
        else:
            stamp, number, digest = HEAD.unpack_from(value)
            body = value[HEAD.size :]  # type: ignore[assignment]
    else:
        stamp, number, digest, body = value["stamp"], value["number"], value["digest"], value["content"]
    if number not in {0, seq}:
        raise Torn(f"version {seq} carries number {number}")
    if digest and digest != xxhash.xxh3_64_intdigest(body):
        raise Torn(f"version {seq}: the content of {len(body)} bytes does not match its digest")
    return int(stamp)


# ------------------------------------------------------------------------------------------------------------- writers


def write(plan: Plan, pipe: Connection, seed: int) -> None:
    """Compete for the name; once it is ours, publish without a pause until the end."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if not plan.locks:
        slots.reap = lambda *_: False  # only the grace duration recovers
    rng = random.Random(seed)
    writer = Writer(plan.name, grace_duration=plan.grace, mode=0o600)
    seq = writes = full = 0
    worst = 0.0
    due = 0.0
    for limit in limits(rng, plan.largest):
        body = content(rng, limit)
        stamp = time.monotonic_ns() if seq else 0
        number = seq + 1 if seq else 0
        started, worked = time.perf_counter(), time.thread_time()
        try:
            result = _publish(writer, rng, stamp, number, body)
        except WriteLockConflictError:
            seq = 0
            time.sleep(0.002)
            continue
        except CapacityError:
            full += 1
            if writer._ownership is None:
                seq = 0
            time.sleep(0.002)
            continue
        waited = time.perf_counter() - started - (time.thread_time() - worked)
        worst = max(worst, waited - plan.grace)
        if seq and result.version.seq != seq + 1:
            pipe.send_bytes(json.dumps({"violation": f"version {result.version.seq} follows {seq}"}).encode())
        seq = result.version.seq
        writes += 1
        if time.monotonic() > due:
            due = time.monotonic() + REPORT_EVERY
            said = {"writes": writes, "full": full, "beyond": worst, "stamp": stamp, **writer.stats()._asdict()}
            del said["writes"]
            pipe.send_bytes(json.dumps({**said, "written": writes}).encode())
            writes = full = 0
        if plan.unlinks and rng.randrange(plan.unlinks) == 0:
            writer.unlink()
            seq = 0


def _publish(writer: Writer, rng: random.Random, stamp: int, number: int, body: bytes) -> Any:
    kind = rng.randrange(5)
    if kind == 0 and number and len(body) < 64:
        return writer.write_raw(struct.pack("=Q", number))
    digest = xxhash.xxh3_64_intdigest(body)
    if kind < 2:
        return writer.write_raw(HEAD.pack(stamp, number, digest) + body)
    if kind == 2:
        return _publish_in_place(writer, rng, HEAD.pack(stamp, number, digest), body)
    codec = codecs.by_name("msgpack" if kind == 3 else "archive")
    value = {"stamp": stamp, "number": number, "digest": digest, "content": body}
    return writer._publish(codec, codec.encode(value), None)


def _publish_in_place(writer: Writer, rng: random.Random, head: bytes, body: bytes) -> Any:
    if rng.randrange(4) == 0:
        with suppress(GivenUp), writer.reserve(len(body)) as slot:
            slot.buffer[: len(body) // 2] = body[: len(body) // 2]
            raise GivenUp
    with writer.reserve(len(head) + len(body)) as slot:
        slot.buffer[: len(head)] = head
        slot.buffer[len(head) :] = body
    return slot.result


# ------------------------------------------------------------------------------------------------------------- readers


class Interrupt(Exception):  # noqa: N818 - as KeyboardInterrupt
    """What a signal handler raises in the middle of things."""


_KEEPING = {"_read": 40, "_get": 40, "_keep": 10, "_look_again": 6, "_fork": 3, "_reopen": 1}
_NOT_KEEPING = {"_read": 85, "_drop": 10, "_fork": 4, "_reopen": 1}


class Desk:
    """A reader process at work."""

    def __init__(self, plan: Plan, pipe: Connection, inside: Any, place: int, seed: int) -> None:
        self.plan = plan
        self.reader = Reader(plan.name)
        self.rng = random.Random(seed)
        self.kept: list[tuple[Any, int]] = []
        self.forks = 0
        self.alone = True
        self._pipe = pipe
        self._inside = inside
        self._place = place
        self._reads = 0
        self._newest = 0
        self._due = 0.0
        self._lock = threading.Lock()

    def look(self) -> None:
        """Read once, in a random manner."""
        # Every other second nobody keeps anything, or hardly any write would be in place.
        acts = _KEEPING if int(time.monotonic()) % 2 else _NOT_KEEPING
        act: Callable[[], None] = getattr(self, self.rng.choices(list(acts), list(acts.values()))[0])
        with suppress(*NOT_THERE):
            act()
        self._reads += 1
        if time.monotonic() > self._due:
            self.report()

    def report(self) -> None:
        """Say what was done since the last time."""
        with self._lock:
            said = {"reads": self._reads, "forks": self.forks, "rounds": _rounds.most}
            self._reads = self.forks = 0
            self._due = time.monotonic() + REPORT_EVERY
            self._pipe.send_bytes(json.dumps(said).encode())

    def complain(self, finding: Exception) -> None:
        """Say that something was not as published."""
        self._pipe.send_bytes(json.dumps({"violation": f"{type(finding).__name__}: {finding}"}).encode())

    def _follow(self, stamp: int) -> None:
        if self.alone and stamp:  # threads may overtake each other
            if stamp < self._newest:
                raise Torn(f"an older version was read {self._newest - stamp} ns after a newer one")
            self._newest = stamp

    def _read(self) -> None:
        with self.reader.read() as snapshot:
            self._inside[self._place] = 1
            seq = snapshot.version.seq
            stamp = stamp_of(snapshot.value, seq)
            if self.rng.random() < 0.05:
                time.sleep(self.rng.random() * 2 * self.plan.grace)
            stamp_of(snapshot.value, seq)
            self._follow(stamp)
        self._inside[self._place] = 0

    def _get(self) -> None:
        value = self.reader.get()
        if isinstance(value, memoryview) and len(value) == 8:
            return
        number = HEAD.unpack_from(value)[1] if isinstance(value, memoryview) else value["number"]
        self._follow(stamp_of(value, number))

    def _keep(self) -> None:
        with self.reader.read() as snapshot:
            self.kept.append((snapshot.value, snapshot.version.seq))
        if len(self.kept) > 6:
            del self.kept[: self.rng.randrange(6)]

    def _drop(self) -> None:
        self.kept.clear()

    def _look_again(self) -> None:
        for value, seq in self.kept:
            stamp_of(value, seq)

    def _reopen(self) -> None:
        if self.alone:
            self.reader.close()
            self.reader = Reader(self.plan.name)

    def _fork(self) -> None:
        """Fork with a live snapshot; both go on reading it."""
        if not self.alone:
            return
        with self.reader.read() as snapshot:
            seq = snapshot.version.seq
            child = os.fork()
            if child == 0:
                status = 3
                with suppress(Exception):
                    self._as_child(snapshot, seq)
                    status = 0
                os._exit(status)
            self.forks += 1
            if self.rng.random() < 0.3:
                os.kill(child, signal.SIGKILL)
            stamp_of(snapshot.value, seq)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise Torn(f"a forked reader of version {seq} ended with status {os.WEXITSTATUS(status)}")

    def _as_child(self, snapshot: Any, seq: int) -> None:
        stamp_of(snapshot.value, seq)
        time.sleep(self.rng.random() * self.plan.grace)
        stamp_of(snapshot.value, seq)
        with suppress(*NOT_THERE), self.reader.read() as another:
            stamp_of(another.value, another.version.seq)
        snapshot.close()


def read(plan: Plan, pipe: Connection, inside: Any, place: int, seed: int, manner: str) -> None:
    """Read until the end, in a manner: alone, with threads, under a storm of signals, in another PID namespace."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(5)  # what is measured is the writer's wait, not the scheduler's
    sys.unraisablehook = lambda _: None  # a storm interrupts finalizers, too
    if manner == "namespace":
        _enter_pid_namespace()
    desk = Desk(plan, pipe, inside, place, seed)
    try:
        if manner == "threads":
            desk.alone = False
            for number in range(2):
                other = Desk(plan, pipe, inside, place, seed + number)
                other.alone, other.reader = False, desk.reader
                threading.Thread(target=_look_for_ever, args=(other,), daemon=True).start()
        _read_in_a_storm(desk) if manner == "storm" else _look_for_ever(desk)
    except Exception as finding:  # noqa: BLE001 - whatever a read raises here is one
        desk.complain(finding)


def _enter_pid_namespace() -> None:
    """Go on as process 1 of a new PID namespace, where the writer's process numbers mean nothing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWPID):
        return  # without the right to
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(write_end)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([read_end], [], [], 0)[0]:  # killed before we had asked to go with it
        os._exit(0)
    os.close(read_end)


def _look_for_ever(desk: Desk) -> None:
    try:
        while True:
            desk.look()
    except Exception as finding:  # noqa: BLE001 - whatever a read raises here is one
        desk.complain(finding)


def _read_in_a_storm(desk: Desk) -> None:
    desk.alone = False

    def interrupt(*_: object) -> None:
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    while True:
        with suppress(Interrupt, *NOT_THERE):
            try:
                signal.setitimer(signal.ITIMER_REAL, desk.rng.uniform(1e-5, 1e-3))
                with desk.reader.read() as snapshot:
                    stamp_of(snapshot.value, snapshot.version.seq)
                desk.reader.get()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(Interrupt):
            desk._reads += 1
            desk.report()


class _Rounds(threading.local):
    """Counts how often one read has to enter, by thread."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0


class _Counted:
    """Has the protocol count its rounds."""

    def __init__(self) -> None:
        self.rounds = _Rounds()
        self._enter, self._pin_and_map = protocol.enter, protocol.pin_and_map
        protocol.enter, protocol.pin_and_map = self.enter, self.hold  # type: ignore[assignment]

    def enter(self, *args: Any) -> int:
        self.rounds._now += 1
        return self._enter(*args)

    def hold(self, *args: Any) -> Any:
        self.rounds._now = 0
        try:
            return self._pin_and_map(*args)
        finally:
            self.rounds.most = max(self.rounds.most, self.rounds._now)


_rounds = _Counted().rounds
