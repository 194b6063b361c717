"""The values that a read of an archive returns: mappings and sequences that are decoded in place."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, Protocol, overload

from shmsync.codecs import _blocks, _numpy
from shmsync.codecs.archive._format import damaged

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 4
_short = reprlib.Repr()
_short.maxother = 80  # nested maps and lists state their own length


class Elements(Protocol):
    """The interface of a column that `ArchivedList` uses."""

    def get(self, index: int) -> Any:
        """Return an element."""

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""


class Entries(Protocol):
    """The entries of one map, by index."""

    @property
    def indices(self) -> range:
        """The indices of the entries, in insertion order."""

    @property
    def find(self) -> Callable[[Any], int]:
        """A function that returns the index of the entry of a key, or -1."""

    @property
    def key(self) -> Callable[[int], Any]:
        """A function that returns the key of an entry."""

    @property
    def value(self) -> Callable[[int], Any]:
        """A function that returns the value of an entry."""

    def plain(self) -> dict[Any, Any]:
        """Return all entries as plain objects."""


class ArchivedMap(Mapping[Any, Any]):
    """A read-only map in the segment. Keys are looked up in place; values are decoded on access.

    It is equal to the dict that was written, iterates in the same order, and pickles as a plain dict. The order is not
    specified if an update has removed keys from an `ArrayMap` with a capacity. Lists of numbers and arrays in it are
    read-only arrays on the segment (memoryviews if NumPy is not installed).
    """

    __slots__ = ("_entries", "_find", "_value")

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._find = entries.find
        self._value = entries.value

    def __getitem__(self, key: Any) -> Any:
        try:
            item = self._find(key)
            if item >= 0:
                return self._value(item)
        except IndexError:
            raise damaged("a map refers to an entry beyond its columns") from None
        raise KeyError(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or `default` if the map does not contain it."""
        try:
            item = self._find(key)
            return self._value(item) if item >= 0 else default
        except IndexError:
            raise damaged("a map refers to an entry beyond its columns") from None

    def __contains__(self, key: object) -> bool:
        try:
            return self._find(key) >= 0
        except IndexError:
            raise damaged("a map refers to an entry beyond its columns") from None

    def __len__(self) -> int:
        return len(self._entries.indices)

    def __iter__(self) -> Iterator[Any]:
        return map(self._entries.key, self._entries.indices)

    def __reversed__(self) -> Iterator[Any]:
        return map(self._entries.key, reversed(self._entries.indices))

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the items, in insertion order."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values, in insertion order."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(key in other and same(value, other[key]) for key, value in self.items())

    __hash__ = None  # type: ignore[assignment]  # like a dict

    def unarchive(self) -> dict[Any, Any]:
        """Return a plain dict of plain objects, which do not refer to the segment."""
        return unarchive(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (self.unarchive(),))

    def __repr__(self) -> str:
        shown = [f"{key!r}: {_short.repr(value)}" for key, value in _first(self.items())]
        return f"<ArchivedMap of {len(self):,} items: {{{_joined(shown, len(self))}}}>"


class _Values(ValuesView[Any]):
    _mapping: ArchivedMap

    def __iter__(self) -> Iterator[Any]:
        entries = self._mapping._entries
        return map(entries.value, entries.indices)

    def __contains__(self, value: object) -> bool:
        return any(same(each, value) for each in self)


class _Items(ItemsView[Any, Any]):
    _mapping: ArchivedMap

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        entries = self._mapping._entries
        return zip(map(entries.key, entries.indices), map(entries.value, entries.indices), strict=True)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple):
            return False
        key, value = item
        return key in self._mapping and same(self._mapping[key], value)


class ArchivedList(Sequence[Any]):
    """A read-only list in the segment. Elements are decoded on access.

    It is equal to the list or tuple that was written, slices without copying, and pickles as a plain list.
    """

    __slots__ = ("_column", "_indices")

    def __init__(self, column: Elements, indices: range) -> None:
        self._column = column
        self._indices = indices

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> ArchivedList: ...

    def __getitem__(self, index: int | slice) -> Any:
        try:
            selected = self._indices[index]
        except IndexError:
            raise IndexError(f"index {index} is out of range: the list has {len(self)} elements") from None
        except TypeError:
            raise TypeError(f"list indices must be integers or slices, not {type(index).__name__}") from None
        if isinstance(selected, range):
            return ArchivedList(self._column, selected)
        return self._column.get(selected)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Any]:
        return map(self._column.getter(), self._indices)

    def __reversed__(self) -> Iterator[Any]:
        return map(self._column.getter(), reversed(self._indices))

    def __contains__(self, value: object) -> bool:
        return any(same(each, value) for each in self)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the index of the first element that is equal to `value`.

        Raises:
            ValueError: no element is equal to `value`.
        """
        for index in range(len(self))[start:stop]:
            if same(self[index], value):
                return index
        raise ValueError(f"{_short.repr(value)} is not in the list")

    def count(self, value: Any) -> int:
        """Return the number of elements that are equal to `value`."""
        return sum(same(each, value) for each in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, ArchivedList)):
            return NotImplemented
        return len(self) == len(other) and all(map(same, self, other))

    __hash__ = None  # type: ignore[assignment]  # like a list

    def unarchive(self) -> list[Any]:
        """Return a plain list of plain objects, which do not refer to the segment."""
        return unarchive(self)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return (list, (self.unarchive(),))

    def __repr__(self) -> str:
        shown = [_short.repr(value) for value in _first(self)]
        return f"<ArchivedList of {len(self):,}: [{_joined(shown, len(self))}]>"


def _first(items: Any) -> list[Any]:
    return [item for item, _ in zip(items, range(_SHOWN), strict=False)]


def _joined(shown: list[str], count: int) -> str:
    return ", ".join(shown + ["..."] * (count > len(shown)))


def unarchive(value: Any) -> Any:
    """Return an archived map or list as plain objects, which do not refer to the segment; other values unchanged.

    Raises:
        EntityReadError: the archive is damaged.

    Example:
        >>> from shmsync import Reader, Writer, unarchive
        >>> with Writer("doc-unarchive", codec="archive") as writer, Reader("doc-unarchive") as reader:
        ...     _ = writer.write({"users": {17: [0.5, 1.5]}})
        ...     unarchive(reader.get())
        ...     writer.unlink()
        {'users': {17: [0.5, 1.5]}}
    """
    try:
        if isinstance(value, ArchivedMap):
            return value._entries.plain()
        if isinstance(value, ArchivedList):
            indices = value._indices
            if indices.step == 1:
                return value._column.plain(indices.start, indices.stop)
            return [value._column.plain(index, index + 1)[0] for index in indices]
    except (IndexError, RecursionError):
        raise damaged("its columns refer to each other inconsistently") from None
    return value


def same(archived: Any, other: Any) -> bool:
    """Return whether a value of an archive is equal to another value. Vectors and arrays are compared as a whole."""
    if not _is_vector(archived):
        return same(other, archived) if _is_vector(other) else bool(archived == other)
    if isinstance(archived, memoryview) and archived.format == "B":
        return isinstance(other, (bytes, bytearray, memoryview)) and _same_bytes(archived, other)
    if not _is_vector(other):
        return isinstance(other, (list, tuple)) and bool(archived.tolist() == list(other))
    return _shape(archived) == _shape(other) and bool(archived.tolist() == other.tolist())


def _same_bytes(archived: memoryview, other: bytes | bytearray | memoryview) -> bool:
    with memoryview(other) as view:
        if view.format == "B" and view.ndim == 1:
            return _blocks.are_equal(archived, view)
        return bool(archived == view)


def _is_vector(value: Any) -> bool:
    return isinstance(value, memoryview) or _numpy.is_array(value)


def _shape(vector: Any) -> tuple[int, ...]:
    return tuple(operator.attrgetter("shape")(vector))
