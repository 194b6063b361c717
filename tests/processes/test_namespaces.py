"""Namespaces and users: dead readers are detected across PID namespaces, and only permissions decide who may read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helpers import (
    NEVER,
    SHM,
    TIMEOUT,
    Child,
    State,
    close_snapshot,
    command_works,
    get_value,
    open_reader,
    open_snapshot,
    pins,
    snapshot_checksum,
    without_waiting,
)

from shmsync import Reader, StateReadError, Writer, codecs
from shmsync._core.layout import EVICTED

AS_ROOT = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
OTHER_NAMESPACE = ["unshare", *AS_ROOT, "--pid", "--fork", "--kill-child"]

unshared = pytest.mark.skipif(not command_works(*OTHER_NAMESPACE, "true"), reason="no PID namespaces here")
by_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch to another user")


def publish(writer: Writer, times: int) -> None:
    for _ in range(times):
        writer.write_raw(os.urandom(1000), grace_duration=0)


def own_pid(_state: State) -> int:
    return os.getpid()


@unshared
def test_a_reader_in_another_namespace(writer: Writer, name: str) -> None:
    held = writer.write_raw(os.urandom(1000)).version.checksum
    with Child(OTHER_NAMESPACE) as wrapper:
        assert wrapper.call(open_snapshot, name) == held
        assert wrapper.call(own_pid) == 1
        publish(writer, 5)
        assert wrapper.call(snapshot_checksum) == held
        assert [pin & EVICTED for pin in pins(name)] == [EVICTED]  # alive: evicted, not reaped
        (reader,) = Path(f"/proc/{wrapper.pid}/task/{wrapper.pid}/children").read_text().split()
        os.kill(int(reader), 9)
        wrapper.process.wait(TIMEOUT)
        with without_waiting():
            assert sum(writer.write(number, grace_duration=NEVER).reset for number in range(2)) == 1
        assert not pins(name)


@unshared
def test_a_writer_in_another_namespace(name: str) -> None:
    """Where no process has the pid of the reader."""
    with Child(OTHER_NAMESPACE) as wrapper:
        wrapper.call(write, name, 1)
        with Reader(name) as reader, reader.read() as snapshot:
            before = bytes(snapshot.buffer)
            assert wrapper.call(write, name, 5) == 1
            assert bytes(snapshot.buffer) == before
            assert [pin & EVICTED for pin in pins(name)] == [EVICTED]
        with Child() as mortal:
            mortal.call(open_snapshot, name)
            mortal.kill()
        assert wrapper.call(write, name, 2) == 1
        assert not pins(name)
        wrapper.call(unlink, name)


def write(_state: State, name: str, times: int) -> int:
    """Return how many writes had to reset a reader."""
    with Writer(name, grace_duration=0) as writer:
        return sum(writer.write_raw(os.urandom(1000)).reset for _ in range(times))


def unlink(_state: State, name: str) -> None:
    with Writer(name) as writer:
        writer.unlink()


# ------------------------------------------------------------------------------------------------------- permissions


def become(_state: State, user: int, group: int) -> None:
    codecs.load()  # now: this user may not be able to read the interpreter's library
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def may_write(_state: State, name: str) -> set[str]:
    """Return the segments that open for writing."""
    found = set()
    for part in ("state", "readers", "data_0", "data_1"):
        try:
            os.close(os.open(SHM / f"{name}_{part}", os.O_RDWR))
        except PermissionError:
            continue
        found.add(part)
    return found


def modes(name: str) -> dict[str, int]:
    return {path.name.removeprefix(f"{name}_"): path.stat().st_mode & 0o7777 for path in SHM.glob(f"{name}_*")}


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
@pytest.mark.parametrize(
    ("mode", "private", "shared"), [(0o600, 0o600, 0o600), (0o640, 0o640, 0o660), (0o666, 0o644, 0o666)]
)
def test_modes_whatever_the_umask(name: str, umask: int, mode: int, private: int, shared: int) -> None:
    before = os.umask(umask)
    try:
        with Writer(name, mode=mode, reuse_memory=True) as writer:
            for size in (10, 10, 100_000, 100_000):  # created, and replaced
                writer.write_raw(bytes(size))
            assert modes(name) == {"state": private, "readers": shared, "data_0": private, "data_1": private}
            writer.unlink()
    finally:
        os.umask(before)


@by_root
def test_a_stranger_may_not_read(writer: Writer, name: str) -> None:
    publish(writer, 2)
    with Child() as stranger:
        stranger.call(open_reader, name)
        stranger.call(become, 12345, 12345)
        with pytest.raises(
            StateReadError, match=r"0o600, its owner user 0 .* as user 12345, .* needs to read it"
        ) as raised:
            stranger.call(get_value)
        assert raised.value.errno == errno.EACCES
        with pytest.raises(StateReadError) as raised:
            stranger.call(open_snapshot, name)
        assert raised.value.errno == errno.EACCES
        assert not stranger.call(may_write, name)
    assert not pins(name)


@by_root
def test_a_member_of_the_group_may_read_but_not_write(name: str) -> None:
    with (
        Writer(name, mode=0o640, reuse_memory=True, grace_duration=0) as writer,
        Child() as member,
        Child() as stranger,
    ):
        publish(writer, 2)
        member.call(become, 12345, os.getegid())
        assert member.call(may_write, name) == {"readers"}
        held = member.call(open_snapshot, name)
        publish(writer, 5)
        assert member.call(snapshot_checksum) == held
        member.call(close_snapshot)
        writer.write("newest")
        assert member.call(get_value) == "newest"
        stranger.call(become, 12346, 12346)
        with pytest.raises(StateReadError):
            stranger.call(open_snapshot, name)
        with pytest.raises(StateReadError):
            member.call(write, name, 1)
        assert member.call(get_value) == "newest"
        writer.unlink()
