"""A reader written from docs/format.md alone reads what the library publishes: struct, mmap, xxhash, nothing else."""

from __future__ import annotations

import datetime as dt
import mmap
import os
import struct
import uuid
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

from shmsync import ArrayMap, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

# ----------------------------------------------------------------------------- the reader, written from the page only


def opened(name: str) -> mmap.mmap:
    fd = os.open(f"/dev/shm/{name}", os.O_RDONLY)
    try:
        return mmap.mmap(fd, os.fstat(fd).st_size, prot=mmap.PROT_READ)
    finally:
        os.close(fd)


def read(name: str) -> Any:
    """Read a copy."""
    with opened(f"{name}_state") as state:
        magic, layout, word_size, _, mode, incarnation, _ = struct.unpack_from("=QIIIIQQ", state)
        assert (magic, layout, word_size) == (0x53434E59534D4853, 2, 8)
        if mode == 1:
            return read_isolated(name)
        while True:
            (seq,) = struct.unpack_from("=Q", state, 64)
            assert 0 < seq < (1 << 64) - 1
            with opened(f"{name}_data_{0 if seq % 2 else 1}") as data:
                header, payload = data[:64], data[64:]
            if struct.unpack_from("=Q", state, 64) == (seq,):
                break
        (generation,) = struct.unpack_from("=Q", state, 128 if seq % 2 else 192)
    assert struct.unpack_from("=QQQQ", header) == (0x44434E59534D4853, incarnation, generation, seq)
    return decoded(header, payload)


def read_isolated(name: str) -> Any:
    """Read what the data name leads to."""
    with opened(f"{name}_readers") as public:
        magic, layout, word_size, _, mode, incarnation, _ = struct.unpack_from("=QIIIIQQ", public)
        assert (magic, layout, word_size, mode) == (0x50434E59534D4853, 2, 8, 1)
        (seq,) = struct.unpack_from("=Q", public, 64)
        (generation,) = struct.unpack_from("=Q", public, 128)
        assert seq != (1 << 64) - 1
    with opened(f"{name}_data_0") as data:
        header, payload = data[:64], data[64:]
    assert struct.unpack_from("=QQQQ", header) == (
        0x44434E59534D4853,
        incarnation,
        generation,
        seq,
    )  # nobody writes now
    return decoded(header, payload)


def decoded(header: bytes, rest: bytes) -> Any:
    """Check the hashes, and decode the payload.

    Args:
        header: the header.
        rest: the bytes after it.
    """
    size, checksum, codec = struct.unpack_from("=QQI", header, 32)
    payload, table = rest[:size], b""
    assert size == len(payload)
    if size > 8192:
        blocks = [payload[at : at + 8192] for at in range(0, size, 8192)]
        table = rest[-(-size // 64) * 64 :][: 8 * len(blocks)]
        assert struct.unpack(f"={len(blocks)}Q", table) == tuple(map(xxh3_64_intdigest, blocks))
    assert struct.unpack_from("=Q", header, 56) == (xxh3_64_intdigest(header[:56]),)
    assert checksum == xxh3_64_intdigest(table or payload)
    decoders: dict[int, Callable[[bytes], Any]] = {0: from_msgpack, 1: bytes, 2: from_archive, 5: from_msgpack}
    return decoders[codec](payload)


def from_msgpack(payload: bytes) -> Any:
    """Read a msgpack value, or a frame."""
    buffers: list[bytes] = []
    if payload[0] == 0xC1:
        count, size = struct.unpack_from("=IQ", payload, 4)
        for number in range(count):
            start, length = struct.unpack_from("=QQ", payload, 16 + 16 * number)
            assert start % (64 if length >= 64 else 8) == 0
            buffers.append(payload[start : start + length])
        payload = payload[16 + 16 * count :][:size]
    body = Msgpack(payload, buffers)
    value = body.value()
    assert body.at == len(payload)
    return value


class Msgpack:
    """Reads msgpack, in which extensions refer to buffers."""

    def __init__(self, raw: bytes, buffers: list[bytes]) -> None:
        self.raw = raw
        self.buffers = buffers
        self.at = 0

    def taken(self, size: int) -> bytes:
        self.at += size
        return self.raw[self.at - size : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack(f">{code}", self.taken(struct.calcsize(f">{code}")))[0]

    def value(self) -> Any:
        head = self.number("B")
        if head < 0x80 or head >= 0xE0:
            return head - (256 if head >= 0xE0 else 0)
        if head < 0xC0:
            few = head & (0x0F if head < 0xA0 else 0x1F)
            return self.map(few) if head < 0x90 else self.list(few) if head < 0xA0 else self.text(few)
        if head <= 0xC3:
            return {0xC0: None, 0xC2: False, 0xC3: True}[head]
        if 0xCA <= head <= 0xD3:
            return self.number("fdBHIQbhiq"[head - 0xCA])
        if 0xD4 <= head <= 0xD8:
            return self.extension(1 << (head - 0xD4))
        first, codes, read = next(row for row in self.sized() if row[0] <= head < row[0] + len(row[1]))
        return read(self.number(codes[head - first]))

    def sized(self) -> list[tuple[int, str, Callable[[int], Any]]]:
        return [
            *((0xC4, "BHI", self.taken), (0xC7, "BHI", self.extension), (0xD9, "BHI", self.text)),
            *((0xDC, "HI", self.list), (0xDE, "HI", self.map)),
        ]

    def text(self, size: int) -> str:
        return self.taken(size).decode()

    def list(self, count: int) -> Any:
        return [self.value() for _ in range(count)]

    def map(self, count: int) -> dict[Any, Any]:
        return {as_key(self.value()): self.value() for _ in range(count)}

    def extension(self, size: int) -> Any:
        kind = self.number("b")
        data = self.taken(size)
        if kind == -1:
            return timestamp(data)
        assert kind == 64
        assert data[:7] == b"shmsync"
        place, *description = Msgpack(data[7:], []).value()
        if isinstance(place, str):  # a value, shown as its kind and its fields
            return place, *description
        return array(self.buffers[place], *description) if description else self.buffers[place]


def timestamp(data: bytes) -> tuple[int, int]:
    """Return the seconds and nanoseconds of a timestamp of the msgpack specification."""
    if len(data) == 4:
        return struct.unpack(">I", data)[0], 0
    if len(data) == 8:
        (both,) = struct.unpack(">Q", data)
        return both & (1 << 34) - 1, both >> 34
    nanoseconds, seconds = struct.unpack(">Iq", data)
    return seconds, nanoseconds


def as_key(value: Any) -> Any:
    """Return a key: a list among keys is a tuple."""
    return tuple(map(as_key, value)) if isinstance(value, list) else value


def array(raw: bytes, dtype: str, order: str, *shape: int) -> tuple[Any, ...]:
    """Return an array of one of two dtypes as its shape and its elements in row-major order."""
    flat = struct.unpack(f"<{len(raw) // int(dtype[2:])}{ {'<f4': 'f', '<i8': 'q'}[dtype] }", raw)
    if order == "F":
        rows, columns = shape
        flat = tuple(flat[row + rows * column] for row in range(rows) for column in range(columns))
    return (*shape, list(flat))


def from_archive(archive: bytes) -> Any:
    """Read an archive."""
    root, version, zero, size, magic = struct.unpack("=QIIQQ", archive[-32:])
    assert (version, zero, size, magic) == (1, 0, len(archive), 0x31484352414D4853)
    assert struct.unpack_from("=Q", archive) == (magic,)
    return element(archive, root, 0)


def words(archive: bytes, at: int, count: int, code: str = "Q") -> tuple[Any, ...]:
    return struct.unpack_from(f"={count}{code}", archive, at)


def element(archive: bytes, header: int, i: int) -> Any:  # noqa: C901, PLR0911 - one case for each row of the page
    """Return element i of a column."""
    kind, zero, n, *word = struct.unpack_from("=II7Q", archive, header)
    assert zero == 0
    assert i < n

    def span(offsets: int, stride: int) -> tuple[int, int]:
        return words(archive, offsets + 8 * i, 2) if offsets else (stride * i, stride * (i + 1))

    if kind == 1:
        return None
    if kind == 2:
        return archive[word[0] + i] == 1
    if kind in {3, 4, 5}:
        return words(archive, word[0] + 8 * i, 1, {3: "q", 4: "Q", 5: "d"}[kind])[0]
    if kind in {6, 7}:
        start, end = span(word[0], word[2] // n)
        text = archive[word[1] + start : word[1] + end]
        return text.decode() if kind == 6 else text
    if kind in {14, 15}:
        start, end = words(archive, word[0] + 16 * i, 2)
        assert start <= end <= word[2] <= word[3]
        text = archive[word[1] + start : word[1] + end]
        return text.decode() if kind == 14 else text
    if kind == 8:
        return [element(archive, word[2], number) for number in range(*span(word[0], word[1]))]
    if kind == 9:
        start, end = words(archive, word[0] + 8 * i, 2)
        keys = [element(archive, word[1], number) for number in range(start, end)]
        values = [element(archive, word[2], number) for number in range(start, end)]
        assert not word[3] or [looked_up(archive, header, key) for key in keys] == list(range(start, end))
        return dict(zip(map(as_key, keys), values, strict=True))
    if kind == 10:
        (count,) = words(archive, word[0] + 8, 1)
        keys = [element(archive, word[0], number) for number in range(count)]
        return {key: element(archive, at, i) for key, at in zip(keys, words(archive, word[1], count), strict=True)}
    if kind == 11:
        dtype, length, shape, dimensions, data, size = word
        named = archive[dtype : dtype + length].decode()
        return array(archive[data + size * i :][:size], named, "C", *words(archive, shape, dimensions))
    if kind == 12:
        kinds, places, children, count = word[:4]
        child = words(archive, children, count)[archive[kinds + i]]
        return element(archive, child, words(archive, places + 8 * i, 1)[0])
    assert kind == 13
    return element(archive, words(archive, word[0] + 8 * i, 1)[0], 0)


def looked_up(archive: bytes, header: int, key: Any) -> int | None:
    """Find a key in the hash table of a map."""
    _, keys, _, table, buckets = struct.unpack_from("=5Q", archive, header + 16)
    (kind,) = words(archive, keys, 1, "I")
    if kind in {3, 4}:
        h = key
    elif kind in {6, 7, 14, 15}:
        h = xxh3_64_intdigest(key.encode() if kind in {6, 14} else key, buckets)
    else:
        h = xxh3_64_intdigest(packed(key), buckets)
    (item,) = words(archive, table + 4 * (h % buckets), 1, "I")
    while item:
        if element(archive, keys, item - 1) == key:
            return item - 1  # type: ignore[no-any-return]
        (item,) = words(archive, table + 4 * (buckets + item - 1), 1, "I")
    return None


def packed(key: Any) -> bytes:
    """Return a short key of integers, floats and texts in msgpack."""
    if isinstance(key, list):
        return bytes([0x90 + len(key)]) + b"".join(map(packed, key))
    if isinstance(key, str):
        return bytes([0xA0 + len(key)]) + key.encode()
    if key == int(key):
        return bytes([int(key)]) if key < 128 else b"\xcc" + bytes([int(key)])
    return b"\xcb" + struct.pack(">d", key)


# --------------------------------------------------------------------------------------------------------- the tests

PLAIN = {
    "none": None,
    "flags": [True, False],
    "ints": [0, 127, -1, -32, 255, -33, 1 << 16, -(1 << 20), 1 << 40, -(1 << 50), (1 << 64) - 1],
    "floats": [1.5, -2.25],
    "texts": ["", "short", "x" * 40, "é" * 300],
    "bytes": b"\0\1\2",
    "list": list(range(20)),
    ("a", 1): {17: "tuple key"},
    "map": {str(number): number for number in range(20)},
}


DAY = dt.date(2026, 1, 1)


def test_extensions(writer: Writer[Any], name: str) -> None:
    utc = dt.timezone.utc
    for beside in (None, np.arange(3)):
        writer.write({
            "when": [dt.datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=utc), dt.datetime(1960, 1, 1, tzinfo=utc)],
            "local": [dt.datetime(2026, 1, 1, 12, 30), dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))],  # noqa: DTZ001, E501
            "day": [DAY, dt.time(12, 30, tzinfo=utc), dt.timedelta(-1, 2, 3)],
            "number": [Decimal("1.50"), 2**64, -(2**63) - 1, 1 + 2j, range(1, 9, 2)],
            "other": [uuid.UUID(int=258), Path("/tmp/x"), PurePosixPath("x"), {(1, 2)}, frozenset({DAY})],
            "beside": beside,
        })  # fmt: skip
        found = read(name)
        assert found["when"] == [(1767225600, 5000), (-315619200, 0)]
        assert found["local"][0] == ("datetime", "2026-01-01T12:30:00")
        assert found["local"][1] == ("datetime", "2026-10-25T02:30:00+01:00", 1, "Europe/Paris")
        assert found["day"] == [("date", "2026-01-01"), ("time", "12:30:00+00:00"), ("timedelta", -1, 2, 3)]
        assert found["number"][:2] == [("decimal", "1.50"), ("int", b"\x01" + bytes(8))]
        assert found["number"][2:] == [("int", b"\xff\x7f" + b"\xff" * 7), ("complex", 1.0, 2.0), ("range", 1, 9, 2)]
        assert found["other"][0] == ("uuid", bytes(14) + b"\x01\x02")
        assert found["other"][1:3] == [("path", b"/tmp/x"), ("purepath", b"x")]
        assert found["other"][3:] == [("set", [[1, 2]]), ("frozenset", [("date", "2026-01-01")])]


def test_msgpack(writer: Writer[Any]) -> None:
    for value in (1, PLAIN, [PLAIN, PLAIN]):
        writer.write(value)
        assert read(writer.name) == value


def test_a_frame_with_arrays_and_large_bytes(writer: Writer[Any]) -> None:
    numbers = np.arange(6, dtype="<f4").reshape(2, 3)
    writer.write({"rows": numbers, "columns": np.asfortranarray(numbers), "blob": b"x" * 5000, "name": "frame"})
    expected = (2, 3, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert read(writer.name) == {"rows": expected, "columns": expected, "blob": b"x" * 5000, "name": "frame"}


def test_isolated_mode(name: str) -> None:
    with Writer(name, mode=0o644) as writer:
        for value in (1, PLAIN, [PLAIN, PLAIN]):
            writer.write(value)
            assert read(name) == value
        writer.unlink()


def test_raw(writer: Writer[Any]) -> None:
    writer.write_raw(b"as it is")
    assert read(writer.name) == b"as it is"


@pytest.mark.parametrize(
    "value",
    [
        PLAIN,
        {"rows": [{"id": number, "name": f"n{number}"} for number in range(5)]},  # structs
        {"pairs": [[1, 2], [3, 4]], "ragged": [[1.0], [], [2.0, 3.0]], "same": ["ab", "cd"], "other": ["a", "bcd"]},
        {"mixed": [1, "a", None, 2.5, True, b"x", [1, "b"], {"k": 1}, 1 << 63]},
        {number - 50: -number for number in range(100)},  # a hash table of integers,
        {f"key {number}": number for number in range(100)},  # of texts,
        {("k", number): number for number in range(100)},  # and of other keys
        {number / 2: number for number in range(100)},
        [{f"{first} {number}": number for number in range(70)} for first in "ab"],  # two of them: chunked
        [None, None],
        3,
    ],
)
def test_archive(name: str, value: Any) -> None:
    with Writer[Any](name, codec="archive") as writer:
        try:
            writer.write(value)
            assert read(name) == value
        finally:
            writer.unlink()


def test_archive_with_arrays(name: str) -> None:
    numbers = np.arange(6, dtype="<i8").reshape(2, 3)
    with Writer[Any](name, codec="archive") as writer:
        try:
            writer.write({"one": numbers, "two": [numbers, numbers + 1]})
            expected, more = (2, 3, [0, 1, 2, 3, 4, 5]), (2, 3, [1, 2, 3, 4, 5, 6])
            assert read(name) == {"one": expected, "two": [expected, more]}
        finally:
            writer.unlink()


@pytest.mark.parametrize("keys", [np.arange(100) * 3 - 50, [f"k{number}" * (number % 3 + 1) for number in range(100)]])
def test_maps_with_a_capacity(name: str, keys: Any) -> None:
    """Also after keys were added and removed in place."""
    listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
    with Writer[Any](name, codec="archive") as writer:
        for rows in (np.arange(100), np.arange(200, dtype="<i8").reshape(100, 2)):
            writer.write({"map": ArrayMap(keys[:60], rows[:60], capacity=80), "beside": 1})
            plain = rows.tolist() if rows.ndim == 1 else [(2, row.tolist()) for row in rows]
            expected = dict(zip(listed[:60], plain, strict=False))
            for turn in range(4):
                with writer.update() as draft:
                    draft["map"].remove(listed[turn * 10 : turn * 10 + 10])
                    draft["map"].update(listed[turn * 10 + 60 : turn * 10 + 70], rows[turn * 10 :][:10])
                for key, added, row in zip(
                    listed[turn * 10 :][:10], listed[turn * 10 + 60 :], plain[turn * 10 :], strict=False
                ):
                    del expected[key]
                    expected[added] = row
                assert read(name) == {"map": expected, "beside": 1}
        writer.unlink()


def test_generations_change_and_versions_follow(writer: Writer[Any]) -> None:
    for size in (10, 100_000, 10, 200_000, 10):
        writer.write_raw(b"x" * size)
        assert read(writer.name) == b"x" * size
