"""The change log as the writer keeps it, and as a reader finds it: see `shmsync._core.change_log`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from shmsync._core.change_log import log_offset, pack_entry, pack_log, unpack_log
from shmsync._session.origin import ORIGIN_SIZE
from shmsync.codecs._changes import Changes

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader
    from shmsync._shm.segment import Mapping

_MOST_ENTRIES = 64


class ChangeLog:
    """What the last updates of this writer have changed.

    It names the version that it ends with by generation, sequence number and checksum, so that nothing has to be noted
    when a version is published, or when it is not.
    """

    def __init__(self) -> None:
        self._newest = (0, 0, 0)
        self._entries: deque[bytes] = deque(maxlen=_MOST_ENTRIES)

    def write(self, target: Mapping, previous: DataHeader, header: DataHeader, changes: Changes) -> None:
        """Write the log of a version that is about to be published, if there is room for it.

        Args:
            target: its segment.
            previous: the header of the version before, of which it is an update.
            header: its own header.
            changes: what may differ between the two.
        """
        if self._newest != _label(previous):
            self._entries.clear()
        self._newest = (0, 0, 0)
        entry = changes.packed(header.size)
        if entry is None:
            return
        self._entries.append(pack_entry(entry))
        self._newest = _label(header)
        start = log_offset(header.size)
        log = pack_log(header.seq, header.checksum, self._entries, target.size - ORIGIN_SIZE - start)
        if log is not None:
            target.memory[start : start + len(log)] = log


def _label(header: DataHeader) -> tuple[int, int, int]:
    return header.generation, header.seq, header.checksum


def changes_since(since: int, header: DataHeader, mapping: Mapping) -> Changes | None:
    """Return what may differ between version `since` and a pinned one; None if that is not known.

    Args:
        since: sequence number of a version of the same incarnation, not newer.
        header: header of the pinned version.
        mapping: its segment.
    """
    if since == header.seq:
        return Changes()
    entries = unpack_log(mapping.view(log_offset(header.size)), header.seq, header.checksum, since)
    try:
        return None if entries is None else Changes.unpacked(entries, header.size)
    except ValueError:
        return None
