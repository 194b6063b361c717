"""ArrayMap: the keys and values of a map as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._hash_index import bucket_count
from shmsync.codecs.archive._packed_keys import is_packable, packed
from shmsync.errors import EntityWriteError


class ArrayMap:
    """A map for `codec="archive"`, given as an array of keys and an array of values.

    Faster to write than a dict: use it for maps of a million entries. Readers get the same map as for
    `dict(zip(keys, values))`; each value is a row of `values`, read in place.

    Args:
        keys: a list of keys, or a one-dimensional NumPy array of integers, floats, strings (of fixed or variable
            width) or bytes. If keys repeat, the last value counts.
        values: a NumPy array with one row for each key, of any dtype but object. The values of a one-dimensional array
            of numbers or strings are read as Python scalars.

    Raises:
        EntityWriteError: keys or values are not supported, or their numbers differ.

    Example:
        >>> import numpy as np
        >>> from shmsync import ArrayMap, Reader, Writer
        >>> with Writer("doc-array-map", codec="archive") as writer, Reader("doc-array-map") as reader:
        ...     _ = writer.write(ArrayMap(np.array([17, 23]), np.array([[0.5, 1.5], [2.5, 3.5]])))
        ...     reader.get()[23].tolist()
        ...     writer.unlink()
        [2.5, 3.5]
    """

    __slots__ = ("keys", "values")

    def __init__(self, keys: Any, values: Any) -> None:
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

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<ArrayMap of {len(self):,} keys, values of {self.values.shape[1:]} {self.values.dtype}>"


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
    result.keys, result.values = keys, array_map.values
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
    found = packed(keys)
    if found is None:
        keys = _to_list(keys)
        return keys, len(set(keys)) == len(keys)
    return found, found.are_distinct(bucket_count(found.data, len(found)))  # these hashes are needed for the table, too
