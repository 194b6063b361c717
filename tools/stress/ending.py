"""The state that killed processes leave behind: it must neither delay nor mislead the next writer and its readers."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from shmsync import Reader, Writer
from shmsync._core.layout import EVICTED, HIGH_WATER, HIGH_WATER_AT, slot_offset
from stress.processes import TIMEOUT
from stress.system import SHM

if TYPE_CHECKING:
    from stress.settings import Settings

_SWITCH_TIMEOUT = 1.0
_POLL_INTERVAL = 0.02


def check_end(settings: Settings, reader: Reader[Any]) -> list[str]:
    """Publish once more, to a reader that was attached all the time, and remove the name; return what is wrong."""
    with Writer(settings.name, grace_duration=TIMEOUT, reuse_memory=not settings.isolated) as writer:
        found = [*_check_switch(writer, reader), *_check_next_writes(writer, reader, has_locks=settings.locks)]
        if settings.locks and not settings.isolated:  # else there is no reader table
            found += _check_counts(settings.name)
        reader.close()
        writer.unlink()
    return found + [f"{path.name} is left in /dev/shm" for path in SHM.glob(f"{settings.name}*")]


def _check_switch(writer: Writer[int], reader: Reader[Any]) -> list[str]:
    """Check that the reader finds the next version, even if another program removed the name before."""
    writer.write(-1)
    deadline = time.monotonic() + _SWITCH_TIMEOUT
    while reader.read().value != -1:
        if time.monotonic() > deadline:
            return ["a reader stays in an incarnation that was removed"]
        time.sleep(_POLL_INTERVAL)
    return []


def _check_next_writes(writer: Writer[int], reader: Reader[Any], *, has_locks: bool) -> list[str]:
    found = []
    started = time.monotonic()
    for number in range(4):
        writer.write(number)
        if reader.get() != number:
            found.append("the next version is not the newest")
    if has_locks and time.monotonic() - started > TIMEOUT / 2:
        found.append("a dead reader delayed a write")
    return found


def _check_counts(name: str) -> list[str]:
    table = (SHM / f"{name}_readers").read_bytes()
    high_water = int.from_bytes(table[HIGH_WATER_AT : HIGH_WATER_AT + 8], sys.byteorder) & HIGH_WATER
    words = (int.from_bytes(table[at : at + 8], sys.byteorder) for at in map(slot_offset, range(high_water)))
    # EVICTED alone holds nothing: a reader that was evicted while it left its slot may have died since.
    left = {index: hex(word) for index, word in enumerate(words) if word & ~EVICTED}
    return [f"counts are left in slots {left}"] if left else []
