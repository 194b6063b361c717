"""The four rules of the protocol, and recovery from interruptions, each in the interleaving that requires it.

The handles and segments are real; only the order of steps is controlled. (tests/model searches all orders.)
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT

from shmsync import Reader, Writer
from shmsync._core import slots
from shmsync._core.layout import EVICTED, ONE
from shmsync._handles.reader import _NO_FAST
from shmsync._session.data import DataSegments
from shmsync._shm import segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAYLOADS = [bytes([number]) * 1000 for number in range(10)]


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    """A writer that never waits."""
    with Writer(name, grace_duration=0) as writer:
        writer.write_raw(PAYLOADS[1])
        yield writer
        writer.unlink()


def during_fill(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run `action` once, when the writer has finished its scan and is about to write."""
    fill = DataSegments.write

    def hooked(self: DataSegments, *arguments: Any) -> int:
        monkeypatch.setattr(DataSegments, "write", fill)
        action()
        return fill(self, *arguments)

    monkeypatch.setattr(DataSegments, "write", hooked)


def pin_word(reader: Reader) -> int:
    assert reader._attachment is not None
    return reader._attachment.slot().words.pin.load()


def test_rule_a_a_pin_on_an_outdated_version_protects_nothing(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader loads version 1, but pins only after the writer has scanned for version 3; it must detect that."""
    loaded, go, entered, filled = (threading.Event() for _ in range(4))
    seen: list[bytes] = []
    with Reader(name) as reader:
        reader.read().close()
        slot = reader._fast[0]
        pin = slot.enter[0]

        def late() -> None:
            loaded.set()
            assert go.wait(TIMEOUT)
            pin()

        def read() -> None:
            with reader.read() as snapshot:
                seen.append(bytes(snapshot.buffer))
                entered.set()
                assert filled.wait(TIMEOUT)
                seen.append(bytes(snapshot.buffer))

        slot.enter = (late, slot.enter[1])
        thread = threading.Thread(target=read)
        thread.start()
        assert loaded.wait(TIMEOUT)
        writer.write_raw(PAYLOADS[2])

        def let_it_pin() -> None:
            go.set()
            assert entered.wait(TIMEOUT)

        during_fill(monkeypatch, let_it_pin)
        writer.write_raw(PAYLOADS[3])
        filled.set()
        thread.join()
        assert seen == [PAYLOADS[2], PAYLOADS[2]]
        assert pin_word(reader) & ~EVICTED == 0


def test_rule_a_the_announcement_holds_both_segments(writer: Writer, name: str) -> None:
    """A writer that finds an announcement must replace the inode, whichever segment is next."""
    with Reader(name) as reader:
        reader.read().close()
        slot, version, *_ = reader._fast
        steps, load = slot.enter, version.load
        replaced: list[int] = []

        class Moving:
            """The version word; the writer publishes after the reader's first load and after its announcement."""

            load_relaxed = staticmethod(version.load_relaxed)
            loads = 0

            def load(self) -> int:
                self.loads += 1
                if self.loads == 2:  # the load under announcement
                    before = writer.stats().replaced
                    writer.write_raw(PAYLOADS[3])
                    replaced.append(writer.stats().replaced - before)
                return load()

        def late() -> None:
            slot.enter = steps
            writer.write_raw(PAYLOADS[2])
            steps[0]()

        slot.enter = (late, steps[1])
        reader._fast = _NO_FAST  # it never announces
        assert reader._attachment is not None
        reader._attachment.version = Moving()  # type: ignore[assignment]
        with reader.read() as snapshot:
            assert bytes(snapshot.buffer) == PAYLOADS[3]
            assert replaced == [1]
            writer.write_raw(PAYLOADS[4])
            writer.write_raw(PAYLOADS[5])
            assert bytes(snapshot.buffer) == PAYLOADS[3]


def test_rule_b_what_was_mapped_under_eviction_is_not_used(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the reader pins and before it opens the name, the writer evicts it and replaces the inode."""
    opened = segment.open_segment
    calls = []

    def late(segment: str, *, writable: bool) -> Any:
        calls.append(segment)
        if len(calls) == 1:
            writer.write_raw(PAYLOADS[2])
            assert writer.write_raw(PAYLOADS[3]).reset
        return opened(segment, writable=writable)

    monkeypatch.setattr("shmsync._session.attachment.open_segment", late)
    with Reader(name) as reader:
        assert bytes(reader.get()) == PAYLOADS[3]
        assert len(calls) == 2
        assert pin_word(reader) == 0


def test_rule_b_a_name_missing_under_eviction_is_no_error(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evicted reader opens the name after it is unlinked and before it is created again."""
    create = DataSegments._create
    opened = segment.open_segment
    reader = Reader(name)
    results: list[bytes] = []

    def read_in_between(self: DataSegments, *arguments: Any) -> None:
        monkeypatch.setattr(DataSegments, "_create", create)
        os.unlink(f"/dev/shm/{name}_data_0")  # noqa: PTH108
        go.set()
        assert gone.wait(TIMEOUT)
        create(self, *arguments)

    def late(segment: str, *, writable: bool) -> Any:
        monkeypatch.setattr("shmsync._session.attachment.open_segment", opened)
        pinned.set()
        assert go.wait(TIMEOUT)
        try:
            return opened(segment, writable=writable)
        finally:
            gone.set()

    pinned, go, gone = (threading.Event() for _ in range(3))
    monkeypatch.setattr("shmsync._session.attachment.open_segment", late)
    thread = threading.Thread(target=lambda: results.append(bytes(reader.get())))
    thread.start()
    assert pinned.wait(TIMEOUT)
    writer.write_raw(PAYLOADS[2])
    monkeypatch.setattr(DataSegments, "_create", read_in_between)
    writer.write_raw(PAYLOADS[3])
    thread.join()
    assert results in ([PAYLOADS[2]], [PAYLOADS[3]])
    reader.close()


def test_rule_c_an_evicted_reader_costs_one_inode_for_each_index(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        first = reader.read()
        writer.write_raw(PAYLOADS[2])
        second = reader.read()
        before = writer.stats().replaced
        results = [writer.write_raw(PAYLOADS[number]) for number in range(3, 9)]
        assert [result.reset for result in results] == [True] + 5 * [False]
        assert writer.stats().replaced == before + 2
        assert bytes(first.buffer) == PAYLOADS[1]
        assert bytes(second.buffer) == PAYLOADS[2]
        with reader.read() as third:  # through another slot: this thread does not wait for the other snapshots
            assert bytes(third.buffer) == PAYLOADS[8]
        first.close()
        second.close()


def test_an_eviction_is_cleared_when_nothing_is_pinned(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        snapshot = reader.read()
        writer.write_raw(PAYLOADS[2])
        writer.write_raw(PAYLOADS[3])
        assert pin_word(reader) == EVICTED + ONE[0]
        snapshot.close()
        assert bytes(reader.get()) == PAYLOADS[3]
        assert pin_word(reader) == 0
        # A second eviction requires a second replacement.
        snapshot = reader.read()
        writer.write_raw(PAYLOADS[4])
        writer.write_raw(PAYLOADS[5])
        assert bytes(snapshot.buffer) == PAYLOADS[3]
        snapshot.close()


def test_rule_d_a_retained_generation_is_replaced_without_waiting(name: str) -> None:
    with Writer(name, grace_duration=3600) as writer, Reader(name) as reader:
        writer.write_raw(PAYLOADS[1])
        view = reader.get()
        for number in range(2, 8):
            assert not writer.write_raw(PAYLOADS[number]).reset
        assert writer.stats().replaced == 3
        assert bytes(view) == PAYLOADS[1]
        writer.unlink()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.time += seconds


def test_all_readers_together_cost_one_grace(writer: Writer, name: str) -> None:
    """Invariant 3: the grace duration bounds the whole write, however many slots block it."""
    readers = [Reader(name) for _ in range(5)]
    snapshots = [reader.read() for reader in readers]
    writer.write_raw(PAYLOADS[2])
    assert writer._ownership is not None
    writer._ownership._publisher._clock = clock = Clock()
    assert writer.write_raw(PAYLOADS[3], grace_duration=7.0).reset
    assert clock.time == pytest.approx(7.0)
    for number in range(4, 8):
        assert not writer.write_raw(PAYLOADS[number], grace_duration=7.0).reset
    assert clock.time == pytest.approx(7.0)
    for reader, snapshot in zip(readers, snapshots, strict=True):
        assert bytes(snapshot.buffer) == PAYLOADS[1]
        snapshot.close()
        reader.close()


def test_rule_d_a_writer_waits_for_a_hazard_no_longer_than_a_replacement_takes(writer: Writer, name: str) -> None:
    """A reader that polls drops its value with its next `get`; then there is nothing to replace."""
    large = bytes(50 << 20)
    with Reader(name) as reader:
        values: list[Any] = []
        for _ in range(2):
            writer.write_raw(large)
            values = [reader.get()]
        writer.write_raw(large)
        assert writer._ownership is not None
        publisher = writer._ownership._publisher
        publisher._clock = clock = Clock()
        cost = writer._ownership.data.replacement_cost(len(large))
        assert cost > 0.01

        def sleep(seconds: float) -> None:
            Clock.sleep(clock, seconds)
            if clock.time > 0.005:
                values[:] = [reader.get()]

        replaced = writer.stats().replaced
        for grace, waited in ((0.0, 0.0), (0.003, 0.003), (3600.0, cost)):  # the reader keeps its value
            values = [reader.get()]
            writer.write_raw(large)
            before = clock.time
            writer.write_raw(large, grace_duration=grace)
            assert clock.time - before == pytest.approx(waited, abs=2e-4)
            replaced += 1
            assert writer.stats().replaced == replaced
        values = [reader.get()]
        clock.sleep = sleep  # type: ignore[method-assign]
        clock.time = 0
        for _ in range(2):
            writer.write_raw(large, grace_duration=3600)
        assert writer.stats().replaced == replaced
        assert 0.005 < clock.time < cost


def test_an_interruption_before_the_generation_is_bumped(writer: Writer, name: str) -> None:
    """The new inode already has its name; written under the old generation, it would be mistaken for the old inode."""
    large = [payload * 100 for payload in PAYLOADS]
    with Reader(name) as reader:
        for number in range(2, 4):
            writer.write_raw(PAYLOADS[number])
            reader.get()
        assert writer._ownership is not None
        publisher = writer._ownership._publisher
        generations = publisher._generations

        class Interrupting:
            load = staticmethod(generations[1].load)

            def store(self, _: int) -> None:
                raise KeyboardInterrupt

        publisher._generations = (generations[0], Interrupting())  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            writer.write_raw(large[4])
        publisher._generations = generations
        assert bytes(reader.get()) == PAYLOADS[3]
        for number in range(4, 8):
            assert writer.write_raw(large[number]).version.seq == number
            assert bytes(reader.get()) == large[number]


@pytest.mark.parametrize("step", ["replace", "write"])
def test_an_interrupted_replacement_is_made_by_the_next_write(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A signal handler raises in the middle of a publish; the next write must not reuse the evicted reader's inode."""
    with Reader(name) as reader, reader.read() as snapshot:
        writer.write_raw(PAYLOADS[2])
        original = getattr(DataSegments, step)

        def interrupted(*_: Any) -> None:
            monkeypatch.setattr(DataSegments, step, original)
            raise KeyboardInterrupt

        monkeypatch.setattr(DataSegments, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.write_raw(PAYLOADS[3])
        assert reader.version().seq == 2
        for number in range(3, 7):
            assert writer.write_raw(PAYLOADS[number]).version.seq == number
        assert bytes(snapshot.buffer) == PAYLOADS[1]


def test_an_interrupted_enter_or_leave_leaks_no_pin(writer: Writer, name: str) -> None:
    """After an exception right after the pin, it is unknown whether it was counted: the whole slot is freed."""
    with Reader(name) as reader:
        for direction in ("enter", "leave"):
            reader.read().close()
            slot = reader._fast[0]
            steps = getattr(slot, direction)

            def step_and_raise(step: Callable[[], None] = steps[0]) -> None:
                step()
                raise KeyboardInterrupt

            setattr(slot, direction, (step_and_raise, step_and_raise))
            with pytest.raises(KeyboardInterrupt), reader.read():
                pass
            words = slot.words
            del slot, steps, step_and_raise
            assert words.pin.load() == 0
            with reader.read() as snapshot:
                assert bytes(snapshot.buffer) == PAYLOADS[1]
        writer.write_raw(PAYLOADS[2])
        assert not writer.write_raw(PAYLOADS[3]).reset


def test_a_released_slot_is_not_reaped(writer: Writer, name: str) -> None:
    """Regression: a write that had seen a pin reported a reset if the slot was released a moment later."""
    writer.write(1)
    with Reader(name) as reader:
        reader.get()
    assert writer._ownership is not None
    assert not slots.reap(writer._ownership._table, 0)
