"""Pieces are laid where they say, once; frames say where their buffers lie."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import EntityReadError
from shmsync._core.layout import checksum_of
from shmsync.codecs import _frame
from shmsync.codecs._gather import LINE_ALIGNED, Pieces, lay, reserved

SIZES = st.one_of(st.integers(0, 200), st.sampled_from([4095, 4096, 5000, 2**20, 2**20 + 1]))


@given(st.lists(st.tuples(SIZES, st.sampled_from([1, 8, 64]), st.booleans()), max_size=8))
@settings(deadline=None)
def test_pieces_lie_aligned_with_zeros_between(sizes: list[tuple[int, int, bool]]) -> None:
    pieces = Pieces()
    expected = bytearray()
    for number, (size, align, fills) in enumerate(sizes, 1):
        content = bytes([number]) * size
        at = pieces.next_offset(align)
        assert pieces.add(_filler(content) if fills else content, size, align=align) == at
        assert at % align == 0
        expected += bytes(at - len(expected)) + content
    target = memoryview(bytearray(b"\xff" * len(pieces)))
    assert lay(target, pieces) == checksum_of(expected)
    assert bytes(target) == expected == bytes(pieces)


def _filler(content: bytes) -> Any:
    def fill(target: memoryview) -> None:
        target[:] = content

    return fill


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20 + 7])
def test_checksum_does_not_depend_on_the_blocks(size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    target = bytearray(size)
    assert lay(memoryview(target), content) == checksum_of(content)
    assert target == content


def test_reserved_leaves_what_is_there() -> None:
    target = bytearray(b"as it is")
    assert lay(memoryview(target), reserved(8)) == checksum_of(b"as it is")
    assert target == b"as it is"


@given(st.binary(max_size=100), st.lists(st.binary(max_size=300), max_size=5))
def test_frames_come_apart_again(body: bytes, buffers: list[bytes]) -> None:
    frame = bytes(_frame.assemble(body, [_frame.Buffer(each, len(each)) for each in buffers]))
    view = memoryview(frame)
    found_body, found = _frame.take_apart(view)
    assert bytes(found_body) == body
    assert [bytes(each) for each in found] == buffers
    for each in buffers:
        if len(each) >= LINE_ALIGNED and frame.count(each) == 1:
            assert frame.index(each) % LINE_ALIGNED == 0


FRAME = bytes(_frame.assemble(b"body", [_frame.Buffer(b"x" * 100, 100)]))


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
    ids=["empty", "mark", "no mark", "half a head", "cut off", "too many buffers", "long body", "buffer outside"],
)
def test_a_damaged_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(EntityReadError):
        _frame.take_apart(memoryview(frame))
