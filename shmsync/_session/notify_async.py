"""Waiting in asyncio: a thread sleeps for all coroutines of the process, or one for every 127 names.

Under gevent and eventlet, where a thread is a greenlet, and where no thread can be started, each coroutine polls.

A thread sleeps on the version words of the channels that have subscribers there, and on a word of its own, which
changes when a coroutine subscribes. The first subscriber starts it; it ends a second or two after the last has
unsubscribed, or at once if the process forks: see `shmsync._shm.fork`.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._shm import fork, futex, hub
from shmsync._util.backoff import backoff

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

    from shmsync._session.state import Channel

MAX_NAMES = futex.MAX_WORDS - 1
"""How many names one thread serves. It can sleep on no more; beyond that, as after a race of two event loops, it polls.
"""
_MAX_SLEEP = 1.0
_LINGER = 1.0  # before the thread ends: a watcher unsubscribes after each version and subscribes again at once
_LOCK_TIMEOUT, _STOP_TIMEOUT = 0.1, 1.0  # how long a fork waits for a thread that should end
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
    """A thread, and the names that it serves."""

    def __init__(self) -> None:
        self._reset()
        fork.call_after(self)
        fork.stop_before(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: dict[Hashable, _Subscription] = {}
        self._unsubscribed: deque[tuple[Hashable, _Waiter]] = deque()
        self._woken: deque[Hashable] = deque()
        self._thread: threading.Thread | None = None
        self._wakeups = bytearray(8)
        self._counter = itertools.count(1)
        self._wake_futex = futex.Futex(self._wakeups, 0)

    def has_room(self) -> bool:
        """Return whether the thread could sleep on one more name."""
        return len(self._subscriptions) < MAX_NAMES or not futex.MANY_AVAILABLE  # then it polls for any number

    def serves(self, channel: Channel) -> bool:
        """Return whether the thread sleeps on this name, or is about to."""
        return channel.key in self._subscriptions

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
                if self._thread is not threading.current_thread():
                    return
                self._process_queues()
                if self._subscriptions:
                    last = now
                elif now - last >= _LINGER:
                    self._thread = None
                    return
                wakeups = int.from_bytes(self._wakeups, sys.byteorder)
                words = self._poll()
                longest = min((each.channel.MAX_SLEEP for each in self._subscriptions.values()), default=_MAX_SLEEP)
            self._sleep([(self._wake_futex, wakeups), *words[:MAX_NAMES]], len(words), longest)

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
        longest = _POLL_INTERVAL if wanted > MAX_NAMES else min(longest, _MAX_SLEEP)
        if not futex.MANY_AVAILABLE or not futex.wait_for_any(words, longest):
            time.sleep(_POLL_INTERVAL)

    def stop_before_fork(self) -> None:
        """End the thread if no coroutine waits. Idempotent."""
        thread = self._thread
        # The lock may be held by this thread, if a signal handler forks.
        if thread in {None, threading.current_thread()} or not self._lock.acquire(timeout=_LOCK_TIMEOUT):
            return
        try:
            self._process_queues()
            if self._poll():
                return
            self._thread = None
        finally:
            self._lock.release()
        self._wake_thread()
        _wait_until_gone(thread)

    def after_fork_in_child(self) -> None:
        """Reset: thread and waiters belong to the parent."""
        self._reset()


def _wait_until_gone(thread: threading.Thread) -> None:
    """Wait until the kernel has no such thread any more, too: Python counts these when it forks."""
    deadline = time.monotonic() + _STOP_TIMEOUT
    if thread.is_alive():  # not if a signal handler has interrupted its start
        thread.join(_STOP_TIMEOUT)
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.0001)


_pollers = [_Poller()]


def _poller_for(channel: Channel) -> _Poller:
    """Return the poller that serves a name already, else the first that has room.

    Two threads may get different ones for the same name, which costs a word, or the same one for too many names: see
    `MAX_NAMES`.
    """
    found = [each for each in _pollers if each.serves(channel)] or [each for each in _pollers if each.has_room()]
    if not found:
        found = [_Poller()]
        _pollers.extend(found)
    return found[0]


def wake(channel: Channel) -> None:
    """Wake all coroutines that wait for a channel."""
    for poller in _pollers:
        poller.wake(channel)


async def wait(channel: Channel | None, seen: int, timeout: float) -> None:
    """Wait while the version of a channel is `seen`, for at most `timeout` seconds. May return early.

    Without a channel it only sleeps.
    """
    import asyncio  # noqa: PLC0415 - slow to import; where a coroutine runs, it has been imported

    if channel is None:
        await asyncio.sleep(timeout)
        return
    if hub.is_patched():
        await _poll(channel, seen, timeout)
        return
    fork.check()
    waiter = _Waiter(asyncio.get_running_loop(), seen)
    timer = waiter.loop.call_later(timeout, waiter.resolve)
    poller = _poller_for(channel)
    try:
        if poller.subscribe(channel, waiter):
            await waiter.future
        else:
            await _poll(channel, seen, timeout)
    finally:
        timer.cancel()
        poller.unsubscribe(channel, waiter)


async def _poll(channel: Channel, seen: int, timeout: float) -> None:
    """Wait without a thread."""
    import asyncio  # noqa: PLC0415 - as in `wait`

    deadline = time.monotonic() + timeout
    pauses = backoff(_MIN_POLL, _MAX_POLL)
    while channel.version.load_relaxed() == seen and (left := deadline - time.monotonic()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(next(pauses), left))  # not an event: another process publishes
