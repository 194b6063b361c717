"""`wait` and `watch`, in threads and in coroutines: they never miss the newest version, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
import uvloop
from helpers import SHM, TIMEOUT, Child, State, is_asleep, until

from shmsync import (
    ClosedError,
    InvalidArgumentError,
    Reader,
    Snapshot,
    StateNotFoundError,
    Writer,
)
from shmsync._core.layout import WAITERS_AT
from shmsync._handles import waiting
from shmsync._session import notify, notify_async
from shmsync._shm import fork, futex

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from shmsync import InstanceVersion

    Action = Literal["always", "error"]

uvloop.new_event_loop().close()  # it opens a pipe for signals, which stays open until the process exits

LONG = 10 * TIMEOUT
"""Longer than any test may take, in seconds: a wait polls when it times out, which must not hide a lost wake-up."""

pytestmark = pytest.mark.timeout(3 * TIMEOUT)

NO_FUTEX = {"AVAILABLE": False, "MANY_AVAILABLE": False, "_call": None}
WITHOUT: dict[str, dict[str, Any]] = {"futex": {}, "polling": NO_FUTEX}


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep the poller thread running during the test, however slow it is, and stop it right afterwards."""
    monkeypatch.setattr(notify_async, "_LINGER", LONG)
    yield
    monkeypatch.setattr(notify_async, "_LINGER", 0.0)
    for poller in notify_async._pollers:
        poller._wake_thread()
    until(lambda: not any(thread.name == "shmsync-poller" for thread in threading.enumerate()))


@pytest.fixture(autouse=True)
def _disabled_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    disable_polling(monkeypatch.setattr)


def disable_polling(assign: Any = setattr) -> None:
    """Make regular polls so rare that they hide no lost wake-up."""
    for slices in ("_MAX_SLEEP", "_MAX_SLEEP_ASYNC"):
        assign(waiting, slices, LONG)


@pytest.fixture(params=WITHOUT)
def _either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with futexes and without them."""
    for flag, value in WITHOUT[request.param].items():
        monkeypatch.setattr(futex, flag, value)


@contextmanager
def soon(act: Any) -> Iterator[None]:
    """Call a function in another thread once this thread waits, in a call or in an event loop."""
    waiter = threading.get_ident()
    errors: list[BaseException] = []

    def later() -> None:
        try:
            until(lambda: is_poller_asleep() or is_in_wait(waiter))
            act()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        yield
    finally:
        thread.join(TIMEOUT)
    assert not errors, errors


def is_in_wait(thread: int) -> bool:
    """Return whether a thread of this process is inside `wait` or `watch`, asleep or about to be."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not waiting._run.__code__:
        frame = frame.f_back
    return frame is not None


def has_waiters(name: str) -> bool:
    """Return whether a reader sleeps on a name, or is about to."""
    return bool((SHM / f"{name}_readers").read_bytes()[WAITERS_AT])


async def until_async(condition: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.002)


def is_poller_asleep() -> bool:
    """Return whether the poller thread is asleep on a name."""
    thread = notify_async._pollers[0]._thread
    number = None if thread is None else thread.native_id
    return bool(notify_async._pollers[0]._subscriptions) and number is not None and is_asleep(os.getpid(), number)


# ------------------------------------------------------------------------------------------------------------- wait


@pytest.mark.usefixtures("_either_way")
def test_wait_for_another_version(writer: Writer, name: str) -> None:
    writer.write("a")
    with Reader[str](name) as reader:
        assert reader.wait() == 1  # not returned yet
        with soon(lambda: writer.write("b")):
            assert reader.wait(timeout=LONG) == 2
        assert reader.get() == "b"
        assert reader.wait(timeout=0) is None
        assert reader.wait(timeout=0.02) is None
        with soon(lambda: writer.write("c")):
            assert reader.wait(2, timeout=LONG) == 3


def test_wait_ignores_a_version_that_the_handle_has_returned(writer: Writer, name: str) -> None:
    writer.write("a")
    with Reader[str](name) as reader:
        reader.get()
        assert reader.wait(timeout=0) is None
        second = writer.write("b").version
        with reader.read() as snapshot:
            assert snapshot.version == second
        assert reader.wait(timeout=0) is None
        writer.write("c")
        assert reader.wait(timeout=0) == 3
        assert reader.wait(timeout=0) is None


def test_since_a_version(writer: Writer, name: str) -> None:
    first: InstanceVersion = writer.write("a").version
    with Reader[str](name) as reader:
        assert reader.wait(first, timeout=0) is None
        assert reader.wait(first.seq, timeout=0) is None
        writer.write("b")
        assert reader.wait(first, timeout=0) == 2
        assert reader.wait(first, timeout=0) == 2  # independent of what it has returned


@pytest.mark.parametrize(("since", "timeout"), [("1", None), (1.5, None), (None, -1), (None, "soon")])
def test_bad_arguments(writer: Writer, name: str, since: Any, timeout: Any) -> None:
    writer.write("a")
    with Reader[str](name) as reader, pytest.raises(InvalidArgumentError):
        reader.wait(since, timeout)


def test_a_bad_stop_event(writer: Writer, name: str) -> None:
    writer.write("a")
    event: Any = 1
    with Reader[str](name) as reader, pytest.raises(InvalidArgumentError, match="must be an Event"):
        next(iter(reader.watch(stop_event=event)))


@pytest.mark.usefixtures("_either_way")
def test_wait_for_a_name_that_does_not_exist_yet(writer: Writer, name: str) -> None:
    with Reader[str](name) as reader:
        assert reader.wait(timeout=0.02) is None
        with soon(lambda: writer.write("a")):
            assert reader.wait(timeout=LONG) == 1


def test_a_name_without_a_version_is_poller_asleep(writer: Writer, name: str) -> None:
    with Reader[bytes](name) as reader, writer.reserve(1):
        assert reader.wait(timeout=0.02) is None


@pytest.mark.usefixtures("_either_way")
def test_wait_returns_for_a_new_incarnation(writer: Writer, name: str) -> None:
    writer.write("a")
    with Reader[str](name) as reader:
        assert reader.wait() == 1

        def recreate() -> None:
            writer.unlink()
            until(lambda: reader._attachment is None)  # it waits for a name that does not exist
            writer.write("b")

        with soon(recreate):
            assert reader.wait(timeout=LONG) == 1  # the first version of the new incarnation
        assert reader.get() == "b"


@pytest.mark.parametrize("since", [None, 1])
def test_watch_yields_the_same_number_in_a_new_incarnation(writer: Writer, name: str, since: int | None) -> None:
    writer.write("old")
    with Reader[str](name) as reader:
        seen = []
        for snapshot in reader.watch(since=0, timeout=LONG):
            seen.append((snapshot.version.seq, snapshot.value))
            if len(seen) == 2:
                break
            writer.unlink()
            writer.write("new")
        assert seen == [(1, "old"), (1, "new")]

        def recreate() -> None:
            writer.unlink()
            writer.write("newer")

        with soon(recreate):
            assert reader.wait(since, timeout=LONG) == 1
        assert reader.get() == "newer"


def test_lack_of_descriptors_does_not_detach(writer: Writer, name: str) -> None:
    writer.write("a")
    with Child() as child:
        assert child.call(wait_without_descriptors, name) == (None, "a")


def wait_without_descriptors(_state: State, name: str) -> tuple[int | None, str]:
    waiting._MAX_SLEEP = 0.02
    with Reader[str](name) as reader:
        reader.get()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        return reader.wait(timeout=0.1), reader.get()


def test_a_removal_without_a_writer_wakes(writer: Writer, name: str) -> None:
    writer.write("a")
    writer.close()
    with Writer(name) as another, Reader[str](name) as reader:
        assert reader.wait() == 1

        def recreate() -> None:
            another.unlink()  # it never wrote, so it knows only the name
            another.write("b")

        with soon(recreate):
            assert reader.wait(timeout=LONG) == 1
        another.unlink()


def test_a_name_removed_from_outside_is_noticed(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_MAX_SLEEP", 0.05)
    writer.write("a")
    with Reader[str](name) as reader:
        assert reader.wait() == 1

        def replace() -> None:
            for segment in SHM.glob(f"{name}_*"):
                segment.unlink()
            with Writer(name) as another:
                another.write("b")

        with soon(replace):
            assert reader.wait(timeout=LONG) == 1
        assert reader.get() == "b"
    writer.close()


def test_a_writer_that_died_before_it_notified(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_MAX_SLEEP", 0.05)
    monkeypatch.setattr(notify.Notifier, "notify", lambda *_args, **_kwargs: None)
    writer.write("a")
    with Reader[str](name) as reader:
        assert reader.wait() == 1
        with soon(lambda: writer.write("b")):
            assert reader.wait(timeout=LONG) == 2


def test_a_writer_killed_while_others_wait_is_followed(name: str) -> None:
    with Child() as first, Reader[int](name) as reader:
        first.call(publish, name, 1)
        assert reader.wait() == 1
        first.kill()
        with Writer(name) as successor:
            with soon(lambda: successor.write(2)):
                assert reader.wait(timeout=LONG) == 2
            successor.unlink()


def publish(state: State, name: str, value: int) -> None:
    state.writer = Writer(name)
    state.writer.write(value)


@pytest.mark.usefixtures("_either_way")
def test_close_ends_a_wait(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The wake-up may come just before the sleep, and without futexes there is none.
    monkeypatch.setattr(waiting, "_MAX_SLEEP", 5.0 if futex.AVAILABLE else 0.1)
    writer.write("a")
    reader = Reader[str](name)
    reader.get()
    with soon(reader.close), pytest.raises(ClosedError):
        reader.wait(timeout=LONG)
    with pytest.raises(ClosedError):
        reader.wait(timeout=0)


def test_an_interrupt_ends_a_wait(writer: Writer, name: str) -> None:
    writer.write("a")
    with Child() as child:
        child.send(wait_until_interrupted, name)
        until(lambda: has_waiters(name) and is_asleep(child.pid))
        os.kill(child.pid, signal.SIGINT)
        assert child.receive() == "interrupted"


def wait_until_interrupted(_state: State, name: str) -> str:
    with Reader[str](name) as reader:
        reader.get()
        try:
            reader.wait()
        except KeyboardInterrupt:
            return "interrupted"
    return "woken"


def test_a_signal_does_not_end_a_wait(writer: Writer, name: str, tmp_path: Path) -> None:
    writer.write("a")
    handled = tmp_path / "handled"
    with Child() as child:
        child.send(wait_with_a_handler, name, handled)
        until(lambda: has_waiters(name) and is_asleep(child.pid))
        os.kill(child.pid, signal.SIGUSR1)
        until(handled.exists)
        until(lambda: is_asleep(child.pid))
        assert not child.has_result()
        writer.write("b")
        assert child.receive() == 2


def wait_with_a_handler(_state: State, name: str, handled: Path) -> int | None:
    signal.signal(signal.SIGUSR1, lambda *_: handled.touch())
    with Reader[str](name) as reader:
        reader.get()
        return reader.wait(timeout=LONG)


def test_waiting_uses_no_cpu_time(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sleeps once for the whole timeout, and a second time if the kernel woke it slightly early."""
    sleeps: list[float] = []
    wait = futex.Futex.wait

    def counted(self: futex.Futex, seen: int, timeout: float) -> bool:
        sleeps.append(timeout)
        return wait(self, seen, timeout)

    monkeypatch.setattr(futex.Futex, "wait", counted)
    writer.write("a")
    with Reader[str](name) as reader:
        reader.get()
        assert reader.wait(timeout=0.2) is None
    assert 1 <= len(sleeps) <= 2
    assert sleeps[0] > 0.1


def test_a_writer_without_waiters_makes_no_system_call(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    wake = futex.Futex.wake

    def counted(self: futex.Futex) -> None:
        calls.append(1)
        wake(self)

    monkeypatch.setattr(futex.Futex, "wake", counted)
    for number in range(3):
        writer.write(number)
    assert not calls
    with Reader[int](name) as reader:
        reader.get()

        def write_once_awaited() -> None:
            until(lambda: has_waiters(name))
            writer.write(9)

        with soon(write_once_awaited):
            assert reader.wait(timeout=LONG) == 4
        writer.write(10)  # may clear `waiters` with one call
        count = len(calls)
        assert count
        writer.write(11)
        assert len(calls) == count


# ------------------------------------------------------------------------------------------------------------ watch


def test_watch_yields_each_version_that_is_newest(writer: Writer, name: str) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        seen = []
        for snapshot in reader.watch(timeout=LONG):
            assert not snapshot.closed
            seen.append(snapshot.value)
            if len(seen) == 4:
                break
            writer.write(len(seen))
        assert seen == [0, 1, 2, 3]
        assert list(reader.watch(timeout=0.01)) == []


@pytest.mark.usefixtures("_either_way")
def test_the_newest_is_never_skipped(writer: Writer, name: str) -> None:
    last = 3000
    writer.write(0)

    def publish_all() -> None:
        for number in range(1, last + 1):
            writer.write(number)

    with Reader[int](name) as reader, soon(publish_all):
        seen = []
        for snapshot in reader.watch(timeout=LONG):
            seen.append(snapshot.value)
            if snapshot.value == last:
                break
    assert seen == sorted(set(seen))


def test_a_name_removed_before_it_was_read(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        read, removed = reader._read_now, threading.Event()

        def read_too_late() -> Snapshot[int]:
            monkeypatch.undo()
            writer.unlink()
            removed.set()
            return read()

        monkeypatch.setattr(reader, "_read_now", read_too_late)
        with soon(lambda: removed.wait(LONG) and writer.write(1)):
            assert next(iter(reader.watch(timeout=LONG))).value == 1


def test_an_error_thrown_into_watch_comes_back(writer: Writer, name: str) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        watch = reader.watch()
        assert isinstance(watch, Generator)
        snapshot = next(watch)
        with pytest.raises(StateNotFoundError, match="of another name"):
            watch.throw(StateNotFoundError("of another name"))
        assert snapshot.closed


def test_a_stop_event_ends_watch(writer: Writer, name: str) -> None:
    writer.write(0)
    stop = threading.Event()
    with Reader[int](name) as reader, soon(stop.set):
        assert [snapshot.value for snapshot in reader.watch(stop_event=stop)] == [0]


def test_threads_that_share_a_handle_see_every_version(writer: Writer, name: str) -> None:
    writer.write(0)
    found: list[list[int]] = [[], []]
    with Reader[int](name) as reader:

        def follow(seen: list[int]) -> None:
            for snapshot in reader.watch(since=0, timeout=LONG):
                seen.append(snapshot.value)
                if snapshot.value == 5:
                    return

        def all_have_seen(value: int) -> bool:
            return all(seen and seen[-1] == value for seen in found)

        threads = [threading.Thread(target=follow, args=(seen,)) for seen in found]
        for thread in threads:
            thread.start()
        for number in range(1, 6):
            until(partial(all_have_seen, number - 1))
            writer.write(number)
        for thread in threads:
            thread.join(TIMEOUT)
    assert found == [[0, 1, 2, 3, 4, 5]] * 2


# ---------------------------------------------------------------------------------------------------------- asyncio


POLLERS: dict[str, dict[str, Any]] = {
    "futex_waitv": {},
    "one word at a time": {"MANY_AVAILABLE": False},
    "no futex": NO_FUTEX,
}


@pytest.fixture(params=POLLERS)
def _each_poller(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for flag, value in POLLERS[request.param].items():
        monkeypatch.setattr(futex, flag, value)


@pytest.mark.usefixtures("_each_poller")
def test_wait_async(writer: Writer, name: str) -> None:
    async def main(reader: Reader[str]) -> None:
        assert await reader.wait_async(timeout=0.02) is None
        asyncio.get_running_loop().call_later(0.05, writer.write, "a")
        assert await reader.wait_async(timeout=LONG) == 1
        asyncio.get_running_loop().call_later(0.05, writer.write, "b")
        assert await reader.wait_async(timeout=LONG) == 2
        thread = notify_async._pollers[0]._thread
        await until_async(lambda: not notify_async._pollers[0]._subscriptions)
        asyncio.get_running_loop().call_later(0.05, writer.write, "c")
        assert await reader.wait_async(timeout=LONG) == 3
        assert notify_async._pollers[0]._thread is thread is not None  # it kept running without waiters
        assert await reader.wait_async(timeout=0.02) is None

    with Reader[str](name) as reader:
        asyncio.run(main(reader))


@pytest.mark.usefixtures("_each_poller")
def test_watch_async_misses_no_newest(writer: Writer, name: str) -> None:
    async def main(reader: Reader[int]) -> list[int]:
        seen = []
        async for snapshot in reader.watch_async(timeout=LONG):
            seen.append(snapshot.value)
            if snapshot.value == 500:
                break
        return seen

    writer.write(0)
    with Reader[int](name) as reader, soon(lambda: [writer.write(number) for number in range(1, 501)]):
        seen = asyncio.run(main(reader))
    assert seen == sorted(set(seen))


def run_in_uvloop(main: Any, *args: Any) -> Any:
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(main(*args))
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


LOOPS: dict[str, Any] = {
    "uvloop": run_in_uvloop,
    "anyio": anyio.run,
}


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_under_other_loops(writer: Writer, name: str, run: Any) -> None:
    async def main(reader: Reader[int]) -> list[int]:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(reader.wait_async(1), 0.02)
        seen = []
        async for snapshot in reader.watch_async(timeout=LONG):
            seen.append(snapshot.value)
            if snapshot.value == 2:
                break
            asyncio.get_running_loop().call_later(0.02, writer.write, snapshot.value + 1)
        return seen

    writer.write(0)
    with Reader[int](name) as reader:
        assert run(main, reader) == [0, 1, 2]
    until(lambda: not notify_async._pollers[0]._subscriptions)


def test_a_thousand_watchers_use_one_thread(writer: Writer, name: str) -> None:
    writer.write(0)
    count = 1000

    async def follow(reader: Reader[int], seen: list[int]) -> None:
        async for snapshot in reader.watch_async(since=0):  # they share a handle
            seen.append(snapshot.value)
            if snapshot.value == 2:
                return

    async def main(reader: Reader[int]) -> None:
        before = threading.active_count()
        found: list[list[int]] = [[] for _ in range(count)]
        async with asyncio.timeout(TIMEOUT) if hasattr(asyncio, "timeout") else _forever():
            tasks = [asyncio.create_task(follow(reader, seen)) for seen in found]
            for number in (1, 2):
                while not all(seen and seen[-1] == number - 1 for seen in found):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert threading.active_count() == before + 1
                writer.write(number)
            await asyncio.gather(*tasks)

    with Reader[int](name) as reader:
        asyncio.run(main(reader))


class _forever:  # noqa: N801 - replaces a function of later Pythons
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


def test_more_names_than_one_call_can_wait_for(name: str) -> None:
    """More threads sleep; none of them polls."""
    with Child() as child:
        count = 2 * notify_async.MAX_NAMES + 20
        names = [f"{name}-{number}" for number in range(count)]
        assert child.call(wait_for_many, names) == (2 * [2] * count, 3, {LONG})


def wait_for_many(_state: State, names: list[str]) -> tuple[list[int | None], int, set[float]]:
    """Return the versions that were waited for, the number of poller threads, and the durations of their sleeps."""
    disable_polling()
    notify_async._MAX_SLEEP = LONG
    sleeps: set[float] = set()
    sleep = futex.wait_for_any

    def recorded(words: Sequence[tuple[futex.Futex, int]], timeout: float) -> bool:
        sleeps.add(timeout)
        return sleep(words, timeout)

    futex.wait_for_any = recorded
    writers = [Writer(each, max_readers=1) for each in names]
    readers = [Reader[int](each) for each in names]

    async def main() -> tuple[list[int | None], int]:
        waits = [asyncio.create_task(reader.wait_async(1, LONG)) for reader in (*readers, *readers)]
        await until_async(lambda: sum(len(each._subscriptions) for each in notify_async._pollers) == len(readers))
        threads = threading.active_count() - 1
        found = []
        for number, writer in reversed([*enumerate(writers)]):
            writer.write(1)
            found += [await waits[number], await waits[number + len(writers)]]
        return found, threads

    try:
        for writer, reader in zip(writers, readers, strict=True):
            writer.write(0)
            reader.get()
        return *asyncio.run(main()), sleeps
    finally:
        for reader in readers:
            reader.close()
        for writer in writers:
            writer.unlink()
            writer.close()


def test_the_thread_ends_before_a_fork_if_nobody_waits(writer: Writer, name: str) -> None:
    with Child() as child:
        writer.write(0)
        child.call(wait_and_keep_the_thread, name)
        assert child.call(threads_at_a_fork) == (2, 1)
        child.send(wait_in_a_loop, name, LONG)
        writer.write(1)
        assert child.receive() == 2  # another thread has started


def wait_and_keep_the_thread(state: State, name: str) -> None:
    notify_async._LINGER = LONG
    wait_in_a_loop(state, name, 0.02)


def threads_at_a_fork(_state: State) -> tuple[int, int]:
    """Return how many threads the kernel counts before a fork, and after the hooks that were registered before it."""
    counts = [len(os.listdir("/proc/self/task"))]  # noqa: PTH208
    fork._before()
    counts.append(len(os.listdir("/proc/self/task")))  # noqa: PTH208
    fork._end()
    return counts[0], counts[1]


@pytest.mark.parametrize("action", ["always", "error"])
def test_a_fork_after_the_last_wait_does_not_warn(writer: Writer, name: str, action: Action) -> None:
    """Since Python 3.12, a fork beside a thread warns; since 3.15, it raises if warnings are errors."""
    with Child() as child:
        writer.write(0)
        child.call(wait_and_keep_the_thread, name)
        assert child.call(warnings_of_a_fork, action) == []


def warnings_of_a_fork(_state: State, action: Action) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        fork_and_reap()
    return [str(warning.message) for warning in caught]


def test_the_thread_outlives_a_fork_if_a_coroutine_waits(writer: Writer, name: str, tmp_path: Path) -> None:
    with Child() as child:
        writer.write(0)
        child.send(fork_while_waiting, name, tmp_path / "forked")
        until((tmp_path / "forked").exists)
        writer.write(1)
        assert child.receive() == 2
        child.call(fork_while_the_lock_is_held)


def fork_while_waiting(state: State, name: str, forked: Path) -> int | None:
    disable_polling()
    state.reader = Reader[int](name)
    state.reader.get()

    async def main() -> int | None:
        task = asyncio.create_task(state.reader.wait_async(1, LONG))
        while not notify_async._pollers[0]._subscriptions:  # noqa: ASYNC110
            await asyncio.sleep(0)
        fork_and_reap()
        thread = notify_async._pollers[0]._thread
        assert thread is not None
        assert thread.is_alive()
        forked.touch()  # noqa: ASYNC240
        found: int | None = await task
        return found

    return asyncio.run(main())


def fork_while_the_lock_is_held(_state: State) -> None:
    """As a signal handler may, which interrupted this thread."""
    with notify_async._pollers[0]._lock:
        fork_and_reap()


def fork_and_reap() -> None:
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("forks", [False, True])
def test_an_interrupted_start_of_the_thread_is_retried(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch, *, forks: bool
) -> None:
    class HandlerError(Exception):
        """Raised by a signal handler."""

    def interrupted(_self: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise HandlerError

    writer.write(0)
    with Reader[int](name) as reader:
        reader.get()
        start = threading.Thread.start
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(HandlerError):
            asyncio.run(reader.wait_async(1, LONG))
        assert not notify_async._pollers[0]._lock.locked()
        if forks:
            notify_async._pollers[0].stop_before_fork()
        with soon(lambda: writer.write(1)):
            assert asyncio.run(reader.wait_async(1, LONG)) == 2
    until(lambda: not notify_async._pollers[0]._subscriptions)


def test_close_ends_a_wait_async(writer: Writer, name: str) -> None:
    async def main(reader: Reader[int]) -> None:
        reader.get()
        waits = [asyncio.create_task(reader.wait_async()) for _ in range(3)]
        await until_async(is_poller_asleep)
        reader.close()
        assert [type(error) for error in await asyncio.gather(*waits, return_exceptions=True)] == [ClosedError] * 3

    writer.write(0)
    asyncio.run(main(Reader[int](name)))


def test_a_cancelled_wait_leaves_nothing(writer: Writer, name: str) -> None:
    writer.write(0)

    async def main(reader: Reader[int]) -> None:
        reader.get()
        tasks = [asyncio.create_task(reader.wait_async()) for _ in range(10)]
        await until_async(is_poller_asleep)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await until_async(lambda: not notify_async._pollers[0]._subscriptions)
        assert len(asyncio.all_tasks()) == 1
        timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert all(timer.cancelled() for timer in timers)

    with Reader[int](name) as reader:
        asyncio.run(main(reader))
    gc.collect()


def test_waiters_of_a_closed_loop_are_unsubscribed(writer: Writer, name: str) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        reader.get()
        loop = asyncio.new_event_loop()
        task = loop.create_task(reader.wait_async())
        loop.run_until_complete(until_async(is_poller_asleep))
        assert notify_async._pollers[0]._subscriptions
        loop.close()
        until(lambda: not notify_async._pollers[0]._subscriptions)  # although the coroutine still exists
        task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_coroutine_may_be_collected_while_its_thread_has_the_lock(writer: Writer, name: str) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        reader.get()
        loop = asyncio.new_event_loop()
        waiting = reader.wait_async()
        task = loop.create_task(waiting)
        loop.run_until_complete(until_async(is_poller_asleep))
        with notify_async._pollers[0]._lock:
            waiting.close()  # as the garbage collector may, at any allocation
        task.cancel()
        with suppress(asyncio.CancelledError, RuntimeError):
            loop.run_until_complete(task)
        loop.close()
    until(lambda: not notify_async._pollers[0]._subscriptions)


def test_a_late_wakeup_of_a_closed_loop_is_ignored(writer: Writer, name: str) -> None:
    writer.write(0)
    with Reader[int](name) as reader:
        reader.get()
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(reader.wait_async())
        loop.run_until_complete(until_async(is_poller_asleep))
        subscription = next(iter(notify_async._pollers[0]._subscriptions.values()))
        (waiter,) = subscription.waiters
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(waiting)
        loop.close()
        waiter.wake()  # as the thread may, if it is late
        waiter.resolve()  # as the timer may


def test_a_forked_process_starts_its_own_poller_thread(writer: Writer, name: str) -> None:
    writer.write(0)
    with Child() as parent:
        parent.call(wait_in_a_loop, name, 0.05)
        forked = parent.fork()
        assert not forked.call(has_a_thread)
        forked.send(wait_in_a_loop, name, LONG)
        parent.send(wait_in_a_loop, name, LONG)
        writer.write(1)  # before they wait, or while they do
        assert forked.receive() == parent.receive() == 2
        forked.close()


def has_a_thread(_state: State) -> bool:
    return notify_async._pollers[0]._thread is not None


def wait_in_a_loop(state: State, name: str, timeout: float) -> int | None:
    disable_polling()
    if not hasattr(state, "reader"):
        state.reader = Reader[int](name)
    found: int | None = asyncio.run(state.reader.wait_async(1, timeout))
    return found


def test_the_poller_thread_sleeps_on_every_awaited_name(writer: Writer, name: str) -> None:
    writer.write(0)
    with Writer(f"{name}-2") as another, Child() as child:
        another.write(0)
        child.send(wait_for_two, name, another.name)
        until(lambda: has_waiters(writer.name) and has_waiters(another.name))
        another.write(1)
        writer.write(1)
        assert child.receive() == [2, 2]
        another.unlink()


def wait_for_two(_state: State, *names: str) -> list[int | None]:
    disable_polling()
    notify_async._MAX_SLEEP = LONG

    async def main() -> list[int | None]:
        first = asyncio.create_task(Reader[int](names[0]).wait_async(1, LONG))
        await until_async(lambda: has_waiters(names[0]) and is_poller_asleep())
        second = Reader[int](names[1]).wait_async(1, LONG)  # subscribes while the thread sleeps on the first
        return [*await asyncio.gather(first, second)]

    return asyncio.run(main())


def test_a_waiter_that_subscribes_while_another_unsubscribes_is_woken(name: str) -> None:
    with Child() as child:
        assert child.call(subscribe_while_another_unsubscribes, name) == [2, 3]


def subscribe_while_another_unsubscribes(_state: State, name: str) -> list[int | None]:
    disable_polling()
    notify_async._MAX_SLEEP = LONG

    async def main(writer: Writer[int]) -> list[int | None]:
        writer.write(0)
        reader, another = Reader[int](name), Reader[int](name)
        first = asyncio.create_task(reader.wait_async(1, LONG))
        await until_async(is_poller_asleep)
        second = asyncio.create_task(another.wait_async(2, LONG))  # it runs before `first` does,
        writer.write(1)
        until(lambda: not notify_async._pollers[0]._subscriptions)  # which the thread wakes while the loop is blocked
        await first
        await until_async(is_poller_asleep)
        writer.write(2)
        return [await first, await second]

    with Writer[int](name) as writer:
        try:
            return asyncio.run(main(writer))
        finally:
            writer.unlink()
