"""Claims of reader slots in tables with many readers: counted in locks that are tried and segments that are opened."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest
from helpers import slots_locked, until

from shmsync import Reader, ReadersFullError, StateReadError, Writer
from shmsync._core import slots
from shmsync._core.layout import HIGH_WATER, MAX_READERS, SLOT_SIZE, slot_offset
from shmsync._core.protocol import LOWER_MASK
from shmsync._core.slots import PROBES
from shmsync._session import reader_table
from shmsync._session.control import open_control_segment
from shmsync._shm import ofd_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync._session.reader_table import WriterTable

MANY = 200


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with Writer(name, max_readers=MAX_READERS) as writer:
        writer.write(0)
        yield writer
        writer.unlink()


class Counted:
    """The locks that are tried and the segments that are opened, while this replaces their functions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[int] = []
        self.opened = 0
        try_lock, open_segment = ofd_locks.try_lock, open_control_segment

        def counted_try(fd: int, offset: int, **options: Any) -> bool:
            self.tried.append(offset)
            return try_lock(fd, offset, **options)

        def counted_open(*arguments: Any, **options: Any) -> Any:
            self.opened += 1
            return open_segment(*arguments, **options)

        monkeypatch.setattr(ofd_locks, "try_lock", counted_try)
        monkeypatch.setattr(reader_table, "open_control_segment", counted_open)


def table_of(writer: Writer) -> WriterTable:
    assert writer._ownership is not None
    return writer._ownership._table


def mark(writer: Writer) -> int:
    return table_of(writer).high_water.load() & HIGH_WATER


def attach(name: str, count: int) -> list[Reader]:
    readers = [Reader(name) for _ in range(count)]
    for reader in readers:
        reader.read().close()
    return readers


def close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()


@pytest.fixture
def held_below(name: str, writer: Writer) -> Iterator[tuple[int, int]]:
    """Lock all slots but one, as 65,535 readers would; yield the slot that is free, and a descriptor."""
    free = MAX_READERS - 1000
    fd = os.open(f"/dev/shm/{name}_readers", os.O_RDWR)
    for first, end in ((0, free), (free + 1, MAX_READERS)):
        flock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, slot_offset(first), SLOT_SIZE * (end - first), 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, flock)
    yield free, fd
    os.close(fd)


def test_a_claim_among_many_readers_takes_few_tries(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = attach(name, MANY)
    assert mark(writer) == MANY
    counted = Counted(monkeypatch)
    readers += attach(name, 1)
    assert len(counted.tried) == PROBES + 1
    assert counted.opened == 1
    assert mark(writer) == MANY + 1
    close(readers)


def test_each_slot_has_a_description_of_its_own(writer: Writer, name: str) -> None:
    """So it outlives those of other handles, whichever slots were tried on it."""
    readers = attach(name, 3 * PROBES)
    left = [*range(3 * PROBES)]
    assert slots_locked(name) == left
    for index in (PROBES + 3, 0, 3 * PROBES - 1):
        readers[index].close()
        left.remove(index)
        assert slots_locked(name) == left
    close(readers)
    assert slots_locked(name) == []


def test_free_slots_below_the_mark_are_preferred(writer: Writer, name: str) -> None:
    readers = attach(name, MANY)
    close(readers[:-1])
    readers = [readers[-1], *attach(name, MANY // 4)]  # 3 of 4 stay free: one claim in 65,536 finds none
    assert mark(writer) <= MANY + 1
    close(readers)


def test_the_last_of_many_readers_does_not_keep_the_mark_up(writer: Writer, name: str) -> None:
    """It takes a lower slot in time; what it has pinned before stays in the old one until it is closed."""
    readers = attach(name, MANY)
    close(readers[:-1])
    reader = readers[-1]
    reader._checked_until = float("inf")  # it looks from time to time: not yet, however slow the machine is
    with reader.read() as snapshot:
        reader._checked_until = 0
        until(lambda: reads_in_slot(reader) < MANY // 2)
        assert slots_locked(name) == [reads_in_slot(reader), MANY - 1]
        for number in range(LOWER_MASK + 1):
            writer.write(number, grace_duration=0)
        assert mark(writer) == MANY
        assert snapshot.value == 0
    for number in range(LOWER_MASK + 1):
        writer.write(number)
    assert mark(writer) == reads_in_slot(reader) + 1
    assert reader.get() == LOWER_MASK
    reader.close()


def test_the_last_of_many_readers_that_only_polls(writer: Writer, name: str) -> None:
    readers = attach(name, MANY)
    value = readers[-1].get()
    close(readers[:-1])
    until(lambda: readers[-1].get() == value and max(slots_locked(name)) < MANY // 2)
    assert len(slots_locked(name)) == 1
    close(readers)


def reads_in_slot(reader: Reader) -> int:
    """Return the slot that a read enters through."""
    reader.read().close()
    return reader._fast[0].index


def test_a_reader_among_many_keeps_its_slot(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = attach(name, MANY)
    counted = Counted(monkeypatch)
    for reader in readers:
        reader._checked_until = 0
    assert [reads_in_slot(reader) for reader in readers] == [*range(MANY)]
    assert (counted.opened, len(counted.tried)) == (1, PROBES)  # only the highest has tried
    close(readers)


def test_a_reader_that_gets_no_lower_slot_reads_on(writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = attach(name, MANY)
    close(readers[:-1])

    def fail(*_: object, **__: object) -> None:
        raise StateReadError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(reader_table, "open_control_segment", fail)
    readers[-1]._checked_until = 0
    assert reads_in_slot(readers[-1]) == MANY - 1
    close(readers)


def test_few_readers_take_the_lowest_slots(writer: Writer, name: str) -> None:
    readers = attach(name, PROBES)
    for index in (2, 5, 0):
        readers[index].close()
        readers[index] = attach(name, 1)[0]
        assert slots_locked(name) == [*range(PROBES)]
    close(readers)


def test_the_last_free_slot_is_found_and_then_there_is_none(
    writer: Writer, name: str, held_below: tuple[int, int]
) -> None:
    table = table_of(writer)
    now = table.high_water.load()
    assert table.high_water.compare_exchange(now, now | MAX_READERS)  # the table has been full
    (reader,) = attach(name, 1)
    assert reader._fast[0].index == held_below[0]
    with pytest.raises(ReadersFullError, match="65536"):
        attach(name, 1)
    reader.close()


class Word:
    def __init__(self, *values: int) -> None:
        self.values = list(values)

    def load(self) -> int:
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


class Table:
    def __init__(self, max_readers: int, *marks: int) -> None:
        self.max_readers = max_readers
        self.high_water = Word(*marks)


@pytest.mark.parametrize("max_readers", [1, 2, PROBES, PROBES + 1, 100])
@pytest.mark.parametrize("mark", [0, 1, PROBES, 50, 100, HIGH_WATER])
def test_every_slot_is_tried_in_the_end(max_readers: int, mark: int) -> None:
    tried = list(slots._candidates(Table(max_readers, mark)))  # type: ignore[arg-type]
    assert set(tried) == set(range(max_readers))


def test_slots_that_others_have_claimed_since_are_skipped() -> None:
    tried = slots._candidates(Table(MANY, 20, 90))  # type: ignore[arg-type]
    assert all(next(tried) < 20 for _ in range(PROBES))
    assert [next(tried) for _ in range(4)] == [20, 90, 91, 92]


def test_a_claim_does_not_examine_all_claims_of_its_process(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examined = 0
    release = slots._release_forgotten_claims

    def counted() -> bool:
        nonlocal examined
        examined += len(slots._claims)
        return release()

    monkeypatch.setattr(slots, "_release_forgotten_claims", counted)
    others = len(slots._claims)  # of readers of other tests that are not collected yet
    readers = attach(name, MANY)
    close(readers)
    assert examined < 12 * (MANY + others)
