"""Columns in a reader, decoded in place. Columns of numbers, bools and None are here; see `_format` for the format.

Opening a column only reads its header. A column opens its children on first access and keeps them, so none is opened
twice. Children do not refer to their parents.

`recipe` says how to open a column in the next version, if the bytes that opening has read are the same there: see
`_schema`. A recipe must not refer to its column, and through it to the memory of its version. So the functions that
make columns for recipes are not methods.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs._schema import Recipe
from shmsync.codecs.archive._format import (
    BOOL,
    FLOAT,
    INT,
    NULL,
    NUMBERS,
    UINT,
    WORD,
    Header,
    buffer_at,
    damaged,
    header_at,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._schema import Span

COLUMN_TYPES: dict[int, type[Column]] = {}
_U64: Any = "Q"
_FORMATS: dict[int, Any] = NUMBERS
_DTYPES = {INT: "i8", UINT: "u8", FLOAT: "f8"}


class Column:
    """One column.

    Attributes:
        archive: the archive that contains the column.
        header: header of the column.
    """

    # No column may refer to itself, e.g. through a bound method: memory must be released with the last reference,
    # without waiting for the cyclic garbage collector.
    __slots__ = ("archive", "header")

    def __init__(self, archive: memoryview, header: Header) -> None:
        self.archive = archive
        self.header = header

    def get(self, index: int) -> Any:
        """Return an element. The caller has checked that the index is in range."""
        raise NotImplementedError

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""
        return self.get

    def key_getter(self) -> Callable[[int], Any]:
        """Return a function that returns an element as the key of a map: hashable, and not a view of the archive."""
        return _PlainKeyGetter(self)

    def recipe(self) -> Recipe:
        """Return how to open this column in another archive: here, with the header that is parsed already."""
        return Recipe((self.header.span,), partial(type(self), header=self.header))

    def value_recipe(self) -> Recipe | None:
        """Return how to get element 0 of this column, which is open, from another archive; None if it costs little."""
        return None

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects, which do not refer to the archive."""
        return [self.get(index) for index in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Validate everything that opening the column does not check.

        Args:
            seen: offsets of the columns that have been checked; this one is added.

        Raises:
            EntityReadError: the column or one of its children is damaged.
        """
        if self.header.offset in seen:
            raise damaged(f"the column at {self.header.offset} is referred to twice")
        seen.add(self.header.offset)

    def u64_buffer(self, offset: int, count: int) -> memoryview:
        """Return the buffer of `count` u64 at an offset."""
        return buffer_at(self.archive, self.header, offset, WORD * count).cast(_U64)

    def open(self, offset: int, count: int | None = None) -> Column:
        """Return the child column at an offset.

        Args:
            offset: offset of its header.
            count: how many elements it must have; None for any number.

        Raises:
            EntityReadError: the column is damaged, or has another number of elements.
        """
        header = header_at(self.archive, offset, self.header.offset)
        if self.header.zero_copy_bytes or self.header.open_map is not None:
            header = header._replace(zero_copy_bytes=self.header.zero_copy_bytes, open_map=self.header.open_map)
        column = open_column(self.archive, header)
        if count is not None and column.header.n != count:
            raise damaged(f"the column at {offset} has {column.header.n} elements instead of {count}")
        return column


class _PlainKeyGetter:
    """Returns keys as plain objects."""

    __slots__ = ("_column",)

    def __init__(self, column: Column) -> None:
        self._column = column

    def __call__(self, index: int) -> Any:
        return as_key(self._column.plain(index, index + 1)[0])


def as_key(value: Any) -> Any:
    """Return a decoded key; keys that are lists were written as tuples.

    Raises:
        EntityReadError: a value of this type cannot be a key.
    """
    if isinstance(value, list):
        return tuple(map(as_key, value))
    if isinstance(value, dict) or _numpy.is_array(value):
        raise damaged(f"a map has a key of type {type(value).__name__}")
    return value


def open_column(archive: memoryview, header: Header) -> Column:
    """Return the column with this header.

    Raises:
        EntityReadError: the column is damaged.
    """
    column_type = COLUMN_TYPES.get(header.kind)
    if column_type is None:
        raise damaged(f"the column at {header.offset} has the unknown kind {header.kind}")
    return column_type(archive, header)


class Nulls(Column):
    """A column of None."""

    __slots__ = ()

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        buffer_at(archive, header, header.words[0], header.n)

    def get(self, _: int) -> None:
        """Return None."""

    def key_getter(self) -> Callable[[int], Any]:
        """Return `get`."""
        return self.get


class Bools(Column):
    """A column of bools."""

    __slots__ = ("_view",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._view = buffer_at(archive, header, header.words[0], header.n)

    def get(self, index: int) -> bool:
        """Return an element."""
        return self._view[index] != 0

    def key_getter(self) -> Callable[[int], Any]:
        """Return `get`."""
        return self.get


class Numbers(Column):
    """A column of ints or floats."""

    __slots__ = ("view",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        view = buffer_at(archive, header, header.words[0], WORD * header.n)
        self.view: Any = view.cast(_FORMATS[header.kind])

    def get(self, index: int) -> Any:
        """Return an element."""
        return self.view[index]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""
        return self.view.__getitem__  # type: ignore[no-any-return]

    key_getter = getter

    def content(self) -> tuple[Span, ...]:
        """Return where the elements are."""
        start = self.header.words[0]
        return ((start, start + WORD * self.header.n),)

    def recipe(self) -> Recipe:
        """Return how to open this column in another archive."""
        header = self.header
        data = slice(*self.content()[0])
        return Recipe((header.span,), partial(_numbers, header, data, _FORMATS[header.kind]))

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        return self.view[start:stop].tolist()  # type: ignore[no-any-return]

    def vector(self) -> Any:
        """Return all elements as an array in place; a memoryview if NumPy is not installed."""
        numpy = _numpy.numpy_if_installed()
        if numpy is None:
            return self.view
        dtype = _DTYPES[self.header.kind]
        return numpy.frombuffer(self.view, dtype) if self.header.n else numpy.empty(0, dtype)


def _numbers(header: Header, data: slice, format_: Any, archive: memoryview) -> Numbers:
    column = Numbers.__new__(Numbers)
    column.archive = archive
    column.header = header
    column.view = archive[data].cast(format_)
    return column


COLUMN_TYPES |= {
    NULL: Nulls,
    BOOL: Bools,
    INT: Numbers,
    UINT: Numbers,
    FLOAT: Numbers,
}
