"""Columns of lists and arrays, dense unions and chunked columns. See `_format` for format and terms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs._schema import Recipe
from shmsync.codecs.archive._columns import COLUMN_TYPES, Column, Numbers
from shmsync.codecs.archive._format import ARRAY, CHUNKED, DENSE_UNION, LIST, WORD, Header, buffer_at, damaged
from shmsync.codecs.archive._views import ArchivedList

if TYPE_CHECKING:
    from collections.abc import Callable


class Lists(Column):
    """A column of lists; lists of numbers are returned as vectors."""

    __slots__ = ("_child", "_list_size", "_offsets", "_vector")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        offsets, self._list_size, _ = header.words[:3]
        if not offsets and not self._list_size:
            raise damaged("a list column has neither offsets nor a list size")
        self._offsets = self.u64_buffer(offsets, header.n + 1) if offsets else None
        self._child: Column | None = None
        self._vector: Any = None

    def child(self) -> Column:
        """Return the column of the elements of all lists."""
        if self._child is None:
            count = self._offsets[self.header.n] if self._offsets is not None else self._list_size * self.header.n
            child = self.open(self.header.words[2], count)
            self._vector = child.vector() if isinstance(child, Numbers) else None
            self._child = child
        return self._child

    def get(self, index: int) -> Any:
        """Return an element."""
        child = self.child()
        start, stop = self.span(index)
        return ArchivedList(child, range(start, stop)) if self._vector is None else self._vector[start:stop]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""
        self.child()
        if self._offsets is None and _numpy.is_array(self._vector):
            return self._vector.reshape(-1, self._list_size).__getitem__  # type: ignore[no-any-return]
        return self.get

    def value_recipe(self) -> Recipe | None:
        """Return how to get the only list from another archive."""
        if self.header.n != 1 or self._child is None:
            return None
        child, offsets = self._child.recipe(), self.header.words[0]
        limits = (offsets, offsets + 2 * WORD if offsets else 0)
        make = partial(_list_in, child.make, range(*self.span(0)))
        if self._vector is not None:
            # Without NumPy it is a memoryview, which the caller may release: `Decoder` has to know it.
            make = partial(_vector_in, child.make, slice(*self.span(0)))
            if not _numpy.is_array(self._vector):
                return None
        return Recipe((self.header.span, limits, *child.spans), make)

    def span(self, index: int) -> tuple[int, int]:
        """Return the range of a list in the child column, as start and stop."""
        if self._offsets is None:
            return self._list_size * index, self._list_size * (index + 1)
        start, stop = self._offsets[index], self._offsets[index + 1]
        if not start <= stop <= self._offsets[self.header.n]:
            raise damaged(f"a list spans elements {start} to {stop} of {self._offsets[self.header.n]}")
        return start, stop

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        spans = [self.span(index) for index in range(start, stop)]
        if not spans:
            return []
        first = min(begin for begin, _ in spans)
        items = self.child().plain(first, max(end for _, end in spans))
        return [items[begin - first : end - first] for begin, end in spans]

    def check(self, seen: set[int]) -> None:
        """Validate every list, and the child column."""
        super().check(seen)
        child = self.child()
        expected = 0
        for index in range(self.header.n):
            start, stop = self.span(index)
            if start != expected:
                raise damaged(f"a list starts at element {start} instead of {expected}")
            expected = stop
        child.check(seen)


def _list_in(open_child: Callable[[memoryview], Column], indices: range, archive: memoryview) -> ArchivedList:
    return ArchivedList(open_child(archive), indices)


def _vector_in(open_child: Callable[[memoryview], Numbers], indices: slice, archive: memoryview) -> Any:
    return open_child(archive).vector()[indices]


class Arrays(Column):
    """A column of arrays of one dtype and shape."""

    __slots__ = ("_rows",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._rows: Any = None

    def rows(self) -> Any:
        """Return all elements as one array, stacked along the first axis."""
        if self._rows is None:
            n = self.header.n
            dtype, length, shape, dimensions, data, size = self.header.words
            text = str(bytes(buffer_at(self.archive, self.header, dtype, length)), "ascii", "replace")
            item_size, *lengths = self.u64_buffer(shape, dimensions + 1).tolist()
            if size == 0 and n != 1:
                raise damaged(f"{n} arrays have no bytes")
            view = buffer_at(self.archive, self.header, data, size * n)
            self._rows = _numpy.array_from_buffer(view, text, item_size, "C", (n, *lengths))
        return self._rows

    def get(self, index: int) -> Any:
        """Return an element: always an array, even if it is zero-dimensional."""
        return self.rows()[index, ...]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""
        rows = self.rows() if self._rows is None else self._rows
        return self.get if rows.ndim == 1 else rows.__getitem__

    def recipe(self) -> Recipe:
        """Return how to open this column in another archive."""
        rows = self._rows
        if rows is None or not rows.nbytes:
            return super().recipe()
        dtype, length, shape, dimensions, data, _ = self.header.words
        spans = self.header.span, (dtype, dtype + length), (shape, shape + WORD * (dimensions + 1))
        content = slice(data, data + rows.nbytes)
        from_buffer = _numpy.require_numpy().frombuffer
        return Recipe(spans, partial(_arrays, self.header, content, from_buffer, rows.dtype, rows.shape))

    def value_recipe(self) -> Recipe | None:
        """Return how to get the only array from another archive."""
        if self.header.n != 1:
            return None
        spans, make = self.recipe()
        return Recipe(spans, partial(_array_in, make))

    def check(self, seen: set[int]) -> None:
        """Validate dtype, shape and size."""
        super().check(seen)
        self.rows()

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return copies of a range of elements."""
        return [self.get(index).copy() for index in range(start, stop)]


def _arrays(
    header: Header, content: slice, from_buffer: Any, dtype: Any, shape: tuple[int, ...], archive: memoryview
) -> Arrays:
    column = Arrays.__new__(Arrays)
    column.archive = archive
    column.header = header
    column._rows = from_buffer(archive[content], dtype).reshape(shape)
    return column


def _array_in(open_column: Callable[[memoryview], Arrays], archive: memoryview) -> Any:
    return open_column(archive).rows()[0, ...]


class DenseUnion(Column):
    """A column of elements of several kinds: each is in one of its children."""

    __slots__ = ("_child_offsets", "_children", "_type_ids", "_value_offsets")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        type_ids, value_offsets, children, count = header.words[:4]
        self._type_ids = buffer_at(archive, header, type_ids, header.n)
        self._value_offsets = self.u64_buffer(value_offsets, header.n)
        self._child_offsets = self.u64_buffer(children, count)
        self._children: dict[int, Column] = {}

    def _child(self, type_id: int) -> Column:
        """Return a child. Opened on first access: opening all children of a damaged archive could be exponential."""
        child = self._children.get(type_id)
        if child is None:
            if type_id >= len(self._child_offsets):
                raise damaged(f"a union of {len(self._child_offsets)} children has the type id {type_id}")
            child = self._children[type_id] = self.open(self._child_offsets[type_id])
        return child

    def _child_of(self, index: int) -> tuple[Column, int]:
        child, offset = self._child(self._type_ids[index]), self._value_offsets[index]
        if offset >= child.header.n:
            raise damaged(f"a union has the value offset {offset} in a child of {child.header.n} elements")
        return child, offset

    def get(self, index: int) -> Any:
        """Return an element."""
        child, offset = self._child_of(index)
        return child.get(offset)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        result = []
        for index in range(start, stop):
            child, offset = self._child_of(index)
            result += child.plain(offset, offset + 1)
        return result

    def check(self, seen: set[int]) -> None:
        """Validate every element."""
        super().check(seen)
        for index in range(self.header.n):
            self._child_of(index)
        children = [self._child(type_id) for type_id in range(len(self._child_offsets))]
        if sum(child.header.n for child in children) != self.header.n:
            raise damaged(f"a union of {self.header.n} elements has children of another total length")
        for child in children:
            child.check(seen)


class Chunked(Column):
    """A column of elements that each have a column of their own."""

    __slots__ = ("_chunks",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._chunks = self.u64_buffer(header.words[0], header.n)

    def get(self, index: int) -> Any:
        """Return an element."""
        return self.open(self._chunks[index], 1).get(0)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        return [self.open(offset, 1).plain(0, 1)[0] for offset in self._chunks[start:stop]]

    def check(self, seen: set[int]) -> None:
        """Validate every element."""
        super().check(seen)
        for offset in self._chunks:
            self.open(offset, 1).check(seen)


COLUMN_TYPES |= {LIST: Lists, ARRAY: Arrays, DENSE_UNION: DenseUnion, CHUNKED: Chunked}
