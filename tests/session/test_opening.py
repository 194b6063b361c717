"""State segments that cannot be opened: just being created by another user, forbidden, or on a read-only mount."""

from __future__ import annotations

import errno
import os
import resource
import types
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SHM, Child, State

from shmsync import (
    CapacityError,
    DataWriteError,
    Reader,
    StateNotFoundError,
    StateReadError,
    UninitializedStateError,
    Writer,
)
from shmsync._core import lifecycle
from shmsync._session import attachment, control, isolated_attachment
from shmsync._shm import segment
from shmsync._shm.capacity import allocation_error
from shmsync._shm.segment import create_segment, open_segment, unlink_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def refuse(name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], bool]], None]:
    """Have the kernel forbid to open the state segment, as to another user, as long as a function says so."""

    def refuse_while(condition: Callable[[int], bool]) -> None:
        attempts = 0

        def opened(segment_name: str, *, writable: bool) -> Any:
            nonlocal attempts
            attempts += segment_name == f"/{name}_state"
            if segment_name == f"/{name}_state" and condition(attempts):
                raise PermissionError(errno.EACCES, "Permission denied", segment_name)
            return open_segment(segment_name, writable=writable)

        monkeypatch.setattr(control, "open_segment", opened)

    return refuse_while


@pytest.fixture
def _empty(name: str) -> Iterator[None]:
    """A state segment as it is right after its creation, without its size; removed after the test."""
    create_segment(f"/{name}_state", 1, 0o600).close()
    with open_segment(f"/{name}_state", writable=True) as state:
        os.ftruncate(state.fd, 0)
    yield
    unlink_segment(f"/{name}_state")


@pytest.mark.usefixtures("_empty")
@pytest.mark.parametrize("call", ["get", "wait"])
def test_a_reader_waits_for_a_name_that_is_being_created(
    name: str, call: str, refuse: Callable[[Callable[[int], bool]], None]
) -> None:
    writer = Writer(name)

    def is_forbidden(attempt: int) -> bool:
        if attempt == 4:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(control, "open_segment", open_segment)
                writer.write("first")
        return attempt <= 4

    refuse(is_forbidden)
    with Reader(name, timeout=60) as reader:
        assert reader.get() == "first" if call == "get" else reader.wait(timeout=60) == 1
    writer.unlink()
    writer.close()


@pytest.mark.usefixtures("_empty")
def test_without_a_timeout_it_is_not_published(name: str, refuse: Callable[[Callable[[int], bool]], None]) -> None:
    refuse(lambda _: True)
    with Reader(name) as reader:
        with pytest.raises(UninitializedStateError):
            reader.get()
        assert reader.wait(timeout=0.01) is None


def test_a_forbidden_segment_is_not_waited_for(
    writer: Writer, name: str, refuse: Callable[[Callable[[int], bool]], None]
) -> None:
    writer.write(1)
    refuse(lambda _: True)
    with Reader(name, timeout=60) as reader:
        for call in (reader.get, reader.wait):
            with pytest.raises(StateReadError, match="its mode is 0o600, its owner user") as raised:
                call()
            assert raised.value.errno == errno.EACCES


@pytest.mark.usefixtures("_empty")
def test_an_empty_segment_is_not_waited_for_without_end(
    name: str, refuse: Callable[[Callable[[int], bool]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(lambda _: True)
    monkeypatch.setattr(control, "_CREATION_TIME", 0.05)
    with Reader(name, timeout=60) as reader:
        for call in (reader.wait, reader.get):
            with pytest.raises(StateReadError, match="its mode is 0o600"):
                call()


def test_a_creation_that_ends_between_two_looks(
    writer: Writer, name: str, refuse: Callable[[Callable[[int], bool]], None]
) -> None:
    writer.write("done")
    refuse(lambda attempt: attempt == 1)
    with Reader(name) as reader:
        assert reader.get() == "done"


def test_a_read_only_mount(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(1)

    def opened(segment_name: str, *, writable: bool) -> Any:
        if writable:
            raise OSError(errno.EROFS, "Read-only file system", segment_name)
        return open_segment(segment_name, writable=writable)

    monkeypatch.setattr(control, "open_segment", opened)
    with (
        Reader(name) as reader,
        pytest.raises(StateReadError, match=r"mount /dev/shm read-write.*reader table") as raised,
    ):
        reader.get()
    assert raised.value.errno == errno.EROFS


@pytest.mark.parametrize("changes", [True, False])
def test_a_name_that_changes_from_isolated_to_shared(
    name: str,
    refuse: Callable[[Callable[[int], bool]], None],
    changes: bool,  # noqa: FBT001
) -> None:
    """The state is that of an isolated incarnation, which is forbidden, and the reader table that of a shared one."""
    with closing(Writer(name, reuse_memory=not changes)) as writer, closing(Writer(name)) as successor:
        writer.write("old")

        def change(attempts: int) -> bool:
            if changes and attempts == 2:  # a forbidden state is opened twice: see `control`
                writer.close()
                successor.write("new")
            return not reader.closed and (attempts <= 2 or not changes)

        with Reader(name) as reader:
            refuse(change)
            if changes:
                assert reader.get() == "new"
            else:
                with pytest.raises(StateReadError, match="Permission denied"):
                    reader.get()
        (successor if changes else writer).unlink()


@pytest.mark.usefixtures("_empty")
def test_the_next_writer_sets_the_permissions_that_a_dead_creator_has_not_set(name: str) -> None:
    with Writer(name, mode=0o644, reuse_memory=True) as writer:
        writer.write(1)
        assert (SHM / f"{name}_state").stat().st_mode & 0o777 == 0o644
        writer.unlink()


def write_under_a_limit(_state: State, name: str) -> tuple[int, str, int]:
    """Write more than the limit on file sizes allows; return the error, and the sequence number of a smaller write."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    writer = Writer(name)
    writer.write("small")
    try:
        writer.write_raw(bytes(200_000))
    except CapacityError as error:
        code, text = error.errno or 0, str(error)
    seq = writer.write("small again").version.seq
    writer.unlink()
    return code, text, seq


def test_a_limit_on_file_sizes(name: str) -> None:
    with Child() as child:
        code, text, seq = child.call(write_under_a_limit, name)
    assert code == errno.EFBIG
    assert "100,000 bytes only (RLIMIT_FSIZE)" in text
    assert "--shm-size" not in text
    assert seq == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [("ENOSPC", "--shm-size"), ("ENOMEM", "memory limit of this container"), ("EDQUOT", "the quota of user")],
)
def test_what_is_full(code: str, words: str) -> None:
    error = allocation_error("/x_data_0", 10, OSError(getattr(errno, code), code))
    assert isinstance(error, CapacityError)
    assert words in str(error)
    assert error.errno == getattr(errno, code)


@pytest.mark.parametrize("call", ["rename", "unlink"])
@pytest.mark.parametrize("owner", [os.geteuid(), 65534], ids=["own", "foreign"])
def test_a_name_that_the_kernel_does_not_remove(name: str, call: str, owner: int) -> None:
    """In /dev/shm only its owner may replace or remove a file; otherwise it is a sandbox that forbids it."""
    create_segment(f"/{name}_data_0", 1, 0o600).close()
    create_segment(f"/{name}_other", 1, 0o600).close()
    status = types.SimpleNamespace(st_uid=owner, st_gid=owner, st_mode=0o100600)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataWriteError) as raised:
        patch.setattr(segment, "status_of", lambda _: status)
        patch.setattr(os, call, lambda *_: raise_permission_error())
        if call == "rename":
            segment.rename_segment(f"/{name}_other", f"/{name}_data_0")
        else:
            unlink_segment(f"/{name}_data_0")
    assert ("remove it as its owner" in str(raised.value)) == (owner == 65534)
    assert ("security policy" in str(raised.value)) == (owner != 65534)
    for each in ("data_0", "other"):
        unlink_segment(f"/{name}_{each}")


def raise_permission_error() -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("mode", [0o600, 0o640], ids=["shared", "isolated"])
@pytest.mark.parametrize("read", [Reader.get, Reader.read, Reader.version], ids=["get", "read", "version"])
def test_a_name_that_is_just_being_removed(
    name: str, mode: int, read: Callable[[Reader], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remover has unlinked the data, and the state not yet, when a reader opens the data of the version it saw."""

    def unlink_all_but_the_state(directory: Any) -> None:
        for at in (*lifecycle.DATA, lifecycle.READERS):
            directory.unlink(at)

    def remove_and_open(segment_name: str, *, writable: bool) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lifecycle, "unlink_all", unlink_all_but_the_state)
            writer.unlink()
        return open_segment(segment_name, writable=writable)

    with Writer(name, mode=mode) as writer, Reader(name) as reader:
        writer.write_raw(b"value")
        reader._attached()
        for module in (attachment, isolated_attachment):
            monkeypatch.setattr(module, "open_segment", remove_and_open)
        with pytest.raises(StateNotFoundError):
            read(reader)
        writer.unlink()
