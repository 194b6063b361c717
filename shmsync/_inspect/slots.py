"""The slots of a reader table, from a scan: what each reader holds, and for how long that has been outdated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import (
    HAZARD_AT,
    OUTDATED,
    OUTDATED_AT,
    OWNER,
    OWNER_AT,
    index_of,
    slot_offset,
    unpack_pin,
)
from shmsync._info_types import ReaderInfo, RetainedInfo
from shmsync._inspect.words import WORD, unix_time

if TYPE_CHECKING:
    from shmsync._inspect.scan import Scan

HALF_SECOND = 0.5
"""Half the resolution of the times of publishes, which are recorded in whole seconds."""


def used_slots(result: Scan) -> tuple[ReaderInfo, ...]:
    """Return the slots that are in use."""
    if result.table is None:
        return ()
    used = []
    for index, alive in enumerate(result.table.locked):
        slot = _unpack_slot(result, index, result.table.slots[slot_offset(index) : slot_offset(index + 1)], alive=alive)
        if alive or slot.is_reading or slot.retained:  # EVICTED alone is left by a reader that holds nothing any more
            used.append(slot)
    return tuple(used)


def _unpack_slot(result: Scan, index: int, raw: bytes, *, alive: bool) -> ReaderInfo:
    assert result.words is not None
    evicted, announced, counts = unpack_pin(WORD.unpack_from(raw)[0])
    retained = []
    for idx, at in enumerate(HAZARD_AT):
        (generation,) = WORD.unpack_from(raw, at)
        if generation:
            retained.append(RetainedInfo(idx, generation, generation == result.words.generations[idx]))
    pid, since = OWNER.unpack_from(raw, OWNER_AT)
    return ReaderInfo(index, pid or None, unix_time(since), alive, counts, announced, evicted, tuple(retained))


def with_outdated(result: Scan, reader: ReaderInfo, now: float) -> ReaderInfo:
    """Return a reader with the time since the oldest version that it holds was replaced by a newer one.

    Readers do not record when they start to read, because each read would then have to ask the clock. But the writer
    records when it publishes, in the header of each version, and the version that follows the held one replaced it. If
    the memory of that one has been replaced too, the writer has kept the time in the slot of the reader.

    Args:
        result: the scan that found the reader.
        reader: the reader.
        now: the monotonic time in seconds.
    """
    holds = [(idx, reader.evicted) for idx, count in enumerate(reader.counts) if count]
    holds += [(retained.idx, not retained.current) for retained in reader.retained]
    if not holds or result.table is None or result.words is None:
        return reader
    recorded = OUTDATED.unpack_from(result.table.slots, slot_offset(reader.slot) + OUTDATED_AT)
    newest = result.words.seq
    moments = []
    for idx, replaced in holds:
        header = result.data[idx]
        if replaced and recorded[idx]:
            moments.append(recorded[idx])
        elif not replaced and header is not None and header.seq + 1 == newest:
            follower = result.data[index_of(newest)]
            moments.append(follower.published if follower is not None and follower.seq == newest else 0)
    known = [moment for moment in moments if moment]
    return reader._replace(outdated=max(0.0, now - min(known) - HALF_SECOND)) if known else reader
