"""How a version, and what has changed in it, are described to an engine."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from shmsync.codecs import _numpy
from shmsync.codecs._changes import Changes
from shmsync.replication._changes import ReceivedChanges, gather
from shmsync.replication._entry import MIN_CHUNK, DamagedError, Entry, VersionId, parse_entry

SIZE = 100_000
INLINE = Entry(VersionId(7, 3), 11, 1.5, 4, 55, 1, full=VersionId(7, 3), data=b"spam")
CHUNKED = Entry(VersionId(7, 3), 11, 1.5, SIZE, 55, 1, full=VersionId(7, 3), chunk=MIN_CHUNK)
CHANGES = Entry(
    VersionId(8, 1),
    11,
    1.5,
    SIZE,
    55,
    1,
    VersionId(7, 3),
    0,
    None,
    VersionId(7, 9),
    b"parts",
    b"abc",
    3,
    depth=2,
    volume=9,
)
LARGE = CHANGES._replace(content=None, changed=70_000)
BOTH = CHANGES._replace(full=VersionId(8, 1), chunk=MIN_CHUNK)


def raw(entry: Entry) -> dict[bytes, bytes]:
    return {
        name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in entry.fields().items()
    }


@pytest.mark.parametrize("entry", [INLINE, CHUNKED, CHUNKED._replace(compression="zstd"), CHANGES, LARGE, BOTH])
def test_an_entry_is_what_its_fields_say(entry: Entry) -> None:
    assert parse_entry(str(entry.id).encode(), raw(entry)) == entry


@pytest.mark.parametrize(
    ("entry", "changed", "message"),
    [
        (INLINE, {"format": b"2"}, "has format 2, and this shmsync reads format 1"),
        (INLINE, {"byteorder": b"middle"}, "endian"),
        (INLINE, {"size": b"5"}, "its payload has 4 bytes, not 5"),
        (INLINE, {"size": b"-4"}, "is not a number"),
        (INLINE, {"size": b"9" * 20}, "is more than"),
        (INLINE, {"codec": None}, "no field codec"),
        (INLINE, {"data": None}, "no payload, or two"),
        (INLINE, {"chunk": b"65536"}, "no payload, or two"),
        (INLINE, {"full": b"7-4"}, "names a later version"),
        (INLINE, {"full": b"7-2"}, "no payload, and no changes"),
        (INLINE, {"full": b"7"}, "not the id of a version"),
        (CHUNKED, {"compression": b"lz4"}, "compressed by 'lz4', not by zstd"),
        (CHUNKED, {"chunk": b"1"}, "less than 65536"),
        (CHUNKED, {"chunk": b"99999999"}, "is more than"),
        (CHANGES, {"base": b"8-1"}, "names a later version"),
        (CHANGES, {"base": b"7-2"}, "no changes since the version in full"),
        (CHANGES, {"changes": None}, "no field changes"),
        (CHANGES, {"changed": b"4"}, "3 changed bytes, not 4"),
        (CHANGES, {"changed": b"100001"}, "is more than 100000"),
    ],
)
def test_a_damaged_entry(entry: Entry, changed: dict[str, bytes | None], message: str) -> None:
    fields: dict[bytes, Any] = raw(entry) | {name.encode(): value for name, value in changed.items()}
    with pytest.raises(DamagedError, match=message) as caught:
        parse_entry(str(entry.id).encode(), {name: value for name, value in fields.items() if value is not None})
    assert caught.value.id == entry.id


@pytest.mark.parametrize("identifier", [b"7-0", b"7-9223372036854775808"])
def test_a_sequence_number_that_no_version_has(identifier: bytes) -> None:
    with pytest.raises(DamagedError, match="sequence number"):
        parse_entry(identifier, raw(INLINE) | {b"full": identifier})


def random_changes(seed: int) -> Changes:
    chance = random.Random(seed)
    changes = Changes()
    for _ in range(chance.randrange(1, 20)):
        if chance.random() < 0.5:
            start = chance.randrange(SIZE)
            changes.add(start, start + chance.randrange(1, 3000))
        else:
            row_size = chance.choice([1, 2, 3, 4, 8, 12, 100])
            base = chance.randrange(SIZE // 2)
            count = (SIZE - base) // row_size
            changes.add_rows(base, row_size, np.random.default_rng(seed).integers(0, count, 50))
    return changes


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("has_numpy", [True, False])
def test_changes_arrive(monkeypatch: pytest.MonkeyPatch, seed: int, *, has_numpy: bool) -> None:
    old = bytearray(np.random.default_rng(0).bytes(SIZE))
    changes = random_changes(seed)
    new = bytearray(old)
    for start, stop in changes.ranges():
        new[start : min(stop, SIZE)] = bytes(each ^ 255 for each in new[start : min(stop, SIZE)])
    packed = changes.packed(SIZE)
    assert packed is not None
    content = gather(packed, memoryview(new))
    if not has_numpy:
        monkeypatch.setattr(_numpy, "numpy_if_installed", lambda: None)
    received = ReceivedChanges(packed, SIZE, len(content))
    recorded = Changes()
    received.record(recorded)
    received.scatter(memoryview(old), memoryview(content))
    assert old == new
    assert [(start, min(stop, SIZE)) for start, stop in changes.ranges()] == recorded.ranges()


@pytest.mark.parametrize("seed", range(200))
def test_damaged_changes_are_refused_or_stay_within_the_payload(seed: int) -> None:
    chance = random.Random(seed)
    packed = bytearray(random_changes(seed).packed(SIZE) or b"")
    changed = len(gather(bytes(packed), memoryview(bytes(SIZE))))
    for _ in range(chance.randrange(1, 4)):
        packed[chance.randrange(len(packed))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.3:
        del packed[chance.randrange(len(packed)) :]
    try:
        received = ReceivedChanges(bytes(packed), SIZE, changed)
    except DamagedError:
        return
    target = bytearray(SIZE + 100)
    received.record(Changes())
    received.scatter(memoryview(target)[:SIZE], memoryview(bytes([255]) * changed))
    assert target[SIZE:] == bytes(100)
