"""Redis: a server of its own on a Unix socket, as its documentation recommends for one host; nothing goes to disk.

Each version is under keys of its own, and the number of the newest is set in the same transaction. A map is a hash; its
items go in pipelines. The client-side cache of redis-py is not used: it needs TCP and a server of 7.4 or newer.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgpack
import numpy as np
import redis

from benchmark.data import Items, pack, packed
from benchmark.peers._values import Folder

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmark.peers import Shape

_BATCH = 10_000
_PATIENCE = 10.0
_NEWEST, _CHANNEL = "newest", "changed"


class Writer:
    """Starts the server, or goes on with one that another writer has left."""

    def __init__(self, *_: Any, folder: str | None = None) -> None:
        self._folder = Folder(folder)
        self._server = None if folder else _server_in(self._folder.path)
        self._client = redis.Redis(unix_socket_path=self.address)
        self._announces = False
        try:
            self._await()
            newest: Any = self._client.get(_NEWEST) or b":0"
            self._version = int(newest.rpartition(b":")[2])
        except BaseException:
            self.close()
            raise

    @classmethod
    def resume(cls, _: Shape, __: int, address: str) -> Self:
        """Go on with the same server."""
        return cls(folder=os.path.dirname(address))  # noqa: PTH120

    def _await(self) -> None:
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and (self._server is None or self._server.poll() is None):
            with suppress(redis.ConnectionError):
                self._client.ping()
                return
            time.sleep(0.01)
        raise RuntimeError("redis-server does not answer")

    def announce(self) -> None:
        """Publish a message with each value."""
        self._announces = True

    @property
    def address(self) -> str:
        """Return the path of the socket."""
        return f"{self._folder.path}/socket"

    def prepare(self, value: Any) -> Any:
        """Return items as bytes, in batches."""
        if not isinstance(value, Items):
            return value
        items = iter(packed(value))
        return list(iter(lambda: dict(itertools.islice(items, _BATCH)), {}))

    def write(self, value: Any) -> None:
        """Set it under a new key, and name that one the newest."""
        self._version += 1
        key = f"value:{self._version}"
        value = self.prepare(value)
        for batch in value if isinstance(value, list) else ():
            self._client.hset(key, mapping=batch)
        with self._client.pipeline(transaction=True) as pipeline:
            if isinstance(value, dict):
                pipeline.set(key, msgpack.packb(value))
            elif isinstance(value, np.ndarray):
                pipeline.set(key, value.data.cast("B"))
            pipeline.set(_NEWEST, key)
            pipeline.unlink(f"value:{self._version - 2}")
            if self._announces:
                pipeline.publish(_CHANNEL, self._version)
            pipeline.execute()

    def close(self) -> None:
        """End the server, if it is ours."""
        self._client.close()
        if self._server is not None:
            self._server.terminate()
            self._server.wait()
            self._folder.remove()


def _server_in(folder: str) -> subprocess.Popen[bytes]:
    options = ("--port", "0", "--unixsocket", f"{folder}/socket", "--dir", folder, "--save", "", "--appendonly", "no")
    quiet = subprocess.DEVNULL
    command = ["redis-server", *options]
    return subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)


class Reader:
    """A round trip for the number of the newest version, another for a value that is not here yet."""

    def __init__(self, shape: Shape, address: str) -> None:
        self._shape = shape
        self._client = redis.Redis(unix_socket_path=address)
        self._messages: Any = None
        self._seen = b""
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, or what names the newest hash."""
        key: Any = self._client.get(_NEWEST)
        if self._shape.endswith("map"):
            return key
        if key != self._seen:
            data: Any = self._client.get(key)
            self._value = msgpack.unpackb(data) if self._shape == "config" else np.frombuffer(data, np.float32)
            self._seen = key
        return self._value

    def wait(self, timeout: float) -> None:
        """Wait for a message."""
        if self._messages is None:
            client: Any = self._client  # its method has no types
            self._messages = client.pubsub(ignore_subscribe_messages=True)
            self._messages.subscribe(_CHANNEL)
        self._messages.get_message(timeout=timeout)

    def look_up(self, found: Any, key: Any) -> Any:
        """Fetch it."""
        data: Any = self._client.hget(found, pack(key))
        return np.frombuffer(data, np.float32)

    def close(self) -> None:
        """Disconnect."""
        self._client.close()
