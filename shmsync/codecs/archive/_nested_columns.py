"""Columns of lists and arrays, and of elements that do not fit into one column, as a reader sees them.

Format and names: see `_format`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._columns import KINDS, Column, Numbers
from shmsync.codecs.archive._format import ARRAY, BOXED, LIST, MIX, Header, damaged, part
from shmsync.codecs.archive._views import ArchivedList

if TYPE_CHECKING:
    from collections.abc import Callable


class Lists(Column):
    """Lists; those of numbers come as vectors."""

    __slots__ = ("_child", "_ends", "_stride", "_vector")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        ends, self._stride, _ = header.words[:3]
        if not ends and not self._stride:
            raise damaged("lists of no length")
        self._ends = self.words_at(ends, header.n + 1) if ends else None
        self._child: Column | None = None
        self._vector: Any = None

    def child(self) -> Column:
        """Return the column of all elements of all lists."""
        if self._child is None:
            count = self._ends[self.header.n] if self._ends is not None else self._stride * self.header.n
            child = self.open(self.header.words[2], count)
            self._vector = child.vector() if isinstance(child, Numbers) else None
            self._child = child
        return self._child

    def get(self, number: int) -> Any:
        """Return an element."""
        child = self.child()
        start, stop = self.span(number)
        return ArchivedList(child, range(start, stop)) if self._vector is None else self._vector[start:stop]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""
        self.child()
        if self._ends is None and _numpy.is_array(self._vector):
            return self._vector.reshape(-1, self._stride).__getitem__  # type: ignore[no-any-return]
        return self.get

    def span(self, number: int) -> tuple[int, int]:
        """Return the number of the first element of a list, and of the first that is not in it any more."""
        if self._ends is None:
            return self._stride * number, self._stride * (number + 1)
        start, stop = self._ends[number], self._ends[number + 1]
        if not start <= stop <= self._ends[self.header.n]:
            raise damaged(f"a list from {start} to {stop}")
        return start, stop

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        spans = [self.span(number) for number in range(start, stop)]
        if not spans:
            return []
        first = min(begin for begin, _ in spans)
        items = self.child().plain(first, max(end for _, end in spans))
        return [items[begin - first : end - first] for begin, end in spans]

    def check(self, seen: set[int]) -> None:
        """Look at every list, and at the elements."""
        super().check(seen)
        child = self.child()
        at = 0
        for number in range(self.header.n):
            start, stop = self.span(number)
            if start != at:
                raise damaged(f"a list begins at {start} instead of {at}")
            at = stop
        child.check(seen)


class Arrays(Column):
    """Arrays of one dtype and shape."""

    __slots__ = ("_rows",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._rows: Any = None

    def rows(self) -> Any:
        """Return all elements, stacked."""
        if self._rows is None:
            n = self.header.n
            dtype, length, shape, dimensions, data, size = self.header.words
            text = str(bytes(part(self.archive, self.header, dtype, length)), "ascii", "replace")
            sides = self.words_at(shape, dimensions).tolist()
            if size == 0 and n != 1:
                raise damaged("arrays of no bytes")
            view = part(self.archive, self.header, data, size * n)
            self._rows = _numpy.array_from_buffer(view, text, "C", (n, *sides))
        return self._rows

    def get(self, number: int) -> Any:
        """Return an element; an array even if it has no dimensions."""
        return self.rows()[number, ...]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""
        rows = self.rows()
        return self.get if rows.ndim == 1 else rows.__getitem__

    def check(self, seen: set[int]) -> None:
        """Look at what the arrays are."""
        super().check(seen)
        self.rows()

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return copies."""
        return [self.get(number).copy() for number in range(start, stop)]


class Mix(Column):
    """Elements of several kinds."""

    __slots__ = ("_children", "_children_at", "_kinds", "_places")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        kinds, places, children, count = header.words[:4]
        self._kinds = part(archive, header, kinds, header.n)
        self._places = self.words_at(places, header.n)
        self._children_at = self.words_at(children, count)
        self._children: dict[int, Column] = {}

    def _child(self, kind: int) -> Column:
        """Return a child; not opened before it is needed, or a damaged archive might open its columns without end."""
        child = self._children.get(kind)
        if child is None:
            if kind >= len(self._children_at):
                raise damaged(f"a mix has no child {kind}")
            child = self._children[kind] = self.open(self._children_at[kind])
        return child

    def _child_of(self, number: int) -> tuple[Column, int]:
        child, place = self._child(self._kinds[number]), self._places[number]
        if place >= child.header.n:
            raise damaged(f"a mix has no element {place} in a child")
        return child, place

    def get(self, number: int) -> Any:
        """Return an element."""
        child, place = self._child_of(number)
        return child.get(place)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        found = []
        for number in range(start, stop):
            child, place = self._child_of(number)
            found += child.plain(place, place + 1)
        return found

    def check(self, seen: set[int]) -> None:
        """Look at every element."""
        super().check(seen)
        for number in range(self.header.n):
            self._child_of(number)
        children = [self._child(kind) for kind in range(len(self._children_at))]
        if sum(child.header.n for child in children) != self.header.n:
            raise damaged("a mix of too many elements")
        for child in children:
            child.check(seen)


class Boxed(Column):
    """Elements with a column each."""

    __slots__ = ("_columns",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._columns = self.words_at(header.words[0], header.n)

    def get(self, number: int) -> Any:
        """Return an element."""
        return self.open(self._columns[number], 1).get(0)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        return [self.open(at, 1).plain(0, 1)[0] for at in self._columns[start:stop]]

    def check(self, seen: set[int]) -> None:
        """Look at every element."""
        super().check(seen)
        for at in self._columns:
            self.open(at, 1).check(seen)


KINDS |= {LIST: Lists, ARRAY: Arrays, MIX: Mix, BOXED: Boxed}
