"""The parts of a draft that are not arrays: the maps, lists and bytes that the block of an update is given."""

from __future__ import annotations

from collections.abc import MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync.codecs._draft_memory import DraftMemory
    from shmsync.codecs._drafts import Draft, Path

_MISSING: Any = object()


class DraftBuffer:
    """The bytes of a raw value: slices are read as read-only memoryviews, and assigned from bytes of the same size.

    Args:
        memory: the memory of the draft.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: DraftMemory) -> None:
        self._memory = memory

    def __len__(self) -> int:
        return len(self._memory.readable)

    def __getitem__(self, key: Any) -> Any:
        self._memory.payload  # noqa: B018 - raises outside the block
        return self._memory.readable[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        selected = range(len(self))[key]
        if isinstance(selected, int):
            self._memory.write(selected, bytes((value,)))
            return
        content = memoryview(value).cast("B")
        if selected.step != 1 or len(content) != len(selected):
            raise EntityWriteError(
                f"cannot assign {len(content)} bytes to {len(selected)} bytes with step {selected.step}: the size of a "
                "raw value does not change, and the step is 1"
            )
        self._memory.write(selected.start, content)

    def __repr__(self) -> str:
        return f"<DraftBuffer of {len(self):,} bytes>"


class DraftMap(MutableMapping[Any, Any]):
    """A map of the next version.

    Args:
        draft: the whole value.
        path: the keys that lead to the map.
    """

    __slots__ = ("_draft", "_path")

    def __init__(self, draft: Draft, path: Path) -> None:
        self._draft = draft
        self._path = path

    def __getitem__(self, key: Any) -> Any:
        return self._draft.draft_of((*self._path, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._draft.assign(self._path, key, value)

    def __delitem__(self, key: Any) -> None:
        self._draft.remove(self._path, [key])

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        """Remove a key and return its value, an array as a copy; return the default if the key is missing.

        Raises:
            KeyError: it is, and there is no default.
        """
        if default is not _MISSING and key not in self:
            return default
        value = self[key]
        value = _numpy.require_numpy().array(value) if _numpy.is_array(value) else value  # another row takes its place
        del self[key]
        return value

    def popitem(self) -> tuple[Any, Any]:
        """Remove some key, and return it with its value.

        Raises:
            KeyError: the map is empty.
        """
        for key in self:
            return key, self.pop(key)
        raise KeyError("the map is empty")

    def discard(self, key: Any) -> None:
        """Remove a key if the map contains it."""
        if key in self:
            del self[key]

    def remove(self, keys: Any) -> None:
        """Remove many keys, at NumPy's speed from a map with a capacity.

        Args:
            keys: an array or a list.

        Raises:
            KeyError: the map does not contain one of them. None is removed.
        """
        self._draft.remove(self._path, keys)

    def clear(self) -> None:
        """Remove all keys."""
        self.remove(list(self))

    def reserve(self, capacity: int) -> None:
        """Give a map room for so many entries in all. Does nothing if it has; otherwise the value is written in full.

        Args:
            capacity: as that of an `ArrayMap`.

        Raises:
            EntityWriteError: the map cannot have a capacity.
            InvalidArgumentError: the capacity is not an int, or is less than the number of entries.
        """
        self._draft.reserve(self._path, capacity)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._draft.at(self._path))

    def __len__(self) -> int:
        return len(self._draft.at(self._path))

    def update(self, keys: Any = (), rows: Any = None, /, **named: Any) -> None:
        """Assign to many keys: `update(keys, rows)` at NumPy's speed, or as a dict does.

        Args:
            keys: an array or a list of keys; or a mapping. New keys are added in place to a map with a capacity.
            rows: an array with one row for each key. If a key repeats, its last row counts.
            named: further keys.

        Raises:
            EntityWriteError: the numbers of keys and rows differ.
        """
        if rows is None:
            super().update(keys, **named)
            return
        if len(keys) != len(rows):
            raise EntityWriteError(f"as many rows as keys are needed, not {len(rows)} rows for {len(keys)} keys")
        if not self._draft.assign_many(self._path, keys, rows):
            for key, row in zip(keys.tolist() if _numpy.is_array(keys) else keys, rows, strict=True):
                self[key] = row
        super().update(named)

    def __repr__(self) -> str:
        return f"<DraftMap of {len(self):,} items>"


class DraftList(MutableSequence[Any]):
    """A list of the next version.

    Args:
        draft: the whole value.
        path: the keys that lead to the list.
    """

    __slots__ = ("_draft", "_path")

    def __init__(self, draft: Draft, path: Path) -> None:
        self._draft = draft
        self._path = path

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self._draft.draft_of((*self._path, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._draft.plain_at(self._path)[index] = copied(value)
        else:
            self._draft.at((*self._path, index))
            self._draft.assign(self._path, index, value)

    def __delitem__(self, index: Any) -> None:
        del self._draft.plain_at(self._path)[index]

    def __len__(self) -> int:
        return len(self._draft.at(self._path))

    def insert(self, index: int, value: Any) -> None:
        """Insert an element."""
        self._draft.plain_at(self._path).insert(index, copied(value))

    def __repr__(self) -> str:
        return f"<DraftList of {len(self):,} elements>"


def copied(value: Any) -> Any:
    """Return an array as a copy, which the caller cannot change afterwards."""
    return value.copy() if _numpy.is_array(value) else value
