"""What `shmsync._shm.atomics` requires of an implementation of atomic words, for each implementation there is.

They are the C functions bound once, the package's public views, and libatomic, which is only used here. To test another
one, add it to `IMPLEMENTATIONS`. Tests cannot show the memory order: check that in its documentation.
"""

from __future__ import annotations

import gc
import mmap
import re
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import Child, State, close_reader, close_snapshot, get_value, open_snapshot, publish, snapshot_checksum
from libatomic import IS_INSTALLED, LibatomicWord

import shmsync
from shmsync import Reader, Writer
from shmsync._shm import atomics

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync._core.ports import Word

    Implementation = Callable[[mmap.mmap, int], Word]

AT = 64
SWITCHES = 30
IMPLEMENTATIONS = [
    atomics.FastWord,
    atomics.ViewWord,
    pytest.param(LibatomicWord, marks=pytest.mark.skipif(not IS_INSTALLED, reason="needs libatomic.so.1")),
]
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@every_implementation
def test_operations(implementation: Implementation) -> None:
    """Through a writable mapping, seen through a read-only one."""
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        word = implementation(mmap.mmap(file.fileno(), mmap.PAGESIZE), AT)
        other = implementation(mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ), AT)
    word.store_release(7)
    assert other.load() == 7
    word.store(2**64 - 2)
    assert other.load() == other.load_relaxed() == 2**64 - 2
    word.bind_add(3)()
    assert other.load() == 1
    word.bind_add(-2)()
    assert other.load() == 2**64 - 1
    word.store(5)
    assert word.fetch_or(1 << 63) == 5
    assert other.load() == 5 | 1 << 63
    assert not word.compare_exchange(5, 6)
    assert other.load() == 5 | 1 << 63
    assert word.compare_exchange(5 | 1 << 63, 6)
    assert other.load() == 6


@every_implementation
def test_neighbours_are_untouched(implementation: Implementation) -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[:] = b"\xaa" * mmap.PAGESIZE
    word = implementation(memory, AT)
    word.store(0)
    word.bind_add(-1)()
    assert word.fetch_or(1) == 2**64 - 1
    assert word.compare_exchange(2**64 - 1, 1)
    assert memory[:AT] == b"\xaa" * AT
    assert memory[AT + 8 :] == b"\xaa" * (mmap.PAGESIZE - AT - 8)


@every_implementation
def test_a_word_keeps_its_mapping_alive(implementation: Implementation) -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    word = implementation(memory, AT)
    add = word.bind_add(1)
    with pytest.raises(BufferError):
        memory.close()
    del memory
    gc.collect()
    add()
    assert word.load() == 1


@every_implementation
def test_no_addition_is_lost_between_threads(implementation: Implementation) -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    word = implementation(memory, AT)

    def add() -> None:
        one = word.bind_add(1)
        for _ in range(2000):
            one()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert word.load() == 8000


def change_in_turn(_state: State, implementation: Implementation, path: Path) -> int:
    """Add in one word, and by compare-exchange in another, until the other process has often done so in between.

    Return how often.
    """
    with path.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
    added, exchanged, finished = (implementation(memory, AT * number) for number in range(3))
    add = added.bind_add(1)
    changes = last = seen = 0
    while seen < SWITCHES and not finished.load():
        add()
        while not exchanged.compare_exchange(old := exchanged.load_relaxed(), old + 1):
            pass
        seen += old != last
        last = old + 1
        changes += 1
    finished.store(1)
    return changes


@every_implementation
def test_no_change_is_lost_between_processes(implementation: Implementation, tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(bytes(mmap.PAGESIZE))
    with Child() as one, Child() as two:
        one.send(change_in_turn, implementation, path)
        changes = two.call(change_in_turn, implementation, path) + one.receive()
    words = np.frombuffer(path.read_bytes(), "u8")
    assert list(words[[0, AT // 8]]) == [changes, changes]


@every_implementation
def test_handles_work_with_any_implementation(
    implementation: Implementation, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins, evictions and takeovers, together with a process that uses the installed implementation."""
    monkeypatch.setattr(atomics, "bind", implementation)
    value = np.arange(5000)
    with Child() as child, closing(Writer(name, grace_duration=0)) as writer, Reader(name) as reader:
        writer.write(value)
        checksum = child.call(open_snapshot, name)
        for number in range(4):  # evicts
            writer.write(value + number)
            assert np.array_equal(reader.get(), value + number)
            assert np.array_equal(child.call(get_value), value + number)
        assert child.call(snapshot_checksum) == checksum
        child.call(close_snapshot)
        writer.close()
        child.call(publish, name, value + 9)  # takes over
        assert np.array_equal(reader.get(), value + 9)
        child.call(close_reader)
        child.call(close_writer)
        with closing(Writer(name)) as last:
            assert last.write(0).version.seq == 7
            last.unlink()


def close_writer(state: State) -> None:
    state.writer.close()


def test_the_interface_is_documented() -> None:
    """A replacement has to provide what other modules use of it, and no more."""
    sources = [path.read_text() for path in Path(shmsync.__file__).parent.rglob("*.py") if path.stem != "atomics"]
    used = {name for source in sources for name in re.findall(r"\batomics(?:\.| import )(\w+)", source)} - {"py"}
    assert {"bind", "bind_loads", "are_fast", "IS_TSO"} <= used
    (interface,) = re.findall(r"uses ([^.]+) only", atomics.__doc__ or "")
    assert used == set(re.findall(r"`(\w+)`", interface))


@pytest.mark.parametrize("is_tso", [True, False])
def test_loads_of_many_words(monkeypatch: pytest.MonkeyPatch, *, is_tso: bool) -> None:
    monkeypatch.setattr(atomics, "IS_TSO", is_tso)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    load = atomics.bind_loads(memory, 8, 64, 3)
    assert load() == [0, 0, 0]
    for number in range(3):
        atomics.bind(memory, 8 + 64 * number).store(2**64 - 1 - number)
    assert load() == [2**64 - 1, 2**64 - 2, 2**64 - 3]
    assert atomics.bind_loads(memory, 8, 64, 0)() == []


def test_words_where_loads_may_be_reordered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomics, "IS_TSO", False)
    word = atomics.bind(mmap.mmap(-1, mmap.PAGESIZE), AT)
    word.store(3)
    assert word.load() == 3
    word.store_release(2**64 - 1)
    assert word.load() == word.load_relaxed() == 2**64 - 1


def test_the_fast_path_is_available() -> None:
    """A release of `atomics` that breaks it makes operations ten times slower: detect it here, not in production."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    assert isinstance(atomics.bind(memory, AT), atomics.FastWord)


def test_bind_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomics, "_FUNCTIONS", None)
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    assert isinstance(atomics.bind(memory, AT), atomics.ViewWord)
    with pytest.raises(NotImplementedError):
        atomics.FastWord(memory, AT)
