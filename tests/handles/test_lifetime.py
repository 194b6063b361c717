"""Invariants 1 and 6: a returned value does not change while it is referenced; its memory is released afterwards."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers import slots_locked

from shmsync import ClosedError, Reader, Writer
from shmsync._core.layout import SLOT_SIZE, SLOTS_AT

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM = Path("/dev/shm")


def slots_in_use(name: str) -> list[bytes]:
    """Return the words (pin, hazard 0, hazard 1) of the slots that are not all zero."""
    table = (SHM / f"{name}_readers").read_bytes()
    words = (table[at : at + 24] for at in range(SLOTS_AT, len(table), SLOT_SIZE))
    return [slot for slot in words if any(slot)]


def mapped(name: str) -> int:
    """Count this process's mappings of data segments."""
    return sum(f"/{name}_data_" in line for line in Path("/proc/self/maps").read_text().splitlines())


def publish(writer: Writer, times: int) -> None:
    for _ in range(times):
        writer.write_raw(os.urandom(1000))


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with Writer(name, grace_duration=0) as writer:
        yield writer
        writer.unlink()


def test_views_outlive_block_handle_and_later_publishes(writer: Writer, name: str) -> None:
    payload = os.urandom(1000)
    writer.write_raw(payload)
    reader = Reader(name)
    with reader.read() as snapshot:
        view = snapshot.value[100:200]
    publish(writer, 10)
    assert bytes(view) == payload[100:200]
    assert bytes(reader.get()) != payload
    reader.close()
    publish(writer, 1000)
    assert bytes(view) == payload[100:200]
    assert slots_locked(name)
    del view, snapshot
    assert not slots_locked(name)
    assert not slots_in_use(name)


def test_get_retains_its_value_without_a_block(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        views, payloads = [], []
        for number in range(8):
            payload = bytes([number]) * 500
            writer.write_raw(payload)
            views.append(reader.get())
            payloads.append(payload)
        publish(writer, 3)
        assert [bytes(view) for view in views] == payloads


def test_memory_is_released_with_the_last_view(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        views = []
        for number in range(6):
            writer.write_raw(bytes([number]) * 500)
            views.append(reader.get())
        most = mapped(name)
        assert most >= 6
        views.clear()
        publish(writer, 1)
        reader.get()
        assert mapped(name) <= 4  # two of the reader, two of the writer


def test_a_dropped_view_lets_the_writer_reuse_the_segment(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        for _ in range(4):
            publish(writer, 1)
            with reader.read() as snapshot:
                assert len(snapshot.value) == 1000
            del snapshot
        before = writer.stats().replaced
        for _ in range(10):
            publish(writer, 1)
            reader.get()
        assert writer.stats().replaced == before


def test_views_of_two_generations_of_one_segment(writer: Writer, name: str) -> None:
    writer.write_raw(b"0" * 100)
    with Reader(name) as reader:
        old = reader.read()
        old_view = old.buffer
        writer.write_raw(b"1" * 100)
        writer.write_raw(b"2" * 100)  # evicts the slot of `old`, replaces data_0
        new = reader.get()
        assert bytes(new) == b"2" * 100
        old.close()
        writer.write_raw(b"3" * 100)
        writer.write_raw(b"4" * 100)
        assert bytes(new) == b"2" * 100
        assert bytes(old_view) == b"0" * 100


def test_a_snapshot_dropped_without_close_unpins(writer: Writer, name: str) -> None:
    writer.write(1)
    with Reader(name) as reader:
        reader.read()
        gc.collect()
        assert not slots_in_use(name)


def test_snapshot_outlives_its_handle(writer: Writer, name: str) -> None:
    writer.write_raw(b"bytes")
    reader = Reader(name)
    snapshot = reader.read()
    reader.close()
    publish(writer, 5)
    assert bytes(snapshot.value) == b"bytes"
    snapshot.close()
    with pytest.raises(ClosedError):
        _ = snapshot.buffer
    del snapshot
    assert not slots_in_use(name)


def test_snapshots_nest_and_leave_in_any_order(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        snapshots, payloads = [], []
        for number in range(6):
            payload = bytes([number]) * 100
            writer.write_raw(payload)
            snapshots.append(reader.read())
            payloads.append(payload)
        assert [bytes(snapshot.value) for snapshot in snapshots] == payloads
        for number in (3, 0, 5, 1, 4, 2):
            snapshots[number].close()
        del snapshots
        reader.read().close()
        assert not slots_in_use(name)


def test_arrays_retain_the_memory(writer: Writer, name: str) -> None:
    numpy = pytest.importorskip("numpy")
    values = numpy.arange(1000, dtype="f4")
    writer.write_raw(values)
    with Reader(name) as reader:
        array = numpy.frombuffer(reader.get(), dtype="f4")
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True
        publish(writer, 20)
        reader.get()
        assert (array == values).all()


def test_threads_share_a_handle(writer: Writer, name: str) -> None:
    """Four threads read at full speed while the writer never waits: no read is torn, and no slot is leaked."""
    writer.write_raw(bytes(4096))
    errors: list[str] = []
    with Reader(name) as reader:
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                with reader.read() as snapshot:
                    if len(set(bytes(snapshot.buffer))) != 1:
                        errors.append(f"torn read of version {snapshot.version.seq}")
                if len(set(bytes(reader.get()))) != 1:
                    errors.append("torn get")

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(1500):
            writer.write_raw(bytes([number & 255]) * 4096)
        done.set()
        for thread in threads:
            thread.join()
        assert not errors
        publish(writer, 1)
        reader.get()
    gc.collect()
    assert not slots_in_use(name)
