"""The change log of a version: packed, unpacked, and damaged."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmsync._core.change_log import pack_entry, pack_log, unpack_log

PARTS = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


@given(PARTS, st.integers(0, 500))
def test_the_newest_entries_that_have_room(parts: list[bytes], room: int) -> None:
    entries = [pack_entry(each) for each in parts]
    log = pack_log(100, 5, deque(entries), room)
    if log is None:
        assert room < 48 + len(entries[-1])
        return
    assert len(log) <= room
    raw = memoryview(log + bytes(room - len(log)))
    known = [since for since in range(90, 101) if unpack_log(raw, 100, 5, since) is not None]
    oldest = known[0]
    assert known == list(range(oldest, 101))
    for since in known:
        assert [bytes(each) for each in unpack_log(raw, 100, 5, since) or []] == parts[len(parts) - (100 - since) :]
    kept = 100 - oldest
    assert kept == len(parts) or len(log) + len(entries[-kept - 1]) > room


def test_the_log_of_another_version() -> None:
    log = memoryview(pack_log(100, 5, deque([pack_entry(b"x")]), 100) or b"")
    assert [bytes(each) for each in unpack_log(log, 100, 5, 99) or []] == [b"x"]
    assert unpack_log(log, 100, 5, 98) is None
    assert unpack_log(log, 101, 5, 99) is None
    assert unpack_log(log, 100, 6, 99) is None
    assert unpack_log(log[:40], 100, 5, 99) is None
    assert unpack_log(memoryview(bytes(100)), 0, 0, 0) is None


@pytest.mark.parametrize("at", range(48 + 16 + 1 + 16 + 3))
def test_a_damaged_byte(at: int) -> None:
    log = bytearray(pack_log(100, 5, deque([pack_entry(b"x"), pack_entry(b"abc")]), 100) or b"")
    log[at] ^= 1
    assert unpack_log(memoryview(log), 100, 5, 98) is None
