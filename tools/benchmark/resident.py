"""Memory: what each of many readers adds that hold the same array of 64 MiB and have touched all of it.

Private is what only the reader has mapped (USS). Proportional is its share of everything that it has mapped (PSS): the
sum over all processes is what they take together. Each reader has read a tiny array through the same peer before, so
that what it imports does not count.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark import names
from benchmark.cast import cast, each
from benchmark.children import private_memory, proportional
from benchmark.figures import MIB, Figure
from benchmark.phases import phases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Held
    from benchmark.peers import Peer

SIZE = 64 * MIB
_TINY = 4096
_PATIENCE = 30.0


def holders(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure private and proportional memory of each reader, with 1, 4 and 16 of them."""
    return each(peers, names.PRIVATE, "array", partial(_holders, counts=phases(quick=quick).holders))


def _holders(peer: Peer, counts: tuple[int, ...]) -> Iterator[Figure]:
    with (
        cast(peer, "array", _TINY, readers=0) as tiny,
        cast(peer, "array", SIZE, readers=0, spare=max(counts)) as actors,
    ):
        attached = 0
        for count in counts:
            new = actors.readers[attached:count]
            for one in new:
                one.ask(warm_up, peer, tiny.address)
            actors.attach(new)
            for held in [one.start(hold_all) for one in new]:
                held(_PATIENCE)
            attached = count
            grown = [one.ask(grown_by) for one in actors.readers[:attached]]
            private, shared = zip(*grown, strict=True)
            yield Figure(names.PRIVATE, peer.name, "bytes", private, count)
            yield Figure(names.PROPORTIONAL, peer.name, "bytes", shared, count)


# --------------------------------------------------------------------------------------------------------- in a child


def warm_up(held: Held, peer: Peer, tiny: Any) -> None:
    """Read a tiny array; remember the memory that this process has after that."""
    warm = peer.reader("array", tiny)
    if (value := warm.get()) is not None:
        value.sum()
    del value
    warm.close()
    del warm
    _now()  # the look itself takes memory
    held.before = _now()


def hold_all(held: Held) -> None:
    """Get the array and touch every element."""
    held.value = held.reader.get()
    held.value.sum()


def grown_by(held: Held) -> tuple[int, int]:
    """Return by how many bytes private and proportional memory have grown."""
    private, shared = _now()
    return private - held.before[0], shared - held.before[1]


def _now() -> tuple[int, int]:
    return private_memory(), proportional("self")
