"""Gather lists put each buffer at its offset in one copy; frames record the offsets of their buffers."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shmsync import EntityReadError
from shmsync._core.layout import checksum_of
from shmsync.codecs import _frame
from shmsync.codecs._gather import LINE_ALIGNMENT, GatherList, copy_into, uninitialized

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
    assert copy_into(target, payload) == checksum_of(expected)
    assert bytes(target) == expected == bytes(payload)


def _fill_with(content: bytes) -> Any:
    def fill(target: memoryview) -> None:
        target[:] = content

    return fill


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_checksum_does_not_depend_on_the_block_size(size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    target = bytearray(size)
    assert copy_into(memoryview(target), content) == checksum_of(content)
    assert target == content


def test_uninitialized_leaves_the_target_unchanged() -> None:
    target = bytearray(b"as it is")
    assert copy_into(memoryview(target), uninitialized(8)) == checksum_of(b"as it is")
    assert target == b"as it is"


@given(st.binary(max_size=100), st.lists(st.binary(max_size=300), max_size=5))
def test_frames_round_trip(body: bytes, buffers: list[bytes]) -> None:
    frame = bytes(_frame.pack(body, [_frame.Buffer(each, len(each)) for each in buffers]))
    view = memoryview(frame)
    found_body, found = _frame.unpack(view)
    assert bytes(found_body) == body
    assert [bytes(each) for each in found] == buffers
    for each in buffers:
        if len(each) >= LINE_ALIGNMENT and frame.count(each) == 1:
            assert frame.index(each) % LINE_ALIGNMENT == 0


FRAME = bytes(_frame.pack(b"body", [_frame.Buffer(b"x" * 100, 100)]))


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\xc0" + FRAME[1:],
        FRAME[:15],
        FRAME[:-1],
        FRAME[:4] + struct.pack("=I", 2**32 - 1) + FRAME[8:],
        FRAME[:8] + struct.pack("=Q", 2**64 - 1) + FRAME[16:],
        FRAME[:16] + struct.pack("=QQ", 2**64 - 1, 2**64 - 1) + FRAME[32:],
    ],
    ids=[
        "empty",
        "magic only",
        "no magic",
        "half a header",
        "cut off",
        "too many buffers",
        "long body",
        "buffer past the end",
    ],
)
def test_a_damaged_frame_is_rejected(frame: bytes) -> None:
    with pytest.raises(EntityReadError):
        _frame.unpack(memoryview(frame))
