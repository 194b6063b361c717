"""Redis and Valkey as the engine: one stream for each name, and chunks under keys beside it.

    shmsync:{NAME}:log              the stream; the id of an entry is <epoch>-<seq>
    shmsync:{NAME}:newest           id and checksum of the newest entry, for the publisher
    shmsync:{NAME}:<id>:<number>    a chunk of a version in full
    shmsync:{NAME}:<id>:c<number>   a chunk of changed bytes

The braces are a hash tag, so that a cluster stores all keys of a name on one node. Chunks expire after an hour, until
the entry is added that refers to them. A script adds it, so that all of that takes effect together. That a stream
refuses an id which is not greater than all before is what refuses duplicates, older versions and older epochs.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from shmsync._core.layout import names_of
from shmsync._util.optional import import_optional
from shmsync.errors import InvalidArgumentError, ReplicationError, reason
from shmsync.replication._entry import DamagedError, parse_entry
from shmsync.replication._redis_errors import explain
from shmsync.replication._urls import parse_url, redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from shmsync.replication._entry import Entry, VersionId
    from shmsync.replication.engine import Location

PASSWORD_VARIABLE = "SHMSYNC_REDIS_PASSWORD"  # noqa: S105 - the name of a variable
DEFAULT_PORT = 6379
_TTL = 3600
_WINDOW = 2 << 20
"""So many bytes of chunks are in one command."""
_MANY = 512
"""Keys in one command."""
_MISUNDERSTOOD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What redis-py, or a look into an answer, raises if the answer is of another kind than the command has."""
_SHOWN = 200  # characters of a message

# Adds an entry. KEYS: the stream, the key of the newest id, then the keys of its chunks. ARGV: id; checksum; the id
# that has to be the newest one, or an empty string; the fields. Returns "added", "refused", or "lost" without a chunk.
# The newest id has a key, because reading an entry in a script takes longer than adding one.
_ADD = """
local newest = redis.call('GET', KEYS[2])
local known = newest == ARGV[1] .. ' ' .. ARGV[2] and redis.call('XLEN', KEYS[1]) > 0
if not known and ARGV[3] ~= '' then
  local base = newest and string.match(newest, '^[^ ]*')
  if base ~= ARGV[3] or redis.call('XLEN', KEYS[1]) == 0 then return 'refused' end
end
for at = 3, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 0 then return 'lost' end
end
if not known then
  local added = redis.pcall('XADD', KEYS[1], ARGV[1], unpack(ARGV, 4))
  if added.err then
    if string.find(added.err, 'equal or smaller', 1, true) then return 'refused' end
    return redis.error_reply(added.err)
  end
  redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[2])
end
for at = 3, #KEYS do redis.call('PERSIST', KEYS[at]) end
return 'added'
"""


def check_url(url: str) -> None:
    """Check a URL, and that the package for it is installed.

    Raises:
        InvalidArgumentError: it is not valid.
        MissingExtraError: redis-py is not installed.
    """
    server = parse_url(url)
    redis = import_optional("redis", "redis", "replication through Redis")
    try:
        connection = redis.ConnectionPool.from_url(server.url).make_connection()  # does not connect
    except (TypeError, ValueError, redis.RedisError) as error:
        raise InvalidArgumentError(
            f"{redacted(url)!r} has an option that is not valid: {redacted(reason(error))}"
        ) from None
    if connection.encoder.decode_responses:
        raise InvalidArgumentError(f"{redacted(url)!r} has the option decode_responses, and payloads are not text")


def _connect(url: str, password: str | None, timeout: float) -> Any:
    redis = import_optional("redis", "redis", "replication through Redis")
    server = parse_url(url)
    password = os.environ.get(PASSWORD_VARIABLE) if password is None else password
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
        "client_name": "shmsync",
        "protocol": 2,
    }
    if password is not None:
        options["password"] = password
    if server.kind == "cluster":
        return redis.RedisCluster.from_url(server.url, **options)
    # Relay and Replica connect again, and compare what is there. A command that is repeated here would hide a failover.
    options["retry"] = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    if server.kind == "single":
        return redis.Redis.from_url(server.url, **options)
    parsed = redis.connection.parse_url(server.url)
    parsed = {key: value for key, value in parsed.items() if key not in {"host", "port", "connection_class"}}
    secure = {"ssl": True} if server.url.startswith("rediss") else {}
    sentinel = redis.sentinel.Sentinel(
        server.hosts, sentinel_kwargs={"socket_timeout": timeout, **secure}, **(parsed | options | secure)
    )
    return sentinel.master_for(server.service)


def _valid(found: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    entries = []
    for each in found:
        with suppress(DamagedError):
            entries.append(parse_entry(*each))
    return entries


def _window(location: Location) -> int:
    return max(1, _WINDOW // location.size)


class RedisEngine:
    """A connection to Redis or Valkey for one name: see `Engine`.

    Args:
        url: see `shmsync.replication`.
        name: the name.
        password: of the server; by default, that in the environment variable SHMSYNC_REDIS_PASSWORD.
        timeout: of each call, in seconds.
    """

    def __init__(self, url: str, name: str, *, password: str | None = None, timeout: float = 5.0) -> None:
        names_of(name)  # checks it
        self._prefix = f"shmsync:{{{name}}}"
        self._log = f"{self._prefix}:log"
        self._newest = f"{self._prefix}:newest"
        redis = import_optional("redis", "redis", "replication through Redis")
        self._errors = (redis.RedisError, redis.exceptions.RedisClusterException, OSError)
        with self._checked():
            self._client = _connect(url, password, timeout)
        self._add = self._client.register_script(_ADD)

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except ReplicationError:
            raise
        except self._errors as error:
            raise ReplicationError(redacted(explain(error))) from None
        except _MISUNDERSTOOD as error:
            raise ReplicationError(
                f"the server does not answer as Redis or Valkey does ({type(error).__name__}: "
                f"{redacted(reason(error))[:_SHOWN]}); check host and port"
            ) from None

    def is_newest(self, id: VersionId) -> bool:  # noqa: A002
        """See `Engine`."""
        with self._checked(), self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._newest).xlen(self._log).xrange(self._log, f"({id}", "+", count=1)
            added, length, newer = pipe.execute()
            return added is not None and added.startswith(f"{id} ".encode()) and length > 0 and not newer

    def newest(self) -> Entry | None:
        """See `Engine`."""
        with self._checked():
            found = self._client.xrevrange(self._log, count=1)
            return parse_entry(*found[0]) if found else None

    def entry(self, id: VersionId) -> Entry | None:  # noqa: A002
        """See `Engine`."""
        with self._checked():
            found = self._client.xrange(self._log, str(id), str(id))
            return parse_entry(*found[0]) if found else None

    def after(self, id: VersionId, count: int) -> list[Entry]:  # noqa: A002
        """See `Engine`."""
        after = str(id)
        with self._checked():
            while True:
                found = self._client.xrange(self._log, f"({after}", "+", count=count)
                entries = _valid(found)
                if entries or len(found) < count:
                    return entries
                after = found[-1][0].decode()  # none of them is valid, but there may be more

    def wait(self, id: VersionId, timeout: float, count: int) -> list[Entry]:  # noqa: A002
        """See `Engine`."""
        with self._checked():
            found = self._client.xread({self._log: str(id)}, count=count, block=max(1, int(timeout * 1000)))
            return [parse_entry(*each) for each in found[0][1]] if found else []

    def put(self, location: Location, chunks: Iterable[Buffer]) -> None:
        """See `Engine`."""
        keys, parts = self._keys(location), iter(chunks)
        while window := list(islice(parts, _window(location))):
            with self._checked(), self._client.pipeline(transaction=False) as pipe:
                for part in window:
                    pipe.set(next(keys), part, ex=_TTL)
                pipe.execute()

    def get(self, location: Location) -> Iterator[bytes | None]:
        """See `Engine`."""
        keys = self._keys(location)
        while window := list(islice(keys, _window(location))):
            with self._checked():
                found = self._client.mget(window)
            yield from found

    def has(self, location: Location) -> bool:
        """See `Engine`."""
        keys = self._keys(location)
        with self._checked():
            while part := list(islice(keys, _MANY)):
                if self._client.exists(*part) < len(part):
                    return False
        return True

    def add(self, entry: Entry, locations: Iterable[Location]) -> bool:
        """See `Engine`."""
        keys = [self._log, self._newest, *(key for location in locations for key in self._keys(location))]
        after = "" if entry.is_full else str(entry.base)
        fields = [each for item in entry.fields().items() for each in item]
        with self._checked():
            result: bytes = self._add(keys, [str(entry.id), str(entry.checksum), after, *fields])
        if result == b"lost":
            raise ReplicationError(f"the engine has lost a chunk of version {entry.id}")
        return result == b"added"

    def trim(self, oldest: VersionId, locations: Iterable[Location]) -> None:
        """See `Engine`."""
        keys = (key for location in locations for key in self._keys(location))
        with self._checked():
            while part := list(islice(keys, _MANY)):  # first: an entry without chunks is found, a chunk alone is not
                self._client.unlink(*part)
            self._client.xtrim(self._log, minid=str(oldest), approximate=False)

    def close(self) -> None:
        """See `Engine`."""
        with self._checked():
            self._client.close()

    def _keys(self, location: Location) -> Iterator[str]:
        kind = "c" if location.of_changes else ""
        return (f"{self._prefix}:{location.id}:{kind}{part}" for part in range(location.number))
