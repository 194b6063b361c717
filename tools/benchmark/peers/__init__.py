"""What a user could take instead of shmsync, each behind the same few calls, used as its documentation recommends.

A module of this package is one peer. It has two classes, `Writer` and `Reader`, as the protocols below say: this
process makes a Writer, a child process makes a Reader from its address. What a peer cannot do it does not claim.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

Shape = Literal["config", "array", "int map", "str map"]
"""What is published: a dict that packs to 1 KiB, a float32 array of 64 MiB, `Items` with a million keys."""

ALL: frozenset[Shape] = frozenset({"config", "array", "int map", "str map"})
CONFIG: frozenset[Shape] = frozenset({"config"})


class Writer(Protocol):
    """One process publishes. Made with the shape of its values; makes what its readers need."""

    def __init__(self, shape: Shape, size: int) -> None:
        """Have room for a value of `size` bytes, if that has to be said beforehand."""

    @property
    def address(self) -> Any:
        """Return what a Reader takes; it can be pickled."""

    def write(self, value: Any) -> None:
        """Publish a value; when it returns, a reader that asks gets this one."""

    def close(self) -> None:
        """Remove everything."""

    # One that can take over has a class method besides, `resume(shape, size, address)`: it returns a Writer in place of
    # one that was killed, for the readers that were attached to it.


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


@dataclass(frozen=True)
class Peer:
    """What is known of a peer.

    Attributes:
        name: in the table and for `--peers`.
        module: in this package.
        needs: packages that must be installed, by the name they are imported with.
        program: a program that must be installed.
        shapes: which values it can publish, without a codec that its documentation does not mention.
        crash_safe: whether a process that is killed anywhere leaves the others able to read whole values.
        remark: what to know of the way it is used here.
    """

    name: str
    module: str
    needs: tuple[str, ...] = ()
    program: str | None = None
    shapes: frozenset[Shape] = ALL
    crash_safe: bool = False
    remark: str = ""

    def missing(self) -> str | None:
        """Return what is not installed."""
        for package in self.needs:
            if importlib.util.find_spec(package) is None:
                return package
        return self.program if self.program and shutil.which(self.program) is None else None

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


SHMSYNC = Peer("shmsync", "own", crash_safe=True)

PEERS = (
    SHMSYNC,
    Peer("LMDB", "lmdb_", ("lmdb", "numpy"), crash_safe=True, remark="on /dev/shm, not synced to disk"),
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
