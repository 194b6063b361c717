"""Forks: announced by Python, or made in C without its at-fork hooks (uWSGI, billiard, daemon(3), C libraries).

**Detection.** `alive` is a private page that the kernel wipes in every child (MADV_WIPEONFORK, Linux 4.14). Each public
call looks at it before it uses anything inherited, and calls `check` if it is zero. `check` resets what the child has
inherited: it closes the inherited descriptors, with their share of the kernel locks, and resets each registered object.
The at-fork hook in the child only calls `check`. So the reset takes place whether or not Python has run the hook, and
if an exception interrupts it, the next call repeats it.

**Sharing.** A child shares no slot, count or lock with its parent. What was pinned or retained at a fork is *sealed*
before: the writer never writes to that memory again (see `shmsync._core.sealing`). Sealing needs the hook in the
parent. Without it, snapshots from before the fork raise ClosedError in the child.

**Threads.** A thread of ours that nobody needs ends before a fork. Python deprecates a fork beside other threads, and
raises an exception where that warning is an error.

**Hooks that fail.** Python prints exceptions of at-fork hooks and forks all the same. Signal handlers may raise in
them, and near the recursion limit they cannot even be called. So each hook is idempotent, repeated on an exception, and
registered twice. If the seal fails for all that, the child knows it, because `_before` records success last. Nothing is
held across a fork that another thread could wait for.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from shmsync._util.weak import WeakRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CALLS = 2048
"""The length of `alive`: how many calls of `Reader.get` may follow each other on the fast path."""

_MADV_WIPEONFORK = 18


class Descriptor(Protocol):
    """An open descriptor that may carry a kernel lock."""

    def close(self) -> None:
        """Close it without unlocking: the lock is the parent's. Idempotent."""


class BeforeFork(Protocol):
    """An object that holds something which a child would go on using."""

    def before_fork(self) -> None:
        """Seal what is held, so that a child may use it. Idempotent."""

    def inherit(self, *, sealed: bool) -> None:
        """Leave it to the parent, in a child; `sealed` says whether `before_fork` was called. Idempotent."""


class AfterFork(Protocol):
    """An object that has to be reset in a child: no other thread runs there, and their work was interrupted."""

    def after_fork_in_child(self) -> None:
        """Reset. Idempotent."""


class StopBeforeFork(Protocol):
    """An object with a thread, which it can do without while nobody needs it."""

    def stop_before_fork(self) -> None:
        """End the thread if nobody needs it. Idempotent."""


class _ByProcess:
    """Replaces the wiped page where there is none: compares the process id."""

    def __init__(self) -> None:
        self.pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        if index >= MAX_CALLS:
            raise IndexError(index)
        return int(self.pid == os.getpid())


def _wipe_on_fork(page: mmap.mmap) -> bool:
    """Return whether the kernel accepts to wipe a page in every child."""
    try:
        page.madvise(_MADV_WIPEONFORK)
    except OSError:  # an older kernel, or a sandbox
        return False
    return True


def _wiped_page() -> mmap.mmap | None:
    with mmap.mmap(-1, mmap.PAGESIZE) as shared:
        if _wipe_on_fork(shared):  # Linux rejects that: this is an emulator that ignores advice, such as QEMU 7.2
            return None
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return page if _wipe_on_fork(page) else None


_page = _wiped_page()
alive: Any = _ByProcess() if _page is None else memoryview(_page)[:MAX_CALLS]
"""Bytes that are 1, and 0 in a child until `check` has reset it."""


def _arm() -> None:
    if _page is None:
        alive.pid = os.getpid()
    else:
        _page[:MAX_CALLS] = b"\1" * MAX_CALLS


_arm()

descriptors: WeakRegistry[Descriptor] = WeakRegistry()
"""All open descriptors that may carry a lock, those in local variables of other threads included."""
_sealing: WeakRegistry[BeforeFork] = WeakRegistry()
_resetting: WeakRegistry[AfterFork] = WeakRegistry()
_stopping: WeakRegistry[StopBeforeFork] = WeakRegistry()
_locks: dict[int, threading.RLock] = {}  # by process: that of the parent may be held by a thread that is not here

in_progress: dict[int, bool] = {}
"""By thread: a fork has begun; whether everything was sealed. Until it ends, a thread that pins has to seal as well."""


def call_before(item: BeforeFork) -> None:
    """Call `item.before_fork` before every later fork, and `item.inherit` in the child, as long as it is alive."""
    _sealing.add(item)


def call_after(item: AfterFork) -> None:
    """Call `item.after_fork_in_child` in every later child, as long as it is alive."""
    check()
    _resetting.add(item)


def stop_before(item: StopBeforeFork) -> None:
    """Call `item.stop_before_fork` before every later fork, as long as it is alive."""
    _stopping.add(item)


def check() -> None:
    """Reset what was inherited if this is a child that has not done so yet."""
    if not alive[0]:
        _reset()


def _reset() -> None:
    me = os.getpid()
    with _locks.setdefault(me, threading.RLock()):
        if alive[0]:
            return
        for descriptor in descriptors.items():
            descriptor.close()
        sealed = in_progress.get(threading.get_ident(), False)  # the forking thread keeps its number in the child
        for holder in _sealing.items():
            holder.inherit(sealed=sealed)
        for item in _resetting.items():
            item.after_fork_in_child()
        for process in _locks.copy():
            if process != me:
                _locks.pop(process, None)
        in_progress.clear()
        _arm()  # last: an interrupted reset is repeated


def _seal() -> None:
    thread = threading.get_ident()
    if in_progress.get(thread):
        return
    in_progress[thread] = False  # first: from here on, other threads seal what they pin
    for item in _sealing.items():
        item.before_fork()
    in_progress[thread] = True


def _end() -> None:
    in_progress.pop(threading.get_ident(), None)


def _twice(step: Callable[[], None]) -> Callable[[], None]:
    """Return a hook that repeats a step if an exception from a signal handler interrupts it."""

    def hook() -> None:
        try:
            step()
        except BaseException:
            step()
            raise

    return hook


def _before() -> None:
    _end()  # of an earlier fork, if its hook failed
    for item in _stopping.items() if alive[0] else ():  # else the threads are those of a parent
        item.stop_before_fork()
    _seal()


# `before` hooks run in reverse order of registration. The second set repeats what the first could not do.
os.register_at_fork(before=_twice(_seal), after_in_parent=_twice(_end), after_in_child=_twice(check))
os.register_at_fork(before=_twice(_before), after_in_parent=_twice(_end), after_in_child=_twice(check))
