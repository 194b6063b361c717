"""What a user could take instead of shmsync, each behind the same few calls, used as its documentation recommends.

A module of this package is one peer. It has two classes, `Writer` and `Reader`, as the protocols below say: this
process makes a Writer, a child process makes a Reader from its address. What a peer cannot do it does not claim.
"""

from __future__ import annotations

import importlib
import importlib.util
import platform
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

Shape = Literal["config", "array", "int map", "str map"]
"""What is published: a dict that packs to 1 KiB, a float32 array of 64 MiB, `Items` with a million keys."""

ALL: frozenset[Shape] = frozenset({"config", "array", "int map", "str map"})
CONFIG: frozenset[Shape] = frozenset({"config"})


class Writer(Protocol):
    """One process publishes. Made with the shape of its values; makes what its readers need.

    What is published is a dict, an array or `Items`. A writer whose user would have something else in hand, like items
    packed as bytes, has a method `prepare` that makes that of a value; `write` takes either.
    """

    def __init__(self, shape: Shape, size: int) -> None:
        """Have room for a value of `size` bytes, as `size_of` counts them, if that has to be said beforehand."""

    @property
    def address(self) -> Any:
        """Return what a Reader takes; it can be pickled."""

    def write(self, value: Any) -> None:
        """Publish a value; when it returns, a reader that asks gets this one."""

    def close(self) -> None:
        """Remove everything."""

    # Some have methods besides. `resume(shape, size, address)`, of the class, returns a Writer in place of one that was
    # killed, for the readers that were attached to it. `welcome()` gives the newest value to readers that have attached
    # since the last `write`. After `announce()`, each `write` also wakes the readers that `wait`.


class Reader(Protocol):
    """Another process reads."""

    def __init__(self, shape: Shape, address: Any) -> None:
        """Attach."""

    def get(self) -> Any:
        """Return the newest value, ready to be used: a dict, an array, or what `look_up` takes.

        As fast as the peer allows if nothing has changed: what it has handed out before may be handed out again.
        """

    def look_up(self, found: Any, key: Any) -> Any:
        """Return the float32 array of a key in a map that `get` returned."""

    def close(self) -> None:
        """Detach."""

    # One that can be notified has a method besides, `wait(timeout)`: it blocks until there is another value than the
    # last one that `get` returned, for so many seconds at most.


def prepared(writer: Writer, value: Any) -> Any:
    """Return a value as the user of a peer would have it in hand before a `write` is timed."""
    prepare = getattr(writer, "prepare", None)
    return value if prepare is None else prepare(value)


def size_of(value: Any) -> int:
    """Return how many bytes a value has: packed, as an array, or of all keys and rows."""
    if isinstance(value, dict):
        import msgpack  # noqa: PLC0415 - the list of peers is read without any package

        return len(msgpack.packb(value))
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    keys = value.keys
    return int(value.values.nbytes) + (sum(map(len, keys)) if isinstance(keys, list) else int(keys.nbytes))


@dataclass(frozen=True)
class Peer:
    """What is known of a peer.

    Attributes:
        name: in the table and for `--peers`.
        module: in this package.
        needs: packages that must be installed, by the name they are imported with.
        install: what brings the first of them, by the name pip knows.
        program: a program that must be installed.
        shapes: which values it can publish, without a codec that its documentation does not mention.
        made_for: what it holds, if not all of them.
        crash_safe: whether a process that is killed anywhere leaves the others able to read whole values.
        in_place: whether readers look keys up in a map as it was published, with no index that each makes for itself.
        remark: what to know of the way it is used here.
    """

    name: str
    module: str
    needs: tuple[str, ...] = ()
    install: str = ""
    program: str | None = None
    shapes: frozenset[Shape] = ALL
    made_for: str = ""
    crash_safe: bool = False
    in_place: bool = False
    remark: str = ""

    def missing(self) -> str | None:
        """Return what is not installed, and what brings it."""
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                return f"pip install {package if package != self.needs[0] else self.install or package}"
        if self.program and shutil.which(self.program) is None:
            return f"the program {self.program}"
        return None

    def excuse(self, shape: Shape) -> str | None:
        """Return why it publishes no value of a shape here."""
        if missing := self.missing():
            return f"not installed: {missing}"
        return None if shape in self.shapes else f"holds {self.made_for} only"

    def version(self) -> str:
        """Return the version of its package and program; Python's if that brings it."""
        import importlib.metadata  # noqa: PLC0415 - a process starts sooner without

        found = [importlib.metadata.version(self.install) if self.install else f"Python {platform.python_version()}"]
        if self.program:
            answer = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
            found.append(answer.stdout.strip())
        return ", ".join(found)

    def load(self) -> Any:
        """Import its module and what that needs."""
        return importlib.import_module(f"{__name__}.{self.module}")

    def writer(self, shape: Shape, size: int) -> Writer:
        """Return its Writer."""
        made: Writer = self.load().Writer(shape, size)
        return made

    def successor(self, shape: Shape, size: int, address: Any) -> Writer | None:
        """Return a Writer in place of one that was killed; None if the peer has no way to take over."""
        resume = getattr(self.load().Writer, "resume", None)
        made: Writer | None = None if resume is None else resume(shape, size, address)
        return made

    def reader(self, shape: Shape, address: Any) -> Reader:
        """Return its Reader."""
        made: Reader = self.load().Reader(shape, address)
        return made


SHMSYNC = Peer("shmsync", "own", crash_safe=True, in_place=True)

# crash_safe is claimed where no process holds anything that another needs: a rename, a robust or kernel lock, a whole
# entry beside the last one. It is not where a lock, or the bytes that readers copy, stay as a killed writer left them,
# or where a server has the value.
PEERS = (
    SHMSYNC,
    Peer("Manager", "manager", ("numpy",), remark="a killed server takes the value with it"),
    Peer(
        "SharedMemory",
        "shared_memory",
        ("numpy",),
        remark="with semaphore and pickle; a killed process keeps the lock; "
        "a reader that peeks at the version without it is as fast as shmsync",
    ),
    Peer("file", "file", ("numpy",), crash_safe=True, remark="msgpack or arrays, renamed in /dev/shm"),
    Peer(
        "LMDB",
        "lmdb_",
        ("lmdb", "numpy"),
        "lmdb",
        crash_safe=True,
        in_place=True,
        remark="on /dev/shm, not synced to disk",
    ),
    Peer(
        "SQLite",
        "sqlite",
        ("numpy",),
        crash_safe=True,
        in_place=True,
        remark="on /dev/shm, WAL, not synced to disk",
    ),
    Peer(
        "Arrow file",
        "arrow_file",
        ("pyarrow", "numpy"),
        "pyarrow",
        shapes=ALL - CONFIG,
        made_for="columns",
        crash_safe=True,
        in_place=True,
        remark="IPC file, renamed in /dev/shm; maps sorted by key",
    ),
    Peer(
        "iceoryx2 blackboard",
        "iceoryx_blackboard",
        ("iceoryx2", "numpy"),
        "iceoryx2",
        crash_safe=True,
        remark="one entry of fixed size",
    ),
    Peer(
        "iceoryx2 pub-sub",
        "iceoryx_publish_subscribe",
        ("iceoryx2", "numpy"),
        "iceoryx2",
        remark="a value lasts until the next get(); once its writer was killed, new readers get nothing",
    ),
    Peer(
        "zerochannel",
        "zerochannel_",
        ("zerochannel", "numpy"),
        "zerochannel",
        crash_safe=True,
        remark="a ring of four; a value lasts until the next get()",
    ),
    Peer(
        "sharedbox",
        "sharedbox_",
        ("sharedbox", "numpy"),
        "sharedbox",
        remark="a killed writer leaves the box locked; an array lasts until the next get()",
    ),
    Peer(
        "EasyGlobals",
        "easyglobals_",
        ("EasyGlobals", "numpy"),
        "EasyGlobals",
        remark="a killed writer destroys the value",
    ),
    Peer(
        "UltraDict2",
        "ultradict",
        ("UltraDict2", "numpy"),
        "UltraDict2",
        remark="a copy of all in each process; a killed writer may leave the lock, or half of a dump's name",
    ),
    Peer(
        "SharedArray",
        "sharedarray_",
        ("SharedArray", "numpy"),
        "SharedArray",
        shapes=frozenset({"array"}),
        made_for="arrays",
        crash_safe=True,
        remark="a new array for each version",
    ),
    Peer(
        "Redis",
        "redis_",
        ("redis", "numpy"),
        "redis",
        program="redis-server",
        in_place=True,
        remark="on a Unix socket; its clients may be killed, its server may not",
    ),
)


def chosen(names: str) -> Iterable[Peer]:
    """Return the peers of a comma-separated list of names, or all of them; shmsync is always among them.

    Raises:
        LookupError: there is no such peer.
    """
    wanted = {name.strip().lower() for name in names.split(",")}
    known = {peer.name.lower() for peer in PEERS}
    if unknown := wanted - known - {"all"}:
        raise LookupError(f"no such peer: {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    return [peer for peer in PEERS if peer is SHMSYNC or "all" in wanted or peer.name.lower() in wanted]


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """Return the versions of those that are installed."""
    return {peer.name: peer.version() for peer in peers if peer is not SHMSYNC and peer.missing() is None}
