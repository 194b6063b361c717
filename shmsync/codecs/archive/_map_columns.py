"""Columns of maps and structs. See `_format` for format and terms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync.codecs._schema import Recipe
from shmsync.codecs.archive._binary_columns import BinaryViews, VarBinary
from shmsync.codecs.archive._columns import COLUMN_TYPES, Column, Numbers, as_key
from shmsync.codecs.archive._format import (
    BYTES_VIEW,
    INT,
    LINK_SIZE,
    MAP,
    MAX_UNHASHED,
    N_AT,
    STR_VIEW,
    STRUCT,
    UINT,
    WORD,
    buffer_at,
    damaged,
)
from shmsync.codecs.archive._hash_index import BinaryKeyIndex, BinaryViewIndex, IntegerKeyIndex, KeyIndex
from shmsync.codecs.archive._nested_columns import Arrays
from shmsync.codecs.archive._views import ArchivedMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs.archive._format import Header


class _MapEntries:
    """The entries of one map; implements the protocol `Entries` of `_views`."""

    __slots__ = ("_keys", "_values", "find", "indices", "value")

    def __init__(self, keys: Column, values: Column, indices: range, find: Callable[[Any], int] | None) -> None:
        self._keys = keys
        self._values = values
        self.indices = indices
        self.value = values.getter()
        self.find = find or _SmallKeyIndex(dict(zip(self.plain_keys(), indices, strict=True)))

    @property
    def values_column(self) -> Column:
        """The column of the values."""
        return self._values

    @property
    def key(self) -> Callable[[int], Any]:
        """A function that returns the key of an entry."""
        return self._keys.key_getter()

    def plain_keys(self) -> list[Any]:
        """Return the keys as plain objects."""
        return [as_key(key) for key in self._keys.plain(self.indices.start, self.indices.stop)]

    def plain(self) -> dict[Any, Any]:
        """Return all entries as plain objects."""
        values = self._values.plain(self.indices.start, self.indices.stop)
        return dict(zip(self.plain_keys(), values, strict=True))


class _SmallKeyIndex:
    """Looks up keys in a map without a hash table."""

    __slots__ = ("_indices",)

    def __init__(self, indices: dict[Any, int]) -> None:
        self._indices = indices

    def __call__(self, key: Any) -> int:
        return self._indices.get(key, -1)


_SIZE_OF_KEY = {INT: WORD, UINT: WORD, STR_VIEW: 2 * WORD, BYTES_VIEW: 2 * WORD}
"""Kinds of the keys of maps with a capacity, and the size of a key or of its span in bytes."""


class Room(NamedTuple):
    """A map with a capacity, with the room for further entries.

    Attributes:
        key_column: its keys.
        value_column: its values.
        keys: the bytes of the keys, or of their spans.
        key_data: the bytes that the spans refer to.
        rows: the bytes of the values.
        table: the bytes of the hash table.
        buckets: number of buckets.
        capacity: how many entries there is room for.
    """

    key_column: Column
    value_column: Numbers | Arrays
    keys: memoryview
    key_data: memoryview
    rows: memoryview
    table: memoryview
    buckets: int
    capacity: int


class Maps(Column):
    """A column of maps."""

    __slots__ = ("_children", "_find", "_offsets")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._offsets = self.u64_buffer(header.words[0], header.n + 1)
        self._children: tuple[Column, Column] | None = None
        self._find: Callable[[Any], int] | None = None

    def _columns(self) -> tuple[Column, Column]:
        """Return the columns of keys and values. Opened on first access, see `DenseUnion`."""
        if self._children is None:
            _, keys, values, table, _, capacity = self.header.words
            count = self._offsets[self.header.n]
            if capacity:
                self._check_capacity(count)
            children = self.open(keys, count), self.open(values, count)
            if table:
                self._find = _index_type(children[0])(*self._table(children[0]), children[0]).find
            self._children = children
        return self._children

    def _check_capacity(self, count: int) -> None:
        *_, table, _, capacity = self.header.words
        if count > capacity or self.header.n != 1 or not table:
            raise damaged(f"a map with room for {capacity} entries has {count} entries in {self.header.n} maps")

    def room(self) -> Room:
        """Return what a map with a capacity consists of, with the room for further entries.

        Raises:
            EntityReadError: it is damaged: the room is not there, or keys or values are of another kind.
        """
        keys, values = self._columns()
        _, _, _, table, buckets, capacity = self.header.words
        key_size = _SIZE_OF_KEY.get(keys.header.kind)
        if not buckets or not isinstance(values, (Numbers, Arrays)) or key_size is None:
            raise damaged(
                f"a map with room for {capacity} entries has {buckets} buckets, or keys or values of a wrong kind"
            )
        at, size = (values.header.words[0], WORD) if isinstance(values, Numbers) else values.header.words[4:6]
        return Room(
            keys,
            values,
            buffer_at(self.archive, keys.header, keys.header.words[0], key_size * capacity),
            self._key_data(keys),
            buffer_at(self.archive, values.header, at, size * capacity),
            buffer_at(self.archive, self.header, table, table_size(buckets, capacity)),
            buckets,
            capacity,
        )

    def _key_data(self, keys: Column) -> memoryview:
        _, data, size, room, *_ = keys.header.words
        if not isinstance(keys, BinaryViews):
            return memoryview(b"")
        if size > room:
            raise damaged(f"keys have {size} bytes in a room of {room}")
        return buffer_at(self.archive, keys.header, data, room)

    def count_spans(self) -> tuple[int, int, int]:
        """Return the offsets of the words that contain the number of entries of a map with a capacity."""
        offsets, keys, values, *_ = self.header.words
        return offsets + WORD, keys + N_AT, values + N_AT

    def _table(self, keys: Column) -> tuple[int, memoryview]:
        """Return the hash table: the number of buckets, and the heads and links."""
        *_, offset, buckets, _ = self.header.words
        if self.header.n != 1 or not buckets:
            raise damaged(f"a column of {self.header.n} maps has a hash table of {buckets} buckets")
        return buckets, buffer_at(self.archive, self.header, offset, table_size(buckets, keys.header.n)).cast("I")

    def value_recipe(self) -> Recipe | None:
        """Return how to get the only map from another archive."""
        if self.header.n != 1 or self._children is None:
            return None
        keys, values = self._children
        open_keys, open_values = keys.recipe(), values.recipe()
        offsets, _, _, table, buckets, _ = self.header.words
        spans = (self.header.span, (offsets, offsets + 2 * WORD), *open_keys.spans, *open_values.spans)
        entries = self._entries(0)
        if table:
            words = slice(table, table + table_size(buckets, keys.header.n))
            index = _index_type(keys), buckets, words
            return Recipe(spans, partial(_large_map, entries.indices, open_keys.make, open_values.make, *index))
        find = None
        if isinstance(keys, (Numbers, VarBinary)):  # other keys are decoded each time
            spans += keys.content()
            find = entries.find
        return Recipe(spans, partial(_small_map, entries.indices, open_keys.make, open_values.make, find))

    def _entries(self, index: int) -> _MapEntries:
        keys, values = self._columns()
        start, stop = self._offsets[index], self._offsets[index + 1]
        if not start <= stop <= keys.header.n or (self._find is None and stop - start > MAX_UNHASHED):
            raise damaged(f"a map spans entries {start} to {stop} of {keys.header.n}")
        return _MapEntries(keys, values, range(start, stop), self._find)

    def get(self, index: int) -> Any:
        """Return an element: an ArchivedMap; in an update, what `Header.open_map` returns if there is a capacity."""
        if self.header.open_map is not None and self.header.words[5]:
            return self.header.open_map(self)
        return ArchivedMap(self._entries(index))

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects; in an update, those with a capacity as `get` does."""
        if self.header.open_map is not None and self.header.words[5]:
            return [self.get(index) for index in range(start, stop)]
        return [self._entries(index).plain() for index in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Validate every entry, and look up every key."""
        super().check(seen)
        for column in self._columns():
            column.check(seen)
        if self.header.words[5]:
            self.room()
        if self._find is not None:
            buckets, table = self._table(self._columns()[0])
            heads, links = table[:buckets], table[buckets:]
            if max(heads) > len(links) or any(link > entry for entry, link in enumerate(links)):
                raise damaged("a hash table has a link beyond its map, or a cycle")
        expected = 0
        for index in range(self.header.n):
            entries = self._entries(index)
            if entries.indices.start != expected:
                raise damaged(f"a map starts at entry {entries.indices.start} instead of {expected}")
            expected = entries.indices.stop
            key_of = entries.key
            lookups = ((key_of(entry), entry) for entry in entries.indices)
            if any(entries.find(key) != entry for key, entry in lookups if not _is_nan(key)):
                raise damaged("a key is not in the hash table of its map")


def table_size(buckets: int, entries: int) -> int:
    """Return the size of a hash table in bytes."""
    return LINK_SIZE * (buckets + entries)


def _index_type(keys: Column) -> Any:
    """Return the class that looks up keys of this column."""
    if isinstance(keys, BinaryViews):
        return BinaryViewIndex
    if isinstance(keys, VarBinary):
        return BinaryKeyIndex
    return IntegerKeyIndex if keys.header.kind in {INT, UINT} else KeyIndex


def _large_map(
    indices: range,
    open_keys: Callable[[memoryview], Column],
    open_values: Callable[[memoryview], Column],
    index_type: Any,
    buckets: int,
    table: slice,
    archive: memoryview,
) -> ArchivedMap:
    keys = open_keys(archive)
    find = index_type(buckets, archive[table].cast("I"), keys).find
    return ArchivedMap(_MapEntries(keys, open_values(archive), indices, find))


def _small_map(
    indices: range,
    open_keys: Callable[[memoryview], Column],
    open_values: Callable[[memoryview], Column],
    find: Callable[[Any], int] | None,
    archive: memoryview,
) -> ArchivedMap:
    return ArchivedMap(_MapEntries(open_keys(archive), open_values(archive), indices, find))


def _is_nan(key: Any) -> bool:
    """Return whether a key is or contains NaN, which cannot be looked up."""
    return any(map(_is_nan, key)) if isinstance(key, tuple) else bool(key != key)  # noqa: PLR0124


class _StructEntries:
    """The entries of one struct; implements the protocol `Entries` of `_views`."""

    __slots__ = ("_fields", "_index", "find", "indices", "key")

    def __init__(self, fields: Structs, index: int) -> None:
        self._fields = fields
        self._index = index
        self.indices = fields.indices
        self.key = fields.keys.__getitem__
        self.find = fields.find

    def value(self, field: int) -> Any:
        """Return the value of a field."""
        return self._fields.field(field).get(self._index)

    def plain(self) -> dict[Any, Any]:
        """Return all entries as plain objects."""
        return self._fields.plain(self._index, self._index + 1)[0]  # type: ignore[no-any-return]


class Structs(Column):
    """A column of maps with the same keys, with one child column for each key.

    Attributes:
        keys: the keys of each map.
        indices: the indices of the fields.
        find: returns the index of the field of a key, or -1.
    """

    __slots__ = ("_columns", "_fields", "_keys", "find", "indices", "keys")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        keys, fields = header.words[:2]
        self._keys = self.open(keys)
        count = self._keys.header.n
        if not 1 <= count <= MAX_UNHASHED:
            raise damaged(f"a struct has {count} fields instead of 1 to {MAX_UNHASHED}")
        self._fields = buffer_at(archive, header, fields, WORD * count).cast("Q")
        self._columns: dict[int, Column] = {}
        self.keys = [as_key(key) for key in self._keys.plain(0, count)]
        self.indices = range(count)
        self.find = _SmallKeyIndex(dict(zip(self.keys, self.indices, strict=True)))

    def field(self, index: int) -> Column:
        """Return the column of a field."""
        column = self._columns.get(index)
        if column is None:
            column = self._columns[index] = self.open(self._fields[index], self.header.n)
        return column

    def get(self, index: int) -> ArchivedMap:
        """Return an element."""
        return ArchivedMap(_StructEntries(self, index))

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        fields = (self.field(index).plain(start, stop) for index in self.indices)
        return [dict(zip(self.keys, values, strict=True)) for values in zip(*fields, strict=True)]

    def check(self, seen: set[int]) -> None:
        """Validate every field."""
        super().check(seen)
        self._keys.check(seen)
        if any(self.find(key) != index for index, key in enumerate(self.keys) if not _is_nan(key)):
            raise damaged("a struct has a key twice")
        for index in self.indices:
            self.field(index).check(seen)


COLUMN_TYPES |= {MAP: Maps, STRUCT: Structs}
