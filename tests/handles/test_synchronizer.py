"""The test of the original library, ported with its entity, and the interface of the handles."""

from __future__ import annotations

import operator
import os
import pickle
import random
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import NEVER, TIMEOUT

import shmsync
from shmsync import (
    ClosedError,
    InstanceVersion,
    InvalidArgumentError,
    Reader,
    StateNotFoundError,
    Synchronizer,
    UninitializedStateError,
    WriteLockConflictError,
    Writer,
)
from shmsync.codecs import _gather

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

SHM = Path("/dev/shm")


def entity(rng: random.Random, entries: int) -> dict[str, Any]:
    """An int, and a map of 64-bit ints to lists of up to 19 floats."""
    return {
        "version": rng.getrandbits(32),
        "map": {rng.getrandbits(64): [rng.uniform(0, 100) for _ in range(rng.randrange(20))] for _ in range(entries)},
    }


def check_read(reader: Synchronizer, expected: dict[str, Any], *, is_switched: bool) -> None:
    with reader.read() as snapshot:
        assert snapshot.value == expected
        assert snapshot.is_switched is is_switched


def test_synchronizer_as_in_the_original(name: str) -> None:
    state, data_0, data_1 = (SHM / f"{name}_{part}" for part in ("state", "data_0", "data_1"))
    writer, reader = Synchronizer(name), Synchronizer(name)
    rng = random.Random(3)
    with pytest.raises(StateNotFoundError, match="nothing is published as"):
        reader.read()
    assert not list(SHM.glob(f"{name}*"))

    value = entity(rng, 100)
    size, reset, version, _ = writer.write(value, grace_duration=1.0)
    assert size > 0
    assert not reset
    assert version == InstanceVersion(1, 0, size, version.checksum)
    assert state.exists()
    assert data_0.exists()
    assert not data_1.exists()
    check_read(reader, value, is_switched=True)
    check_read(reader, value, is_switched=False)

    value = entity(rng, 200)
    assert not writer.write(value, grace_duration=timedelta(seconds=1)).reset
    assert data_0.exists()
    assert data_1.exists()
    check_read(reader, value, is_switched=True)

    for entries in (100, 200):
        value = entity(rng, entries)
        assert not writer.write(value).reset
    check_read(reader, value, is_switched=True)
    check_read(reader, value, is_switched=False)
    writer.unlink()


def test_get_returns_the_same_object_until_it_changes(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        writer.write([1])
        first = reader.get()
        assert reader.get() is first
        writer.write([1])
        assert reader.get() is not first


def test_get_does_not_count_as_a_read_for_is_switched(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        writer.write(1)
        assert reader.get() == 1
        with reader.read() as snapshot:
            assert snapshot.is_switched
        assert reader.get() == 1
        with reader.read() as snapshot:
            assert not snapshot.is_switched


def test_get_default_only_where_nothing_is_published(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        assert reader.get(default=None) is None
        writer.write("here")
        assert reader.get(default=None) == "here"


def test_version_and_result_agree(writer: Writer, name: str) -> None:
    result = writer.write_raw(b"0123456789")
    with Reader(name) as reader:
        assert reader.version() == result.version
        assert result.version.size == result.size == 10
        writer.write_raw(b"")
        assert reader.version().seq == 2
        assert bytes(reader.get()) == b""


def test_timeout_waits_for_the_first_value(writer: Writer, name: str) -> None:
    with Reader(name, timeout=TIMEOUT) as reader:
        timer = threading.Timer(0.05, writer.write, args=("late",))
        timer.start()
        assert reader.get() == "late"
        timer.join()


def test_unlinked_and_published_again(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        writer.write_raw(b"old")
        kept = reader.get()
        writer.unlink()
        with pytest.raises(StateNotFoundError):
            reader.get()
        assert writer.write_raw(b"new").version.seq == 1
        assert bytes(reader.get()) == b"new"
        with reader.read() as snapshot:
            assert snapshot.is_switched
        assert bytes(kept) == b"old"


def test_close_is_idempotent_and_unlinks_nothing(name: str) -> None:
    writer = Writer(name)
    writer.write(1)
    reader = Reader(name)
    snapshot = reader.read()
    for handle in (writer, reader, snapshot):
        handle.close()
        handle.close()
        assert handle.closed
    with pytest.raises(ClosedError):
        reader.get()
    with pytest.raises(ClosedError):
        reader.read()
    with pytest.raises(ClosedError):
        writer.write(2)
    with pytest.raises(ClosedError):
        _ = snapshot.value
    with Synchronizer(name) as sync:
        assert sync.get() == 1
        assert sync.write(2).version.seq == 2
        sync.unlink()
    with pytest.raises(ClosedError):
        sync.write(3)
    with pytest.raises(ClosedError):
        sync.get()


def test_a_second_writer_is_told_who_holds_the_lock(writer: Writer, name: str) -> None:
    writer.write(1)
    with closing(Writer(name)) as second:
        with pytest.raises(WriteLockConflictError, match=rf"already has a writer \(pid {os.getpid()}, since"):
            second.write(2)
        with pytest.raises(BlockingIOError):
            second.unlink()
        assert writer.write(3).version.seq == 2
        writer.close()
        assert second.write(4).version.seq == 3
        assert second.stats().takeovers == 0  # the first writer was closed normally
        second.unlink()


def test_a_write_inside_a_write_is_refused(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a signal handler writes: the outer write would overwrite the segment that the inner one has published."""
    copy_into = _gather.copy_into

    def interrupted(target: memoryview, payload: Payload, *arrived: Any) -> None:
        with pytest.raises(WriteLockConflictError, match="a signal handler wrote"):
            writer.write("inner")
        copy_into(target, payload, *arrived)

    monkeypatch.setattr(_gather, "copy_into", interrupted)
    assert writer.write("outer").version.seq == 1
    with Reader(name) as reader:
        assert reader.get() == "outer"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "/a", "nul\0", "x" * 201, "x" * 300, "spaß", "a b", None, 7])
def test_bad_names(bad: Any) -> None:
    for kind in (Reader, Writer, Synchronizer):
        with pytest.raises(InvalidArgumentError, match="use 1 to 200 ASCII letters"):
            kind(bad)


def test_longest_name() -> None:
    name = f"x{os.getpid()}".ljust(200, "x")
    with Writer(name) as writer, Reader(name) as reader:
        writer.write(1)
        assert reader.get() == 1
        writer.unlink()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "yaml"}, "unknown codec 'yaml'; choose one of msgpack, "),
        ({"grace_duration": -1}, "grace_duration must be 0 seconds or more, not -1"),
        ({"grace_duration": "soon"}, "grace_duration must be seconds or a timedelta, not 'soon'"),
        ({"grace_duration": float("nan")}, "grace_duration must be 0 seconds or more, not nan"),
        ({"max_readers": 0}, "max_readers must be an int from 1 to 65536, not 0"),
        ({"max_readers": 1 << 20}, "max_readers must be an int from 1 to 65536, not 1048576"),
        ({"mode": 0o400}, "the owner read and write, such as 0o640, not 0o400"),
        ({"mode": 0o1600}, "read and write, such as 0o640, not 0o1600"),
        ({"mode": "640"}, "permission bits such as 0o640, not '640'"),
        ({"max_backoff": timedelta(seconds=-1)}, "max_backoff must be 0 seconds or more, not datetime.timedelta"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    for kind in (Writer, Synchronizer):
        with pytest.raises(InvalidArgumentError, match=message):
            kind("never", **options)


def test_a_bad_mode_is_shown_in_octal() -> None:
    with pytest.raises(InvalidArgumentError, match="not 0o700"):
        Writer("never", mode=0o700)


def test_bad_grace_publishes_nothing(writer: Writer, name: str) -> None:
    writer.write(1)
    with pytest.raises(InvalidArgumentError):
        writer.write(2, grace_duration=-0.1)
    with Reader(name) as reader:
        assert reader.get() == 1


def test_snapshots_refuse_to_pickle(writer: Writer, name: str) -> None:
    writer.write(1)
    with Reader(name) as reader, reader.read() as snapshot, pytest.raises(TypeError, match="Snapshot"):
        pickle.dumps(snapshot)


def test_handles_pickle_with_their_options(name: str) -> None:
    writer = pickle.loads(pickle.dumps(Writer(name, codec="raw", grace_duration=0, max_readers=3)))
    reader = pickle.loads(pickle.dumps(Reader(name, timeout=0.25)))
    sync = pickle.loads(pickle.dumps(Synchronizer(name, codec="raw")))
    writer.write(b"bytes")
    assert bytes(reader.get()) == bytes(sync.get()) == b"bytes"
    assert (SHM / f"{name}_readers").stat().st_size == 128 + 3 * 64
    writer.unlink()


def test_every_option_survives_pickling() -> None:
    reading: dict[str, Any] = {"type": dict[str, int], "timeout": 0.25, "allow_pickle": True, "owner": 1}
    reading |= {"zero_copy_bytes": True, "dec_hook": operator.add, "frozen": False}
    writing: dict[str, Any] = {"enc_hook": operator.neg}
    writing |= {"codec": "archive", "mode": 0o640, "grace_duration": 3.0, "max_readers": 3}
    writing |= {"max_backoff": 0.004, "lock_timeout": 0.5, "reuse_memory": True}
    for kind, options in ((Reader, reading), (Writer, writing), (Synchronizer, {**reading, **writing})):
        copy = pickle.loads(pickle.dumps(kind("never", **options)))
        assert type(copy) is kind
        assert copy._options() == options


def test_a_closed_handle_is_named_by_its_type() -> None:
    for handle in (Reader[Any]("never"), Synchronizer[Any]("never")):
        handle.close()
        with pytest.raises(ClosedError, match=f"the {type(handle).__name__} of 'never' is closed"):
            handle.get()


def test_repr_shows_name_and_state(writer: Writer, name: str) -> None:
    reader = Reader(name)
    assert repr(reader) == f"<Reader {name!r}, detached>"
    writer.write(5)
    with reader.read() as snapshot:
        assert repr(snapshot) == f"<open Snapshot of {name!r}, version 1, 1 bytes>"
    assert repr(snapshot).startswith("<closed")
    assert repr(reader) == f"<Reader {name!r}, at version 1>"
    assert repr(writer) == f"<Writer {name!r}, open, 1 writes>"
    reader.close()
    assert repr(reader) == f"<Reader {name!r}, closed>"


def test_every_error_is_also_a_builtin_exception() -> None:
    builtins = {
        "StateReadError": OSError,
        "StateNotFoundError": FileNotFoundError,
        "UninitializedStateError": LookupError,
        "DataReadError": OSError,
        "DataWriteError": OSError,
        "CapacityError": OSError,
        "EntityWriteError": ValueError,
        "EntityReadError": ValueError,
        "IntegrityError": ValueError,
        "InvalidArgumentError": ValueError,
        "InvalidInstanceVersionError": ValueError,
        "LayoutMismatchError": RuntimeError,
        "WriteLockConflictError": BlockingIOError,
        "ReadersFullError": BlockingIOError,
        "ClosedError": ValueError,
        "MissingExtraError": ImportError,
        "UnsupportedInterpreterError": ImportError,
    }
    for kind, builtin in builtins.items():
        error = getattr(shmsync, kind)
        assert issubclass(error, builtin)
        assert issubclass(error, shmsync.ShmSyncError)
        copy = pickle.loads(pickle.dumps(error(5, "text") if issubclass(error, OSError) else error("text")))
        assert type(copy) is error
        assert "text" in str(copy)


def test_uninitialized_state(name: str) -> None:
    (SHM / f"{name}_state").touch()
    try:
        with Reader(name) as reader, pytest.raises(UninitializedStateError, match="has no value yet"):
            reader.get()
        with Reader(name) as reader:
            assert reader.get(default=3) == 3
        with Writer(name) as writer:  # its creator died there: the next writer takes over
            assert writer.write(1).version.seq == 1
            writer.unlink()
    finally:
        (SHM / f"{name}_state").unlink(missing_ok=True)


def test_a_waiting_read_does_not_block_close(name: str) -> None:
    """Regression: a read waited under the handle's lock, so close blocked and the timeouts of threads added up."""
    reader = Reader(name, timeout=NEVER)
    raised: list[Exception] = []

    def read() -> None:
        try:
            reader.get()
        except ClosedError as error:
            raised.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    reader.close()
    for thread in threads:
        thread.join(TIMEOUT)
    assert len(raised) == 3


def test_a_buffer_that_its_user_releases(writer: Writer, name: str) -> None:
    writer.write_raw(b"payload")
    with Reader(name).read() as snapshot:
        with snapshot.buffer as view:
            assert bytes(view) == b"payload"
        assert bytes(snapshot.buffer) == bytes(snapshot.value) == b"payload"


def test_a_reader_table_removed_from_outside(writer: Writer, name: str) -> None:
    """New readers could not attach, so the next writer creates a new incarnation, and attached readers follow."""
    writer.write(1)
    with Reader(name) as reader:
        assert reader.get() == 1
        writer.close()
        (SHM / f"{name}_readers").unlink()
        with Writer(name) as successor:
            successor.write(2)
        assert reader.get() == 2
        with Reader(name) as late:
            assert late.get() == 2


def test_a_mode_that_only_lets_others_write_gives_them_no_access(name: str) -> None:
    with Writer(name, mode=0o622) as writer:
        writer.write(1)
        assert {path.stat().st_mode & 0o777 for path in SHM.glob(f"{name}_*")} == {0o600}
        writer.unlink()


def test_a_synchronizer_has_statistics_of_reads_and_writes(name: str) -> None:
    with Synchronizer[int](name) as both:
        both.write(1)
        both.write(2)
        assert both.get() == 2
        assert (both.writer_stats().writes, both.stats().values) == (2, 1)
        both.unlink()
