"""Space: what /dev/shm holds after many publishes of an array, with and without a reader that does not let go.

The file system is asked, for what is unlinked but still mapped counts there, too. Others may use it at the same time: a
look counts only if all is as before once everything is closed. Memory of their own of the servers that a writer starts
is added.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark import names
from benchmark.cast import Cast, cast, each, of_servers
from benchmark.figures import MIB, Figure
from benchmark.peers import SHMSYNC
from benchmark.phases import GUARD, phases
from benchmark.timing import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Child, Held
    from benchmark.peers import Peer

_CALM = MIB // 4
_PUBLISHES = 100
_TRIES = 5
_PATIENCE = 10.0

Stuck = Callable[[Cast], AbstractContextManager[None]]
"""What keeps a reader from letting go while the block is run."""


def after_publishes(peers: Iterable[Peer], row: str, *, quick: bool) -> Iterator[Figure]:
    """Measure the space that a value takes in the end; with a reader that is stopped, of shmsync only."""
    stuck = {names.SPACE_FREE: _nobody, names.SPACE_HOLDING: _holding, names.SPACE_STOPPED: _stopped}[row]
    concerned = [peer for peer in peers if stuck is not _stopped or peer is SHMSYNC]
    return each(concerned, row, "array", partial(_after, row=row, stuck=stuck, seconds=phases(quick=quick).publishing))


def _after(peer: Peer, *, row: str, stuck: Stuck, seconds: float) -> Iterator[Figure]:
    grown, remark = _calmly(peer, stuck, seconds)
    yield Figure(row, peer.name, "bytes", (grown,), remark=remark)


def _calmly(peer: Peer, stuck: Stuck, seconds: float) -> tuple[float, str]:
    for _ in range(_TRIES):
        before = _in_use()
        with cast(peer, "array", names.SPACE_SIZE, readers=0 if stuck is _nobody else 1) as actors, stuck(actors):
            published, served, error = actors.writer.start(publish_often, _PUBLISHES, seconds)(seconds + _PATIENCE)
            grown = _in_use() - before + served
        if abs(_in_use() - before) <= _CALM:
            break
    else:
        error = f"{error} others used /dev/shm at the same time".lstrip()
    return grown, f"{error} after {published} publishes".lstrip() if published < _PUBLISHES else error


def _in_use() -> int:
    found = os.statvfs("/dev/shm")
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@contextmanager
def _nobody(_: Cast) -> Iterator[None]:
    yield


@contextmanager
def _holding(actors: Cast) -> Iterator[None]:
    actors.readers[0].ask(hold)
    yield


@contextmanager
def _stopped(actors: Cast) -> Iterator[None]:
    reader = actors.readers[0]
    resumed = reader.start(stop_inside)
    try:
        _wait_until_stopped(reader)
        yield
    finally:
        os.kill(reader.pid, signal.SIGCONT)
    resumed(GUARD)


def _wait_until_stopped(process: Child) -> None:
    deadline = time.monotonic() + GUARD
    while Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "T":
        if time.monotonic() > deadline:
            raise TimeoutError("the reader does not stop")
        time.sleep(0.001)


# --------------------------------------------------------------------------------------------------------- in a child


def publish_often(held: Held, count: int, seconds: float) -> tuple[int, int, str]:
    """Publish so many versions, if there is time for them.

    Return how many it were, the bytes that servers took for them, and what failed.
    """
    error = ""
    published = 0
    end = clock() + seconds
    try:
        while published < count and clock() < end:
            held.writer.write(next(held.values))
            published += 1
    except Exception as failure:  # noqa: BLE001 - whatever a peer raises
        error = type(failure).__name__
    return published, of_servers() - held.served, error


def hold(held: Held) -> None:
    """Take a value and keep it."""
    held.value = held.reader.get()


def stop_inside(held: Held) -> None:
    """Stop this process while it has a version pinned."""
    with held.reader.pinned():
        os.kill(os.getpid(), signal.SIGSTOP)
