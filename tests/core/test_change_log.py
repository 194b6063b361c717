"""The change log of a version: packed, unpacked, and damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmsync._core.change_log import pack_log, unpack_log

ENTRIES = st.lists(st.binary(max_size=40), min_size=1, max_size=6)


@given(ENTRIES, st.integers(0, 400))
def test_the_newest_entries_that_have_room(entries: list[bytes], room: int) -> None:
    log = pack_log(100, 5, entries, room)
    if log is None:
        assert room < 48 + 8 + len(entries[-1])
        return
    assert len(log) <= room
    found = unpack_log(memoryview(log + bytes(room - len(log))), 100, 5)
    assert found is not None
    base, kept = found
    assert 100 - base == len(kept)
    assert [bytes(entry) for entry in kept] == entries[-len(kept) :]
    assert len(kept) == len(entries) or len(log) + 8 + len(entries[-len(kept) - 1]) > room


def test_the_log_of_another_version() -> None:
    log = memoryview(pack_log(100, 5, [b"x"], 100) or b"")
    assert unpack_log(log, 100, 5)
    assert unpack_log(log, 101, 5) is None
    assert unpack_log(log, 100, 6) is None
    assert unpack_log(log[:40], 100, 5) is None
    assert unpack_log(memoryview(bytes(100)), 0, 0) is None


@pytest.mark.parametrize("at", range(48 + 9 + 8 + 3))
def test_a_damaged_byte(at: int) -> None:
    log = bytearray(pack_log(100, 5, [b"x", b"abc"], 100) or b"")
    log[at] ^= 1
    assert unpack_log(memoryview(log), 100, 5) is None
