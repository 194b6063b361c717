"""The processes of a workload: a child that publishes through a peer, and children that read.

The writer is a child, too: it may block, or be killed, and the benchmark goes on. What it leaves is removed.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmark.children import Child, Held, anonymous, child, descendants, die_with_parent
from benchmark.figures import Figure
from benchmark.litter import Litter, litter
from benchmark.phases import GUARD, LEAD
from benchmark.timing import clock
from benchmark.workloads import endless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from benchmark.peers import Peer, Shape

CONFIG = 4096
"""Bytes that are enough for a config, whatever its encoding."""

_ATTACHING = 10.0


class Cast(NamedTuple):
    """The processes of a workload.

    Attributes:
        address: of the writer.
        litter: where to note a process that is going to be killed.
    """

    peer: Peer
    shape: Shape
    writer: Child
    readers: list[Child]
    address: Any
    litter: Litter

    def attach(self, readers: Sequence[Child]) -> None:
        """Have some of the readers attach, and read once.

        None is attached before its time: one that reads no more may hold what it has read.
        """
        _all([reader.start(attach, self.peer, self.shape, self.address) for reader in readers])
        _all([self.writer.start(welcome)])
        _all([reader.start(read_once) for reader in readers])


def _all(answers: Iterable[Callable[[float], object]]) -> None:
    for answer in answers:
        answer(_ATTACHING)


@contextmanager
def cast(peer: Peer, shape: Shape, size: int, *, readers: int, spare: int = 0) -> Iterator[Cast]:
    """Start a writer that has published a first value, and readers that are attached; end them all.

    Spare readers have loaded what they need, but are not attached.
    """
    with litter() as left, ExitStack() as ends:
        writer, *others = (ends.enter_context(child()) for _ in range(1 + readers + spare))
        for process in (writer, *others):
            ends.callback(process.release)
        for process in (writer, *others):
            ends.callback(left.note, process.pid)
        loads = [process.start(load, peer) for process in others]
        address = writer.start(open_writer, peer, shape, size)(_ATTACHING)
        _all(loads)
        actors = Cast(peer, shape, writer, others, address, left)
        actors.attach(others[:readers])
        yield actors


def at_once(seconds: float, *acts: tuple[Child, Callable[..., Any], tuple[Any, ...]]) -> list[Any]:
    """Have children do something at an agreed time for so many seconds; return their answers.

    The functions take that time and the seconds before their other arguments.

    Raises:
        TimeoutError: one of them was blocked.
        RuntimeError: one of them raised.
    """
    begin = clock() + LEAD
    answers = [process.start(act, begin, seconds, *args) for process, act, args in acts]
    last = begin + seconds + GUARD
    return [answer(max(0.0, last - clock())) for answer in answers]


def each(
    peers: Iterable[Peer], row: str, shape: Shape, measure: Callable[[Peer], Iterator[Figure]]
) -> Iterator[Figure]:
    """Measure the peers one after the other; one that fails is reported, and does not keep the others from it."""
    for peer in peers:
        if excuse := peer.excuse(shape):
            yield Figure(row, peer.name, "text", remark=excuse)
        else:
            yield from _attempt(peer, row, measure)


def _attempt(peer: Peer, row: str, measure: Callable[[Peer], Iterator[Figure]]) -> Iterator[Figure]:
    try:
        yield from measure(peer)
    except TimeoutError:
        yield Figure(row, peer.name, "text", remark=f"blocked for ever (> {GUARD:.0f} s)")
    except RuntimeError as error:
        yield Figure(row, peer.name, "text", remark=f"failed: {str(error).strip().splitlines()[-1]}")


def pinned_cores() -> tuple[int | None, int | None]:
    """Return a core for the writer and another one for a reader; None where there are no two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


# --------------------------------------------------------------------------------------------------------- in a child


def load(_: Held, peer: Peer) -> None:
    """Import what the peer needs."""
    die_with_parent()
    peer.load()


def open_writer(held: Held, peer: Peer, shape: Shape, size: int) -> Any:
    """Make a writer, publish a first value, return the address."""
    held.values = endless(shape, size)
    held.writer = peer.writer(shape, size)
    held.closing.callback(held.writer.close)
    held.served = of_servers()
    held.writer.write(next(held.values))
    return held.writer.address


def of_servers() -> int:
    """Return how many bytes of their own the processes have that a writer has started in this one."""
    return sum(map(anonymous, descendants(os.getpid())))


def attach(held: Held, peer: Peer, shape: Shape, address: Any) -> None:
    """Make a reader."""
    held.reader = peer.reader(shape, address)
    held.closing.callback(held.reader.close)


def welcome(held: Held) -> None:
    """See to it that readers that have attached since the last version get it."""
    if hasattr(held.writer, "welcome"):
        held.writer.welcome()


def read_once(held: Held) -> None:
    """Read."""
    held.reader.get()


def pin(_: Held, core: int | None) -> None:
    """Run on one core from now on."""
    if core is not None:
        os.sched_setaffinity(0, {core})
