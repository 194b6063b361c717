"""Open the maps with a capacity of an archive that is updated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._array_map import ArrayMap, with_room
from shmsync.codecs.archive._columns import Numbers
from shmsync.codecs.archive._format import NUMBERS, USED_AT, damaged
from shmsync.codecs.archive._mutable_keys import IntegerKeys, Part, TextKeys
from shmsync.codecs.archive._mutable_map import LINKS, MutableArrayMap
from shmsync.codecs.archive._rows import rows_of_map

if TYPE_CHECKING:
    from shmsync.codecs._draft_memory import DraftMemory
    from shmsync.codecs.archive._array_map import RoomyMap
    from shmsync.codecs.archive._map_columns import Maps, Room
    from shmsync.codecs.archive._mutable_keys import MutableKeys
    from shmsync.codecs.archive._views import ArchivedMap


class MutableMaps:
    """The maps with a capacity of an archive that is updated.

    Args:
        memory: the memory of the draft.

    Attributes:
        opened: those that were used.
    """

    __slots__ = ("_memory", "opened")

    def __init__(self, memory: DraftMemory) -> None:
        self._memory = memory
        self.opened: dict[int, MutableArrayMap] = {}

    def __call__(self, maps: Maps) -> MutableArrayMap:
        """Return the map in a column: the same one each time."""
        found = self.opened.get(maps.header.offset)
        if found is None:
            found = self.opened[maps.header.offset] = _in_place(self._memory, maps)
        return found


def _in_place(memory: DraftMemory, maps: Maps) -> MutableArrayMap:
    """Return a map in the memory of a draft.

    Raises:
        EntityReadError: it is damaged.
    """
    numpy, room = _numpy.require_numpy(), maps.room()
    keys = _keys_in(numpy, memory, room)
    rows = Part(memory, _rows_in(numpy, room), is_own=False)
    is_numbers = isinstance(room.value_column, Numbers)
    result = MutableArrayMap(memory, keys, rows, room.key_column.header.n, is_numbers=is_numbers)
    table = Part(memory, numpy.frombuffer(room.table, LINKS), is_own=False)
    result.use(table, room.buckets, maps.count_spans())
    return result


def _keys_in(numpy: Any, memory: DraftMemory, room: Room) -> MutableKeys:
    header = room.key_column.header
    if header.kind in NUMBERS:
        return IntegerKeys(Part(memory, numpy.frombuffer(room.keys, NUMBERS[header.kind]), is_own=False))
    spans = numpy.frombuffer(room.keys, numpy.uint64).reshape(room.capacity, 2)
    used = header.words[2]
    if len(room.key_data):
        data = Part(memory, numpy.frombuffer(room.key_data, numpy.uint8), is_own=False)
    else:
        data = Part(memory, numpy.empty(0, numpy.uint8), is_own=True)
    return TextKeys(memory, Part(memory, spans, is_own=False), data, used, header.kind, header.offset + USED_AT)


def _rows_in(numpy: Any, room: Room) -> Any:
    column = room.value_column
    if isinstance(column, Numbers):
        return numpy.frombuffer(room.rows, NUMBERS[column.header.kind])
    rows = column.rows()
    try:
        return numpy.frombuffer(room.rows, rows.dtype).reshape(room.capacity, *rows.shape[1:])
    except ValueError as error:
        raise damaged(f"the rows of a map with room for {room.capacity} entries: {error}") from None


def map_of(memory: DraftMemory, archived: ArchivedMap) -> MutableArrayMap | None:
    """Return a map without a capacity as one in memory of its own; None if it cannot have a capacity."""
    found, indices = rows_of_map(archived), archived._entries.indices
    if found is None:
        return None
    count, values = len(archived), found.rows[indices.start : indices.stop]
    given = with_room(ArrayMap(list(archived), values, capacity=max(count, 1)))
    if given is None:
        return None
    keys = _own_keys(memory, given)
    rows = Part(memory, given.rows, is_own=True).extended(count, given.capacity)
    result = MutableArrayMap(memory, keys, rows, count, is_numbers=given.value_kind is not None)
    result.build()
    return result


def _own_keys(memory: DraftMemory, given: RoomyMap) -> MutableKeys:
    if given.key_kind in NUMBERS:
        return IntegerKeys(Part(memory, given.keys, is_own=True))
    return TextKeys.of(memory, given.keys, given.key_kind, given.capacity)
