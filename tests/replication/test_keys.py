"""What is in the server: the documented keys, chunks that do not expire, and nothing that is not needed any more."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from helpers import TIMEOUT

from replication.interrupted import Interruption
from replication.values import blob, rows_of, table
from shmsync.replication import Publisher

if TYPE_CHECKING:
    from replication.servers import RedisServer

SIZE = 1_200_000
CHUNKS = 3


def keys_of(server: RedisServer, name: str) -> dict[str, int]:
    """Return the keys of a name without their common prefix, and in how many seconds each expires; -1 for never."""
    prefix = f"shmsync:{{{name}}}:"
    with server.client() as client:
        keys = [key.decode() for key in client.scan_iter(count=1000)]
        assert all(key.startswith(prefix) for key in keys)
        return {key.removeprefix(prefix): client.ttl(key) for key in keys}


def versions_in(keys: dict[str, int]) -> list[int]:
    """Return the sequence numbers of the versions that have chunks."""
    found = [re.fullmatch(r"\d+-(\d+):\d+", key) for key in keys if key not in {"log", "newest"}]
    assert all(found)
    return sorted({int(each[1]) for each in found if each})


def test_the_keys_of_a_version(server: RedisServer, name: str) -> None:
    with Publisher[bytes](name, server.url) as publisher:
        publisher.write_raw(blob(1, SIZE))
        publisher.flush(TIMEOUT)
        epoch = publisher.status().epoch
        expected = ["log", "newest", *(f"{epoch}-1:{number}" for number in range(CHUNKS))]
        assert keys_of(server, name) == dict.fromkeys(expected, -1)
        with server.client() as client:
            ((identifier, fields),) = client.xrange(f"shmsync:{{{name}}}:log")
            assert identifier == f"{epoch}-1".encode()
            assert fields[b"size"] == str(SIZE).encode()
            chunks = client.mget([f"shmsync:{{{name}}}:{epoch}-1:{number}" for number in range(CHUNKS)])
            assert b"".join(chunks) == blob(1, SIZE)
        publisher.write_raw(blob(2, 64 << 10))
        publisher.flush(TIMEOUT)
        assert sorted(keys_of(server, name)) == sorted(expected)  # a small version is in its entry


def test_superseded_chunks_are_removed(server: RedisServer, name: str) -> None:
    """The newest versions in full stay, at least two; and the entries since the oldest of them."""
    with Publisher[bytes](name, server.url, keep=2, retain=0) as publisher:
        for number in range(1, 9):
            publisher.write_raw(blob(number, SIZE))
            publisher.flush(TIMEOUT)
        keys = keys_of(server, name)
        assert versions_in(keys) == [7, 8]
        assert len(keys) == 2 + 2 * CHUNKS
        with server.client() as client:
            assert client.xlen(f"shmsync:{{{name}}}:log") == 2


def test_many_small_versions_and_changes_do_not_accumulate(server: RedisServer, name: str) -> None:
    with Publisher[object](name, server.url, full_after=10, retain=0) as publisher:
        longest = 0
        publisher.write(table(1))
        for number in range(2, 200):
            with publisher.update() as draft:
                draft[rows_of(number)] = number
            publisher.flush(TIMEOUT)
            with server.client() as client:
                longest = max(longest, client.xlen(f"shmsync:{{{name}}}:log"))
        assert 10 < longest < 60
        for number in range(200, 400):
            publisher.write_raw(blob(number, 100))
            publisher.flush(TIMEOUT)
        with server.client() as client:
            assert client.xlen(f"shmsync:{{{name}}}:log") < 60
        assert versions_in(keys_of(server, name)) == []


def test_chunks_expire_unless_their_entry_is_added(server: RedisServer, name: str) -> None:
    """So nothing remains of an upload whose publisher dies."""
    seen: list[dict[str, int]] = []
    interrupted = Interruption("before add", lambda: seen.append(keys_of(server, name)))
    interrupted.armed = True
    with Publisher[bytes](name, server.url, engine=interrupted) as publisher:
        publisher.write_raw(blob(1, SIZE))
        publisher.flush(TIMEOUT)
    (keys,) = seen
    assert len(keys) == CHUNKS
    assert all(0 < seconds <= 3600 for seconds in keys.values())
