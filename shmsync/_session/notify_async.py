"""Waiting in asyncio: one thread per process sleeps for all coroutines.

Under gevent and eventlet, where a thread is a greenlet, and where no thread can be started, each coroutine polls.

The thread sleeps on the version words of all channels that have subscribers, and on a word of its own, which changes
when a coroutine subscribes. The first subscriber starts it; it ends a second or two after the last has unsubscribed.
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

from shmsync._shm import fork, futex, hub
from shmsync._util.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Hashable

    from shmsync._session.state import Channel

_MAX_VERSION_WORDS = futex.MAX_WORDS - 1
_MAX_SLEEP = 1.0
_LINGER = 1.0  # before the thread ends: a watcher unsubscribes after each version and subscribes again at once
_MIN_POLL, _MAX_POLL = 0.0005, 0.01  # between two polls of a coroutine that no thread serves
_POLL_INTERVAL = 0.005
"""Seconds between two polls where the kernel cannot wait for several words, or not for that many."""


class _Waiter:
    """A coroutine that waits."""

    __slots__ = ("future", "loop", "seen")

    def __init__(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        self.loop = loop
        self.seen = seen
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        with suppress(RuntimeError):  # its loop was closed
            self.loop.call_soon_threadsafe(self.resolve)

    def resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Subscription:
    """The waiters of one incarnation of a name."""

    __slots__ = ("channel", "seen", "waiters")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.waiters: set[_Waiter] = set()
        self.seen = -1
        """The version that the thread sleeps on."""


class _Poller:
    def __init__(self) -> None:
        self._reset()
        fork.call_after(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[Hashable, _Subscription] = {}
        self._unsubscribed: deque[tuple[Hashable, _Waiter]] = deque()
        self._woken: deque[Hashable] = deque()
        self._thread: threading.Thread | None = None
        self._wakeups = bytearray(8)
        self._counter = itertools.count(1)
        self._wake_futex = futex.Futex(self._wakeups, 0)

    def subscribe(self, channel: Channel, waiter: _Waiter) -> bool:
        """Start to wait; return False if no thread can be started."""
        with self._lock:
            self._process_queues()
            subscription = self._subscriptions.get(channel.key)
            if subscription is None:
                subscription = self._subscriptions[channel.key] = _Subscription(channel)
            subscription.waiters.add(waiter)
            if subscription.seen != waiter.seen:
                self._wake_thread()
            # Not alive: a signal handler may have interrupted its start.
            if (self._thread is not None and self._thread.is_alive()) or self._start_thread():
                return True
            self._subscriptions.clear()  # nobody serves them; their waiters time out, and then poll
            return False

    def _start_thread(self) -> bool:
        self._thread = threading.Thread(target=self._run, name="shmsync-poller", daemon=True)
        try:
            self._thread.start()
        except (RuntimeError, MemoryError):  # a limit on threads or memory, or the interpreter is shutting down
            self._thread = None
            return False
        return True

    def unsubscribe(self, channel: Channel, waiter: _Waiter) -> None:
        """Stop waiting."""
        self._unsubscribed.append((channel.key, waiter))

    def wake(self, channel: Channel) -> None:
        """Wake all waiters of a channel."""
        if channel.key in self._subscriptions:
            self._woken.append(channel.key)
            self._wake_thread()

    def _process_queues(self) -> None:
        """Handle what `unsubscribe` and `wake` have queued. Call under the lock.

        Signal handlers and the garbage collector may close handles and coroutines between any two instructions, even
        while their own thread holds the lock. So `unsubscribe` and `wake` must not take it.
        """
        while self._woken:
            subscription = self._subscriptions.get(self._woken.popleft())
            for waiter in () if subscription is None else subscription.waiters:
                waiter.wake()
        while self._unsubscribed:
            key, waiter = self._unsubscribed.popleft()
            if key in self._subscriptions:
                self._subscriptions[key].waiters.discard(waiter)

    def _wake_thread(self) -> None:
        self._wakeups[:] = next(self._counter).to_bytes(8, sys.byteorder)  # never the same twice, without a lock
        self._wake_futex.wake()

    def _run(self) -> None:
        last = 0.0
        while True:
            now = time.monotonic()
            with self._lock:
                self._process_queues()
                if self._subscriptions:
                    last = now
                elif now - last >= _LINGER:
                    self._thread = None
                    return
                wakeups = int.from_bytes(self._wakeups, sys.byteorder)
                words = self._poll()
                longest = min((each.channel.MAX_SLEEP for each in self._subscriptions.values()), default=_MAX_SLEEP)
            self._sleep([(self._wake_futex, wakeups), *words[:_MAX_VERSION_WORDS]], len(words), longest)

    def _poll(self) -> list[tuple[futex.Futex, int]]:
        """Return what to sleep on; drop subscriptions without waiters: the next subscriber wakes the thread."""
        words = []
        for key, subscription in list(self._subscriptions.items()):
            word = self._poll_one(subscription)
            if word is None:
                del self._subscriptions[key]
            else:
                words.append(word)
        return words

    @staticmethod
    def _poll_one(subscription: _Subscription) -> tuple[futex.Futex, int] | None:
        """Wake the waiters whose version has changed; return what to sleep on for the others."""
        while True:
            seen = subscription.seen = subscription.channel.version.load()
            done = {waiter for waiter in subscription.waiters if waiter.seen != seen or waiter.loop.is_closed()}
            subscription.waiters -= done
            for waiter in done:
                waiter.wake()
            if not subscription.waiters:
                return None
            if subscription.channel.notifier.arm(seen):
                return subscription.channel.notifier.futex, seen

    @staticmethod
    def _sleep(words: list[tuple[futex.Futex, int]], wanted: int, longest: float) -> None:
        longest = _POLL_INTERVAL if wanted > _MAX_VERSION_WORDS else min(longest, _MAX_SLEEP)
        if not futex.MANY_AVAILABLE or not futex.wait_for_any(words, longest):
            time.sleep(_POLL_INTERVAL)

    def after_fork_in_child(self) -> None:
        """Reset: thread and waiters belong to the parent."""
        self._reset()


_poller = _Poller()


def wake(channel: Channel) -> None:
    """Wake all coroutines that wait for a channel."""
    _poller.wake(channel)


async def wait(channel: Channel | None, seen: int, timeout: float) -> None:
    """Wait while the version of a channel is `seen`, for at most `timeout` seconds. May return early.

    Without a channel it only sleeps.
    """
    if channel is None:
        await asyncio.sleep(timeout)
        return
    if hub.is_patched():
        await _poll(channel, seen, timeout)
        return
    fork.check()
    waiter = _Waiter(asyncio.get_running_loop(), seen)
    timer = waiter.loop.call_later(timeout, waiter.resolve)
    try:
        if _poller.subscribe(channel, waiter):
            await waiter.future
        else:
            await _poll(channel, seen, timeout)
    finally:
        timer.cancel()
        _poller.unsubscribe(channel, waiter)


async def _poll(channel: Channel, seen: int, timeout: float) -> None:
    """Wait without a thread."""
    deadline = time.monotonic() + timeout
    pauses = backoff(_MIN_POLL, _MAX_POLL)
    while channel.version.load_relaxed() == seen and (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(next(pauses), left))  # not an event: another process publishes
