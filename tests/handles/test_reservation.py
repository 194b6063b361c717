"""Publish in place: leaving the block publishes the content of its memory as the next version, or publishes nothing."""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import SHM, Alarms, Child, State, checksum

from shmsync import (
    CapacityError,
    ClosedError,
    InvalidArgumentError,
    Reader,
    Synchronizer,
    WriteLockConflictError,
    Writer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with closing(Writer(name, grace_duration=0)) as writer:
        yield writer
    with Writer(name) as last:
        last.unlink()


def test_leaving_the_block_publishes(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        for number in range(1, 6):
            content = os.urandom(1000 * number)
            with writer.reserve(len(content)) as slot:
                assert slot.result is None
                assert len(slot.buffer) == slot.size == len(content)
                slot.buffer[:] = content
                if number > 1:
                    assert bytes(reader.get()) != content
            assert slot.result is not None
            assert slot.result.version.seq == number
            assert slot.result.version.checksum == checksum(content)
            with reader.read(check_bytes=True) as snapshot:
                assert bytes(snapshot.value) == content


def test_an_exception_publishes_nothing(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        writer.write("before")
        for _ in range(3):
            slot = writer.reserve(100)
            with pytest.raises(ZeroDivisionError), slot:
                slot.buffer[:] = bytes([1 // 0])
            assert slot.result is None
            assert reader.get() == "before"
        assert writer.write("after").version.seq == 2
        assert reader.get() == "after"
        assert writer.stats().writes == 2


def test_an_exception_in_a_first_block_leaves_nothing(name: str) -> None:
    with closing(Writer(name)) as writer:
        with pytest.raises(ZeroDivisionError), writer.reserve(100):
            print(1 // 0)
        assert not list(SHM.glob(f"{name}*"))


def test_arrays_in_place(writer: Writer, name: str) -> None:
    with writer.reserve(1000) as slot:
        weights = slot.ndarray((10, 20), "f4")
        tail = slot.ndarray(25, np.int64, offset=800)
        weights[:] = np.arange(200).reshape(10, 20)
        tail[:] = 7
        assert weights.__array_interface__["data"][0] % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0] = 1
    with Reader(name) as reader:
        found = reader.get()
        assert (np.frombuffer(found, "f4", 200) == np.arange(200)).all()
        assert (np.frombuffer(found, "i8", 25, 800) == 7).all()
        writer.write("next")
        del found
    assert weights.shape == (10, 20)  # it may outlive the block


def test_the_buffer_ends_with_the_block(writer: Writer) -> None:
    with writer.reserve(10) as slot:
        buffer = slot.buffer
        buffer[:] = bytes(10)
    with pytest.raises(ValueError, match="released"):
        buffer[0] = 1
    for use in (lambda: slot.buffer, lambda: slot.ndarray(1)):
        with pytest.raises(ClosedError, match="inside its `with` block"):
            use()
    with writer.reserve(10) as slot:
        array = np.frombuffer(slot.buffer, "u1")  # an export that is still alive: no BufferError
    assert slot.result is not None
    assert len(array) == 10


@pytest.mark.parametrize(
    ("shape", "dtype", "offset"),
    [
        (11, "u1", 0),
        (10, "u1", 1),
        (1, "u1", -1),
        (1, "u1", -64),
        (2, "f8", 0),
        (1, "O", 0),
        (1, "nonsense", 0),
        (-1, "u1", 0),
        ("x", "u1", 0),
    ],
)
def test_arrays_that_do_not_fit(writer: Writer, name: str, shape: Any, dtype: Any, offset: int) -> None:
    with writer.reserve(10) as slot:
        with pytest.raises(InvalidArgumentError, match="in 10 bytes"):
            slot.ndarray(shape, dtype, offset=offset)
        slot.buffer[:] = b"0123456789"
    with Reader(name) as reader:
        assert reader.get() == b"0123456789"


@pytest.mark.parametrize("size", [-1, 1.5, "10", None, True, 2**63, 2**63 - 1])
def test_bad_sizes(writer: Writer, size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must be an int from 0 to 9223372036854775743, in bytes"):
        writer.reserve(size)


def test_a_reservation_of_zero_bytes(writer: Writer, name: str) -> None:
    with writer.reserve(0):
        pass
    with Reader(name) as reader:
        assert bytes(reader.get()) == b""


def test_a_reservation_larger_than_memory(writer: Writer, name: str) -> None:
    writer.write("before")
    with pytest.raises(CapacityError), writer.reserve(2**55):
        pass
    with Reader(name) as reader:
        assert reader.get() == "before"
    assert writer.write("after").version.seq == 2


@pytest.mark.parametrize("kind", ["write", "reserve"])
def test_a_write_inside_the_block_supersedes_it(writer: Writer, name: str, kind: str) -> None:
    """It uses another segment, so later writes to the block's memory are never published."""
    with Reader(name) as reader:
        for number in range(3):
            with pytest.raises(ClosedError, match="nothing was published"), writer.reserve(5) as slot:
                stale = slot.buffer[:]
                slot.buffer[:] = b"outer"
                if kind == "write":
                    writer.write_raw(b"inner")
                else:
                    with writer.reserve(5) as other:
                        other.buffer[:] = b"inner"
                stale[:] = b"stale"
                assert reader.get() == b"inner"
            stale[:] = b"stale"
            assert slot.result is None
            assert reader.get() == b"inner"
            assert writer.stats().writes == number + 1


def test_another_writer_does_not_share_the_memory_of_the_block(writer: Writer, name: str) -> None:
    writer.write_raw(b"before")
    with pytest.raises(ClosedError), writer.reserve(6) as slot:
        stale = slot.buffer[:]
        writer.close()
        with closing(Writer(name)) as second, Reader(name) as reader:
            second.write_raw(b"second")
            stale[:] = b"stale!"
            assert reader.get() == b"second"


def test_closed_in_a_first_block_leaves_nothing(name: str) -> None:
    writer = Writer(name)
    with pytest.raises(ClosedError), writer.reserve(6):
        writer.close()
    assert not list(SHM.glob(f"{name}*"))


def test_left_in_another_thread(writer: Writer, name: str) -> None:
    reservation = writer.reserve(3)
    reservation.__enter__().buffer[:] = b"abc"
    leaver = threading.Thread(target=reservation.__exit__, args=(None, None, None))
    leaver.start()
    leaver.join()
    with Reader(name) as reader:
        assert reader.get() == b"abc"
        thread = threading.Thread(target=writer.write, args=("next",))
        thread.start()
        thread.join()
        assert reader.get() == "next"


def test_never_left(writer: Writer, name: str) -> None:
    """The block was dropped, its thread ended, or a signal handler raised: the next write succeeds."""
    writer.write("before")
    writer.reserve(3).__enter__()
    other = threading.Thread(target=writer.write, args=("dropped",))
    other.start()
    other.join()
    kept = writer.reserve(3)
    other = threading.Thread(target=kept.__enter__)
    other.start()
    other.join()
    writer.write("its thread has ended")
    kept = writer.reserve(3)
    kept.__enter__()
    writer.write("here again")
    with Reader(name) as reader:
        assert reader.get() == "here again"
    with pytest.raises(ClosedError, match="nothing was published"):
        kept.__exit__(None, None, None)
    with pytest.raises(ClosedError, match="or the block was not entered"):
        writer.reserve(3).__exit__(None, None, None)


def test_used_twice(writer: Writer, name: str) -> None:
    slot = writer.reserve(3)
    with slot:
        slot.buffer[:] = b"one"
        with pytest.raises(ClosedError, match="open already"):
            slot.__enter__()
    first = slot.result
    with slot:
        assert slot.result is None
        slot.buffer[:] = b"two"
    assert first is not None
    assert slot.result is not None
    assert slot.result.version.seq == first.version.seq + 1
    with Reader(name) as reader:
        assert reader.get() == b"two"


class Alarm(Exception):  # noqa: N818
    pass


def interrupted_writes(_: State, name: str, attempts: int) -> None:
    """Write and reserve while a timer raises at any instruction, until enough attempts succeeded and failed."""

    def raise_alarm(*_: object) -> None:
        raise Alarm

    rng = random.Random(1)
    alarms = Alarms(1)
    signal.signal(signal.SIGALRM, raise_alarm)
    with Writer(name, grace_duration=0) as writer:
        while not alarms.enough(attempts):
            try:
                alarms.arm()
                if rng.random() < 0.5:
                    writer.write({"a": 1})
                else:
                    with writer.reserve(100) as slot:
                        slot.buffer[:] = bytes(100)
                alarms.disarm()
                alarms.success()
            except Alarm:
                alarms.interruption()
        writer.write("at last")


def test_signals_that_raise_do_not_stop_the_writer(name: str) -> None:
    try:
        with Child() as child:
            child.call(interrupted_writes, name, 2000)
        with Reader(name) as reader:
            assert reader.get() == "at last"
    finally:
        with Writer(name) as last:
            last.unlink()


def test_writes_of_other_threads_wait(writer: Writer, name: str) -> None:
    with writer.reserve(5) as slot:
        other = threading.Thread(target=writer.write, args=("other",))
        other.start()
        other.join(0.05)
        assert other.is_alive()
        slot.buffer[:] = b"first"
    other.join()
    assert slot.result is not None
    assert slot.result.version.seq == 1
    with Reader(name) as reader:
        assert reader.get() == "other"
        assert reader.version().seq == 2


def test_closed_or_unlinked_in_the_block(writer: Writer, name: str) -> None:
    writer.write("before")
    with pytest.raises(ClosedError, match="nothing was published"), writer.reserve(5):
        writer.unlink()
    assert not list(SHM.glob(f"{name}*"))
    assert writer.write("again").version.seq == 1
    with Reader(name) as reader:
        with pytest.raises(ClosedError), writer.reserve(5):
            writer.close()
        assert reader.get() == "again"


def test_readers_never_see_the_memory_of_an_open_block(writer: Writer, name: str) -> None:
    """Readers attach, pin, retain and unpin while the block is open."""
    with Reader(name) as early:
        for number in range(20):
            writer.write_raw(bytes([number]) * 500)
            kept = early.get()
            with writer.reserve(500) as slot:
                slot.buffer[:] = b"\xff" * 500
                with Reader(name) as late, late.read() as snapshot, early.read() as other:
                    assert bytes(snapshot.value) == bytes(other.value) == bytes(kept) == bytes([number]) * 500
            assert bytes(early.get()) == b"\xff" * 500
            assert bytes(kept) == bytes([number]) * 500


def test_a_retained_value_makes_the_reservation_use_new_memory(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        writer.write_raw(b"1" * 100)
        held = reader.get()
        writer.write_raw(b"2" * 100)
        with writer.reserve(100) as slot:
            slot.buffer[:] = b"3" * 100
            assert bytes(held) == b"1" * 100


def open_block(state: State, name: str) -> None:
    state.writer = Writer(name)
    state.writer.write("before")
    state.reservation = state.writer.reserve(4)
    state.slot = state.reservation.__enter__()
    state.slot.buffer[:] = b"half"


def test_killed_in_the_block(name: str) -> None:
    with Child() as child:
        child.call(open_block, name)
        with Reader(name) as reader:
            assert reader.get() == "before"
            child.kill()
            with Writer(name) as writer:
                assert writer.write("after").version.seq == 2
                assert reader.get() == "after"
                assert writer.stats().takeovers == 1
                writer.unlink()


def leave_block(state: State) -> str:
    try:
        state.reservation.__exit__(None, None, None)
    except WriteLockConflictError as error:
        return str(error)
    return "published"


def test_forked_in_the_block(name: str) -> None:
    """The child cannot publish its parent's reservation; the parent can."""
    with Child() as child:
        child.call(open_block, name)
        forked = child.fork()
        assert "inherited by a fork" in forked.call(leave_block)
        with Reader(name) as reader:
            assert reader.get() == "before"
            assert child.call(leave_block) == "published"
            assert reader.get() == b"half"
        forked.close()
        with pytest.raises(WriteLockConflictError), closing(Writer(name)) as second:
            second.unlink()
    with Writer(name) as last:
        last.unlink()


def test_a_synchronizer_reserves_too(name: str) -> None:
    with Synchronizer(name) as sync:
        with sync.reserve(3) as slot:
            assert "open" in repr(slot)
            slot.buffer[:] = b"abc"
        assert repr(slot) == f"<Reservation of 3 bytes in {name!r}, published>"
        assert sync.get() == b"abc"
        sync.unlink()


def test_entered_only_when_the_block_is(writer: Writer, name: str) -> None:
    reservation = writer.reserve(10)
    assert not list(SHM.glob(f"{name}*"))
    assert "not open" in repr(reservation)
    with Reader(name) as reader:
        assert reader.get(default=None) is None
