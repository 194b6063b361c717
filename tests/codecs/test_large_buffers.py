"""Large bytes: read back as bytes, written without a private copy, and copied in blocks that a signal can interrupt."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import os
import pickle
import signal
import sys
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgpack import ExtType

from shmsync import EntityReadError, EntityWriteError, IntegrityError, Reader, Writer, unarchive
from shmsync._core import digests, layout
from shmsync._core.layout import checksum_of
from shmsync._session import data
from shmsync.codecs import _blocks, _gather, _out_of_band, archive, msgpack, raw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL_BLOCK = 4096
SIZE = 10 * SMALL_BLOCK + 5
CONTENT = bytes(range(251)) * (SIZE // 251 + 1)
CONTENT = CONTENT[:SIZE]
DAY = dt.date(2026, 11, 24)
HUGE = 1 << 8 * SIZE


@dataclasses.dataclass(unsafe_hash=True)
class Record:
    blob: Any
    rest: Any = None


class Struct(msgspec.Struct):
    blob: Any


# By kind: a value that contains bytes, and the value that is read.
KINDS: dict[str, tuple[Any, Any]] = {
    "alone": (CONTENT, CONTENT),
    "in a dict": ({"x": CONTENT, "n": 1}, {"x": CONTENT, "n": 1}),
    "in nested lists": ([1, [[{"a": [CONTENT]}]]], [1, [[{"a": [CONTENT]}]]]),
    "in a tuple": ((1, (CONTENT,)), [1, [CONTENT]]),
    "bytearray": ({"x": bytearray(CONTENT)}, {"x": CONTENT}),
    "memoryview": ({"x": memoryview(CONTENT)[1:]}, {"x": CONTENT[1:]}),
    "in a dataclass": ([Record(CONTENT, {"y": [CONTENT]})], [{"blob": CONTENT, "rest": {"y": [CONTENT]}}]),
    "in a Struct": (Struct(CONTENT), {"blob": CONTENT}),
    "the same twice": ([CONTENT, {"x": CONTENT}], [CONTENT, {"x": CONTENT}]),
    "many": ([CONTENT[number:] for number in range(30)], [CONTENT[number:] for number in range(30)]),
    "beside an array": ({"a": np.arange(3), "x": CONTENT}, None),
}


def every_bytes(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from every_bytes(item)
    elif isinstance(value, (bytes, memoryview)):
        yield value


@pytest.fixture(params=["msgpack", "archive"])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def writing(name: str, codec: str) -> Iterator[Writer]:
    with closing(Writer(name, codec=codec)) as writer:
        yield writer
        writer.unlink()


# --------------------------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_read_back_as_bytes(writing: Writer, name: str, kind: str) -> None:
    value, read = KINDS[kind]
    writing.write(value)
    with Reader(name) as reader, reader.read() as snapshot:
        for found in (unarchive(reader.get()), unarchive(snapshot.value)):
            blobs = list(every_bytes(found))
            assert blobs
            assert {type(blob) for blob in blobs} == {bytes}
            if read is not None:
                assert found == read


@pytest.mark.parametrize("size", [4095, 4096, 4097, _blocks.BLOCK_SIZE, _blocks.BLOCK_SIZE + 1, 3 * 10**6])
def test_bytes_of_every_size_behave_as_bytes(writing: Writer, name: str, size: int) -> None:
    """Regression: from 4096 bytes on they were memoryviews, which do not pickle, copy or hash."""
    content = os.urandom(size)
    writing.write({"certificate": content})
    with Reader(name) as reader:
        value = reader.get()
        found = value["certificate"]
        assert type(found) is bytes
        assert {found: 1}[content] == 1
        assert found.startswith(content[:9])
        assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(unarchive(value)) == {"certificate": content}


def test_a_copied_value_retains_no_memory(writer: Writer, name: str) -> None:
    with Reader(name) as reader:
        for _ in range(3):
            writer.write({"x": CONTENT})
            assert reader.get() == {"x": CONTENT}
            assert reader.get() is reader.get()
            kept = reader.get()
        writer.write({"x": CONTENT[::-1]})
        writer.write({"x": CONTENT[::-1]})
        assert writer.stats().replaced == 2  # the two segments, when they were created
        assert kept == {"x": CONTENT}


def test_typed_reads_of_bytes_in_place(writer: Writer, name: str) -> None:
    """msgspec copies for fields of type bytes, and leaves views to fields of type memoryview."""
    Model = msgspec.defstruct("Model", [("plain", bytes), ("view", memoryview)])  # noqa: N806
    writer.write({"plain": CONTENT, "view": CONTENT})
    for zero_copy in (False, True):
        with Reader(name, type=Model, zero_copy_bytes=zero_copy) as reader:
            model: Any = reader.get()
            assert (type(model.plain), type(model.view)) == (bytes, memoryview)
            assert model.plain == bytes(model.view) == CONTENT


# ------------------------------------------------------------------------------------------------ what is written


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_takes_no_private_copy(codec: str, kind: str) -> None:
    """Regression: the value was packed, copied, discarded, and packed again beside the bytes."""
    size = 2**22
    content = bytes(size)
    value = _with_content(KINDS[kind][0], content)
    encode = {"msgpack": msgpack.Encoder().encode, "archive": archive.encode}[codec]
    encode(5)
    tracemalloc.start()
    try:
        payload = encode(value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(payload) > size - 10
    assert peak < size / 8


def _with_content(value: Any, content: bytes) -> Any:
    """Return a value with other content in place of its bytes."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return memoryview(content) if isinstance(value, memoryview) else type(value)(content)
    if isinstance(value, dict):
        return {key: _with_content(item, content) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_content(item, content) for item in value)
    if isinstance(value, Record):
        return Record(_with_content(value.blob, content), _with_content(value.rest, content))
    return Struct(_with_content(value.blob, content)) if isinstance(value, Struct) else value


def test_values_without_large_bytes_are_not_searched_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    searches: list[Any] = []
    contains_large = _out_of_band.contains_large

    def counted(boxed: list[Any]) -> bool:
        searches.append(boxed)
        return contains_large(boxed)

    monkeypatch.setattr(msgpack, "contains_large", counted)
    encode = msgpack.Encoder().encode
    for _ in range(msgpack.SEARCHES + 5):
        encode({"a": 1})
    assert len(searches) == msgpack.SEARCHES
    payload = encode({"a": [CONTENT]})
    assert msgpack.decode(memoryview(bytes(payload))) == {"a": [CONTENT]}
    assert payload.__class__ is _gather.GatherList  # found although it was packed first
    searches.clear()
    for _ in range(msgpack.SEARCHES + 5):
        encode({"a": 1})
    assert len(searches) == msgpack.SEARCHES


@pytest.mark.parametrize("values_before", [0, msgpack.SEARCHES])
def test_bytes_of_4_gib_are_accepted(values_before: int) -> None:
    """msgpack itself refuses them. The memory is not touched: the kernel provides it on first access."""
    encode = msgpack.Encoder().encode
    for _ in range(values_before):
        encode(1)
    assert len(encode({"x": bytes(2**32)})) > 2**32


MANY = 3000
MANY_BUFFERS: dict[str, Any] = {
    "in a dict": {f"k{number}": CONTENT[number:] for number in range(MANY)},
    "in a list": [CONTENT[number:] for number in range(MANY)],
    "in dicts": [{number: CONTENT, "again": CONTENT[number:]} for number in range(MANY // 2)],
    "some small": [CONTENT[number * 8 :] for number in range(MANY)],
    "after another": [CONTENT, 1, {number: CONTENT[number:] for number in range(MANY)}],
}


@pytest.mark.parametrize("kind", MANY_BUFFERS)
@pytest.mark.parametrize("zero_copy", [False, True])
def test_many_buffers(writer: Writer, name: str, kind: str, *, zero_copy: bool) -> None:
    value = MANY_BUFFERS[kind]
    writer.write(value)
    with Reader(name, zero_copy_bytes=zero_copy) as reader, reader.read(check_bytes=True) as snapshot:
        assert snapshot.value == value


def test_thousands_of_buffers_take_few_steps() -> None:
    """What each buffer costs beside its copy decides how long it takes: see docs/values.md."""
    value = MANY_BUFFERS["in a dict"]
    target = memoryview(bytearray(len(msgpack.encode(value))))  # this also fills the caches
    msgpack.decode(memoryview(bytes(msgpack.encode(value))))
    encoded = _calls_of(lambda: msgpack.encode(value))
    payload = msgpack.encode(value)
    copied = _calls_of(lambda: _gather.copy_into(target, payload))
    decoded = _calls_of(lambda: msgpack.decode(target))
    assert encoded < MANY / 10  # no Python function for each
    assert copied < MANY / 10
    assert decoded < MANY * 3.5  # the hook, and the copy


def _calls_of(function: Callable[[], Any]) -> int:
    """Return the number of calls of Python functions."""
    calls = [0]

    def count(_: Any, event: str, __: Any) -> None:
        calls[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls[0]


def test_values_that_contain_themselves_are_refused() -> None:
    cyclic: list[Any] = [1]
    cyclic += [cyclic, {"again": cyclic}]
    with pytest.raises(EntityWriteError, match="it contains itself"):
        msgpack.encode(cyclic)
    with pytest.raises(EntityWriteError):
        msgpack.encode([cyclic, CONTENT])


class Odd:
    def __init__(self, blob: Any) -> None:
        self.blob = blob


BESIDE_EXTENSIONS: dict[str, tuple[Any, Any]] = {
    "beside a date": ({"on": DAY, "x": CONTENT}, {"on": DAY, "x": CONTENT}),
    "in a set": ({CONTENT, 1}, {CONTENT, 1}),
    "in a frozenset in a set": ({frozenset({(CONTENT, DAY)})}, {frozenset({(CONTENT, DAY)})}),
    "an int": (HUGE, HUGE),
    "in a record beside a date": (Record(CONTENT, DAY), {"blob": CONTENT, "rest": DAY}),
    "from enc_hook": ([Odd({"x": CONTENT, "on": DAY})], [{"x": CONTENT, "on": DAY}]),
    "alone from enc_hook": (Odd(CONTENT), CONTENT),
}


@pytest.mark.parametrize("values_before", [0, msgpack.SEARCHES])
@pytest.mark.parametrize("kind", BESIDE_EXTENSIONS)
def test_large_bytes_beside_and_in_extensions(name: str, kind: str, values_before: int) -> None:
    value, read = BESIDE_EXTENSIONS[kind]
    with closing(Writer(name, enc_hook=lambda odd: odd.blob)) as writer:
        for _ in range(values_before):
            writer.write(1)
        assert writer.write(value).size > SIZE
        with Reader(name) as reader, Reader(name, zero_copy_bytes=True) as in_place:
            assert reader.get() == in_place.get() == read
            assert {type(blob) for blob in every_bytes(reader.get())} <= {bytes}
            assert {type(blob) for blob in every_bytes(in_place.get())} <= {memoryview}
        writer.unlink()


@pytest.mark.parametrize("value", [{CONTENT}, HUGE, Record(CONTENT, {CONTENT[1:]})], ids=["set", "int", "record"])
def test_large_parts_of_extensions_are_buffers(value: Any) -> None:
    payload: Any = msgpack.encode(value)
    assert isinstance(payload, msgpack.ExtendedPayload)
    assert max(size for _, size, _ in payload) >= SIZE - 1
    packed = bytes(payload)
    assert msgpack.is_frame(packed)
    assert msgpack.decode(memoryview(packed), extended=True) == msgpack.decode(memoryview(packed), [], extended=True)


@pytest.mark.parametrize("refused", [Odd(1), ExtType(64, b"shmsync"), {Record(1): 2}], ids=["type", "tag", "key"])
def test_a_failed_write_with_extensions_keeps_no_buffer(refused: Any) -> None:
    content = bytearray(CONTENT)
    with pytest.raises(EntityWriteError, match=r"at \[2\]: .* not supported") as caught:
        msgpack.encode([{1}, content, refused])
    content.append(1)  # BufferError if the stored exception referred to it
    assert caught.value


def test_frozen_values_with_bytes_in_place(writer: Writer, name: str) -> None:
    writer.write({"x": [CONTENT], "on": DAY})
    with Reader(name, frozen=True) as copied, Reader(name, frozen=True, zero_copy_bytes=True) as in_place:
        assert copied.get()["x"] == in_place.get()["x"] == (CONTENT,)
        assert type(copied.get()["x"][0]) is bytes
        view = in_place.get()["x"][0]
        assert type(view) is memoryview
        view.release()
        assert in_place.get()["x"] == (CONTENT,)


def test_the_search_visits_shared_containers_once() -> None:
    shared: list[Any] = [b"small"]
    for _ in range(100):  # 2**100 paths
        shared = [shared, shared]
    assert not _out_of_band.contains_large([shared])
    assert _out_of_band.contains_large([[shared, CONTENT]])


# ------------------------------------------------------------------------------------------------------- in blocks


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each block that is processed, with small blocks."""
    sizes: list[int] = []
    blocks = _blocks.blocks

    def recorded(size: int) -> Iterator[slice]:
        for block in blocks(size):
            sizes.append(block.stop - block.start)
            yield block

    def hashed(buffer: Any) -> int:
        sizes.append(len(buffer))
        return checksum_of(buffer)

    monkeypatch.setattr(_blocks, "BLOCK_SIZE", SMALL_BLOCK)
    monkeypatch.setattr(_blocks, "blocks", recorded)
    monkeypatch.setattr(layout, "DIGEST_BLOCK", SMALL_BLOCK)
    for module in (digests, data):
        monkeypatch.setattr(module, "checksum_of", hashed, raising=False)
    return sizes


def assert_in_blocks(seen: list[int], size: int) -> None:
    assert max(seen) <= max(SMALL_BLOCK, 8 * -(-size // SMALL_BLOCK))  # the table of digests, of 8 bytes for each block
    assert sum(seen) >= size
    seen.clear()


STRIDED = np.arange(2 * SIZE, dtype="u1")[::2]
ARRAYS = {
    "an array": np.arange(SIZE),
    "a strided array": STRIDED,
    "large rows": np.arange(4 * SIZE, dtype="u1").reshape(2, 2 * SIZE)[:, ::2],
    "a transposed part": np.arange(SIZE * 8).reshape(4, 2, SIZE)[:, :, 1:].T,
}


@pytest.mark.parametrize("value", [*[value for value, _ in KINDS.values()], *ARRAYS.values()], ids=[*KINDS, *ARRAYS])
def test_writes_copy_and_hash_in_blocks(writing: Writer, name: str, seen: list[int], value: Any) -> None:
    writing.write(value)
    is_strided = isinstance(value, np.ndarray) and not value.flags.c_contiguous
    assert_in_blocks(seen, 2 * value.nbytes if is_strided else SIZE - 1)  # copied, then hashed
    if isinstance(value, np.ndarray):
        with Reader(name) as reader:
            assert np.array_equal(reader.get(), value)


def test_raw_writes_and_reservations_are_hashed_in_blocks(writer: Writer, name: str, seen: list[int]) -> None:
    buffers: tuple[Any, ...] = (CONTENT, memoryview(CONTENT * 2)[::2], STRIDED)
    for buffer in buffers:
        writer.write_raw(buffer)
        assert_in_blocks(seen, SIZE if buffer is CONTENT else 2 * SIZE)
        with Reader(name) as reader:
            assert reader.get() == memoryview(buffer).tobytes()
    with writer.reserve(SIZE) as slot:
        slot.buffer[:] = CONTENT
    assert_in_blocks(seen, SIZE)


@pytest.mark.parametrize("value", [CONTENT, [CONTENT], {"x": CONTENT}], ids=["alone", "in a list", "in a dict"])
def test_reads_copy_in_blocks(writing: Writer, name: str, seen: list[int], value: Any) -> None:
    writing.write(value)
    seen.clear()
    with Reader(name) as reader:
        assert unarchive(reader.get()) == value
    assert_in_blocks(seen, SIZE)


@pytest.mark.parametrize("value", [CONTENT, {"x": "ä€\U0001f600" * SIZE}, [CONTENT] * 2], ids=["bytes", "text", "list"])
def test_payloads_are_checked_in_blocks(writing: Writer, name: str, seen: list[int], value: Any) -> None:
    writing.write(value)
    seen.clear()
    with Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
        size = snapshot.version.size
        is_text = isinstance(value, dict) and writing._codec.NAME == "archive"
        assert_in_blocks(seen, size + len(value["x"].encode()) if is_text else size)  # hashed, then decoded


def test_damage_in_any_block_is_found(writer: Writer, name: str, seen: list[int]) -> None:
    result = writer.write_raw(CONTENT)
    for at in (0, SMALL_BLOCK, SIZE - 1):
        with open(f"/dev/shm/{name}_data_{result.version.idx}", "r+b") as segment:  # noqa: PTH123
            for content in (b"\xff", CONTENT[at : at + 1]):
                segment.seek(64 + at)
                segment.write(content)
                segment.flush()
                with Reader(name) as reader:
                    if content == b"\xff":
                        with pytest.raises(IntegrityError):
                            reader.read(check_bytes=True)
                    else:
                        reader.read(check_bytes=True).close()


def test_large_archived_text_that_is_not_utf8_is_found(seen: list[int]) -> None:
    payload = bytearray(bytes(archive.encode(["ä" * SIZE, "b"])))
    archive.check(memoryview(payload))
    at = payload.index("ä".encode() * 9)
    for offset in (0, SMALL_BLOCK, 2 * SIZE - 1):
        damaged = payload.copy()
        damaged[at + offset] = 0x41 if offset == 2 * SIZE - 1 else 0xFF
        with pytest.raises(EntityReadError, match="not UTF-8"):
            archive.check(memoryview(damaged))
    assert max(seen) <= SMALL_BLOCK


@given(st.binary(max_size=70), st.integers(1, 9))
def test_blocks_cover_everything_once(content: bytes, block_size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_blocks, "BLOCK_SIZE", block_size)
        view = memoryview(content)
        assert b"".join(content[block] for block in _blocks.blocks(len(content))) == content
        assert _blocks.to_bytes(view) == content
        assert _blocks.are_equal(view, memoryview(bytearray(content)))
        assert not _blocks.are_equal(view, memoryview(content + b"x"))
        for at in range(len(content)):
            other = bytearray(content)
            other[at] ^= 1
            assert not _blocks.are_equal(view, memoryview(other))
        for step in (2, 3, -1):
            assert bytes(raw.flat(view[::step])) == content[::step]
        words = memoryview(content[: len(content) // 8 * 8]).cast("H")
        assert bytes(raw.flat(words[::2])) == words[::2].tobytes()


# ---------------------------------------------------------------------------------------------------------- Ctrl-C


@pytest.mark.parametrize("value", [{"x": [CONTENT]}, {"x": STRIDED}, CONTENT], ids=["bytes", "array", "alone"])
def test_ctrl_c_ends_a_write_within_a_block(
    writing: Writer, name: str, monkeypatch: pytest.MonkeyPatch, seen: list[int], value: Any
) -> None:
    writing.write("last")
    blocks = _blocks.blocks
    after_signal: list[slice] = []

    def interrupted(size: int) -> Iterator[slice]:
        for number, block in enumerate(blocks(size)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
            if number > 3:
                after_signal.append(block)
            yield block

    with Reader(name) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(_blocks, "blocks", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writing.write(value)
        assert len(after_signal) <= 1
        assert reader.get() == "last"
        assert writing.write("next").version.seq == 2
        assert reader.get() == "next"
