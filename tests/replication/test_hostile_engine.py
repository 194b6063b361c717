"""Damaged entries and chunks: a replica logs an error, publishes nothing wrong, and takes the next good version.

The entries are those that a publisher has sent. They are copied to another name one by one, and before each comes a
damaged version of it, so the damage is in entries of each kind: payload in the entry, payload in chunks, changes in the
entry, changes in chunks.
"""

from __future__ import annotations

import logging
import random
import re
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from helpers import TIMEOUT, until

from replication.processes import replicating
from replication.values import PERIOD, blob, number_of, rows_of, table
from replication.watching import Watcher, newest_number
from shmsync import EntityReadError, Reader, unlink
from shmsync._core.digests import write_table
from shmsync._core.layout import table_span
from shmsync.codecs import raw
from shmsync.replication import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from replication.servers import RedisServer
    from shmsync.replication import Replica

EPOCH = 7
SHAPE = (2000, 64)
"""Of the table: 1 MB. Changes of LEAP numbers do not fit into an entry, and their description is short."""
LEAP = 300
MAX_SIZE = 4_000_000
Fields = dict[bytes, bytes]


class Original(NamedTuple):
    """An entry as a publisher has sent it, with its chunks.

    Attributes:
        kind: what it contains.
        number: that of the value.
        fields: of the entry.
        chunks: by the part of the key after the id.
    """

    kind: str
    number: int
    fields: Fields
    chunks: dict[str, bytes]


def record(server: RedisServer, name: str) -> list[Original]:
    """Return entries of all kinds, the oldest first."""
    numbers = []
    with Publisher[object](name, server.url, chunk_size=128 << 10, retain=0, keep=100) as publisher:

        def sent(number: int) -> None:
            publisher.flush(TIMEOUT)
            numbers.append(number)

        for number in range(1, 4):
            publisher.write_raw(blob(number, 500 * number))
            sent(number)
        for _ in range(3):
            number += 1
            publisher.write(table(number, *SHAPE))
            sent(number)
            for step in (1, 1, LEAP, 1):
                with publisher.update() as draft:
                    change(draft, number, step)
                number += step
                sent(number)
        publisher.write_raw(blob(number + 1, 300_000))
        sent(number + 1)
    return list(_recorded(server, name, numbers))


def change(draft: Any, number: int, step: int) -> None:
    """Change a table from one number to a later one: single rows if they are neighbours, else ranges of rows."""
    if step == 1:
        draft[rows_of(number + 1)] = number + 1
        return
    numbers = np.arange(number + 1, number + step + 1)
    assert numbers[-1] < PERIOD
    for start in range(0, SHAPE[0], PERIOD):
        draft[start + numbers[0] : start + numbers[-1] + 1] = numbers[:, np.newaxis]


def _recorded(server: RedisServer, name: str, numbers: list[int]) -> Iterator[Original]:
    prefix = f"shmsync:{{{name}}}"
    with server.client() as client:
        entries: list[tuple[bytes, Fields]] = client.xrange(f"{prefix}:log")
        assert len(entries) == len(numbers)
        for number, (identifier, fields) in zip(numbers, entries, strict=True):
            start = f"{prefix}:{identifier.decode()}:"
            chunks = {key.decode()[len(start) :]: client.get(key) for key in client.scan_iter(f"{start}*", 1000)}
            kind = "changes" if b"base" in fields and fields[b"full"] != identifier else "full"
            yield Original(f"{kind} in chunks" if chunks else kind, number, fields, chunks)


class Forger:
    """Adds copies of entries under another name, damaged or not.

    The n-th original becomes version 2n + 1 of an epoch; a damaged version of it is version 2n.
    """

    def __init__(self, client: redis.Redis, name: str, originals: list[Original]) -> None:
        self._client = client
        self._prefix = f"shmsync:{{{name}}}"
        self._ids = {each.fields[b"full"]: b"" for each in originals}
        self._originals = originals

    def copy(self, position: int, seq: int) -> tuple[Fields, dict[str, bytes]]:
        """Return the fields and chunks of an original, with the ids of its copy."""
        original = self._originals[position]
        good = f"{EPOCH}-{2 * position + 1}".encode()
        fields = dict(original.fields)
        if b"base" in fields:
            fields[b"base"] = f"{EPOCH}-{2 * position - 1}".encode()
        if original.kind.startswith("full"):
            self._ids[original.fields[b"full"]] = good
            fields[b"full"] = f"{EPOCH}-{seq}".encode()
        else:
            fields[b"full"] = self._ids[original.fields[b"full"]]
        return fields, dict(original.chunks)

    def add(self, seq: int, fields: Fields, chunks: dict[str, Any]) -> bytes:
        """Add an entry with its chunks; return its id."""
        for part, content in chunks.items():
            key = f"{self._prefix}:{EPOCH}-{seq}:{part}"
            if isinstance(content, bytes):
                self._client.set(key, content)
            else:
                self._client.rpush(key, *content)
        identifier = f"{EPOCH}-{seq}"
        parts = [part for item in fields.items() for part in item]
        self._client.execute_command("XADD", f"{self._prefix}:log", identifier, *parts)  # type: ignore[no-untyped-call]
        return identifier.encode()

    def remove(self, identifier: bytes) -> None:
        """Remove an entry; its chunks remain."""
        self._client.xdel(f"{self._prefix}:log", identifier)


NUMBERS = [
    b"", b"-1", b"+5", b"1.5", b"1e3", b" 7", b"7 ", b"0x10", b"nan", b"\xff\xfe", b"\0", b"0", b"1",
    "\N{ARABIC-INDIC DIGIT SEVEN}".encode(), b"9" * 19, b"9" * 20, b"9" * 5000,
    *(str(2**power + step).encode() for power in (31, 32, 40, 63, 64) for step in (-1, 0)), str(MAX_SIZE).encode(),
]  # fmt: skip
IDS = [b"", b"-", b"7", b"7-", b"-7", b"7-7-7", b"a-b", b"*", b"0-0", b"7-0", b"99-1", b"9" * 20 + b"-1", b"\xff-1"]
BYTES = {b"data", b"changes", b"content"}
REFERENCES = {b"full", b"base"}


def is_codec(value: bytes) -> bool:
    """Return whether a value is a valid number of a codec, known or unknown."""
    return re.fullmatch(rb"[0-9]{1,20}", value) is not None and int(value) < 2**32


def damage_bytes(generator: random.Random, content: bytes) -> bytes:
    """Return bytes that differ: a bit, the length, or all of them."""
    kind = generator.randrange(6)
    if kind == 0 and content:
        changed = bytearray(content)
        changed[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        return bytes(changed)
    if kind == 1 and content:
        return content[: generator.randrange(len(content))]
    if kind == 2:
        return content + generator.randbytes(generator.choice([1, 8, 1000]))
    if kind == 3 and len(content) >= 8:  # a word of a list of ranges: row size, count, base, start, stop
        at = 8 * generator.randrange(len(content) // 8)
        word = generator.choice([0, 1, 2**31, 2**32, 2**63, 2**64 - 1, generator.getrandbits(64), len(content)])
        return content[:at] + word.to_bytes(8, "little") + content[at + 8 :]
    if kind == 4:
        return b""
    return generator.randbytes(len(content) or 1)


def damage(generator: random.Random, fields: Fields, chunks: dict[str, Any]) -> str:
    """Damage a field or a chunk in place; return what was done."""
    if chunks and generator.random() < 0.4:
        return damage_chunk(generator, chunks)
    field = generator.choice(sorted(fields))
    if generator.random() < 0.15:
        del fields[field]
        return f"{field.decode()} is missing"
    if field in BYTES:
        fields[field] = damage_bytes(generator, fields[field])
        return f"{field.decode()} differs"
    values = [*(IDS if field in REFERENCES else NUMBERS), generator.randbytes(8)]
    if field == b"codec":  # another number is valid, too: see test_another_codec
        values = [value for value in values if not is_codec(value)]
    elif fields[field].isdigit():
        values += [str(int(fields[field]) + step).encode() for step in (-1, 1)]
    fields[field] = generator.choice(values)
    return f"{field.decode()} is {fields[field][:30]!r}"


def damage_chunk(generator: random.Random, chunks: dict[str, Any]) -> str:
    """Damage a chunk in place; return what was done."""
    part = generator.choice(sorted(chunks))
    kind = generator.random()
    if kind < 0.3:
        del chunks[part]
        return f"chunk {part} is missing"
    if kind < 0.4:
        chunks[part] = ["not", "a", "string"]
        return f"chunk {part} is a list"
    chunks[part] = damage_bytes(generator, chunks[part])
    return f"chunk {part} differs"


@pytest.mark.parametrize("times", [150, pytest.param(1500, marks=pytest.mark.slow)])
def test_damaged_entries_and_chunks(
    server: RedisServer, name: str, local: str, seed: int, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    generator = random.Random(seed)
    originals = record(server, f"{name}-b")
    kinds = Counter(original.kind for original in originals)
    assert set(kinds) == {"full", "full in chunks", "changes", "changes in chunks"}, kinds
    counted: Counter[str] = Counter()
    done = 0
    while done < times:
        with server.client() as client:
            client.delete(*client.scan_iter(f"shmsync:{{{name}}}:*", 1000), "none")
            forger = Forger(client, name, originals)
            done += _damage_each(generator, forger, originals, name, server.url, local, counted)
        unlink(local, force=True)
    print(f"{done} damaged versions: {dict(counted)}; {len(caplog.records)} warnings")
    assert counted["refused"] > done / 4
    assert all(record.levelno == logging.WARNING for record in caplog.records if record.name == "shmsync.replication")


def _damage_each(
    generator: random.Random,
    forger: Forger,
    originals: list[Original],
    name: str,
    url: str,
    local: str,
    counted: Counter[str],
) -> int:
    """Add each original, and damaged versions before it; return the number of these."""
    done = 0
    with (
        Watcher(local, numbers_are_seqs=False, repeats=True) as watcher,
        replicating(name, url, local, max_size=MAX_SIZE) as (replica,),
    ):
        for position, original in enumerate(originals):
            fields, chunks = forger.copy(position, 2 * position)
            if position:
                what = damage(generator, fields, chunks)
                print(f"{original.kind}, version {2 * position}: {what}")
                added = forger.add(2 * position, fields, chunks)
                counted[_outcome(replica, 2 * position)] += 1
                forger.remove(added)
                done += 1
                assert newest_number(local) in {originals[position - 1].number, original.number}
            forger.add(2 * position + 1, *forger.copy(position, 2 * position + 1))
            until(lambda position=position: replica.status().seq == 2 * position + 1)  # type: ignore[misc]
            watcher.until_number(original.number)
            until(lambda: replica.status().error is None)
            with Reader[object](local) as reader, reader.read(check_bytes=True) as snapshot:
                assert number_of(snapshot.value) == original.number
    return done


def _outcome(replica: Replica, seq: int) -> str:
    """Give the replica time to look at a version; return what it did."""
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        status = replica.status()
        if status.seq == seq:
            return "published, because the damage does not matter"
        if status.error is not None:
            return "refused"
        time.sleep(0.001)
    return "not there yet"  # it waits for a chunk or an entry that is not there


# ------------------------------------------------------------------------------------------------------- named cases


def inline(number: int, seq: int) -> Fields:
    """Return the fields of a version whose payload is in the entry."""
    payload = blob(number, 100)
    start, end = table_span(len(payload))
    fields: dict[str, Any] = {
        "format": 1,
        "byteorder": sys.byteorder,
        "incarnation": 5,
        "published": time.time_ns(),
        "size": len(payload),
        "checksum": write_table(memoryview(payload), memoryview(bytearray(end - start))),
        "codec": raw.ID,
        "full": f"{EPOCH}-{seq}",
        "chunk": 0,
        "depth": 0,
        "volume": 0,
        "data": payload,
    }
    return {key.encode(): value if type(value) is bytes else str(value).encode() for key, value in fields.items()}


@pytest.mark.parametrize("field", ["published", "incarnation", "depth", "volume"])
@pytest.mark.parametrize("value", [2**63 - 1, 2**64 - 1])
def test_the_largest_numbers(server: RedisServer, name: str, local: str, field: str, value: int) -> None:
    """Whether it is refused or published, the replica continues."""
    with server.client() as client, replicating(name, server.url, local), Watcher(local) as watcher:
        forger = Forger(client, name, [])
        forger.add(1, inline(1, 1) | {field.encode(): str(value).encode()}, {})
        forger.add(2, inline(2, 2), {})
        watcher.until_number(2)


def part(row_size: int, base: int, *words: int) -> bytes:
    """Return the description of a part of the changes: numbers of rows; or, without a row size, starts and stops."""
    if not row_size:
        return struct.pack(f"=3Q{len(words)}Q", 0, len(words) // 2, base, *words)
    rows = struct.pack(f"={len(words)}I", *words)
    return struct.pack("=3Q", row_size, len(words), base) + rows + bytes(-len(rows) % 8)


OUTSIDE = {
    "a range that ends behind the payload": (part(0, 0, 96, 104), 8),
    "a range behind the payload": (part(0, 0, 104, 112), 8),
    "a range far behind the payload": (part(0, 0, 2**63, 2**63 + 8), 8),
    "a range that ends before it starts": (part(0, 0, 16, 8, 16, 32), 8),
    "an empty range": (part(0, 0, 8, 8), 0),
    "two ranges, one behind the payload": (part(0, 0, 8, 16, 104, 112), 16),
    "a row behind the payload": (part(8, 64, 5), 8),
    "rows that begin behind the payload": (part(8, 2**63, 0), 8),
    "a large row": (part(2**40, 0, 0), 8),
    "a row number that overflows": (part(2**33, 0, 2**32 - 1), 8),
    "as many rows as there cannot be": (struct.pack("=QQQ", 8, 2**61, 0), 8),
    "another number of bytes": (part(0, 0, 8, 16), 16),
    "half a part": (part(0, 0, 8, 16)[:-4], 8),
}


@pytest.mark.parametrize(("changes", "size"), OUTSIDE.values(), ids=OUTSIDE.keys())
def test_changes_outside_the_payload(server: RedisServer, name: str, local: str, changes: bytes, size: int) -> None:
    with server.client() as client, replicating(name, server.url, local) as (replica,), Watcher(local) as watcher:
        forger = Forger(client, name, [])
        forger.add(1, inline(1, 1), {})
        watcher.until_number(1)
        fields = inline(2, 2) | {
            b"full": b"7-1",
            b"base": b"7-1",
            b"changes": changes,
            b"content": bytes(size),
            b"changed": str(size).encode(),
            b"depth": b"1",
        }
        del fields[b"data"]
        forger.add(2, fields, {})
        until(lambda: replica.status().error)
        assert newest_number(local) == 1
        forger.add(3, inline(3, 3), {})
        watcher.until_number(3)
        until(lambda: replica.status().error is None)


def test_unknown_fields_are_ignored(server: RedisServer, name: str, local: str) -> None:
    """A later version of shmsync may add some."""
    with server.client() as client, replicating(name, server.url, local), Watcher(local) as watcher:
        Forger(client, name, []).add(1, {b"\xff\0": b"\xff", b"new": b"1" * 100_000, **inline(1, 1)}, {})
        watcher.until_number(1)


@pytest.mark.parametrize("codec", [0, 77, (1 << 32) - 1])
def test_another_codec(server: RedisServer, name: str, local: str, codec: int) -> None:
    """The checksum is that of the payload, so this is not noticed before a reader decodes it: that raises an error."""
    with server.client() as client, replicating(name, server.url, local) as (replica,):
        forger = Forger(client, name, [])
        forger.add(1, inline(1, 1) | {b"codec": str(codec).encode()}, {})
        until(lambda: replica.status().seq == 1)
        with Reader[object](local) as reader:
            with pytest.raises(EntityReadError):
                reader.get()
            forger.add(2, inline(2, 2), {})
            until(lambda: replica.status().seq == 2)
            assert number_of(reader.get()) == 2


def test_a_damaged_version_is_reported_once(
    server: RedisServer, name: str, local: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the replica then waits for another one, without polling."""
    with server.client() as client, replicating(name, server.url, local) as (replica,), Watcher(local) as watcher:
        forger = Forger(client, name, [])
        forger.add(1, inline(1, 1), {})
        watcher.until_number(1)
        forger.add(2, inline(2, 2) | {b"size": b"-1"}, {})
        until(lambda: replica.status().error)
        before = client.info("stats")["total_commands_processed"]
        time.sleep(1.2)
        assert client.info("stats")["total_commands_processed"] - before < 20
        assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
        assert f"{EPOCH}-2" in caplog.text
        assert "size is b'-1'" in caplog.text
        assert replica.status().connected
        assert newest_number(local) == 1
        server.restart()
        until(lambda: not replica.status().connected)
        until(lambda: replica.status().connected)
        assert caplog.text.count("kept the last value") == 1
        forger.add(3, inline(3, 3), {})
        watcher.until_number(3)
        until(lambda: replica.status().error is None)


def test_a_publisher_continues_after_a_damaged_entry(
    server: RedisServer, name: str, local: str, other_local: str
) -> None:
    """It is of another program, and newer than the next version would be: that begins an epoch, but fences nothing."""
    with (
        server.client() as client,
        Publisher[bytes](name, server.url) as publisher,
        replicating(name, server.url, local),
        Watcher(local, repeats=True) as watcher,
    ):
        publisher.write_raw(blob(1, 100_000))
        watcher.until_number(1)
        epoch = watcher.versions[-1].epoch
        client.xadd(f"shmsync:{{{name}}}:log", {"something": "else"}, id=f"{epoch}-5")
        publisher.write_raw(blob(2, 100_000))
        publisher.flush(TIMEOUT)
        watcher.until_number(2)
        assert watcher.versions[-1].epoch > epoch
        with replicating(name, server.url, other_local), Watcher(other_local) as late:
            late.until_number(2)


@pytest.mark.parametrize("part", ["log", "chunk"])
def test_a_key_of_another_type(server: RedisServer, name: str, local: str, part: str) -> None:
    """Another program uses the key: both sides say so, and continue when it is gone."""
    key = f"shmsync:{{{name}}}:log"
    with (
        server.client() as client,
        Publisher[bytes](name, server.url, linger=0, retain=0) as publisher,
        replicating(name, server.url, local) as (replica,),
        Watcher(local) as watcher,
    ):
        publisher.write_raw(blob(1, 100_000))
        watcher.until_number(1)
        if part == "chunk":
            key = f"shmsync:{{{name}}}:{watcher.versions[-1].epoch}-1:0"
            client.delete(key)
            client.rpush(key, "not", "a", "string")
        else:
            client.delete(key)
            client.set(key, "not a stream")
        publisher.write_raw(blob(2, 100_000))
        if part == "log":
            until(lambda: replica.status().error and publisher.status().error)
            for status in (publisher.status(), replica.status()):
                assert "WRONGTYPE" in str(status.error)
        client.delete(key)
        publisher.write_raw(blob(3, 100_000))
        watcher.until_number(3)
        until(lambda: replica.status().error is None and publisher.status().error is None)
