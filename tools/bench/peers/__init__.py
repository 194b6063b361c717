"""The libraries that shmsync is compared with, each used as its documentation recommends.

A peer has two classes, a Writer and a Reader, that derive from those in `peers.base`. One process creates a Writer;
another process creates a Reader from its address.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

SHAPES = frozenset({"config", "array", "int map", "str map"})
"""What is published: a dict that packs to 1 KiB, a float32 array of 64 MiB, `Items` with a million keys."""


@dataclass(frozen=True)
class Peer:
    """A library, and what it supports."""

    name: str
    module: str  # in this package; with a dot, also what the names of the classes begin with
    package: str = ""  # that must be installed
    program: str = ""  # that must be installed
    shapes: frozenset[str] = SHAPES  # what it can publish without an encoding that its documentation does not mention
    limited_to: str = ""  # the same in words
    crash_safe: bool = False  # the other processes can still read complete values after any process was killed
    in_place: bool = False  # readers look up keys in a map as it was published, without an index of their own
    tears: bool = False  # a reader may see a part of an update

    @property
    def remark(self) -> str:
        """On the way it is used here."""
        return _REMARKS.get(self.name, "")

    @property
    def update_remark(self) -> str:
        """On the way it changes a part of a value."""
        return _UPDATE_REMARKS.get(self.name, "")

    def missing(self) -> str | None:
        """Return how to install what is not installed."""
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"pip install {self.package}"
        if self.program and shutil.which(self.program) is None:
            return f"the program {self.program}"
        return None

    def unsupported(self, shape: str) -> str | None:
        """Return why the peer cannot publish a shape here."""
        if missing := self.missing():
            return f"not installed: {missing}"
        return None if shape in self.shapes else f"supports {self.limited_to} only"

    def version(self) -> str:
        """Return the version of the package, or of Python, and of the program."""
        found = importlib.metadata.version(self.package) if self.package else f"Python {platform.python_version()}"
        if self.program:
            answer = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True)
            found += f" with server {answer.stdout.partition('v=')[2].partition(' ')[0]}"
        return found

    @property
    def writer(self) -> Any:
        """The class of its writers, which take a shape, a size and perhaps an address."""
        return self.load("Writer")

    @property
    def reader(self) -> Any:
        """The class of its readers, which take a shape and an address."""
        return self.load("Reader")

    def load(self, kind: str) -> Any:
        """Import the module and its package, and return one of the classes."""
        module, _, prefix = self.module.partition(".")
        return getattr(importlib.import_module(f"{__name__}.{module}"), f"{prefix}{kind}")


SHMSYNC = Peer("shmsync", "own", crash_safe=True, in_place=True)

# A peer is crash-safe if no process holds what another one needs: with a rename, a robust or kernel lock, a complete
# entry beside the last one. It is not if a killed writer leaves a lock, or half of the bytes that readers copy, or if a
# server has the value.
_SAFE: Any = {"crash_safe": True}
_IN_PLACE: Any = {"crash_safe": True, "in_place": True}
_ARRAYS: Any = {"shapes": frozenset({"array"}), "limited_to": "arrays"}
_COLUMNS: Any = {"shapes": SHAPES - {"config"}, "limited_to": "columns"}
_LOCKED = "a killed process keeps the lock. A reader that checks the version without the lock is as fast as shmsync"
_REMARKS = {
    "Manager": "the value is lost with the server process",
    "SharedMemory": f"with a semaphore and pickle; {_LOCKED}",
    "file": "msgpack or arrays, renamed in /dev/shm",
    "LMDB": "in /dev/shm, not synced to disk",
    "SQLite": "in /dev/shm, WAL, not synced to disk",
    "Arrow file": "IPC file, renamed in /dev/shm; maps are sorted by key",
    "iceoryx2 blackboard": "one entry of a fixed size",
    "iceoryx2 pub-sub": "a value is valid until the next get(); new readers get nothing once the writer was killed",
    "zerochannel": "a ring of four entries; a value is valid until the next get()",
    "sharedbox": "a killed writer leaves the box locked; an array is valid until the next get()",
    "EasyGlobals": "a killed writer destroys the value",
    "UltraDict2": "a full copy in each process; a killed writer may leave the lock, or half of the name of a dump",
    "SharedArray": "a new array for each version",
    "Redis": "on a Unix socket; clients may be killed, the server may not",
}
PEERS = (
    SHMSYNC,
    Peer("Manager", "standard_library.Manager"),
    Peer("SharedMemory", "standard_library.SharedMemory"),
    Peer("file", "standard_library.File", **_SAFE),
    Peer("LMDB", "lmdb_", "lmdb", **_IN_PLACE),
    Peer("SQLite", "standard_library.SQLite", **_IN_PLACE),
    Peer("Arrow file", "arrow_file", "pyarrow", **_COLUMNS, **_IN_PLACE),
    Peer("iceoryx2 blackboard", "iceoryx2_.Blackboard", "iceoryx2", **_SAFE),
    Peer("iceoryx2 pub-sub", "iceoryx2_.PubSub", "iceoryx2"),
    Peer("zerochannel", "zerochannel_", "zerochannel", **_SAFE),
    Peer("sharedbox", "sharedbox_", "sharedbox"),
    Peer("EasyGlobals", "easyglobals_", "EasyGlobals"),
    Peer("UltraDict2", "ultradict", "UltraDict2"),
    Peer("SharedArray", "sharedarray_", "SharedArray", **_ARRAYS, **_SAFE),
    Peer("Redis", "redis_", "redis", "redis-server", in_place=True),
)
_by_name = {peer.name: peer for peer in PEERS}
_PARTS: Any = {"shapes": frozenset({"int map", "row map"})}
_ROWS: Any = {"shapes": frozenset({"row map"})}
_FEW = "up to some hundred entries (the time to open one grows with their number, 2 ms of a thousand): arrays"
FULL_WRITE = replace(SHMSYNC, name="shmsync full write", module="own.Full", **_PARTS)
UPDATING = (
    replace(SHMSYNC, **_PARTS),
    FULL_WRITE,
    replace(_by_name["LMDB"], **_PARTS),
    replace(_by_name["SQLite"], **_PARTS),
    replace(_by_name["iceoryx2 blackboard"], module="iceoryx2_.Blocks", **_ROWS, limited_to=_FEW),
    replace(
        _by_name["SharedArray"],
        name="SharedArray in place",
        module="sharedarray_.InPlace",
        **_ROWS,
        crash_safe=False,
        tears=True,
    ),
    replace(_by_name["Redis"], **_PARTS),
)
"""Those that can change a part of a large value, as they do it."""
_UPDATE_REMARKS = {
    "shmsync full write": "of the map or array as it is after the change",
    "LMDB": "cursor.putmulti in one transaction; an item for each row of an array",
    "SQLite": "UPDATE with executemany in one transaction; a record for each row of an array",
    "iceoryx2 blackboard": "an entry for each 64 rows; each changes on its own: readers may see a part of an update",
    "SharedArray in place": "torn: readers may see any part of an update",
    "Redis": "HSET of the changed fields; SETRANGE of rows of an array, in one transaction",
}
CRASH_SAFE = frozenset(peer.name for peer in (*PEERS, FULL_WRITE) if peer.crash_safe)


def chosen(names: str) -> list[Peer]:
    """Return the peers of a comma-separated list of names, or all of them; shmsync is always included.

    Raises:
        LookupError: there is no such peer.
    """
    wanted = {name.strip().lower() for name in names.split(",")}
    known = {peer.name.lower() for peer in PEERS}
    if unknown := wanted - known - {"all"}:
        raise LookupError(f"no such peer: {', '.join(sorted(unknown))}; choose from: {', '.join(sorted(known))}")
    return [peer for peer in PEERS if peer is SHMSYNC or "all" in wanted or peer.name.lower() in wanted]


def updating(peers: Iterable[Peer]) -> list[Peer]:
    """Return those of some peers that can change a part of a large value, and the full write of shmsync."""
    names = tuple(peer.name for peer in peers)
    return [peer for peer in UPDATING if peer.name.startswith(names)]


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """Return the versions of the peers that are installed."""
    return {peer.name: peer.version() for peer in peers if peer is not SHMSYNC and peer.missing() is None}
