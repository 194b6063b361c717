"""Columns of maps as a reader sees them. Format and names: see `_format`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._columns import KINDS, Column, Numbers, Texts
from shmsync.codecs.archive._format import (
    BOOL,
    INT,
    ITEM,
    LINK,
    MAP,
    NULL,
    NUMBERS,
    RECORDS,
    SMALL,
    UINT,
    damaged,
    part,
)
from shmsync.codecs.archive._hash_index import Finder, NumberFinder, Table, TextFinder
from shmsync.codecs.archive._views import ArchivedMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs.archive._format import Header

_SCALARS = {NULL, BOOL, *NUMBERS}


def _key_getter(column: Column) -> Callable[[int], Any]:
    """Return what returns a key: any of them hashable, and no view of the archive."""
    direct = column.kind is str if isinstance(column, Texts) else column.header.kind in _SCALARS
    return column.getter() if direct else _Plain(column)


class _Plain:
    """Returns elements as plain keys."""

    __slots__ = ("_column",)

    def __init__(self, column: Column) -> None:
        self._column = column

    def __call__(self, number: int) -> Any:
        return as_key(self._column.plain(number, number + 1)[0])


def as_key(value: Any) -> Any:
    """Return a key: a list among keys was a tuple.

    Raises:
        EntityReadError: no key.
    """
    if isinstance(value, list):
        return tuple(map(as_key, value))
    if isinstance(value, dict) or _numpy.is_array(value):
        raise damaged("a map has a key that cannot be one")
    return value


class _Items:
    """The items of one map (the protocol `Entries` of the views), found through the table of their column."""

    __slots__ = ("_keys", "_values", "find", "key", "numbers", "value")

    def __init__(self, keys: Column, values: Column, numbers: range, find: Callable[[Any], int] | None) -> None:
        self._keys = keys
        self._values = values
        self.numbers = numbers
        self.key = _key_getter(keys)
        self.value = values.getter()
        self.find = find or _Few(dict(zip(self.plain_keys(), numbers, strict=True)))

    def plain_keys(self) -> list[Any]:
        """Return the keys as plain objects."""
        return [as_key(key) for key in self._keys.plain(self.numbers.start, self.numbers.stop)]

    def plain(self) -> dict[Any, Any]:
        """Return all items as plain objects."""
        values = self._values.plain(self.numbers.start, self.numbers.stop)
        return dict(zip(self.plain_keys(), values, strict=True))


class _Few:
    """Finds the keys of a small map."""

    __slots__ = ("_numbers",)

    def __init__(self, numbers: dict[Any, int]) -> None:
        self._numbers = numbers

    def __call__(self, key: Any) -> int:
        return self._numbers.get(key, -1)


class Maps(Column):
    """Maps."""

    __slots__ = ("_both", "_ends", "_find")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._ends = self.words_at(header.words[0], header.n + 1)
        self._both: tuple[Column, Column] | None = None
        self._find: Callable[[Any], int] | None = None

    def _columns(self) -> tuple[Column, Column]:
        """Return the columns of keys and values; not opened before they are needed, see `Mix`."""
        if self._both is None:
            _, keys, values, table, *_ = self.header.words
            count = self._ends[self.header.n]
            both = self.open(keys, count), self.open(values, count)
            if table:
                self._find = self._finder(both[0])
            self._both = both
        return self._both

    def _table(self, keys: Column) -> Table:
        """Return the hash table."""
        *_, at, buckets, _ = self.header.words
        if self.header.n != 1 or not buckets:
            raise damaged(f"a hash table of {buckets} buckets for {self.header.n} maps")
        both = part(self.archive, self.header, at, LINK * (buckets + keys.header.n)).cast("I")
        return Table(buckets, both[:buckets], both[buckets:])

    def _finder(self, keys: Column) -> Callable[[Any], int]:
        table = self._table(keys)
        if isinstance(keys, Numbers) and keys.header.kind in {INT, UINT}:
            return NumberFinder(table, keys.view).find
        if isinstance(keys, Texts):
            return TextFinder(table, keys).find
        return Finder(table, _key_getter(keys)).find

    def _items(self, number: int) -> _Items:
        keys, values = self._columns()
        start, stop = self._ends[number], self._ends[number + 1]
        if not start <= stop <= keys.header.n or (self._find is None and stop - start > SMALL):
            raise damaged(f"a map from {start} to {stop}")
        return _Items(keys, values, range(start, stop), self._find)

    def get(self, number: int) -> ArchivedMap:
        """Return an element."""
        return ArchivedMap(self._items(number))

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        return [self._items(number).plain() for number in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Look at every item, and look up every key."""
        super().check(seen)
        for column in self._columns():
            column.check(seen)
        if self._find is not None:
            _, heads, links = self._table(self._columns()[0])
            if max(heads) > len(links) or any(link > item for item, link in enumerate(links)):
                raise damaged("a hash table leads beyond its map, or in circles")
        at = 0
        for number in range(self.header.n):
            items = self._items(number)
            if items.numbers.start != at:
                raise damaged(f"a map begins at {items.numbers.start} instead of {at}")
            at = items.numbers.stop
            if any(items.find(items.key(item)) != item for item in items.numbers if not _is_nan(items.key(item))):
                raise damaged("a map does not find its own keys")


def _is_nan(key: Any) -> bool:
    """Tell whether a key differs from itself, so that nobody can find it."""
    return any(map(_is_nan, key)) if isinstance(key, tuple) else bool(key != key)  # noqa: PLR0124


class _Record:
    """The items of one record (the protocol `Entries` of the views)."""

    __slots__ = ("_fields", "_number", "find", "key", "numbers")

    def __init__(self, fields: Records, number: int) -> None:
        self._fields = fields
        self._number = number
        self.numbers = fields.numbers
        self.key = fields.keys.__getitem__
        self.find = fields.find

    def value(self, field: int) -> Any:
        """Return the value of a field."""
        return self._fields.field(field).get(self._number)

    def plain(self) -> dict[Any, Any]:
        """Return all items as plain objects."""
        return self._fields.plain(self._number, self._number + 1)[0]  # type: ignore[no-any-return]


class Records(Column):
    """Maps with the same keys.

    Attributes:
        keys: of each of them.
        numbers: of the fields.
        find: returns the number of a key's field, or -1.
    """

    __slots__ = ("_columns", "_fields", "_keys", "find", "keys", "numbers")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        keys, fields = header.words[:2]
        self._keys = self.open(keys)
        count = self._keys.header.n
        if not 1 <= count <= SMALL:
            raise damaged(f"records of {count} fields")
        self._fields = part(archive, header, fields, ITEM * count).cast("Q")
        self._columns: dict[int, Column] = {}
        self.keys = [as_key(key) for key in self._keys.plain(0, count)]
        self.numbers = range(count)
        self.find = _Few(dict(zip(self.keys, self.numbers, strict=True)))

    def field(self, number: int) -> Column:
        """Return the column of a field."""
        column = self._columns.get(number)
        if column is None:
            column = self._columns[number] = self.open(self._fields[number], self.header.n)
        return column

    def get(self, number: int) -> ArchivedMap:
        """Return an element."""
        return ArchivedMap(_Record(self, number))

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        fields = (self.field(number).plain(start, stop) for number in self.numbers)
        return [dict(zip(self.keys, values, strict=True)) for values in zip(*fields, strict=True)]

    def check(self, seen: set[int]) -> None:
        """Look at every field."""
        super().check(seen)
        self._keys.check(seen)
        if any(self.find(key) != number for number, key in enumerate(self.keys) if not _is_nan(key)):
            raise damaged("a record has a key twice")
        for number in self.numbers:
            self.field(number).check(seen)


KINDS |= {MAP: Maps, RECORDS: Records}
