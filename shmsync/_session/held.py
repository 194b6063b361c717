"""Replaced data segments that readers still hold: their memory, and the processes that have mapped them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shmsync._core.layout import (
    HIGH_WATER,
    HIGH_WATER_AT,
    MAX_READERS,
    OWNER,
    OWNER_AT,
    SLOT_SIZE,
    SLOTS_AT,
    readers_size,
    slot_offset,
)
from shmsync._shm import ofd_locks
from shmsync._shm.mapped import mapped_by
from shmsync._shm.segment import open_segment
from shmsync._types import HeldSegmentInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shmsync._core.layout import Names
    from shmsync._shm.mapped import Mapped

_WORD = struct.Struct("=Q")
_MOST_PIDS = 8  # in a message


def held_segments(
    names: Names, mapped: Mapping[int, Mapped | None]
) -> tuple[tuple[HeldSegmentInfo, ...], tuple[int, ...]]:
    """Return the replaced data segments that processes still map, and the processes that cannot be examined.

    Args:
        names: the segment names.
        mapped: by process, what it has mapped; None if that cannot be determined.
    """
    found: dict[tuple[str, int], HeldSegmentInfo] = {}
    unknown = []
    for pid, each in sorted(mapped.items()):
        if each is None:
            unknown.append(pid)
        for segment, inode, size in each.unlinked if each else ():
            if segment in names.data or segment in names.staged:
                held = found.get(inode, HeldSegmentInfo(segment, inode[1], size, ()))
                found[inode] = held._replace(pids=(*held.pids, pid) if pid not in held.pids else held.pids)
    return tuple(found.values()), tuple(unknown)


def describe_held(names: Names) -> str:
    """Return a clause for the message of a CapacityError; an empty text if no memory is held."""
    held, unknown = held_segments(names, {pid: mapped_by(pid) for pid in _reader_pids(names) if pid})
    text = ""
    if held:
        size = sum(segment.memory for segment in held)
        pids = sorted({pid for segment in held for pid in segment.pids})
        text = (
            f"; readers still hold {size:,} bytes of older versions, in process {_list(pids)}: have them drop old "
            "values, close snapshots, or call Reader.release() before they are idle"
        )
    if unknown:
        text += f"; what process {_list(unknown)} holds is unknown"
    return text


def _list(pids: Iterable[int]) -> str:
    texts = [str(pid) for pid in pids]
    return ", ".join(texts[:_MOST_PIDS]) + (f" and {len(texts) - _MOST_PIDS} more" if len(texts) > _MOST_PIDS else "")


def _reader_pids(names: Names) -> list[int]:
    """Return the processes that have claimed a slot and are alive."""
    try:
        with open_segment(names.readers, writable=False) as segment:
            table = segment.read(0, readers_size(MAX_READERS))
            slots = (len(table) - SLOTS_AT) // SLOT_SIZE
            high = min(_WORD.unpack_from(table, HIGH_WATER_AT)[0] & HIGH_WATER, slots)
            return [
                OWNER.unpack_from(table, slot_offset(index) + OWNER_AT)[0]
                for index in range(high)
                if ofd_locks.is_locked(segment.fd, slot_offset(index))
            ]
    except OSError:
        return []
