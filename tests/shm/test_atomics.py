"""Both implementations of atomic words behave the same: C functions bound once, and the package's public views."""

from __future__ import annotations

import mmap
import tempfile
import threading

import pytest

from shmsync._shm import atomics

AT = 64
IMPLEMENTATIONS: list[type[atomics.FastWord | atomics.ViewWord]] = [atomics.FastWord, atomics.ViewWord]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_operations(implementation: type[atomics.FastWord | atomics.ViewWord]) -> None:
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
    assert word.compare_exchange(5 | 1 << 63, 6)
    assert other.load() == 6


def test_neighbours_are_untouched() -> None:
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory[:] = b"\xaa" * mmap.PAGESIZE
    for implementation in IMPLEMENTATIONS:
        word = implementation(memory, AT)
        word.store(0)
        word.bind_add(-1)()
        assert word.fetch_or(1) == 2**64 - 1
    assert memory[:AT] == b"\xaa" * AT
    assert memory[AT + 8 :] == b"\xaa" * (mmap.PAGESIZE - AT - 8)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_addition_is_lost_between_threads(implementation: type[atomics.FastWord | atomics.ViewWord]) -> None:
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
