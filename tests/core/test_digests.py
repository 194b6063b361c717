"""The table of digests: every byte of a payload has a digest, and the checksum covers them all."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from shmsync._core import digests, layout
from shmsync._core.layout import DIGEST_BLOCK, LINE, PAYLOAD_AT, largest_payload, required_size, table_span

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = [
    1,
    DIGEST_BLOCK - 1,
    DIGEST_BLOCK,
    DIGEST_BLOCK + 1,
    3 * DIGEST_BLOCK,
    5 * DIGEST_BLOCK + 7,
    200 * DIGEST_BLOCK,
]


@given(st.integers(0, 1 << 50))
def test_where_the_table_is(size: int) -> None:
    start, end = table_span(size)
    assert start >= PAYLOAD_AT + size
    assert required_size(size) == end
    if size <= DIGEST_BLOCK:
        assert start == end == PAYLOAD_AT + size
    else:
        assert start % LINE == 0
        assert start < PAYLOAD_AT + size + LINE
        assert end - start == 8 * ((size + DIGEST_BLOCK - 1) // DIGEST_BLOCK)


@given(st.integers(PAYLOAD_AT, 1 << 50))
def test_the_largest_payload(segment_size: int) -> None:
    size = largest_payload(segment_size)
    assert required_size(size) <= segment_size
    assert size == 0 or size >= DIGEST_BLOCK or required_size(size + 1) > segment_size
    assert required_size(size + LINE + 16) > segment_size


def expected(payload: bytes) -> tuple[bytes, int]:
    """Return the table and the checksum, computed in the simplest way."""
    if len(payload) <= DIGEST_BLOCK:
        return b"", xxh3_64_intdigest(payload)
    parts = [payload[at : at + DIGEST_BLOCK] for at in range(0, len(payload), DIGEST_BLOCK)]
    table = b"".join(xxh3_64_digest(part)[::-1] for part in parts)  # as a little-endian number
    return table, xxh3_64_intdigest(table)


def written(payload: bytes) -> tuple[bytearray, bytearray, int]:
    start, end = table_span(len(payload))
    content, table = bytearray(payload), bytearray(end - start)
    return content, table, digests.write_table(memoryview(content), memoryview(table))


@pytest.mark.parametrize("size", [0, *SIZES])
def test_the_table(size: int) -> None:
    payload = os.urandom(size)
    _, table, checksum = written(payload)
    assert (bytes(table), checksum) == expected(payload)


@given(st.data())
def test_a_payload_that_arrives_in_parts(data: st.DataObject) -> None:
    payload = os.urandom(data.draw(st.sampled_from(SIZES[:-1])))
    start, end = table_span(len(payload))
    content, table = bytearray(len(payload)), bytearray(end - start)
    digester = digests.Digester(memoryview(content))
    at = 0
    for stop in sorted(data.draw(st.lists(st.integers(0, len(payload))))):
        content[at:stop] = payload[at:stop]
        digester.advance(stop)
        at = stop
    content[at:] = payload[at:]
    assert (digester.finish(memoryview(table)), bytes(table)) == expected(payload)[::-1]


@given(st.data())
def test_changed_blocks_are_digested_again(data: st.DataObject) -> None:
    content, table, _ = written(os.urandom(data.draw(st.sampled_from(SIZES[:-1]))))
    places = data.draw(st.lists(st.integers(0, len(content) - 1)))
    for at in places:
        content[at] ^= 0xFF
    blocks = {at // DIGEST_BLOCK for at in places}
    checksum = digests.update_table(memoryview(content), memoryview(table), sorted(blocks))
    assert (bytes(table), checksum) == expected(bytes(content))


@given(st.data())
def test_damage_is_located(data: st.DataObject) -> None:
    content, table, checksum = written(os.urandom(data.draw(st.sampled_from(SIZES[:-1]))))
    places = data.draw(st.sets(st.integers(0, len(content) - 1)))
    for at in places:
        content[at] ^= 1
    ranges = digests.damaged(memoryview(content), memoryview(table), checksum)
    assert ranges is not None
    assert all(any(start <= at < end for start, end in ranges) for at in places)
    assert all(any(start <= at < end for at in places) for start, end in ranges)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


def test_a_damaged_table() -> None:
    content, table, checksum = written(os.urandom(3 * DIGEST_BLOCK))
    for at in range(len(table)):
        table[at] ^= 1
        assert digests.damaged(memoryview(content), memoryview(table), checksum) is None
        table[at] ^= 1
    assert digests.damaged(memoryview(content), memoryview(table), checksum) == []


def test_digests_are_copied() -> None:
    _, table, _ = written(os.urandom(5 * DIGEST_BLOCK))
    target = bytearray(table)
    for block in (1, 4):
        target[8 * block : 8 * block + 8] = bytes(8)
    digests.copy_digests(memoryview(target), memoryview(table), [1, 4])
    assert target == table
    digests.copy_digests(memoryview(b""), memoryview(b""), [0])  # a single block has no table


def test_other_threads_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte at once: Python runs other threads and signal handlers between two calls of a C function only."""
    steps: list[int] = []
    slices = digests._slices

    def recorded(size: int) -> Iterator[slice]:
        steps.append(size)
        return slices(size)

    monkeypatch.setattr(digests, "_slices", recorded)
    written(bytes(1000 * DIGEST_BLOCK))
    assert len(steps) == -(-1000 // (1024 * 1024 // layout.DIGEST_BLOCK))
