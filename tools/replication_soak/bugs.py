"""Variants that are known to be wrong, which a run has to find: patches of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._handles.receiving import ReceivingWriter
from shmsync.replication._entry import BEGINNING
from shmsync.replication.relay import Relay
from shmsync.replication.replica import Replica

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def install(name: str) -> None:
    """Install a variant; none if the name is empty."""
    if name:
        BUGS[name]()


def _take_older() -> None:
    """Let a replica take the newest version of the server although this host has a newer one."""
    catch_up = Replica._catch_up

    def wrong(self: Replica, engine: Any, writer: Any) -> Iterator[None]:
        newest = engine.newest()
        if newest is not None and newest.id < self._cursor:
            self._cursor = self._highest = BEGINNING
        yield from catch_up(self, engine, writer)

    Replica._catch_up = wrong  # type: ignore[method-assign]


def _skip_checksums() -> None:
    """Let a replica publish what it has received without comparing the checksum."""
    publish = ReceivingWriter._publish_received

    def wrong(self: ReceivingWriter, opened: Any, version: Any) -> Any:
        return publish(self, opened, version._replace(checksum=None))

    ReceivingWriter._publish_received = wrong  # type: ignore[method-assign]


def _add_entry_first() -> None:
    """Let a relay add the entry of a version before its chunks."""
    upload = Relay._upload

    def wrong(self: Relay, engine: Any, entry: Any, payload: Any, content: Any) -> bool:
        engine.add(entry, ())
        return upload(self, engine, entry, payload, content)

    Relay._upload = wrong  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "older": _take_older,
    "unchecked": _skip_checksums,
    "entry-first": _add_entry_first,
}
