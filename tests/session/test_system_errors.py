"""Every system call of every public call fails in turn: the error is a ShmSyncError, and costs nothing but the call."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import itertools
import mmap
import os
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import posix_ipc
import pytest
from helpers import SHM
from typer.testing import CliRunner

from shmsync import Reader, ShmSyncError, StateReadError, Writer, info, names, readers
from shmsync._session import notify_async
from shmsync._shm import capacity, futex, lock_holders, ofd_locks, segment
from shmsync._shm.ffi import ffi
from shmsync.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OLD, NEW = {"version": "old"}, {"version": "new", "more": "x" * 10_000}
MANY = 2_000  # failing calls in one public call: it does not end

# -------------------------------------------------------------------------------------------------------- the injector


class Faults:
    """Makes one system call fail: its `nth` call, or also all after it.

    Attributes:
        calls: how often it was called.
    """

    def __init__(self, what: str, code: int, nth: int, *, lasting: bool) -> None:
        self.what = what
        self.calls = 0
        self._code = code
        self._nth = nth
        self._lasting = lasting

    def is_due(self) -> bool:
        self.calls += 1
        assert self.calls < MANY, f"{self.what} fails again and again, and the call does not end"
        return self.calls >= self._nth if self._lasting else self.calls == self._nth

    def wrap(self, what: str, function: Callable[..., Any], error: Callable[[int], Exception]) -> Callable[..., Any]:
        """Return a function that fails when it is due, if it is the one that has to fail."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if what == self.what and self.is_due():
                raise error(self._code)
            return function(*args, **kwargs)

        return call

    def futex(self, *args: Any) -> Any:
        if self.what == "futex" and self.is_due():
            ffi.errno = self._code
            return -1
        return futex_call(*args)

    def mmap(self, *args: Any) -> Any:
        if self.what == "mmap" and self.is_due():
            ffi.errno = self._code
            return 0
        return mmap_call(*args)


futex_call = futex._call
mmap_call = segment._mmap


class Module:
    """A module in which some functions are replaced."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def os_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def posix_ipc_error(code: int) -> Exception:
    """Return what posix_ipc raises for an errno."""
    texts = {
        errno.EMFILE: OSError("This process already has the maximum number of files open"),
        errno.ENFILE: OSError("The system limit on the total number of open files has been reached"),
        errno.ENAMETOOLONG: ValueError("The name is too long"),
        errno.EACCES: posix_ipc.PermissionsError("No permission to access this segment"),
    }
    return texts.get(code) or os_error(code)


def thread_error(code: int) -> Exception:
    return MemoryError() if code == errno.ENOMEM else RuntimeError("can't start new thread")


ERRORS = {
    "open": "EMFILE ENFILE ENOMEM EACCES EPERM EROFS ELOOP ENAMETOOLONG EIO ENOSYS",
    "fstat": "EIO ENOMEM EPERM ENOSYS",
    "fchmod": "EPERM EROFS EIO",
    "posix_fallocate": "ENOSPC EFBIG ENOMEM EDQUOT EIO ENOSYS EOPNOTSUPP EPERM",
    "pread": "EIO ENOMEM",
    "lstat": "EIO EACCES ENOMEM",
    "listdir": "EIO EACCES EMFILE ENFILE ENOMEM",
    "fcntl": "ENOLCK EINVAL EPERM EACCES ENOSYS EIO",
    "mmap": "ENOMEM EACCES EPERM ENODEV EAGAIN",
    "rename": "EACCES EPERM EROFS EIO EBUSY",
    "statvfs": "EIO EACCES ENOSYS",
    "unlink": "EACCES EPERM EROFS EIO EBUSY",
    "futex": "ENOSYS EPERM EFAULT ENOMEM EINVAL",
    "thread": "EAGAIN ENOMEM",
}


@contextmanager
def failing(faults: Faults) -> Iterator[None]:
    """Let the system calls of this process fail, as far as shmsync makes them."""

    def functions(*of_os: str) -> dict[str, Any]:
        return {each: faults.wrap(each, getattr(os, each), os_error) for each in of_os}

    def own(directory: str) -> list[str]:  # not the names of others, of which there may be many
        return [entry.name for entry in Path(directory).iterdir() if entry.name.startswith(f"test-{os.getpid()}-")]

    listdir = faults.wrap("listdir", own, os_error)

    class Thread(threading.Thread):
        start = faults.wrap("thread", threading.Thread.start, thread_error)

    patches = [
        (
            segment,
            "os",
            Module(
                os,
                **functions("fstat", "fchmod", "posix_fallocate", "pread", "lstat", "rename", "statvfs", "unlink"),
                listdir=listdir,
            ),
        ),
        (capacity, "os", Module(os, **functions("statvfs"))),
        (lock_holders, "os", Module(os, **functions("fstat", "listdir"))),
        (segment, "Segment", faults.wrap("open", segment.Segment, posix_ipc_error)),
        (segment, "mmap", Module(mmap, mmap=faults.wrap("mmap", mmap.mmap, os_error))),
        (segment, "_Memory", faults.wrap("mmap", segment._Memory, os_error)),
        (segment, "_mmap", faults.mmap),
        (
            ofd_locks,
            "fcntl",
            Module(fcntl, fcntl=faults.wrap("fcntl", fcntl.fcntl, os_error)),
        ),
        (futex, "_call", faults.futex),
        (notify_async, "threading", Module(threading, Thread=Thread)),
    ]
    with ExitStack() as stack:
        for module, attribute, replacement in patches:
            stack.enter_context(mock.patch.object(module, attribute, replacement))
        yield


# ----------------------------------------------------------------------------------------------------- the public calls


def reserve(state: SimpleNamespace) -> None:
    with state.writer.reserve(5000) as slot:
        slot.buffer[:] = b"r" * 5000


def update(state: SimpleNamespace) -> None:
    with state.writer.update(initial=OLD) as draft:
        draft.value = NEW


def unlink_after_close(state: SimpleNamespace) -> None:
    state.writer.close()
    Writer(state.name).unlink()


def close_with_reader(state: SimpleNamespace) -> None:
    state.writer.close()
    state.reader.close()


def command(*arguments: str) -> Callable[[SimpleNamespace], None]:
    def call(state: SimpleNamespace) -> None:
        text = "{}" if arguments[0] == "put" else None
        result = CliRunner().invoke(app, [each.format(state.name) for each in arguments], input=text)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception

    return call


FIRST: dict[str, Callable[[SimpleNamespace], object]] = {
    "write": lambda state: state.writer.write(NEW),
    "write_raw": lambda state: state.writer.write_raw(b"raw"),
    "reserve": reserve,
    "update": update,
    "get": lambda state: state.reader.get(default=None),
    "wait": lambda state: state.reader.wait(timeout=0.002),
    "unlink": lambda state: state.writer.unlink(),
    "info": lambda state: info(state.name),
    "put": command("put", "{}"),
}
"""Calls while the name does not exist."""

LATER: dict[str, Callable[[SimpleNamespace], object]] = {
    "write": lambda state: state.writer.write(NEW),
    "write twice": lambda state: [state.writer.write(OLD), state.writer.write(NEW)],
    "write_raw": lambda state: state.writer.write_raw(b"raw"),
    "reserve": reserve,
    "update": update,
    "take over": lambda state: [state.writer.close(), Writer(state.name, mode=state.mode).write(NEW)],
    "second writer": lambda state: Writer(state.name, mode=state.mode).write(NEW),
    "unlink": lambda state: state.writer.unlink(),
    "unlink after close": unlink_after_close,
    "close": close_with_reader,
    "get": lambda state: state.reader.get(),
    "get with a type": lambda state: Reader(state.name, type=dict).get(),
    "read": lambda state: state.reader.read(check_bytes=True).value,
    "version": lambda state: state.reader.version(),
    "wait": lambda state: [state.reader.wait(), state.reader.wait(timeout=0.002)],
    "watch": lambda state: [snapshot.value for snapshot in state.reader.watch(timeout=0.002)],
    "wait_async": lambda state: asyncio.run(wait_twice(state.reader)),
    "info": lambda state: info(state.name),
    "names": lambda state: names(),
    "readers": lambda state: readers(state.name),
    "ls": command("ls"),
    "inspect": command("inspect", "{}"),
    "shmsync readers": command("readers", "{}"),
    "shmsync get": command("get", "{}"),
    "rm": command("rm", "{}"),
    "rm --force": command("rm", "--force", "{}"),
}
"""Calls while a value is published."""


async def wait_twice(reader: Reader[Any]) -> None:
    await reader.wait_async()
    await reader.wait_async(timeout=0.002)


# ----------------------------------------------------------------------------------------------------------- the tests

NO_CLEAN_UP = {("unlink", False), ("unlink", True), ("fcntl", False), ("fcntl", True), ("fstat", True), ("lstat", True)}
"""With these faults nothing can be removed, or nothing may be: the next writer takes over what is left."""
REMOVALS = {"unlink", "unlink after close", "rm", "rm --force"}


def attempt(
    name: str, call: Callable[[SimpleNamespace], object], faults: Faults, *, published: bool, mode: int = 0o600
) -> bool:
    """Make a public call with faults; return whether it raised, after a check of what, and of what it leaves."""
    state = SimpleNamespace(name=name, mode=mode, writer=Writer(name, mode=mode), reader=Reader(name))
    if published:
        state.writer.write(OLD)
    try:
        with failing(faults):
            call(state)
    except ShmSyncError as error:
        text = str(error)
        assert name in text or "/dev/shm" in text or "cannot lock a file" in text
        return True
    else:
        return False
    finally:
        state.writer.close()
        state.reader.close()


def value_of(name: str) -> Any:
    with Reader(name) as reader:
        value = reader.get(default=None)
        return bytes(value) if isinstance(value, memoryview) else value


def works(name: str, mode: int = 0o600) -> None:
    """Publish, read and unlink."""
    with Writer(name, mode=mode) as writer, Reader(name) as reader:
        writer.write("next")
        assert reader.get() == "next"
        writer.unlink()


def every_fault(what: str) -> Iterator[tuple[int, bool]]:
    """Yield each errno, and whether all later calls fail, too."""
    codes = [getattr(errno, code) for code in ERRORS[what].split()]
    yield codes[0], True
    yield from ((code, False) for code in codes)


MODES = {"shared": 0o600, "isolated": 0o644}
IN_ISOLATED_MODE = {
    "write",
    "reserve",
    "update",
    "take over",
    "unlink",
    "get",
    "read",
    "wait",
    "wait_async",
    "info",
    "rm --force",
}
"""Calls that differ in isolated mode."""


def cases(calls: dict[str, Callable[[SimpleNamespace], object]]) -> list[Any]:
    return [
        pytest.param(call, mode, id=f"{call}-{name}")
        for name, mode in MODES.items()
        for call in calls
        if name == "shared" or call in IN_ISOLATED_MODE
    ]


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize(("call", "mode"), cases(FIRST))
def test_while_the_name_does_not_exist(name: str, call: str, mode: int, what: str) -> None:
    for code, lasting in every_fault(what):
        for nth in itertools.count(1):
            faults = Faults(what, code, nth, lasting=lasting)
            raised = attempt(name, FIRST[call], faults, published=False, mode=mode)
            if raised and (what, lasting) not in NO_CLEAN_UP:
                assert not list(SHM.glob(f"{name}_*"))
            works(name, mode)
            if faults.calls < nth:
                break


@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize(("call", "mode"), cases(LATER))
def test_while_a_value_is_published(name: str, call: str, mode: int, what: str) -> None:
    for code, lasting in every_fault(what):
        for nth in itertools.count(1):
            faults = Faults(what, code, nth, lasting=lasting)
            raised = attempt(name, LATER[call], faults, published=True, mode=mode)
            if raised and not (call in REMOVALS and what == "unlink"):
                assert value_of(name) == OLD or (call in REMOVALS and value_of(name) is None)
            works(name, mode)
            if faults.calls < nth:
                break


@pytest.mark.parametrize("code", ["EINVAL", "ENOLCK"])
def test_nothing_is_created_where_locks_are_refused(name: str, code: str) -> None:
    faults = Faults("fcntl", getattr(errno, code), 1, lasting=True)
    with failing(faults), closing(Writer(name)) as writer, pytest.raises(StateReadError, match="cannot lock a file: "):
        writer.write(OLD)
    assert not list(SHM.glob(f"{name}_*"))
