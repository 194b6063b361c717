"""A map with a capacity in an update: keys are added and removed in place. See `_format` for how it is laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive import _hash_index
from shmsync.codecs.archive._array_map import ArrayMap
from shmsync.codecs.archive._chain_edit import chains_of, write_chains
from shmsync.codecs.archive._format import LINK_SIZE, MAX_ENTRIES, damaged
from shmsync.codecs.archive._mutable_keys import U64, Part
from shmsync.codecs.archive._rows import row_fits, rows_fit
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync.codecs._draft_memory import DraftMemory
    from shmsync.codecs.archive._mutable_keys import MutableKeys

LINKS = f"u{LINK_SIZE}"


class MutableArrayMap(ArrayMap):
    """A map with a capacity: at first in the memory of a draft, in memory of its own after it was given more capacity.

    A chain of the hash table that would become too long moves the map to memory of its own, too, with another number of
    buckets: so the readers' lookups stay short, whatever keys are added. So do strings that there is no room for.

    Args:
        memory: the memory of the draft.
        keys: the keys.
        rows: the values, with room for as many as the capacity.
        count: number of entries.
        is_numbers: whether the values are Python numbers.
    """

    __slots__ = ("_buckets", "_count", "_count_at", "_is_numbers", "_keys", "_memory", "_old_count", "_rows", "_table")

    def __init__(self, memory: DraftMemory, keys: MutableKeys, rows: Part, count: int, *, is_numbers: bool) -> None:
        self._memory = memory
        self._keys = keys
        self._rows = rows
        self._count = self._old_count = count
        self._is_numbers = is_numbers
        self._count_at: tuple[int, ...] | None = None

    def use(self, table: Part, buckets: int, count_at: tuple[int, ...]) -> None:
        """Set the hash table of a map in the memory of the draft.

        Args:
            table: heads, then one link for each entry that there is room for.
            buckets: number of heads.
            count_at: offsets in the memory of the words that contain the number of entries.
        """
        self._count_at = count_at
        self._set_table(table, buckets)

    def build(self) -> None:
        """Make the hash table of a map in memory of its own."""
        built = _hash_index.build(self._keys.hashed(self._count), self.capacity)
        buckets = built.bucket_count
        table = _numpy.require_numpy().zeros(buckets + self.capacity, LINKS)
        table[:buckets] = built.heads
        table[buckets : buckets + self._count] = built.links
        self._set_table(Part(self._memory, table, is_own=True), buckets)

    def _set_table(self, table: Part, buckets: int) -> None:
        self._table = table
        self._buckets = buckets
        self._keys.use(table.array, buckets)

    # -------------------------------------------------------------------------------------------------------- reading

    @property
    def keys(self) -> Any:  # type: ignore[override] # an attribute of an ArrayMap
        """The keys."""
        return self._keys.listed(self._count)

    @property
    def values(self) -> Any:
        """The values, an array of rows."""
        return self._rows.array[: self._count]

    @property  # type: ignore[misc] # set by `reserve` only
    def capacity(self) -> int:
        """How many entries there is room for."""
        return len(self._rows.array)

    @property
    def is_own(self) -> bool:
        """Whether the map is in memory of its own, so that the value has to be written in full."""
        return self._count_at is None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        keys = self.keys
        return iter(keys.tolist() if _numpy.is_array(keys) else keys)

    def __contains__(self, key: object) -> bool:
        return self._find(key) >= 0

    def __getitem__(self, key: Any) -> Any:
        entry = self._find(key)
        if entry < 0:
            raise KeyError(key)
        row = self.values[entry, ...]
        return row.item() if self._is_numbers else row

    def plain(self) -> dict[Any, Any]:
        """Return all entries as plain objects; arrays are copies."""
        values = self.values
        rows = values.tolist() if self._is_numbers else [values[entry, ...].copy() for entry in range(len(self))]
        return dict(zip(self, rows, strict=True))

    def _find(self, key: Any) -> int:
        """Return the entry of a key; -1 if the map does not contain it."""
        try:
            entry = self._keys.find(key)
        except IndexError:
            entry = self._count
        if entry >= self._count:
            raise damaged("a hash table has a link beyond its map")
        return entry

    def _find_many(self, keys: Any) -> Any:
        """Return the entries of keys; -1 for those that the map does not contain."""
        try:
            entries = self._keys.find_many(keys)
            is_beyond = len(entries) and entries.max() >= self._count
        except IndexError:
            is_beyond = True
        if is_beyond:
            raise damaged("a hash table has a link beyond its map")
        return entries

    # ------------------------------------------------------------------------------------------------------- changing

    def assign(self, key: Any, value: Any) -> bool:
        """Assign to a key; return whether key and value fit."""
        rows = self._rows.array
        if not row_fits(rows, value, is_number=self._is_numbers):
            return False
        entry = self._find(key)
        if entry >= 0:
            self._rows.write(slice(entry, entry + 1), value)
            return True
        key = _numpy.to_python_scalar(key)
        keys = self._keys.checked([key])
        if keys is None:
            return False
        self._append(keys, _numpy.require_numpy().asarray(value, rows.dtype)[None])
        return True

    def assign_many(self, keys: Any, values: Any) -> bool:
        """Assign to many keys; return whether all keys and values fit."""
        values = _numpy.require_numpy().asarray(values)
        keys = self._keys.checked(keys)
        if keys is None or not rows_fit(self._rows.array, values, is_number=self._is_numbers):
            return False
        keys, values = self._keys.last_of_each(keys, values)
        entries = self._find_many(keys)
        is_known = entries >= 0
        if is_known.any():
            self._rows.write(entries[is_known], values[is_known])
        if not is_known.all():
            self._append(self._keys.selected(keys, ~is_known), values[~is_known])
        return True

    def _append(self, keys: Any, rows: Any) -> None:
        """Add entries, whose keys are distinct and new."""
        count, total = self._count, self._count + len(keys)
        if total > self.capacity:
            self.reserve(max(total, min(2 * self.capacity, MAX_ENTRIES)))
        elif not self._keys.have_room(keys):
            self.reserve(self.capacity)
        numpy, buckets = _numpy.require_numpy(), self._keys.buckets_of(keys)
        chains = chains_of(self._table.array, self._buckets, _numpy.distinct(buckets), count)
        chains = chains.with_entries(buckets, numpy.arange(count, total))
        self._keys.append(count, keys)
        self._rows.write(slice(count, total), rows)
        self._count = total  # only now: a damaged table is noticed before anything is changed
        if chains.longest() > _hash_index.MAX_CHAIN and not self.is_own:
            self.reserve(self.capacity)
        else:
            write_chains(self._table.array, self._buckets, chains, self._table.write)

    def remove(self, keys: Any) -> None:
        """Remove keys.

        Raises:
            KeyError: the map does not contain one of them. None is removed.
        """
        keys = keys if _numpy.is_array(keys) else list(keys)
        numpy, checked = _numpy.require_numpy(), self._keys.checked(keys)
        listed = keys.tolist() if _numpy.is_array(keys) else keys
        if checked is None:  # such as 3.0, which equals 3
            entries = numpy.fromiter(map(self._find, listed), numpy.int64, len(listed))
        else:
            entries = self._find_many(checked)
        if len(entries) and entries.min() < 0:
            raise KeyError(listed[int(entries.argmin())])
        if len(entries):
            self._remove(numpy, _numpy.distinct(entries))

    def _remove(self, numpy: Any, dead: Any) -> None:
        """Remove entries, which are given in ascending order. The last ones take their places."""
        left = self._count - len(dead)
        is_tail_dead = numpy.zeros(len(dead), bool)
        is_tail_dead[dead[dead >= left] - left] = True
        moved, holes = left + numpy.flatnonzero(~is_tail_dead), dead[dead < left]
        touched = _numpy.distinct(self._keys.buckets_at(numpy.concatenate((dead, moved))))
        chains = chains_of(self._table.array, self._buckets, touched, self._count)
        chains = chains.replaced(dead, numpy.full(len(dead), -1)).replaced(moved, holes)
        write_chains(self._table.array, self._buckets, chains, self._table.write)
        self._keys.move(holes, moved)
        self._rows.write(holes, self._rows.array[moved])
        self._count = left

    def reserve(self, capacity: int) -> None:
        """Move the map to memory of its own, with room for so many entries, at least those that there are.

        Raises:
            EntityWriteError: these are more than a map can have.
            ClosedError: the block of the update has ended.
        """
        self._memory.payload  # noqa: B018 - raises outside the block
        if capacity > MAX_ENTRIES:
            raise EntityWriteError(
                f'cannot publish a map of {capacity} entries: codec="archive" supports at most {MAX_ENTRIES}; split it'
            )
        keys, rows = self._keys.extended(self._count, capacity), self._rows.extended(self._count, capacity)
        self._keys, self._rows = keys, rows  # both or, without memory, neither
        self._count_at = None
        self.build()

    def finish(self) -> None:
        """Write the number of entries if it has changed: once, and not with each key."""
        self._keys.finish()
        if self._count != self._old_count:
            for at in self._count_at or ():
                self._memory.write(at, U64.pack(self._count))
