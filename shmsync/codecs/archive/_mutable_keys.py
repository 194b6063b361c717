"""The keys of a map with a capacity in an update, and the arrays that it consists of."""

from __future__ import annotations

import struct
from itertools import accumulate, compress
from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs import _numpy
from shmsync.codecs.archive._array_map import room_for_keys
from shmsync.codecs.archive._format import INT, NUMBERS, STR_VIEW, UINT, damaged
from shmsync.codecs.archive._hash_index import BinaryViewIndex, HashedKeys, IntegerKeyIndex, bucket_indices
from shmsync.codecs.archive._rows import last_of_each

if TYPE_CHECKING:
    from shmsync.codecs._draft_memory import DraftMemory

U64 = struct.Struct("=Q")


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
        array = self.array
        if not self._is_own:
            array, size = self._memory.writable(array, self._offset), array.strides[0]
            if isinstance(rows, slice):
                self._memory.changes.add(self._offset + size * rows.start, self._offset + size * rows.stop)
            else:
                self._memory.changes.add_rows(self._offset, size, rows)
        _numpy.assign_rows(array, rows, values)

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
        """Return whether there is room for their bytes."""

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

    def finish(self) -> None:
        """Write what has changed and is not in an array."""


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

    def finish(self) -> None:
        """Do nothing: all is in the array."""


class _View:
    """A column of keys as `IntegerKeyIndex` reads it."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view


class TextKeys:
    """Keys that are strings, or bytes. Those that are removed leave their bytes unused, until the map is moved.

    Args:
        spans: start and end of each in `data`.
        data: the bytes of all.
        used: how many bytes of `data` are in use.
        kind: STR_VIEW or BYTES_VIEW.
        used_at: offset in the memory of the draft of the word that contains `used`; None: they are not in this memory.
        memory: the memory of the draft.
    """

    __slots__ = ("_buckets", "_data", "_index", "_memory", "_old_used", "_spans", "_table", "_used", "_used_at", "kind")

    def __init__(
        self, memory: DraftMemory, spans: Part, data: Part, used: int, kind: int, used_at: int | None = None
    ) -> None:
        self._memory = memory
        self._spans = spans
        self._data = data
        self._used = self._old_used = used
        self._used_at = used_at
        self.kind = kind

    @classmethod
    def of(cls, memory: DraftMemory, keys: list[bytes], kind: int, capacity: int) -> TextKeys:
        """Return keys in memory of their own, with room for so many in all."""
        numpy, count, joined = _numpy.require_numpy(), len(keys), b"".join(keys)
        spans = Part(memory, _spans_of(numpy, keys, 0), is_own=True).extended(count, capacity)
        data = Part(memory, numpy.frombuffer(joined, numpy.uint8), is_own=True)
        room = room_for_keys(len(joined), count, capacity)
        return cls(memory, spans, data.extended(len(joined), room), len(joined), kind)

    def use(self, table: Any, buckets: int) -> None:
        """Set the hash table."""
        type_ = str if self.kind == STR_VIEW else bytes
        keys = _Views(memoryview(self._spans.array).cast("B").cast("Q"), memoryview(self._data.array), type_)
        self._table = table
        self._buckets = buckets
        self._index = BinaryViewIndex(buckets, memoryview(table), keys)

    def checked(self, keys: Any) -> Any:
        """Return keys as a list of strings or bytes; None if some cannot be among these."""
        listed = keys.tolist() if _numpy.is_array(keys) else [_numpy.to_python_scalar(key) for key in keys]
        if not set(map(type, listed)) <= {str if self.kind == STR_VIEW else bytes}:
            return None
        try:
            "".join(listed if self.kind == STR_VIEW else ()).encode()
        except UnicodeEncodeError:
            return None
        return listed

    def last_of_each(self, keys: Any, values: Any) -> tuple[Any, Any]:
        """Return distinct keys with the last value of each."""
        last = {key: at for at, key in enumerate(keys)}
        return (keys, values) if len(last) == len(keys) else (list(last), values[list(last.values())])

    def selected(self, keys: Any, mask: Any) -> Any:
        """Return some of several keys."""
        return list(compress(keys, mask))

    def find(self, key: Any) -> int:
        """Return the entry of any key; -1 if there is none."""
        return self._index.find(key)

    def find_many(self, keys: Any) -> Any:
        """Return the entries of keys."""
        return _numpy.require_numpy().fromiter(map(self._index.find, keys), "i8", len(keys))

    def buckets_of(self, keys: Any) -> Any:
        """Return the buckets of keys."""
        return self._buckets_of_bytes(self._encoded(keys))

    def buckets_at(self, entries: Any) -> Any:
        """Return the buckets of the keys of entries."""
        return self._buckets_of_bytes(self._bytes_of(self._spans.array[entries]))

    def _encoded(self, keys: Any) -> list[bytes]:
        return [key.encode() for key in keys] if self.kind == STR_VIEW else keys

    def _bytes_of(self, spans: Any) -> list[bytes]:
        if len(spans) and (spans[:, 1].max() > self._used or (spans[:, 0] > spans[:, 1]).any()):
            raise damaged("a key is beyond the bytes of the keys")
        data = memoryview(self._data.array)
        return [bytes(data[start:end]) for start, end in spans.tolist()]

    def _buckets_of_bytes(self, keys: list[bytes]) -> Any:
        numpy = _numpy.require_numpy()
        return bucket_indices(HashedKeys(keys, b""), self._buckets, numpy).astype(numpy.int64)

    def have_room(self, keys: Any) -> bool:
        """Return whether there is room for their bytes."""
        return self._used + sum(map(len, self._encoded(keys))) <= len(self._data.array)

    def append(self, count: int, keys: Any) -> None:
        """Write the keys of entries from `count` on."""
        numpy, encoded = _numpy.require_numpy(), self._encoded(keys)
        spans = _spans_of(numpy, encoded, self._used)
        used = int(spans[-1, 1])
        if used > len(self._data.array):  # in memory of its own: keys longer than what there is room for
            self._data = self._data.extended(self._used, 2 * used)
            self.use(self._table, self._buckets)
        self._data.write(slice(self._used, used), numpy.frombuffer(b"".join(encoded), numpy.uint8))
        self._spans.write(slice(count, count + len(encoded)), spans)
        self._used = used

    def move(self, holes: Any, moved: Any) -> None:
        """Write the keys of the entries `moved` to those of `holes`."""
        self._spans.write(holes, self._spans.array[moved])

    def extended(self, count: int, capacity: int) -> TextKeys:
        """Return the first `count` keys in memory of their own, with room for more."""
        return TextKeys.of(self._memory, self._bytes_of(self._spans.array[:count]), self.kind, capacity)

    def listed(self, count: int) -> Any:
        """Return the first `count` keys."""
        if not count:
            return _numpy.require_numpy().empty(0, "U1" if self.kind == STR_VIEW else "S1")  # they have a type
        keys = self._bytes_of(self._spans.array[:count])
        try:
            return [str(key, "utf-8") for key in keys] if self.kind == STR_VIEW else keys
        except UnicodeDecodeError as error:
            raise damaged(f"a string is not UTF-8: {error}") from None

    def hashed(self, count: int) -> HashedKeys:
        """Return the first `count` keys in the form in which they are hashed."""
        keys = self._bytes_of(self._spans.array[:count])
        return HashedKeys(keys, b"".join(keys))

    def finish(self) -> None:
        """Write how many bytes are in use if that has changed."""
        if self._used != self._old_used and self._used_at is not None:
            self._memory.write(self._used_at, U64.pack(self._used))


def _spans_of(numpy: Any, keys: list[bytes], start: int) -> Any:
    """Return the spans of keys that are written from an offset on."""
    ends = numpy.fromiter(accumulate(map(len, keys), initial=start), numpy.uint64, len(keys) + 1)
    return numpy.stack((ends[:-1], ends[1:]), axis=1)


class _Views:
    """A column of keys as `BinaryViewIndex` reads it."""

    __slots__ = ("data", "offsets", "type")

    def __init__(self, offsets: memoryview, data: memoryview, type_: type[str | bytes]) -> None:
        self.offsets = offsets
        self.data = data
        self.type = type_
