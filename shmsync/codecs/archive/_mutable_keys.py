"""The keys of a map with a capacity in an update, and the arrays that it consists of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import INT, NUMBERS, UINT
from shmsync.codecs.archive._hash_index import HashedKeys, IntegerKeyIndex
from shmsync.codecs.archive._rows import last_of_each

if TYPE_CHECKING:
    from shmsync.codecs._draft_memory import DraftMemory


class Part:
    """One of the arrays of a map: changes to it are recorded if it is in the memory of the draft.

    Args:
        memory: the memory of the draft.
        array: the array, read-only in the memory of the draft, or one with memory of its own.
        is_own: which of the two.

    Attributes:
        array: the array, to be read.
    """

    __slots__ = ("_is_own", "_memory", "_offset", "array")

    def __init__(self, memory: DraftMemory, array: Any, *, is_own: bool) -> None:
        self._memory = memory
        self._is_own = is_own
        self._offset = 0 if is_own else memory.offset_of(array)
        self.array = array

    def write(self, rows: Any, values: Any) -> None:
        """Assign to rows: a slice of step 1, or an array of int64.

        Raises:
            ClosedError: the block of the update has ended.
        """
        memory, array = self._memory, self.array
        memory.payload  # noqa: B018 - raises outside the block
        if not self._is_own:
            size = array.strides[0]
            if isinstance(rows, slice):
                memory.changes.add(self._offset + size * rows.start, self._offset + size * rows.stop)
            else:
                memory.changes.add_rows(self._offset, size, rows)
            array = memory.writable(array, self._offset)
        array[rows] = values

    def extended(self, count: int, capacity: int) -> Part:
        """Return a copy of the first `count` rows in memory of its own, with room for more."""
        copied = _numpy.require_numpy().empty((capacity, *self.array.shape[1:]), self.array.dtype)
        copied[:count] = self.array[:count]
        return Part(self._memory, copied, is_own=True)


class MutableKeys(Protocol):
    """The keys of a map. Methods take several keys in the form that `checked` returns."""

    kind: int

    def checked(self, keys: Any) -> Any:
        """Return keys in the form in which they are found and added; None if some cannot be among these."""

    def last_of_each(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Return distinct keys with the last value of each."""

    def selected(self, keys: Any, mask: Any) -> Any:
        """Return some of several keys."""

    def use(self, table: Any, buckets: int) -> None:
        """Set the hash table: heads and links, and the number of heads."""

    def find(self, key: Any) -> int:
        """Return the entry of any key; -1 if there is none."""

    def find_many(self, keys: Any) -> Any:
        """Return the entries of keys, an array of int64; -1 for those that there are not."""

    def buckets_of(self, keys: Any) -> Any:
        """Return the buckets of keys, an array of int64."""

    def buckets_at(self, entries: Any) -> Any:
        """Return the buckets of the keys of entries."""

    def have_room(self, keys: Any) -> bool:
        """Return whether the keys can be added, apart from the number of entries."""

    def append(self, count: int, keys: Any) -> None:
        """Write the keys of entries from `count` on."""

    def move(self, holes: Any, moved: Any) -> None:
        """Write the keys of the entries `moved` to those of `holes`."""

    def extended(self, count: int, capacity: int) -> MutableKeys:
        """Return the first `count` keys in memory of their own, with room for more."""

    def listed(self, count: int) -> Any:
        """Return the first `count` keys as an ArrayMap takes them."""

    def hashed(self, count: int) -> HashedKeys:
        """Return the first `count` keys in the form in which they are hashed."""


class IntegerKeys:
    """Integer keys.

    Args:
        part: the array of keys.
    """

    __slots__ = ("_buckets", "_index", "_part", "kind")

    def __init__(self, part: Part) -> None:
        self._part = part
        self.kind = INT if part.array.dtype.kind == "i" else UINT

    def use(self, table: Any, buckets: int) -> None:
        """Set the hash table."""
        format_: Any = NUMBERS[self.kind]
        keys: Any = _View(memoryview(self._part.array).cast("B").cast(format_))
        self._buckets = buckets
        self._index = IntegerKeyIndex(buckets, memoryview(table), keys)

    def checked(self, keys: Any) -> Any:
        """Return keys as an array of the type of these; None if some cannot be among these."""
        numpy, dtype = _numpy.require_numpy(), self._part.array.dtype
        keys = numpy.asarray(keys)
        if not keys.size:
            return numpy.empty(0, dtype)
        if keys.ndim != 1 or keys.dtype.kind not in "iu":
            return None
        limits = numpy.iinfo(dtype)
        return keys.astype(dtype) if limits.min <= int(keys.min()) and int(keys.max()) <= limits.max else None

    def last_of_each(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Return distinct keys with the last value of each."""
        return last_of_each(_numpy.require_numpy(), keys, values)

    def selected(self, keys: Any, mask: Any) -> Any:
        """Return some of several keys."""
        return keys[mask]

    def find(self, key: Any) -> int:
        """Return the entry of any key; -1 if there is none."""
        return self._index.find(key)

    def find_many(self, keys: Any) -> Any:
        """Return the entries of keys."""
        return self._index.find_many(_numpy.require_numpy(), keys)

    def buckets_of(self, keys: Any) -> Any:
        """Return the buckets of keys."""
        return (keys % keys.dtype.type(self._buckets)).astype(_numpy.require_numpy().int64)

    def buckets_at(self, entries: Any) -> Any:
        """Return the buckets of the keys of entries."""
        return self.buckets_of(self._part.array[entries])

    def have_room(self, _: Any) -> bool:
        """Return that they have: there is as much as for entries."""
        return True

    def append(self, count: int, keys: Any) -> None:
        """Write the keys of entries from `count` on."""
        self._part.write(slice(count, count + len(keys)), keys)

    def move(self, holes: Any, moved: Any) -> None:
        """Write the keys of the entries `moved` to those of `holes`."""
        self._part.write(holes, self._part.array[moved])

    def extended(self, count: int, capacity: int) -> IntegerKeys:
        """Return the first `count` keys in memory of their own, with room for more."""
        return IntegerKeys(self._part.extended(count, capacity))

    def listed(self, count: int) -> Any:
        """Return the first `count` keys."""
        return self._part.array[:count]

    def hashed(self, count: int) -> HashedKeys:
        """Return the first `count` keys in the form in which they are hashed."""
        keys = self._part.array[:count]
        return HashedKeys(keys, keys, are_integers=True)


class _View:
    """A column of keys as `IntegerKeyIndex` reads it."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view
