"""Hooks that fail, threads that are in the middle of something at the fork, and what a child costs."""

from __future__ import annotations

import errno
import gc
import mmap
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import TIMEOUT, Child, State, environment, get_value, open_reader, slots_locked

from shmsync import Reader, Writer
from shmsync._core.layout import CLOSED
from shmsync._core.sealing import Seals
from shmsync._shm import atomics, fork

if TYPE_CHECKING:
    from typing_extensions import Self

PREAMBLE = """
import os, sys, threading
from shmsync import ClosedError, Reader, WriteLockConflictError, Writer
from shmsync._shm import fork
name = sys.argv[1]
sys.unraisablehook = lambda unraisable: None
def result_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(script: str, name: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PREAMBLE + script, name]
    assert subprocess.run(command, env=environment(), timeout=TIMEOUT, check=False).returncode == 0


LOST_HOOKS = """
from shmsync._core.slots import Slot
writer, reader = Writer(name, grace_duration=0.01), Reader(name)
writer.write_raw(b"A" * 9000)
snapshot = reader.read()
view = snapshot.buffer
def fails(_slot):
    raise KeyboardInterrupt
Slot.before_fork = fails  # each time
child = os.fork()
if child == 0:
    try:
        snapshot.buffer
    except ClosedError as error:
        assert "hooks failed" in str(error), error
    else:
        os._exit(1)
    snapshot.close()
    try:
        writer.write_raw(b"child")
    except WriteLockConflictError:
        os._exit(0)
    os._exit(1)
assert result_of(child) == 0
for letter in (b"B", b"C", b"D", b"E"):
    writer.write_raw(letter * 9000)
assert bytes(view[:1]) == b"A"
writer.unlink()
"""


def test_hooks_that_fail_cost_the_parent_nothing_and_the_child_knows(name: str) -> None:
    run(LOST_HOOKS, name)


def test_a_hook_is_repeated_once_it_was_interrupted() -> None:
    calls = []

    def step() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fork._twice(step)()
    assert len(calls) == 2


INTERRUPTED_ONCE = """
seal, calls = fork.WeakRegistry.items, []
def items(registry):
    calls.append(1)
    if len(calls) == FAILURE:
        raise KeyboardInterrupt
    return seal(registry)
writer, reader = Writer(name, grace_duration=0.01), Reader(name)
writer.write_raw(b"A" * 9000)
snapshot = reader.read()
view = snapshot.buffer
fork.WeakRegistry.items = items
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    os.read(go[0], 1)
    os._exit(bytes(view) != b"A" * 9000 or bytes(snapshot.buffer) != b"A" * 9000)
fork.WeakRegistry.items = seal
del view
snapshot.close()
for letter in (b"B", b"C", b"D", b"E"):
    writer.write_raw(letter * 9000)
os.write(go[1], b"x")
assert result_of(child) == 0
writer.unlink()
"""


@pytest.mark.parametrize("failure", [1, 2, 3, 4])
def test_an_exception_in_a_hook_does_not_lose_the_seal(name: str, failure: int) -> None:
    run(INTERRUPTED_ONCE.replace("FAILURE", str(failure)), name)


def test_no_thread_waits_for_a_fork_whose_last_hook_was_lost(writer: Writer, name: str) -> None:
    writer.write(list(range(3000)))
    fork.in_progress[threading.get_ident()] = True
    try:
        read = threading.Thread(target=lambda: Reader(name).get())
        read.start()
        read.join(TIMEOUT)
        assert not read.is_alive()
    finally:
        fork._end()


BETWEEN_LOCK_AND_OWNERSHIP = """
from shmsync._shm import ofd_locks
locked, go = threading.Event(), threading.Event()
try_lock = ofd_locks.try_lock
def slowly(fd, offset, *, shared=False):
    taken = try_lock(fd, offset, shared=shared)
    if not shared:  # the check whether locks are available
        locked.set()
        go.wait()
    return taken
def locks():
    found = 0
    for fd in os.listdir("/proc/self/fdinfo"):
        try:
            found += "lock:" in open(f"/proc/self/fdinfo/{fd}").read()
        except FileNotFoundError:
            pass  # that of the listing
    return found
writer = Writer(name)
if "USE" == "read":
    writer.write(list(range(3000)))
ofd_locks.try_lock = slowly
use = (lambda: Reader(name).get()) if "USE" == "read" else (lambda: writer.write(1))
thread = threading.Thread(target=use)
thread.start()
locked.wait()
child = os.fork()
if child == 0:
    os._exit(locks())
before = locks()
go.set()
thread.join()
ofd_locks.try_lock = try_lock
assert before
assert result_of(child) == 0
writer.unlink()
"""


@pytest.mark.parametrize("use", ["write", "read"])
def test_a_child_does_not_keep_the_lock_that_another_thread_is_taking(name: str, use: str) -> None:
    run(BETWEEN_LOCK_AND_OWNERSHIP.replace("USE", use), name)


WHILE_OPENING = """
children, add = [], fork.WeakRegistry.add
def adding(registry, item):
    if type(item).__name__ == "Segment" and not children:  # it is open, and not registered yet
        children.append(os.fork())
        if children == [0]:
            found = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
            os._exit(any(name in path for path in found))
    add(registry, item)
fork.WeakRegistry.add = adding
writer = Writer(name)
writer.write(1)
assert result_of(children[0]) == 0
writer.unlink()
"""


def test_a_child_does_not_keep_a_segment_that_another_thread_is_opening(name: str) -> None:
    run(WHILE_OPENING, name)


def keep(state: State) -> None:
    state.__dict__.setdefault("kept", []).append(state.reader.get())


def fork_often(state: State, times: int) -> None:
    for _ in range(times):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


def test_a_handle_has_one_slot_however_often_its_process_forks(writer: Writer, name: str) -> None:
    with Child() as parent:
        writer.write(np.arange(5000))
        parent.call(open_reader, name)
        for number in range(5):
            parent.call(keep)
            parent.call(read_once)
            parent.call(fork_often, 5)
            writer.write(np.arange(5000) + number)
            assert slots_locked(name) == [0]
        assert parent.call(first_of_each) == [0, 0, 1, 2, 3]


def read_once(state: State) -> None:
    with state.reader.read() as snapshot:
        assert snapshot.value is not None


def first_of_each(state: State) -> list[int]:
    return [int(value[0]) for value in state.kept]


def test_a_fork_with_nothing_held_costs_the_writer_nothing(writer: Writer, name: str) -> None:
    """A child that never touches shmsync costs nobody anything."""
    writer.write("first")
    with Child() as parent:
        parent.call(open_reader, name)
        parent.call(get_value)
        parent.call(read_once)
        writer.write("second")
        replaced = writer.stats().replaced
        parent.fork().close()
        for number in range(6):
            assert not writer.write(number, grace_duration=0).reset
        assert writer.stats().replaced == replaced


class _Word:
    """A word on which another process acts in the middle of an exchange."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.meanwhile: int | None = None

    def load(self) -> int:
        found, self.value = self.value, self.value if self.meanwhile is None else self.meanwhile
        self.meanwhile = None
        return found

    def compare_exchange(self, expected: int, desired: int) -> bool:
        if self.value != expected:
            return False
        self.value = desired
        return True


@pytest.mark.parametrize(("meanwhile", "after"), [(None, 7), (6, 7), (9, 9), (CLOSED, CLOSED)])
def test_an_older_seal_does_not_undo_a_newer_one(meanwhile: int | None, after: int) -> None:
    sealed = _Word(5)
    sealed.meanwhile = meanwhile
    Seals((_Word(7), _Word(0)), (sealed, _Word(0))).seal(0)  # type: ignore[arg-type]
    assert sealed.value == after


def test_the_process_id_replaces_the_wiped_page_on_old_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    alive = fork._ByProcess()
    assert alive[0] == 1
    assert len(list(alive)) == fork.MAX_CALLS  # type: ignore[call-overload]
    monkeypatch.setattr(os, "getpid", lambda: 0)
    assert alive[0] == 0


@pytest.mark.parametrize("accepted", ["nothing", "private memory", "everything"])
def test_the_page_is_used_only_if_the_kernel_wipes_it(monkeypatch: pytest.MonkeyPatch, accepted: str) -> None:
    """Emulators accept advice that they ignore. Linux accepts this one for private memory only."""

    class Mapping(mmap.mmap):
        def __new__(cls, fileno: int, length: int, flags: int = mmap.MAP_SHARED) -> Self:
            mapping = super().__new__(cls, fileno, length, flags=flags)
            mapping.is_private = bool(flags & mmap.MAP_PRIVATE)
            return mapping

        is_private: bool

        def madvise(self, *_advice: int) -> None:
            if accepted == "nothing" or (accepted == "private memory" and not self.is_private):
                raise OSError(errno.EINVAL, "rejected")

    monkeypatch.setattr("mmap.mmap", Mapping)
    assert (fork._wiped_page() is not None) == (accepted == "private memory")


def stopped_in_a_silent_child(_state: State) -> list[int]:
    """Return what is stopped before forks: of this process, then of a child that has not reset what it inherited."""
    stopped = []

    class Poller:
        def stop_before_fork(self) -> None:
            stopped.append(1)

    poller = Poller()
    fork.stop_before(poller)
    assert fork._page is not None
    for alive in (1, 0):
        fork._page[0] = alive
        fork._before()
        fork._end()
        stopped.append(0)
    return stopped


@pytest.mark.skipif(fork._page is None, reason="this kernel wipes no page")
def test_threads_of_a_parent_are_not_waited_for() -> None:
    with Child() as child:
        assert child.call(stopped_in_a_silent_child) == [1, 0, 0]


def fork_with_handles(_state: State, name: str, handles: int) -> tuple[int, int]:
    """Return how many calls the hooks make in the parent, and in the child."""
    readers = [Reader(name) for _ in range(handles)]
    for reader in readers:
        reader.get()
    gc.collect()
    gc.disable()
    calls = [0]

    def count(_frame: object, event: str, _argument: object) -> None:
        calls[0] += event in {"call", "c_call"}

    read, write = os.pipe()
    sys.setprofile(count)
    child = os.fork()
    sys.setprofile(None)
    if child == 0:
        os.write(write, calls[0].to_bytes(4, "little"))
        os._exit(0)
    os.waitpid(child, 0)
    both = int.from_bytes(os.read(read, 4), "little")
    for end in (read, write):
        os.close(end)
    before = calls[0]  # those of the hook after the fork do not depend on the handles
    return before, both - before


def test_a_fork_takes_few_steps_for_each_handle(writer: Writer, name: str) -> None:
    writer.write(np.arange(5000))
    with Child() as parent:
        few, many = (parent.call(fork_with_handles, name, handles) for handles in (10, 110))
    in_parent, in_child = ((many[role] - few[role]) / 100 for role in (0, 1))
    factor = 1 if atomics.IS_TSO and fork._page is not None else 2  # else words and processes are compared by calls
    assert in_parent <= 15 * factor
    assert in_child <= 60 * factor
