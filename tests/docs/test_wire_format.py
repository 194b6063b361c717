"""A receiver written from docs/format.md alone makes the newest version from what the server contains."""

from __future__ import annotations

import importlib.util
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash
import zstandard
from helpers import SHM, TIMEOUT, checksum
from replication.servers import RedisServer, server_command

from shmsync import Reader, unlink
from shmsync.replication import Publisher, Replica

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    if server_command() is None:
        pytest.skip("needs redis-server or valkey-server")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("needs the package redis")
    with RedisServer(tmp_path / "redis") as server:
        yield server


# ------------------------------------------------------------------------------------------------------- the receiver


def apply(payload: bytearray, changes: bytes, content: bytes) -> None:
    """Apply the changes of an entry: parts as in the change log."""
    at = taken = 0
    while at < len(changes):
        row_size, count, base = struct.unpack_from("=QQQ", changes, at)
        at += 24
        if row_size:
            rows = struct.unpack_from(f"={count}I", changes, at)
            ranges = [(base + row * row_size, base + (row + 1) * row_size) for row in rows]
            at += 4 * count + 4 * (count % 2)
        else:
            ranges = list(struct.iter_unpack("=QQ", changes[at : at + 16 * count]))
            at += 16 * count
        for start, end in ranges:
            payload[start:end] = content[taken : taken + end - start]
            taken += end - start
    assert taken == len(content)


def receive(client: Any, name: str) -> tuple[dict[str, Any], bytes]:
    """Return the newest entry and its payload."""
    log = f"shmsync:{{{name}}}:log"
    ((newest, fields),) = client.xrevrange(log, count=1)
    assert fields[b"format"] == b"1"
    full = fields[b"full"]
    payload, previous = bytearray(), b""
    for each, entry in client.xrange(log, full, newest):
        assert entry[b"size"] == fields[b"size"]
        if each == full:
            assert entry[b"full"] == each
            size, chunk = int(entry[b"size"]), int(entry[b"chunk"])
            numbers = range(-(-size // chunk)) if chunk else range(0)
            payload[:] = entry.get(b"data", b"")
            for number in numbers:
                part = client.get(f"shmsync:{{{name}}}:{each.decode()}:{number}")
                if b"compression" in entry and len(part) < min(chunk, size - number * chunk):
                    assert entry[b"compression"] == b"zstd"
                    part = zstandard.decompress(part)
                payload += part
            assert len(payload) == size
        else:
            assert entry[b"base"] == previous
            changed = int(entry[b"changed"])
            keys = (f"shmsync:{{{name}}}:{each.decode()}:c{number}" for number in range(-(-changed // (256 << 10))))
            content = entry[b"content"] if b"content" in entry else b"".join(client.get(key) or b"" for key in keys)
            apply(payload, entry[b"changes"], content)
        previous = each
    assert checksum(payload) == int(fields[b"checksum"])
    return {"id": newest.decode(), **{key.decode(): value for key, value in fields.items()}}, bytes(payload)


# ---------------------------------------------------------------------------------------------------------- the tests


@pytest.mark.parametrize(("rows", "compression"), [(1, None), (100, None), (20_000, None), (1, "zstd")])
def test_what_the_server_contains(name: str, server: RedisServer, rows: int, compression: str | None) -> None:
    random = np.random.default_rng(1)
    options: dict[str, Any] = {"retain": 0, "full_after": 3, "compression": compression}
    with Publisher[Any](name, server.url, **options) as publisher, server.client() as client:
        table = random.random((100_000, 8))
        table[50_000:] = 0.0  # which can be compressed
        publisher.write({"table": table, "number": 0})
        for number in range(6):
            publisher.flush(TIMEOUT)
            with Reader[Any](name) as reader, reader.read() as snapshot:
                fields, payload = receive(client, name)
                assert payload == snapshot.buffer
                assert fields["id"].endswith(f"-{snapshot.version.seq}")
            with publisher.update() as draft:
                draft["table"][random.integers(0, 100_000, rows)] = number
                draft["number"] = number
        publisher.write([1, 2])  # a small one
        publisher.flush(TIMEOUT)
        assert receive(client, name)[1] == b"\x92\x01\x02"
        publisher.unlink()


def test_the_origin_of_a_version(name: str, server: RedisServer) -> None:
    local = f"{name}-copy"
    try:
        with Publisher[Any](name, server.url) as publisher, Replica(name, server.url, local_name=local) as replica:
            publisher.write("first")
            publisher.write("second")
            publisher.flush(TIMEOUT)
            replica.wait(TIMEOUT)
            replica.stop()
            with Reader[Any](local) as reader:
                version = reader.version()
            with server.client() as client:
                fields, _ = receive(client, name)
            publisher.unlink()
        record = (SHM / f"{local}_data_{version.idx}").read_bytes()[-64:]
        magic, seq, digest, epoch, origin_seq, published, received, hashed = struct.unpack("=8Q", record)
        assert (magic, seq, digest) == (0x4F434E59534D4853, version.seq, version.checksum)
        assert f"{epoch}-{origin_seq}" == fields["id"]
        assert published <= received
        assert abs(published - int(fields["published"])) < 1000  # it was a float of seconds in between
        assert hashed == xxhash.xxh3_64_intdigest(record[:56])
    finally:
        unlink(local, force=True)
