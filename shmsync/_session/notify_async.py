"""Where the coroutines of a process wait: one thread sleeps for all of them.

It sleeps on the version words of all channels that somebody waits for, and on a word of its own, which changes when
somebody comes. It is started by the first, and ends a second or two after the last has gone.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._shm import fork, futex

if TYPE_CHECKING:
    from collections.abc import Hashable

    from shmsync._session.state import Channel

_MOST_WORDS = futex.MOST_AT_ONCE - 1
_SLICE = 1.0
_LINGER = 1.0  # before the thread ends: a watcher goes after each version, to come back at once
_POLL = 0.005
"""Seconds between two looks, where the kernel cannot wait for several words, or not for so many."""


class _Waiter:
    """A coroutine that waits."""

    __slots__ = ("future", "loop", "seen")

    def __init__(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        self.loop = loop
        self.seen = seen
        self.future: asyncio.Future[None] = loop.create_future()

    def call(self) -> None:
        with suppress(RuntimeError):  # its loop was closed
            self.loop.call_soon_threadsafe(self.resolve)

    def resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Place:
    """The waiters of one life of a name."""

    __slots__ = ("channel", "seen", "waiters")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.waiters: set[_Waiter] = set()
        self.seen = -1
        """What the thread sleeps on."""


class _Hub:
    def __init__(self) -> None:
        self._reset()
        fork.register(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[Hashable, _Place] = {}
        self._left: deque[tuple[Hashable, _Waiter]] = deque()
        self._stirred: deque[Hashable] = deque()
        self._thread: threading.Thread | None = None
        self._comings = bytearray(8)
        self._counter = itertools.count(1)
        self._door = futex.Futex(self._comings, 0)

    def enter(self, channel: Channel, waiter: _Waiter) -> None:
        """Begin to wait."""
        with self._lock:
            self._catch_up()
            place = self._places.get(channel.key)
            if place is None:
                place = self._places[channel.key] = _Place(channel)
            place.waiters.add(waiter)
            if place.seen != waiter.seen:
                self._count_coming()
            if self._thread is None or not self._thread.is_alive():  # a signal handler may have interrupted its start
                self._thread = threading.Thread(target=self._run, name="shmsync-hub", daemon=True)
                self._thread.start()

    def leave(self, channel: Channel, waiter: _Waiter) -> None:
        """Wait no more."""
        self._left.append((channel.key, waiter))

    def stir(self, channel: Channel) -> None:
        """Have all who wait for a channel called."""
        if channel.key in self._places:
            self._stirred.append(channel.key)
            self._count_coming()

    def _catch_up(self) -> None:
        """Do what others have left to whoever has the lock.

        Signal handlers and the garbage collector run in the middle of anything, also of what their thread does under
        the lock; there they close handles and coroutines. So `leave` and `stir` never ask for it.
        """
        while self._stirred:
            place = self._places.get(self._stirred.popleft())
            for waiter in () if place is None else place.waiters:
                waiter.call()
        while self._left:
            key, waiter = self._left.popleft()
            if key in self._places:
                self._places[key].waiters.discard(waiter)

    def _count_coming(self) -> None:
        self._comings[:] = next(self._counter).to_bytes(8, sys.byteorder)  # never twice the same, without a lock
        self._door.wake()

    def _run(self) -> None:
        last = 0.0
        while True:
            now = time.monotonic()
            with self._lock:
                self._catch_up()
                if self._places:
                    last = now
                elif now - last >= _LINGER:
                    self._thread = None
                    return
                comings = int.from_bytes(self._comings, sys.byteorder)
                words = self._look()
            self._sleep([(self._door, comings), *words[:_MOST_WORDS]], len(words))

    def _look(self) -> list[tuple[futex.Futex, int]]:
        """Return what to sleep on; forget the places where nobody waits any more: who comes there rings."""
        words = []
        for key, place in list(self._places.items()):
            word = self._look_at(place)
            if word is None:
                del self._places[key]
            else:
                words.append(word)
        return words

    @staticmethod
    def _look_at(place: _Place) -> tuple[futex.Futex, int] | None:
        """Call the waiters for whom the version has changed; return what to sleep on for the others."""
        while True:
            seen = place.seen = place.channel.version.load()
            gone = {waiter for waiter in place.waiters if waiter.seen != seen or waiter.loop.is_closed()}
            place.waiters -= gone
            for waiter in gone:
                waiter.call()
            if not place.waiters:
                return None
            if place.channel.bell.expect(seen):
                return place.channel.bell.futex, seen

    @staticmethod
    def _sleep(words: list[tuple[futex.Futex, int]], wanted: int) -> None:
        if not futex.MANY_AVAILABLE:
            time.sleep(_POLL)
        else:
            futex.wait_for_any(words, _POLL if wanted > _MOST_WORDS else _SLICE)

    def before_fork(self) -> None:
        """Nothing to prepare."""

    def after_fork_in_child(self) -> None:
        """Begin anew: the thread is the parent's, and so is who waits."""
        self._reset()


_hub = _Hub()


def stir(channel: Channel) -> None:
    """Have all coroutines that wait for a channel look up."""
    _hub.stir(channel)


async def pause(channel: Channel | None, seen: int, timeout: float) -> None:
    """Wait until the version of a channel is not `seen` any more, or for some time. May return early."""
    if channel is None:
        await asyncio.sleep(timeout)
        return
    waiter = _Waiter(asyncio.get_running_loop(), seen)
    timer = waiter.loop.call_later(timeout, waiter.resolve)
    try:
        _hub.enter(channel, waiter)
        await waiter.future
    finally:
        timer.cancel()
        _hub.leave(channel, waiter)
