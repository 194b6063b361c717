"""Waiting for the next version: in a thread, or in an event loop."""

from __future__ import annotations

import operator
import time
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol

from shmsync._core.layout import CLOSED, InstanceVersion
from shmsync._handles.snapshot import Snapshot, T
from shmsync._session import notify_async
from shmsync._util import duration
from shmsync.errors import InvalidArgumentError, StateNotFoundError, UninitializedStateError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from datetime import timedelta
    from threading import RLock

    from shmsync._session.attachment import Attachment
    from shmsync._session.state import Channel

_NO_LIFE = 0
_SLICE = 1.0  # of a wait: how late it is noticed that the name was removed, or that the writer died before it rang
_SLICE_ASYNC = 5.0  # likewise in an event loop, where thousands may wait
_SLICE_WITH_EVENT = 0.05  # likewise, that a stop event is set


def looks() -> Iterator[float]:
    """Return the pauses between looks for a name that is not there yet: it has no word to wait for."""
    return duration.pauses(0.001, 0.02)


class Event(Protocol):
    """What ends a `watch`: an Event of threading, multiprocessing or asyncio, or anything of that kind."""

    def is_set(self) -> bool:
        """Tell whether to stop."""


class _Pause(NamedTuple):
    """What to wait for: until the version of a channel is not `seen` any more; without a channel, just some time."""

    channel: Channel | None
    seen: int
    timeout: float


class _Since:
    """The version that another one is waited for."""

    __slots__ = ("_life", "_seq")

    def __init__(self, since: InstanceVersion | int | None) -> None:
        self._life: int | None = None  # which life of the name it belongs to: the present one when we first look
        self._seq: int | None = None  # without one: what the handle has returned
        if since is not None:
            try:
                self._seq = operator.index(since.seq if isinstance(since, InstanceVersion) else since)
            except TypeError:
                text = f"since must be a version or a sequence number, not {since!r}"
                raise InvalidArgumentError(text) from None

    def is_now(self, snapshot: Snapshot[Any]) -> None:
        """Wait from now on for another version than that of a snapshot."""
        self._life, self._seq = snapshot._record.life, snapshot.version.seq

    def is_over(self) -> None:
        """Note that its life has ended, which does not come back."""
        self._life = _NO_LIFE

    def is_past(self, life: int, seq: int, returned: int) -> bool:
        """Tell whether this is another version; `returned` is what the handle has returned of this life."""
        if self._life is None:
            self._life = life
        return seq != returned if self._seq is None else (life, seq) != (self._life, self._seq)


class Waiting(Generic[T]):
    """The part of a Reader that waits."""

    if TYPE_CHECKING:
        lock: RLock
        _attachment: Attachment | None
        _latest: tuple[Any, int, Any]
        _seen: int
        _waited: int

        def _read_now(self) -> Snapshot[T]: ...
        def _attached(self) -> Attachment: ...
        def _forget(self) -> None: ...

    def wait(self, since: InstanceVersion | int | None = None, timeout: float | timedelta | None = None) -> int | None:
        """Wait until another version is the newest one; return its sequence number, or None when the timeout is over.

        Waiting for a version takes no processor time. Versions in between may be skipped, the newest never is. It also
        waits for a name that is not there yet, and looks for it up to 50 times a second.

        Args:
            since: a version of the present life of the name, or its sequence number: wait for another one. By default,
                for one that this handle has not returned yet, by `get`, `read`, `wait` or `watch`; threads that share a
                handle should say which.
            timeout: in seconds or as a timedelta; None waits for ever.

        Raises:
            InvalidArgumentError: `since` is no version, or the timeout no duration.
            StateReadError, LayoutMismatchError: the name is taken by something that cannot be used.
            ClosedError: this handle is closed, or was closed meanwhile.
        """
        return _run(self._rounds(_Since(since), timeout, _SLICE))

    def watch(
        self,
        since: InstanceVersion | int | None = None,
        timeout: float | timedelta | None = None,
        stop_event: Event | None = None,
    ) -> Generator[Snapshot[T], None, None]:
        """Yield a Snapshot of each new version, open until the next turn of the loop.

        Raises what `wait` and `read` raise.

        Args:
            since: see `wait`: by default, the first turn has the newest version if this handle has not returned it.
            timeout: how long to wait for each, in seconds or as a timedelta, before the loop ends.
            stop_event: ends the loop within 50 ms once it is set.
        """
        seen = _Since(since)
        while _run(self._rounds(seen, timeout, _SLICE, stop_event)) is not None:
            if (found := self._read_if_there()) is not None:
                with found as snapshot:
                    seen.is_now(snapshot)
                    yield snapshot

    async def wait_async(
        self, since: InstanceVersion | int | None = None, timeout: float | timedelta | None = None
    ) -> int | None:
        """Wait as `wait` does, in a coroutine of asyncio; cancel it whenever you like.

        All waits of a process share one thread, which ends a second or two after the last of them.
        """
        return await _run_async(self._rounds(_Since(since), timeout, _SLICE_ASYNC))

    async def watch_async(
        self,
        since: InstanceVersion | int | None = None,
        timeout: float | timedelta | None = None,
        stop_event: Event | None = None,
    ) -> AsyncGenerator[Snapshot[T], None]:
        """Yield a Snapshot of each new version, as `watch` does; for `async for` under asyncio."""
        seen = _Since(since)
        while await _run_async(self._rounds(seen, timeout, _SLICE_ASYNC, stop_event)) is not None:
            if (found := self._read_if_there()) is not None:
                with found as snapshot:
                    seen.is_now(snapshot)
                    yield snapshot

    # ---------------------------------------------------------------------------------------------------- the rounds

    def _rounds(
        self,
        since: _Since,
        timeout: float | timedelta | None,
        longest: float,
        stop_event: Event | None = None,
    ) -> Generator[_Pause, None, int | None]:
        """Yield each pause that is to be made; return the sequence number that was waited for."""
        if stop_event is not None and not hasattr(stop_event, "is_set"):
            raise InvalidArgumentError(f"stop_event must be an Event, not {stop_event!r}")
        deadline = float("inf") if timeout is None else time.monotonic() + duration.seconds(timeout, "timeout")
        longest = longest if stop_event is None else _SLICE_WITH_EVENT
        pauses = looks()
        while stop_event is None or not stop_event.is_set():
            found = self._newest()
            if found is None:
                since.is_over()
            elif since.is_past(found[0].header.instance, found[1], self._handed_out()):
                self._waited = found[1]
                return self._waited
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if found is None:
                yield _Pause(None, 0, min(next(pauses), left))
            else:
                yield _Pause(*found, min(longest, left))
                self._drop_if_removed(*found)
        return None

    def _read_if_there(self) -> Snapshot[T] | None:
        """Read; None if the name was removed since its version was seen."""
        try:
            return self._read_now()
        except (StateNotFoundError, UninitializedStateError):
            return None

    def _newest(self) -> tuple[Channel, int] | None:
        """Return the present life of the name and its newest sequence number; None while nothing is published."""
        with self.lock:
            try:
                channel = self._attached().channel
            except (StateNotFoundError, UninitializedStateError):
                return None
            seq = channel.version.load()
            if seq == CLOSED:
                self._forget()
            return None if seq in {0, CLOSED} else (channel, seq)

    def _handed_out(self) -> int:
        """Return the newest sequence number of this life that this handle has returned."""
        return max(self._latest[1], self._seen, self._waited)

    @staticmethod
    def _stir(channel: Channel) -> None:
        """Have whoever waits look up; nobody minds being woken for nothing."""
        channel.bell.futex.wake()
        notify_async.stir(channel)

    def _drop_if_removed(self, channel: Channel, seen: int) -> None:
        """After a pause in which nothing was published, see whether the name was removed from outside."""
        if channel.version.peek() == seen and not channel.is_current():
            with self.lock:
                self._forget()


def _run(rounds: Generator[_Pause, None, int | None]) -> int | None:
    while True:
        try:
            channel, seen, timeout = next(rounds)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        if channel is None:
            time.sleep(timeout)
        else:
            channel.bell.wait(seen, timeout)


async def _run_async(rounds: Generator[_Pause, None, int | None]) -> int | None:
    while True:
        try:
            channel, seen, timeout = next(rounds)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        await notify_async.pause(channel, seen, timeout)
