"""An array in a draft: a read-only NumPy array, through which changes are recorded before they are made.

Imported only where NumPy is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy  # noqa: ICN001 - as in the other modules, which get it from a function

from shmsync.codecs._numpy import distinct
from shmsync.errors import EntityWriteError, ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._draft_memory import DraftMemory


class DraftArray(numpy.ndarray[Any, Any]):
    """An array of the next version; slices of it are, too.

    Assigning to elements, in-place operators and functions with `out=` change it. Everything else treats it as a
    read-only array. It refers to the memory of the draft: do not use it after the block, make a copy.
    """

    _memory: DraftMemory | None

    def __array_finalize__(self, made_from: Any) -> None:
        self._memory = getattr(made_from, "_memory", None)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._change(key, lambda array: array.__setitem__(key, value))

    def add(self, rows: Any, amount: Any) -> None:
        """Add to elements; one that is given several times is added to as often, unlike with `+=`.

        Args:
            rows: an index: integers, a slice, a mask.
            amount: what to add.
        """
        numpy.add.at(self, rows, amount)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any) -> Any:
        arguments = [_plain(each) for each in inputs]
        if method == "at":
            key = inputs[1] if isinstance(inputs[0], DraftArray) else ()
            if isinstance(inputs[0], DraftArray):
                inputs[0]._change(key, lambda array: ufunc.at(array, *arguments[1:], **options))
            else:
                ufunc.at(*arguments, **options)
            return None
        if not out:
            return getattr(ufunc, method)(*arguments, **options)
        targets = tuple(each._writable(...) if isinstance(each, DraftArray) else each for each in out)
        getattr(ufunc, method)(*arguments, out=targets, **options)
        return out[0] if len(out) == 1 else out

    def _change(self, key: Any, apply: Callable[[Any], Any]) -> None:
        try:
            apply(self._writable(key))
        except ShmSyncError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            raise EntityWriteError(f"cannot assign to this part of an array of shape {self.shape}: {error}") from error

    def _writable(self, key: Any) -> Any:
        """Record the part that an index selects; return the array, writable."""
        memory = self._memory
        if memory is None or self.flags.writeable:
            return _plain(self)  # not in the memory of a draft
        if not self.size:
            return _plain(self).copy()  # in no memory at all
        offset = memory.offset_of(_plain(self))
        _record(memory, _plain(self), offset, key)
        return memory.writable(self, offset)


def draft_of(memory: DraftMemory, array: Any) -> DraftArray:
    """Return an array as a part of a draft."""
    result: DraftArray = array.view(DraftArray)
    result._memory = memory
    return result


def _plain(value: Any) -> Any:
    return value.view(numpy.ndarray) if isinstance(value, DraftArray) else value


def _record(memory: DraftMemory, array: Any, offset: int, key: Any) -> None:
    """Record the part of an array that an index selects, or more.

    Args:
        memory: the memory of the draft.
        array: the array.
        offset: offset of its first element.
        key: the index.
    """
    first, *others = key if isinstance(key, tuple) else (key,)
    if not array.ndim or not array.flags.c_contiguous:
        low, high = span_of(array)
        memory.changes.add(offset + low, offset + high)
        return
    count, size = len(array), array.strides[0]
    if isinstance(first, (int, numpy.integer)) and not isinstance(first, bool):
        row = range(count)[first]
        if others and array.ndim > 1:
            _record(memory, array[row], offset + size * row, tuple(others))
        else:
            memory.changes.add(offset + size * row, offset + size * (row + 1))
    elif isinstance(first, slice):
        _record_range(memory, offset, size, range(count)[first])
    elif first is None or first is ...:
        memory.changes.add(offset, offset + array.nbytes)
    else:
        _record_rows(memory, offset, array, numpy.asarray(first), is_alone=not others)


def _record_range(memory: DraftMemory, offset: int, size: int, rows: range) -> None:
    if not rows:
        return
    if abs(rows.step) == 1:
        low, high = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        memory.changes.add(offset + size * low, offset + size * (high + 1))
    else:
        memory.changes.add_rows(offset, size, numpy.arange(rows.start, rows.stop, rows.step))


def _record_rows(memory: DraftMemory, offset: int, array: Any, rows: Any, *, is_alone: bool) -> None:
    """Record the rows that a mask or an integer array selects."""
    count, size = len(array), array.strides[0]
    if rows.dtype.kind == "b" and rows.ndim and rows.shape == array.shape[: rows.ndim]:
        memory.changes.add_rows(offset, size, distinct(numpy.nonzero(rows)[0]))
    elif rows.dtype.kind in "iu" and (is_alone or rows.ndim == 1):
        rows = rows.astype(numpy.int64).reshape(-1)
        if len(rows) and not -count <= rows.min() <= rows.max() < count:
            raise IndexError(f"a row is out of range for {count} rows")
        memory.changes.add_rows(offset, size, numpy.where(rows < 0, rows + count, rows))
    else:
        memory.changes.add(offset, offset + array.nbytes)


def span_of(array: Any) -> tuple[int, int]:
    """Return the range of bytes that an array occupies, relative to its first element."""
    if not array.size:
        return 0, 0
    steps = [(length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True)]
    return sum(min(step, 0) for step in steps), sum(max(step, 0) for step in steps) + array.itemsize
