"""A reader written from docs/format.md alone, of copies of what is published: struct, mmap, xxhash, nothing else."""

from __future__ import annotations

import math
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Callable


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


CODES = {
    "|b1": "?",
    "|i1": "b",
    "|u1": "B",
    "<i2": "h",
    "<u2": "H",
    "<i4": "i",
    "<u4": "I",
    "<i8": "q",
    "<u8": "Q",
    "<f2": "e",
    "<f4": "f",
    "<f8": "d",
    "<M8": "q",
    "<m8": "q",
}
"""The dtypes that `struct` has a code for."""


def array(raw: bytes, dtype: str, item_size: int, order: str, *shape: int) -> tuple[Any, ...]:
    """Return an array as its shape and its elements in row-major order: numbers, or bytes for other dtypes."""
    assert len(raw) == item_size * math.prod(shape)
    code = CODES.get(dtype.partition("[")[0] if dtype[1:2] in {"M", "m"} else dtype)
    if code is None:
        items = range(0, len(raw), item_size)
        flat: tuple[Any, ...] = tuple(raw[item : item + item_size] for item in items)
    else:
        flat = struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)
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
        item_size, *lengths = words(archive, shape, dimensions + 1)
        return array(archive[data + size * i :][:size], named, item_size, "C", *lengths)
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
