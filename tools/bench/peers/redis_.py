"""Redis: a local server on a Unix socket, as its documentation recommends for one host; nothing is saved to disk.

Each version has keys of its own, and the name of the newest is set in the same transaction. A map is a hash, whose
items are sent in batches; an update changes fields of the newest hash in one transaction. A row map is a string, of
which ranges are set and read. The client-side cache of redis-py is not used: it needs TCP and a server of 7.4 or newer.
"""

from __future__ import annotations

import itertools
import subprocess
from typing import Any

import numpy as np
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from bench.peers import base
from bench.values import COLUMNS, Items, pack, packed

_BATCH = 10_000
_STARTING = 1000  # attempts to connect to a server that starts
_ROW_SIZE = 4 * COLUMNS
_NEWEST, _CHANNEL = "newest", "changed"


class Writer(base.FolderWriter):
    """Starts a server, or uses the one that another writer has left."""

    _notifies = False

    def __init__(self, shape: str, size: int, address: str | None = None) -> None:
        super().__init__(shape, size, address)
        self._is_rows = shape == "row map"
        self._server = None if address else _start_server(self._folder, self.address)
        self._client = redis.Redis(unix_socket_path=self.address, retry=Retry(ConstantBackoff(0.01), _STARTING))
        try:
            newest: Any = self._client.get(_NEWEST) or b":0"
            self._version = int(newest.rpartition(b":")[2])
        except BaseException:
            self.close()
            raise

    def notify(self) -> None:
        self._notifies = True

    def prepare(self, value: Any) -> Any:
        if not isinstance(value, Items):
            return value
        if self._is_rows:
            return value.values
        items = iter(packed(value))
        return list(iter(lambda: dict(itertools.islice(items, _BATCH)), {}))

    def write(self, value: Any) -> None:
        self._version += 1
        key = f"value:{self._version}"
        value = self.prepare(value)
        for batch in value if isinstance(value, list) else ():
            self._client.hset(key, mapping=batch)
        with self._client.pipeline(transaction=True) as pipeline:
            if not isinstance(value, list):
                pipeline.set(key, *base.encode(value))
            pipeline.set(_NEWEST, key)
            pipeline.unlink(f"value:{self._version - 2}")
            if self._notifies:
                pipeline.publish(_CHANNEL, self._version)
            pipeline.execute()

    def prepare_part(self, part: Items) -> Any:
        if not self._is_rows:
            return self.prepare(part)
        offsets = (part.keys * _ROW_SIZE).tolist()
        return [(offset, row.tobytes()) for offset, row in zip(offsets, part.values, strict=True)]

    def update(self, part: Any) -> None:
        key = f"value:{self._version}"
        if not self._is_rows and len(part) == 1:
            self._client.hset(key, mapping=part[0])
            return
        with self._client.pipeline(transaction=True) as pipeline:
            for change in part:
                if self._is_rows:
                    pipeline.setrange(key, *change)
                else:
                    pipeline.hset(key, mapping=change)
            pipeline.execute()

    def close(self) -> None:
        self._client.close()
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            super().close()


def _start_server(folder: str, socket: str) -> subprocess.Popen[bytes]:
    options = ("--port", "0", "--unixsocket", socket, "--dir", folder, "--save", "", "--appendonly", "no")
    null = subprocess.DEVNULL
    return subprocess.Popen(["redis-server", *options], stdin=null, stdout=null, stderr=null, start_new_session=True)


class Reader(base.Reader):
    """A round trip for the name of the newest version, and another one for a value that it does not have."""

    _messages: Any = None

    def __init__(self, shape: str, address: str) -> None:
        self._shape, self._is_map, self._is_rows = shape, shape.endswith("map"), shape == "row map"
        self._client: Any = redis.Redis(unix_socket_path=address)  # its methods have no useful types

    def get(self) -> Any:
        key = self._client.get(_NEWEST)
        if self._is_map:
            return key
        if key != self._seen:
            self._value = base.decode(self._shape, self._client.get(key))
            self._seen = key
        return self._value

    def wait(self, timeout: float) -> None:
        if self._messages is None:
            self._messages = self._client.pubsub(ignore_subscribe_messages=True)
            self._messages.subscribe(_CHANNEL)
        self._messages.get_message(timeout=timeout)

    def look_up(self, found: Any, key: Any) -> Any:
        if self._is_rows:
            row = self._client.getrange(found, key * _ROW_SIZE, (key + 1) * _ROW_SIZE - 1)
        else:
            row = self._client.hget(found, pack(key))
        return np.frombuffer(row, np.float32)

    def close(self) -> None:
        self._client.close()
