"""Damaged archives: `check` rejects them unless they are sound; unchecked, reading one raises or yields a value."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shmsync import ArrayMap, EntityReadError, Reader, Writer, unarchive
from shmsync.codecs import archive, by_name
from shmsync.codecs._changes import Changes
from shmsync.codecs._draft_memory import DraftMemory
from shmsync.codecs.archive import _format as f
from shmsync.codecs.archive._mutable_map import MutableArrayMap
from shmsync.codecs.archive._mutable_maps import MutableMaps

VALUE: dict[str, Any] = {
    "scalars": [None, True, 1, -1, 2**63, 1.5, "text", b"bytes"],
    "vectors": [[1, 2], [1.5], [2**63], [3, 4]],
    "ragged": [[1.5] * number for number in range(5)],
    "records": [{"id": number, "name": str(number)} for number in range(4)],
    "optional": [{"a": 1}, {}, {"b": [None]}],
    "numbers": {number * 3: number for number in range(100)},
    "texts": {f"key {number}": [float(number)] * 2 for number in range(100)},
    "mixed keys": dict[Any, int]([*(((number, str(number)), number) for number in range(70)), (None, 0), (1.5, 1)]),
    "arrays": [np.eye(3), np.arange(4), np.zeros((0, 2))],
    "rows": ArrayMap(np.arange(80), np.zeros((80, 3), "f4")),
    "large": b"x" * 5000,
    "room": ArrayMap(np.arange(20), np.zeros((20, 3), "f4"), capacity=30),
    "room for texts": ArrayMap([f"{number}" for number in range(20)], np.arange(20), capacity=30),
}
ARCHIVE = bytes(archive.encode(VALUE))
SMALL = bytes(archive.encode({"a": [1, "x", {"b": [1.5, 2.5]}], **{str(number): number for number in range(70)}}))
MOST = 3000
WORDS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, len(ARCHIVE)]))


def touch(value: Any, budget: list[int], depth: int = 0) -> None:
    """Access every part of a value, within a budget: damage can make a list appear endless."""
    budget[0] -= 1
    if budget[0] < 0 or depth > 30:
        return
    if isinstance(value, Mapping):
        for key in value:
            value.get(key)
            touch(value[key], budget, depth + 1)
            if budget[0] < 0:
                return
        assert "no such key" not in value
        assert -12345 not in value
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | memoryview):
        for item in value:
            touch(item, budget, depth + 1)
            if budget[0] < 0:
                return
    elif isinstance(value, np.ndarray):
        value.tobytes()
    repr(value)


def decode_and_check(payload: bytes) -> None:
    view = memoryview(payload).toreadonly()
    try:
        touch(archive.decode(view), [MOST])
    except EntityReadError:
        pass
    except KeyError:  # iteration yields a key that the damaged table does not find
        pass
    try:
        archive.check(view)
    except EntityReadError:
        return
    sound = archive.decode(view)
    touch(sound, [MOST])
    unarchive(sound)
    repr(sound)


def test_the_value_is_sound() -> None:
    archive.check(memoryview(ARCHIVE))
    archive.check(memoryview(SMALL))
    decode_and_check(ARCHIVE)


@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_a_byte_is_changed(at: int, byte: int) -> None:
    damaged = bytearray(SMALL)
    damaged[at] = byte
    decode_and_check(bytes(damaged))


@given(st.lists(st.tuples(st.integers(0, len(ARCHIVE) // 8 - 1), WORDS), min_size=1, max_size=4))
def test_words_are_changed(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(ARCHIVE)
    for word, value in changes:
        struct.pack_into("=Q", damaged, word * 8, value)
    decode_and_check(bytes(damaged))


@given(st.data())
@settings(max_examples=300)
def test_headers_are_changed(data: st.DataObject) -> None:
    """Change the fields that matter most: kind, length and offsets of a column."""
    damaged = bytearray(ARCHIVE)
    headers = columns(ARCHIVE)
    at = data.draw(st.sampled_from(headers))
    field = data.draw(st.integers(0, 7))
    value = data.draw(WORDS | st.sampled_from(headers) | st.integers(0, 200))
    struct.pack_into("=Q", damaged, at + 8 * field, value)
    decode_and_check(bytes(damaged))


def columns(payload: bytes) -> list[int]:
    """Return the offsets of everything that resembles a column header."""
    found = []
    for at in range(0, len(payload) - f.HEADER.size, 8):
        kind, zero, n, *_ = f.HEADER.unpack_from(payload, at)
        if f.NULL <= kind <= f.BYTES_VIEW and not zero and n <= at:
            found.append(at)
    return found


ROOMY = [
    bytes(archive.encode(ArrayMap(keys, rows, capacity=12)))
    for keys in (np.arange(8) * 5, [f"{number}" * (number % 3) for number in range(2, 10)])
    for rows in (np.zeros((8, 2)), np.arange(8))
]


@given(st.sampled_from(ROOMY), st.data())
@settings(max_examples=300)
def test_a_damaged_map_is_updated(payload: bytes, data: st.DataObject) -> None:
    """It is refused, or changed as it is; all that is written is recorded."""
    damaged = bytearray(payload)
    of_headers = st.sampled_from([at // 8 + word for at in columns(payload) for word in range(8)])
    places = st.integers(0, len(payload) // 8 - 1) | of_headers
    for _ in range(data.draw(st.integers(1, 3))):
        value = data.draw(WORDS | st.integers(0, 40) | st.sampled_from(columns(payload)))
        struct.pack_into("=Q", damaged, data.draw(places) * 8, value)
    before, changes = bytearray(damaged), Changes()
    memory = DraftMemory(memoryview(damaged), changes)
    maps = MutableMaps(memory)
    with contextlib.suppress(EntityReadError, KeyError):
        found = archive.decode_to_update(memory.readable, maps)
        if isinstance(found, MutableArrayMap):
            keys = list(found)
            for change in (
                lambda: found.assign_many([3, 4, 5], found.values[:3]),
                lambda: found.assign_many(["3", "4", "5"], found.values[:3]),
                lambda: found.remove(keys[:2]),
                lambda: found.remove(keys[2:4]),
                lambda: found.assign(keys[0] if keys else 1, found.values[0]),
                found.plain,
                found.finish,
            ):
                change()
    memory.close()
    changes.copy(memoryview(before), memoryview(damaged))
    assert before == damaged
    decode_and_check(bytes(damaged))


@given(st.integers(0, len(ARCHIVE)))
def test_cut_off(size: int) -> None:
    decode_and_check(ARCHIVE[:size])
    decode_and_check(ARCHIVE[size:])


@given(st.binary(max_size=200))
def test_anything_with_the_right_end(content: bytes) -> None:
    content += bytes(-len(content) % 8)
    for root in range(0, len(content), 8):
        decode_and_check(content + f.pack_trailer(root, len(content)))


def built(*columns: bytes) -> bytes:
    """Return an archive of columns of 64 bytes, the last of which is its root."""
    body = b"".join(columns)
    return body + f.pack_trailer(len(body) - f.HEADER.size, len(body))


def bomb(levels: int) -> bytes:
    """Return an archive in which each record contains the previous one twice."""
    parts = [bytes(64), f.pack_header(f.NULL, 1, 0)]
    key_ends = struct.pack("=3Q", 0, 1, 2).ljust(64, b"\0")
    for _ in range(levels):
        at = 64 * len(parts)
        below = at - 64
        parts += [
            key_ends,
            b"ab".ljust(64, b"\0"),
            f.pack_header(f.STR, 2, at, at + 64, 2),
            struct.pack("=2Q", below, below).ljust(64, b"\0"),
            f.pack_header(f.STRUCT, 1, at + 128, at + 192),
        ]
    return built(*parts)


NULL = f.pack_header(f.NULL, 1, 0)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "0 bytes"),
        (bytes(100), "trailer is missing"),
        (built(f.pack_header(f.NULL, 1, 0)), "has 1 elements"),
        (built(bytes(64), f.pack_header(f.NULL, 1, 64)), "belong to the column"),
        (built(bytes(64), f.pack_header(99, 1, 0)), "unknown kind 99"),
        (built(bytes(64), f.pack_header(f.NULL, 2, 0)), "root has 2 elements"),
        (built(bytes(64), f.pack_header(f.LIST, 1, 0, 1, 64)), "a column at 64"),
        (built(bytes(64), f.pack_header(f.CHUNKED, 1, 0)), "unknown kind 0"),
        (built(bytes(64), NULL, f.pack_header(f.LIST, 1, 0, 2**50, 64)), "instead of 1125899906842624"),
        (built(bytes(64), f.pack_header(f.NULL, 2**40, 0)), "elements"),
        (bomb(60), "twice"),
    ],
    ids=range(11),
)
def test_check_names_the_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(EntityReadError, match=reason):
        archive.check(memoryview(payload))


def doubled(kind: int, levels: int) -> bytes:
    """Return an archive in which each column refers to the previous one twice."""
    parts = [bytes(64), f.pack_header(f.NULL, 0, 0)]
    for _ in range(levels):
        below = 64 * (len(parts) - 1)
        parts += [
            struct.pack("=2Q", 0, 0).ljust(64, b"\0")
            if kind == f.MAP
            else struct.pack("=2Q", below, below).ljust(64, b"\0")
        ]
        at = 64 * (len(parts) - 1)
        words = (at, below, below, 0, 0) if kind == f.MAP else (0, at, at, 2)
        parts += [f.pack_header(kind, 0, *words)]
    below = 64 * (len(parts) - 1)
    parts += [struct.pack("=2Q", 0, 0).ljust(64, b"\0"), f.pack_header(f.MAP, 1, 64 * len(parts), below, below, 0, 0)]
    return built(*parts)


@pytest.mark.parametrize("kind", [f.MAP, f.DENSE_UNION])
def test_columns_that_are_opened_twice_are_not_opened_without_end(kind: int) -> None:
    payload = memoryview(doubled(kind, 200))
    with pytest.raises(EntityReadError):
        archive.check(payload)
    with contextlib.suppress(EntityReadError):
        repr(archive.decode(payload))


def test_offsets_that_lead_to_another_column() -> None:
    """Overwrite every word with the offset of every column: some keys are then maps and arrays."""
    value = {"a": {"x": 1}, "b": [1, 2], "c": [{"k": 1}, {"k": 2}], "d": {(1, "y"): 1}}
    payload = bytes(archive.encode(value))
    headers = columns(payload)
    for at in range(0, len(payload), 8):
        for header in headers:
            damaged = bytearray(payload)
            struct.pack_into("=Q", damaged, at, header)
            decode_and_check(bytes(damaged))


def test_another_version_says_so() -> None:
    payload = bytearray(ARCHIVE)
    struct.pack_into("=I", payload, len(payload) - 24, 2)
    with pytest.raises(EntityReadError, match="has version 2, but this shmsync reads version 1"):
        archive.decode(memoryview(payload))


def test_lookup_ends_in_a_cyclic_hash_table() -> None:
    rng = random.Random(5)
    value = {number: number for number in range(200)}
    payload = bytearray(bytes(archive.encode(value)))
    table, buckets = f.root_of(memoryview(payload)).words[3:5]
    for _ in range(20):
        damaged = bytearray(payload)
        for link in range(200):
            struct.pack_into("=I", damaged, table + 4 * (buckets + link), rng.randrange(1, 201))
        for key in range(1000, 1020):
            with contextlib.suppress(EntityReadError):
                archive.decode(memoryview(damaged)).get(key)


def test_check_finds_every_bad_link() -> None:
    """Including links that no key of the map reaches."""
    payload = bytes(archive.encode({number: number for number in range(100)}))
    table, buckets = f.root_of(memoryview(payload)).words[3:5]
    for place in range(buckets + 100):
        damaged = bytearray(payload)
        struct.pack_into("=I", damaged, table + 4 * place, 101 if place < buckets else place - buckets + 1)
        with pytest.raises(EntityReadError):
            archive.check(memoryview(damaged))


def test_check_bytes_checks_the_whole_archive(name: str) -> None:
    """The checksum is valid, because the damaged archive was published."""
    payload = bytearray(bytes(archive.encode([["x", 1], ["y", 2]] * 10)))
    inner = f.root_of(memoryview(payload)).words[2]
    struct.pack_into("=Q", payload, inner + f.HEADER.size - 8 * 4, 8)  # its third word: where its elements are
    with Writer(name) as writer, Reader(name) as reader:
        writer.write("before")
        writer._publish(by_name("archive"), bytes(payload), None)
        assert len(reader.get()) == 20
        with pytest.raises(EntityReadError, match="damaged"):
            reader.read(check_bytes=True)
        writer.write("after")
        with reader.read(check_bytes=True) as snapshot:
            assert snapshot.value == "after"
        writer.unlink()


def test_depth_of_a_damaged_archive() -> None:
    """A list in a list in a list, 20,000 deep."""
    headers = [bytes(64), NULL]
    headers += [f.pack_header(f.LIST, 1, 0, 1, 64 * number) for number in range(1, 20_000)]
    payload = memoryview(built(*headers))
    with pytest.raises(EntityReadError):
        archive.check(payload)
    with pytest.raises(EntityReadError):
        unarchive(archive.decode(payload))
