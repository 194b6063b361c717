"""Wait for the next version: in a thread, or in an event loop.

The functions work on a `VersionSource`, which the Reader is. One generator, `_rounds`, decides when to poll and when to
sleep; a thread and a coroutine run it, each with its own way to sleep.
"""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shmsync._handles.snapshot import T
from shmsync._session import notify_async
from shmsync._types import InstanceVersion
from shmsync._util.backoff import backoff
from shmsync._util.duration import seconds
from shmsync.errors import InvalidArgumentError, StateNotFoundError, UninitializedStateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from datetime import timedelta

    from shmsync._handles.snapshot import Snapshot
    from shmsync._session.state import Channel

_NO_INCARNATION = 0
_MAX_SLEEP = 1.0  # the delay until a removed name is noticed, or a writer that died before it notified
_MAX_SLEEP_ASYNC = 5.0  # the same in an event loop, where thousands may wait
_MAX_SLEEP_WITH_EVENT = 0.05  # the delay until a stop event is noticed


def absent_backoff() -> Iterator[float]:
    """Return the pauses in seconds between polls for a name that does not exist yet and so has no word to wait for."""
    return backoff(0.001, 0.02)


class Event(Protocol):
    """An event that ends a `watch`: of threading, multiprocessing or asyncio, or any object with `is_set`."""

    def is_set(self) -> bool:
        """Return whether to stop."""


class Newest(NamedTuple):
    """The newest version.

    Attributes:
        channel: the current incarnation.
        seq: the newest sequence number.
        word: the value of the version word to sleep on.
        returned: the newest sequence number of this incarnation that the reader has returned.
    """

    channel: Channel
    seq: int
    word: int
    returned: int


class VersionSource(Protocol[T]):
    """The interface that waiting needs from a reader."""

    def _newest(self) -> Newest | None:
        """Return the newest version of the current incarnation; None while nothing is published."""

    def _newest_after_sleep(self, slept: Newest) -> Newest | None:
        """Do as `_newest`, after a sleep on a word; a few steps if it is the same incarnation with a new version."""

    def _note_waited(self, seq: int) -> None:
        """Record that a wait has returned a sequence number."""

    def _read_now(self) -> Snapshot[T]:
        """Pin the newest version. Raises if nothing is published, without waiting."""


def wait(
    source: VersionSource[Any], since: InstanceVersion | int | None, timeout: float | timedelta | None
) -> int | None:
    """See `Reader.wait`."""
    return _run(_rounds(source, _Since(since), timeout, _MAX_SLEEP))


def watch(
    source: VersionSource[T],
    since: InstanceVersion | int | None,
    timeout: float | timedelta | None,
    stop_event: Event | None,
) -> Generator[Snapshot[T], None, None]:
    """See `Reader.watch`."""
    last = _Since(since)
    while _run(_rounds(source, last, timeout, _MAX_SLEEP, stop_event)) is not None:
        if (found := _read_if_published(source)) is not None:
            with found as snapshot:
                last.set(snapshot)
                yield snapshot


async def wait_async(
    source: VersionSource[Any], since: InstanceVersion | int | None, timeout: float | timedelta | None
) -> int | None:
    """See `Reader.wait_async`."""
    return await _run_async(_rounds(source, _Since(since), timeout, _MAX_SLEEP_ASYNC))


async def watch_async(
    source: VersionSource[T],
    since: InstanceVersion | int | None,
    timeout: float | timedelta | None,
    stop_event: Event | None,
) -> AsyncGenerator[Snapshot[T], None]:
    """See `Reader.watch_async`."""
    last = _Since(since)
    while await _run_async(_rounds(source, last, timeout, _MAX_SLEEP_ASYNC, stop_event)) is not None:
        if (found := _read_if_published(source)) is not None:
            with found as snapshot:
                last.set(snapshot)
                yield snapshot


def wake(channel: Channel) -> None:
    """Wake all waiters of a channel, in this process and in others; spurious wake-ups are harmless."""
    channel.notifier.futex.wake()
    notify_async.wake(channel)


class _Sleep(NamedTuple):
    """A sleep: while the version of a channel is `seen`, or without a channel for the whole timeout."""

    channel: Channel | None
    seen: int
    timeout: float


class _Since:
    """The version after which the caller waits."""

    __slots__ = ("_incarnation", "_seq")

    def __init__(self, since: InstanceVersion | int | None) -> None:
        self._incarnation: int | None = None  # None: the incarnation of the first poll
        self._seq: int | None = None  # None: the newest version that the handle has returned
        if since is not None:
            seq = since.seq if isinstance(since, InstanceVersion) else since
            if isinstance(seq, bool) or not hasattr(type(seq), "__index__"):
                raise InvalidArgumentError(f"since must be a version or a sequence number, not {since!r}")
            try:
                self._seq = operator.index(seq)
            except TypeError:  # an array of several numbers
                raise InvalidArgumentError("since must be a version or a single sequence number") from None

    def set(self, snapshot: Snapshot[Any]) -> None:
        """Wait from now on for another version than that of a snapshot."""
        self._incarnation, self._seq = snapshot._pinned.incarnation, snapshot.version.seq

    def end_incarnation(self) -> None:
        """Note that the incarnation has ended: every version of a later one is new."""
        self._incarnation = _NO_INCARNATION

    def is_past(self, incarnation: int, seq: int, last_returned: int) -> bool:
        """Return whether this is another version.

        Args:
            incarnation: incarnation of the newest version.
            seq: sequence number of the newest version.
            last_returned: the newest sequence number of this incarnation that the handle has returned.
        """
        if self._incarnation is None:
            self._incarnation = incarnation
        return seq != last_returned if self._seq is None else (incarnation, seq) != (self._incarnation, self._seq)


def _rounds(
    source: VersionSource[Any],
    since: _Since,
    timeout: float | timedelta | None,
    max_sleep: float,
    stop_event: Event | None = None,
) -> Generator[_Sleep, None, int | None]:
    """Yield each sleep to make; return the new sequence number, or None on timeout or stop."""
    if stop_event is not None and not hasattr(stop_event, "is_set"):
        raise InvalidArgumentError(f"stop_event must be an Event or another object with is_set(), not {stop_event!r}")
    deadline = float("inf") if timeout is None else time.monotonic() + seconds(timeout, "timeout")
    max_sleep = max_sleep if stop_event is None else _MAX_SLEEP_WITH_EVENT
    pauses = absent_backoff()
    newest = source._newest()
    while stop_event is None or not stop_event.is_set():
        if newest is None:
            since.end_incarnation()
        elif since.is_past(newest.channel.header.incarnation, newest.seq, newest.returned):
            source._note_waited(newest.seq)
            return newest.seq
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        if newest is None:
            yield _Sleep(None, 0, min(next(pauses), left))
            newest = source._newest()
        else:
            yield _Sleep(newest.channel, newest.word, min(max_sleep, newest.channel.MAX_SLEEP, left))
            newest = source._newest_after_sleep(newest)
    return None


def _read_if_published(source: VersionSource[T]) -> Snapshot[T] | None:
    """Read; return None if the name was removed since its version was seen."""
    try:
        return source._read_now()
    except (StateNotFoundError, UninitializedStateError):
        return None


def _run(rounds: Generator[_Sleep, None, int | None]) -> int | None:
    while True:
        try:
            channel, seen, timeout = next(rounds)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        if channel is None:
            time.sleep(timeout)
        else:
            channel.notifier.wait(seen, timeout)


async def _run_async(rounds: Generator[_Sleep, None, int | None]) -> int | None:
    while True:
        try:
            channel, seen, timeout = next(rounds)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        await notify_async.wait(channel, seen, timeout)
