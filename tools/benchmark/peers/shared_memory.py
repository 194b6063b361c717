"""multiprocessing.shared_memory, a lock and pickle: what is often written by hand.

The lock is a named POSIX semaphore, which is what multiprocessing.Lock is made of; that one can only be inherited, so
an unrelated process could not have it. The first word of the segment is the version. Whoever looks at it takes the
lock, as the documentation of multiprocessing says of all shared state.

Nobody leaves the segment to multiprocessing's resource tracker, which before Python 3.13 takes whoever attaches for an
owner, and removes it when the first of them ends.
"""

from __future__ import annotations

import pickle
import struct
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import posix_ipc

from benchmark.measure import new_name
from benchmark.peers._values import indexed, room

if TYPE_CHECKING:
    from typing_extensions import Self

    from benchmark.peers import Shape

_HEAD = struct.Struct("=QQ")  # version, length
_PATIENCE = 30  # seconds; a process that was killed with the lock never gives it back


def _untracked(memory: SharedMemory) -> SharedMemory:
    resource_tracker.unregister(f"/{memory.name}", "shared_memory")
    return memory


class Writer:
    """Pickles, and copies under the lock."""

    def __init__(self, _: Shape, size: int, *, name: str | None = None) -> None:
        if name is None:
            name = new_name("memory")
            self._lock = posix_ipc.Semaphore(f"/{name}", posix_ipc.O_CREX, initial_value=1)
            self._memory = _untracked(SharedMemory(name, create=True, size=room(size)))
        else:
            self._lock = posix_ipc.Semaphore(f"/{name}")
            self._memory = _untracked(SharedMemory(name))

    @classmethod
    def resume(cls, shape: Shape, size: int, address: str) -> Self:
        """Attach; if the lock was held, it is for ever."""
        return cls(shape, size, name=address)

    @property
    def address(self) -> str:
        """Return the name of segment and lock."""
        return self._memory.name

    def write(self, value: Any) -> None:
        """Pickle it, and replace what is there."""
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        assert self._memory.buf is not None
        self._lock.acquire(_PATIENCE)
        try:
            version, _ = _HEAD.unpack_from(self._memory.buf)
            self._memory.buf[_HEAD.size : _HEAD.size + len(data)] = data
            _HEAD.pack_into(self._memory.buf, 0, version + 1, len(data))
        finally:
            self._lock.release()

    def close(self) -> None:
        """Remove segment and lock."""
        self._memory.close()
        posix_ipc.unlink_shared_memory(f"/{self._memory.name}")
        self._lock.unlink()
        self._lock.close()


class Reader:
    """Unpickles under the lock."""

    def __init__(self, _: Shape, address: str) -> None:
        self._lock = posix_ipc.Semaphore(f"/{address}")
        self._memory = _untracked(SharedMemory(address))
        self._seen = 0
        self._value: Any = None

    def get(self) -> Any:
        """Return the newest value, unpickled if it is another one."""
        assert self._memory.buf is not None
        self._lock.acquire(_PATIENCE)
        try:
            seen, length = _HEAD.unpack_from(self._memory.buf)
            if seen == self._seen:
                return self._value
            value = pickle.loads(self._memory.buf[_HEAD.size : _HEAD.size + length])
        finally:
            self._lock.release()
        self._value, self._seen = indexed(value), seen
        return self._value

    def look_up(self, found: Any, key: Any) -> Any:
        """Look it up in the copy."""
        return found[key]

    def close(self) -> None:
        """Detach."""
        self._memory.close()
        self._lock.close()
