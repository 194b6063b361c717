"""Gather lists put each buffer at its offset in one copy; frames record the offsets of their buffers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmsync.codecs._gather import GatherList, copy_into, uninitialized

SIZES = st.one_of(st.integers(0, 200), st.sampled_from([4095, 4096, 5000, 2**20, 2**20 + 1]))


@given(st.lists(st.tuples(SIZES, st.sampled_from([1, 8, 64]), st.booleans()), max_size=8))
def test_buffers_are_aligned_with_zero_padding(sizes: list[tuple[int, int, bool]]) -> None:
    payload = GatherList()
    expected = bytearray()
    for number, (size, align, is_function) in enumerate(sizes, 1):
        content = bytes([number]) * size
        at = payload.next_offset(align)
        assert payload.add(_fill_with(content) if is_function else content, size, align=align) == at
        assert at % align == 0
        expected += bytes(at - len(expected)) + content
    target = memoryview(bytearray(b"\xff" * len(payload)))
    ends: list[int] = []
    copy_into(target, payload, ends.append)
    assert bytes(target) == expected == bytes(payload)
    assert ends == sorted(ends)
    assert not ends or ends[-1] <= len(target)


def _fill_with(content: bytes) -> Any:
    def fill(target: memoryview) -> None:
        target[:] = content

    return fill


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_what_has_arrived_is_complete(size: int) -> None:
    """It is digested before the rest is copied."""
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    target = bytearray(size)
    view = memoryview(target)

    def compare(end: int) -> None:
        assert view[:end] == content[:end]

    copy_into(view, content, compare)
    assert target == content


def test_uninitialized_leaves_the_target_unchanged() -> None:
    target = bytearray(b"as it is")
    copy_into(memoryview(target), uninitialized(8))
    assert target == b"as it is"
