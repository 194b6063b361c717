"""How a version travels: in its entry, as what has changed since the newest one in the engine, or in chunks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync.replication._changes import gather
from shmsync.replication._entry import INLINE, INLINE_CHANGES, MAX_CHANGES, Entry

if TYPE_CHECKING:
    from shmsync._session.pinned import PinnedVersion
    from shmsync.replication._entry import VersionId

_WORTH = 0.5  # changes of a larger part of the value are not worth it


class Describer:
    """Makes entries of versions.

    Args:
        chunk_size: size in bytes of the chunks of a version in full.
        full_after: a version in full is sent after so many that were sent as changes.
        compression: the name of that of chunks, or an empty string.
    """

    def __init__(self, chunk_size: int, full_after: int, compression: str) -> None:
        self._chunk_size = chunk_size
        self._full_after = full_after
        self._compression = compression

    def describe(self, pinned: PinnedVersion, version: VersionId, top: Entry | None) -> tuple[Entry, bytes]:
        """Return the entry of a version, and its changed bytes if they are not in the entry.

        Args:
            pinned: the version.
            version: its id.
            top: the newest entry in the engine, if what follows can refer to it.
        """
        found, payload = pinned.version, pinned.view()
        common = (pinned.incarnation, time.time(), found.size, found.checksum, pinned.codec.ID)
        entry = Entry(version, *common, full=version)
        if found.size <= INLINE:
            return entry._replace(data=bytes(payload)), b""
        changes = None if top is None else _changes_since(top, pinned, entry)
        if top is None or changes is None:
            return self._in_chunks(entry), b""
        content = gather(changes, payload)
        entry = entry._replace(base=top.id, changes=changes, changed=len(content))
        depth, volume = top.depth + 1, top.volume + len(content)
        if depth <= self._full_after and volume <= found.size:
            entry = entry._replace(full=top.full, depth=depth, volume=volume)
        else:
            entry = self._in_chunks(entry)
        if len(content) <= INLINE_CHANGES:
            return entry._replace(content=content), b""
        return entry, content

    def _in_chunks(self, entry: Entry) -> Entry:
        return entry._replace(chunk=self._chunk_size, compression=self._compression)


def _changes_since(top: Entry, pinned: PinnedVersion, entry: Entry) -> bytes | None:
    """Return what has changed since an entry; None if that is not known or not worth it."""
    if _kind(top) != _kind(entry) or top.id.seq > entry.id.seq:
        return None
    changes = pinned.changes_since(top.id.seq)
    if changes is None or changes.size > entry.size * _WORTH:
        return None
    packed = changes.packed(entry.size)
    return packed if packed is not None and len(packed) <= MAX_CHANGES else None


def _kind(entry: Entry) -> tuple[int, int, int]:
    return entry.incarnation, entry.size, entry.codec
