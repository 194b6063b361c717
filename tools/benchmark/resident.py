"""Memory: what each of many readers adds that hold the same array of 64 MiB and have touched all of it.

Private is what only the reader has mapped (USS). Proportional is its share of everything that it has mapped (PSS): the
sum over all processes is what they take together. Each reader has read a tiny array through the same peer before, so
that what it imports does not count.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmark.cast import MIB, attach, cast, each
from benchmark.children import private_memory, proportional
from benchmark.figures import Figure
from benchmark.phases import phases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Held
    from benchmark.peers import Peer

SIZE = 64 * MIB
PRIVATE = "Memory: private (USS) of a reader, 64 MiB array"
PROPORTIONAL = "Memory: proportional (PSS) of a reader, 64 MiB array"
_TINY = 4096
_ATTACHING = 30.0


def holders(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure private and proportional memory of each reader, with 1, 4 and 16 of them."""
    return each(peers, PRIVATE, "array", partial(_holders, counts=phases(quick=quick).holders))


def _holders(peer: Peer, counts: tuple[int, ...]) -> Iterator[Figure]:
    with (
        cast(peer, "array", _TINY, readers=0) as tiny,
        cast(peer, "array", SIZE, readers=0, spare=max(counts)) as actors,
    ):
        attached = 0
        for count in counts:
            new = actors.readers[attached:count]
            for wait in [one.start(hold_all, peer, tiny.address, actors.address) for one in new]:
                wait(_ATTACHING)
            attached = count
            grown = [one.ask(grown_by) for one in actors.readers[:attached]]
            private, shared = zip(*grown, strict=True)
            yield Figure(PRIVATE, peer.name, "bytes", private, count)
            yield Figure(PROPORTIONAL, peer.name, "bytes", shared, count)


# --------------------------------------------------------------------------------------------------------- in a child


def hold_all(held: Held, peer: Peer, tiny: Any, address: Any) -> None:
    """Get the array and touch every element; remember the memory from before."""
    warm = peer.reader("array", tiny)
    if (value := warm.get()) is not None:
        value.sum()
    del value
    warm.close()
    del warm
    _now()  # the look itself takes memory
    held.before = _now()
    attach(held, peer, "array", address)
    held.value = held.reader.get()
    if held.value is None:
        raise LookupError("a reader that attaches after a publish gets nothing before the next one")
    held.value.sum()


def grown_by(held: Held) -> tuple[int, int]:
    """Return by how many bytes private and proportional memory have grown."""
    private, shared = _now()
    return private - held.before[0], shared - held.before[1]


def _now() -> tuple[int, int]:
    return private_memory(), proportional("self")
