"""ArrayMap: the keys and values of a map as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from shmsync._util import arguments
from shmsync.codecs import _blocks, _numpy
from shmsync.codecs.archive._format import BYTES_VIEW, FLOAT, INT, MAX_ENTRIES, NUMBERS, STR, STR_VIEW, UINT
from shmsync.codecs.archive._hash_index import bucket_count
from shmsync.codecs.archive._packed_keys import PackedKeys, is_packable, packed
from shmsync.errors import EntityWriteError

_KEY_LENGTH = 16
"""Length in bytes for which keys of an empty map are given room."""


class ArrayMap:
    """A map for `codec="archive"`, given as an array of keys and an array of values.

    Faster to write than a dict: use it for maps of a million entries. Readers get the same map as for
    `dict(zip(keys, values))`; each value is a row of `values`, read in place.

    Args:
        keys: a list of keys, or a one-dimensional NumPy array of integers, floats, strings (of fixed or variable
            width) or bytes. If keys repeat, the last value counts.
        values: a NumPy array with one row for each key, of any dtype but object. The values of a one-dimensional array
            of numbers or strings are read as Python scalars.
        capacity: how many entries there is room for, at least the number of keys. `Writer.update` then adds and removes
            keys in place, at the cost of what it changes, and doubles the capacity when there is no room left. The
            published map takes the memory of that many entries, and removing a key changes the order of the others.
            Needs keys that are integers, strings or bytes, and values that are numbers or arrays; for others it has no
            effect. Without it, an update that adds or removes a key writes the whole value.

    Raises:
        EntityWriteError: keys or values are not supported, or their numbers differ.
        InvalidArgumentError: the capacity is not an int, or is less than the number of keys.

    Example:
        >>> import numpy as np
        >>> from shmsync import ArrayMap, Reader, Writer
        >>> with Writer("doc-array-map", codec="archive") as writer, Reader("doc-array-map") as reader:
        ...     _ = writer.write(ArrayMap(np.array([17, 23]), np.array([[0.5, 1.5], [2.5, 3.5]])))
        ...     reader.get()[23].tolist()
        ...     writer.unlink()
        [2.5, 3.5]
    """

    __slots__ = ("_capacity", "keys", "values")

    def __init__(self, keys: Any, values: Any, *, capacity: int | None = None) -> None:
        if not _numpy.is_array(values) or values.ndim == 0:
            raise EntityWriteError(
                f"the values of an ArrayMap must be a NumPy array with one row for each key, not {_described(values)}"
            )
        _numpy.describe(values)
        if _numpy.is_array(keys):
            _numpy.refuse_masked(keys)
            if keys.ndim != 1 or not (_numpy.has_python_scalars(keys.dtype) or is_packable(keys.dtype)):
                raise EntityWriteError(
                    "the keys of an ArrayMap must be a one-dimensional array of integers, floats or strings, "
                    f"not {_described(keys)}; pass other keys as a list"
                )
        elif not isinstance(keys, Iterable):
            raise EntityWriteError(f"the keys of an ArrayMap must be a list or a NumPy array, not {_described(keys)}")
        is_kept = _numpy.is_array(keys) and (keys.dtype.kind in "iu" or is_packable(keys.dtype))
        self.keys = keys if is_kept else list(_to_list(keys))
        self.values = values
        if len(self.keys) != len(values):
            raise EntityWriteError(
                f"an ArrayMap must have as many keys as values, not {len(self.keys)} keys and {len(values)} values"
            )
        self.capacity = capacity

    @property
    def capacity(self) -> int | None:
        """How many entries the published map has room for; None: for its own only. It can be set until the write.

        Raises:
            InvalidArgumentError: it is set to something else than None or an int, or to less than the number of keys.
        """
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: int | None) -> None:
        highest = MAX_ENTRIES
        self._capacity = None if capacity is None else arguments.integer(capacity, "capacity", len(self), highest)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        room = f" and room for {self.capacity:,}" if self.capacity is not None else ""
        return f"<ArrayMap of {len(self):,} keys{room}, values of {self.values.shape[1:]} {self.values.dtype}>"


def _described(value: Any) -> str:
    if _numpy.is_array(value):
        return f"an array of {value.ndim} dimensions and dtype {value.dtype}"
    return type(value).__name__


def _to_list(keys: Any) -> Any:
    return keys.tolist() if _numpy.is_array(keys) else keys


def deduplicated(array_map: ArrayMap) -> ArrayMap:
    """Return the map with the last value of each key, and its keys as native 64-bit integers, PackedKeys, or a list."""
    keys, are_distinct = _prepared(array_map.keys)
    result = ArrayMap.__new__(ArrayMap)
    result.keys, result.values, result._capacity = keys, array_map.values, array_map.capacity
    if not are_distinct:  # as in a dict: the position of the first occurrence, the value of the last
        last = {key: row for row, key in enumerate(_to_list(array_map.keys))}
        result.keys, result.values = list(last), array_map.values[list(last.values())]
    return result


def _prepared(keys: Any) -> tuple[Any, bool]:
    """Return keys in the form in which they are written, and whether they are certain to be distinct."""
    if _numpy.is_array(keys) and keys.dtype.kind in "iu":
        numpy = _numpy.numpy_if_imported()
        keys = numpy.ascontiguousarray(keys, numpy.uint64 if keys.dtype.kind == "u" else numpy.int64)
        ordered = numpy.sort(keys)
        return keys, not (ordered[1:] == ordered[:-1]).any()
    if _numpy.is_array(keys) and not len(keys):
        return keys, True  # the dtype says which keys there is room for
    found = packed(keys)
    if found is None:
        keys = _to_list(keys)
        return keys, len(set(keys)) == len(keys)
    return found, found.are_distinct(bucket_count(found.data, len(found)))  # these hashes are needed for the table, too


class RoomyMap(NamedTuple):
    """A map with a capacity, as arrays in the form in which they are written.

    Attributes:
        key_kind: kind of the column of keys: INT, UINT, STR_VIEW or BYTES_VIEW.
        keys: the keys: an array of 64-bit integers; for strings and bytes PackedKeys or a list of bytes.
        value_kind: INT, UINT or FLOAT for numbers; None for arrays.
        rows: the values.
        capacity: how many entries there is room for.
    """

    key_kind: int
    keys: Any
    value_kind: int | None
    rows: Any
    capacity: int


def with_room(array_map: ArrayMap) -> RoomyMap | None:
    """Return a map that `deduplicated` has returned as a RoomyMap; None if it has no capacity, or cannot have one."""
    numpy, rows = _numpy.require_numpy(), array_map.values
    key_kind, keys = _keys_of(numpy, array_map.keys) if array_map.capacity else (0, None)
    if keys is None or array_map.capacity is None:
        return None
    value_kind = None
    if rows.ndim == 1 and _numpy.has_python_scalars(rows.dtype):
        if rows.dtype.kind not in "iuf":
            return None
        value_kind = FLOAT if rows.dtype.kind == "f" else _kind_of(numpy, rows)
        rows = numpy.ascontiguousarray(rows, NUMBERS[value_kind])
    elif not rows.dtype.itemsize or 0 in rows.shape[1:]:
        return None
    return RoomyMap(key_kind, keys, value_kind, rows, array_map.capacity)


def _keys_of(numpy: Any, keys: Any) -> tuple[int, Any]:
    """Return the kind of keys, and the keys in the form in which they are written; None if they can have no room."""
    if isinstance(keys, PackedKeys):
        return STR_VIEW if keys.kind == STR else BYTES_VIEW, keys
    if _numpy.is_array(keys):
        kind = {"i": INT, "u": UINT, "S": BYTES_VIEW}.get(keys.dtype.kind, STR_VIEW)
        return kind, keys if kind in NUMBERS else []  # one of strings has none: see `_prepared`
    types = set(map(type, keys))
    if types == {bytes}:
        return BYTES_VIEW, keys
    if types == {str}:
        try:
            return STR_VIEW, list(map(_blocks.encode, keys))
        except UnicodeEncodeError:  # refused as without a capacity
            return 0, None
    return _integers(numpy, keys) if types <= {int} else (0, None)


def _integers(numpy: Any, keys: list[int]) -> tuple[int, Any]:
    """Return the same of integers."""
    low, high = min(keys, default=0), max(keys, default=0)
    for kind, dtype in ((INT, numpy.int64), (UINT, numpy.uint64)):
        limits = numpy.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return kind, numpy.array(keys, dtype)
    return 0, None


def room_for_keys(size: int, count: int, capacity: int) -> int:
    """Return for how many bytes of keys there is room in a map.

    A quarter more than it takes if further keys are as long as the present ones: removed keys take room, too, until the
    map is written in full.

    Args:
        size: the bytes of its keys.
        count: how many keys these are.
        capacity: how many entries there is room for.
    """
    length = size / count if count else _KEY_LENGTH
    return max(size, int(1.25 * length * capacity))


def _kind_of(numpy: Any, integers: Any) -> int:
    """Return the kind of column that a dict of these integers would be given."""
    largest = numpy.iinfo(numpy.int64).max
    return UINT if integers.dtype.kind == "u" and len(integers) and integers.max() > largest else INT
