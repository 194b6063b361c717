"""ArrayMap: the keys and values of a map as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shmsync.codecs import _numpy
from shmsync.errors import EntityWriteError


class ArrayMap:
    """A map for `codec="archive"` whose keys and values are given as arrays: what a million entries are written from.

    Readers get the map that `dict(zip(keys, values))` would be: each value a row of `values`, read in place.

    Args:
        keys: a list of keys, or a one-dimensional NumPy array of integers, floats or strings. The last of equal keys
            counts.
        values: a NumPy array with as many rows as there are keys, of any dtype but object. One dimension of numbers or
            strings is values without rows, which readers get as Python's.

    Raises:
        EntityWriteError: they do not fit together.
    """

    __slots__ = ("keys", "values")

    def __init__(self, keys: Any, values: Any) -> None:
        if not _numpy.is_array(values) or values.ndim == 0:
            raise EntityWriteError(f"the values of an ArrayMap are a NumPy array of rows, not {type(values).__name__}")
        _numpy.describe(values)
        if _numpy.is_array(keys):
            _numpy.describe(keys)
            if keys.ndim != 1 or not _numpy.has_python_scalars(keys.dtype):
                raise EntityWriteError(
                    f"the keys of an ArrayMap are integers, floats or strings in one dimension, not {keys.dtype} in "
                    f"{keys.ndim}; give others as a list"
                )
        elif not isinstance(keys, Iterable):
            raise EntityWriteError(f"the keys of an ArrayMap are a list or a NumPy array, not {type(keys).__name__}")
        self.keys = keys if _numpy.is_array(keys) and keys.dtype.kind in "iu" else list(_listed(keys))
        self.values = values
        if len(self.keys) != len(values):
            raise EntityWriteError(f"an ArrayMap of {len(self.keys)} keys and {len(values)} values")

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<ArrayMap of {len(self):,} keys, values of {self.values.shape[1:]} {self.values.dtype}>"


def _listed(keys: Any) -> Any:
    return keys.tolist() if _numpy.is_array(keys) else keys


def without_repeats(one: ArrayMap) -> ArrayMap:
    """Return the map with native 64-bit keys if they are an array, and with the last value for each key."""
    numpy = _numpy.numpy_if_imported()
    keys = one.keys
    if not isinstance(keys, list):
        keys = numpy.ascontiguousarray(keys, numpy.uint64 if keys.dtype.kind == "u" else numpy.int64)
        ordered = numpy.sort(keys)
        distinct = len(keys) - int((ordered[1:] == ordered[:-1]).sum())
    else:
        distinct = len(set(keys))
    found = ArrayMap.__new__(ArrayMap)
    found.keys, found.values = keys, one.values
    if distinct < len(keys):  # as a dict does: where the first one stood, the value of the last one
        last = {key: row for row, key in enumerate(_listed(keys))}
        found.keys, found.values = list(last), one.values[list(last.values())]
    return found
