"""What a read hands out of an archive: mappings and sequences that lie in the segment."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, Protocol, overload

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import damaged

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN = 4
_short = reprlib.Repr()
_short.maxother = 80  # what is inside says of itself how much it is


class Elements(Protocol):
    """A column, as far as a list needs it."""

    def get(self, number: int) -> Any:
        """Return an element."""

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""


class Entries(Protocol):
    """The items of one map, by number."""

    @property
    def numbers(self) -> range:
        """The numbers of the items, in the order of insertion."""

    @property
    def find(self) -> Callable[[Any], int]:
        """What returns the number of a key's item, or -1."""

    @property
    def key(self) -> Callable[[int], Any]:
        """What returns the key of an item."""

    @property
    def value(self) -> Callable[[int], Any]:
        """What returns the value of an item."""

    def plain(self) -> dict[Any, Any]:
        """Return all items as plain objects."""


class ArchivedMap(Mapping[Any, Any]):
    """A map that lies in the segment: looked up there, decoded item by item as you touch them.

    It equals the dict that was written, iterates in its order, and pickles as a plain dict. Lists of numbers and arrays
    in it are read-only arrays on the segment (memoryviews if NumPy is not installed).
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
            raise damaged("a map points beyond its columns") from None
        raise KeyError(key)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, or `default` if it is not there."""
        try:
            item = self._find(key)
            return self._value(item) if item >= 0 else default
        except IndexError:
            raise damaged("a map points beyond its columns") from None

    def __contains__(self, key: object) -> bool:
        try:
            return self._find(key) >= 0
        except IndexError:
            raise damaged("a map points beyond its columns") from None

    def __len__(self) -> int:
        return len(self._entries.numbers)

    def __iter__(self) -> Iterator[Any]:
        return map(self._entries.key, self._entries.numbers)

    def __reversed__(self) -> Iterator[Any]:
        return map(self._entries.key, reversed(self._entries.numbers))

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the items, in the order of insertion."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values, in the order of insertion."""
        return _Values(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(self) != len(other):
            return False
        return all(key in other and same(value, other[key]) for key, value in self.items())

    __hash__ = None  # type: ignore[assignment]  # as a dict

    def unarchive(self) -> dict[Any, Any]:
        """Return a plain dict of plain objects, which has nothing to do with the segment any more."""
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
        return map(entries.value, entries.numbers)

    def __contains__(self, value: object) -> bool:
        return any(same(found, value) for found in self)


class _Items(ItemsView[Any, Any]):
    _mapping: ArchivedMap

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        entries = self._mapping._entries
        return zip(map(entries.key, entries.numbers), map(entries.value, entries.numbers), strict=True)

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple):
            return False
        key, value = item
        return key in self._mapping and same(self._mapping[key], value)


class ArchivedList(Sequence[Any]):
    """A list that lies in the segment; its elements are decoded one by one, as you touch them.

    It equals the list or tuple that was written, slices without copying, and pickles as a plain list.
    """

    __slots__ = ("_column", "_numbers")

    def __init__(self, column: Elements, numbers: range) -> None:
        self._column = column
        self._numbers = numbers

    @overload
    def __getitem__(self, index: int) -> Any: ...

    @overload
    def __getitem__(self, index: slice) -> ArchivedList: ...

    def __getitem__(self, index: int | slice) -> Any:
        number = self._numbers[index]
        if isinstance(number, range):
            return ArchivedList(self._column, number)
        return self._column.get(number)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Any]:
        return map(self._column.getter(), self._numbers)

    def __reversed__(self) -> Iterator[Any]:
        return map(self._column.getter(), reversed(self._numbers))

    def __contains__(self, value: object) -> bool:
        return any(same(found, value) for found in self)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the place of the first element that equals `value`. Raises ValueError if there is none."""
        for place in range(len(self))[start:stop]:
            if same(self[place], value):
                return place
        raise ValueError(f"{_short.repr(value)} is not in the list")

    def count(self, value: Any) -> int:
        """Return how many elements equal `value`."""
        return sum(same(found, value) for found in self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (list, tuple, ArchivedList)):
            return NotImplemented
        return len(self) == len(other) and all(map(same, self, other))

    __hash__ = None  # type: ignore[assignment]  # as a list

    def unarchive(self) -> list[Any]:
        """Return a plain list of plain objects, which has nothing to do with the segment any more."""
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
    """Return a value of an archive as plain objects of this process; what is no archived map or list, as it is.

    Raises:
        EntityReadError: the archive is damaged.
    """
    try:
        if isinstance(value, ArchivedMap):
            return value._entries.plain()
        if isinstance(value, ArchivedList):
            numbers = value._numbers
            if numbers.step == 1:
                return value._column.plain(numbers.start, numbers.stop)
            return [value._column.plain(number, number + 1)[0] for number in numbers]
    except (IndexError, RecursionError):
        raise damaged("its columns do not fit together") from None
    return value


def same(mine: Any, other: Any) -> bool:
    """Tell whether a value of an archive equals another value: vectors and arrays as a whole."""
    if not _is_vector(mine):
        return same(other, mine) if _is_vector(other) else bool(mine == other)
    if isinstance(mine, memoryview) and mine.format == "B":
        return isinstance(other, (bytes, bytearray, memoryview)) and bool(mine == other)
    if not _is_vector(other):
        return isinstance(other, (list, tuple)) and bool(mine.tolist() == list(other))
    return _shape(mine) == _shape(other) and bool(mine.tolist() == other.tolist())


def _is_vector(value: Any) -> bool:
    return isinstance(value, memoryview) or _numpy.is_array(value)


def _shape(vector: Any) -> tuple[int, ...]:
    return tuple(operator.attrgetter("shape")(vector))
