"""Workload W5: how long it takes until a reader that waits for a change is awake and knows of it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from benchmark import names
from benchmark.cast import CONFIG, at_once, cast, each
from benchmark.figures import Figure
from benchmark.phases import WARM_UP, phases
from benchmark.timing import clock, sleep_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmark.children import Held
    from benchmark.peers import Peer

_TICK = 0.005
_AT_MOST = 0.1  # seconds of one wait
_MARK = "setting_00"


def woken(peers: Iterable[Peer], *, quick: bool) -> Iterator[Figure]:
    """Measure the time from the beginning of a write until a reader that was blocked goes on."""
    seconds = phases(quick=quick).notice
    return each(peers, names.NOTICE, "config", lambda peer: _woken(peer, seconds))


def _woken(peer: Peer, seconds: float) -> Iterator[Figure]:
    with cast(peer, "config", CONFIG, readers=0, spare=1) as actors:
        actors.writer.ask(announce)
        actors.attach(actors.readers)
        if actors.readers[0].ask(can_wait):
            _, found = at_once(seconds, (actors.writer, publish_marked, ()), (actors.readers[0], await_each, ()))
            yield Figure(names.NOTICE, peer.name, "s", tuple(found))


# --------------------------------------------------------------------------------------------------------- in a child


def announce(held: Held) -> None:
    """Have each write wake the readers, if the peer does not anyway."""
    if hasattr(held.writer, "announce"):
        held.writer.announce()


def can_wait(held: Held) -> bool:
    """Tell whether the peer has a way to block until there is something new."""
    return hasattr(held.reader, "wait")


def publish_marked(held: Held, begin: float, seconds: float) -> None:
    """Publish in time; a float in the value says when the write began."""
    sleep_until(begin)
    for number in itertools.count(1):
        value = next(held.values)
        value[_MARK][1] = clock()
        held.writer.write(value)
        if clock() >= begin + seconds:
            return
        time.sleep(max(0.0, begin + number * _TICK - clock()))


def await_each(held: Held, begin: float, seconds: float) -> list[float]:
    """Wait for one version after the other; return how long before that each write had begun."""
    found = []
    wait, get = held.reader.wait, held.reader.get
    last = get()[_MARK][1]
    while clock() < begin + seconds:
        wait(_AT_MOST)
        now = clock()
        mark = get()[_MARK][1]
        if mark > max(last, begin + WARM_UP):
            found.append(now - mark)
        last = mark
    return found
