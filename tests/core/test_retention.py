"""When a hazard is set and cleared. (tests/processes/test_memory.py shows that no retained memory is reused.)"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from shmsync._core.retention import ViewTracker

if TYPE_CHECKING:
    from collections.abc import Callable


class Exporter:
    """What views are made from."""


class RecordingSlot:
    """A slot that records its hazards.

    Args:
        during_set: called when a hazard has been stored.
    """

    def __init__(self, during_set: Callable[[], None]) -> None:
        self.hazards: list[tuple[int, int]] = []
        self._during_set = during_set

    def set_hazard(self, index: int, generation: int) -> None:
        self.hazards.append((index, generation))
        self._during_set()

    def clear_hazard(self, index: int, generation: int) -> None:
        self.hazards.remove((index, generation))


def test_a_hazard_lasts_as_long_as_the_last_view() -> None:
    views = ViewTracker(1, 7, threading.RLock(), [])
    first, second = Exporter(), Exporter()
    views.track(first)
    views.track(second)
    slot = RecordingSlot(during_set=lambda: None)
    views.retain(slot)  # type: ignore[arg-type]
    del first
    assert slot.hazards == [(1, 7)]
    del second
    assert slot.hazards == []


def test_the_last_view_is_destroyed_while_its_hazard_is_set() -> None:
    """Another thread drops it after the check for views: it finds no slot to clear, so `retain` has to."""
    views = ViewTracker(1, 7, threading.RLock(), [])
    alive = [Exporter()]
    views.track(alive[0])
    slot = RecordingSlot(during_set=alive.clear)
    views.retain(slot)  # type: ignore[arg-type]
    assert slot.hazards == []
    assert views.retained_by is None


def test_the_last_view_is_destroyed_while_the_lock_is_held() -> None:
    lock, missed = threading.RLock(), list[int]()
    views = ViewTracker(0, 3, lock, missed)
    alive = [Exporter()]
    views.track(alive[0])
    slot = RecordingSlot(during_set=lambda: None)
    views.retain(slot)  # type: ignore[arg-type]
    with lock:
        other = threading.Thread(target=alive.clear)
        other.start()
        other.join()
    assert slot.hazards == [(0, 3)]
    assert missed == [0]
    views.release_if_unused()
    assert slot.hazards == []
