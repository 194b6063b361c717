"""Columns as a reader sees them: opened in place, element by element. Format and names: see `_format`.

Opening one looks at its header only. A list opens the column of its elements when the first of them is touched, and
so on; each then holds what it opened, so nothing is opened twice, and nothing refers back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    ITEM,
    LARGE,
    NULL,
    NUMBERS,
    STR,
    UINT,
    Header,
    damaged,
    header_at,
    part,
)

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: dict[int, type[Column]] = {}
_WORD: Any = "Q"
_FORMATS: dict[int, Any] = NUMBERS
_DTYPES = {INT: "i8", UINT: "u8", FLOAT: "f8"}


class Column:
    """One column.

    Attributes:
        header: where it is, its kind, and how many elements it has.
    """

    # None of them may refer to itself, as with a bound method: a value has to go with its last reference.
    __slots__ = ("archive", "header")

    def __init__(self, archive: memoryview, header: Header) -> None:
        self.archive = archive
        self.header = header

    def get(self, number: int) -> Any:
        """Return an element; the caller knows that there is one."""
        raise NotImplementedError

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""
        return self.get

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects, which do not refer to the archive."""
        return [self.get(number) for number in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Look at everything that opening does not look at.

        Args:
            seen: offsets of the columns that were looked at.

        Raises:
            EntityReadError: something is wrong.
        """
        if self.header.at in seen:
            raise damaged(f"the column at {self.header.at} is referred to twice")
        seen.add(self.header.at)

    def words_at(self, at: int, count: int) -> memoryview:
        """Return a part that is `count` u64."""
        return part(self.archive, self.header, at, ITEM * count).cast(_WORD)

    def open(self, at: int, count: int | None = None) -> Column:
        """Return the column at an offset before this one; it has `count` elements."""
        column = open_column(self.archive, header_at(self.archive, at, self.header.at))
        if count is not None and column.header.n != count:
            raise damaged(f"the column at {at} has {column.header.n} elements instead of {count}")
        return column


def open_column(archive: memoryview, header: Header) -> Column:
    """Return the column that has this header.

    Raises:
        EntityReadError: it is damaged.
    """
    kind = KINDS.get(header.kind)
    if kind is None:
        raise damaged(f"there is no kind {header.kind} of columns")
    return kind(archive, header)


class Nulls(Column):
    """None, n times."""

    __slots__ = ()

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        part(archive, header, header.words[0], header.n)

    def get(self, _: int) -> None:
        """Return None."""


class Bools(Column):
    """True and False."""

    __slots__ = ("_view",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        self._view = part(archive, header, header.words[0], header.n)

    def get(self, number: int) -> bool:
        """Return an element."""
        return self._view[number] != 0


class Numbers(Column):
    """Ints or floats."""

    __slots__ = ("view",)

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        view = part(archive, header, header.words[0], ITEM * header.n)
        self.view: Any = view.cast(_FORMATS[header.kind])

    def get(self, number: int) -> Any:
        """Return an element."""
        return self.view[number]

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""
        return self.view.__getitem__  # type: ignore[no-any-return]

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        return self.view[start:stop].tolist()  # type: ignore[no-any-return]

    def vector(self) -> Any:
        """Return all elements as an array in place, or as a memoryview if NumPy is not installed."""
        numpy = _numpy.numpy_if_installed()
        if numpy is None:
            return self.view
        dtype = _DTYPES[self.header.kind]
        return numpy.frombuffer(self.view, dtype) if self.header.n else numpy.empty(0, dtype)


class Texts(Column):
    """Strings or bytes.

    Attributes:
        kind: which of them.
        ends: where each begins and ends in `data`; None if all have the same length.
        length: that length.
    """

    __slots__ = ("data", "ends", "kind", "length")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        ends, data, size = header.words[:3]
        self.ends = self.words_at(ends, header.n + 1) if ends else None
        self.data = part(archive, header, data, size)
        self.kind: type[str | bytes] = str if header.kind == STR else bytes
        self.length = size // header.n if header.n else 0
        if not ends and (not size or self.length * header.n != size):
            raise damaged(f"{header.n} texts of the same length in {size} bytes")

    def get(self, number: int) -> Any:
        """Return an element."""
        return self._text(number) if self.kind is str else self._bytes(number)

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest way to `get`."""
        return self._text if self.kind is str else self._bytes

    def _span(self, number: int) -> memoryview:
        if self.ends is None:
            return self.data[self.length * number : self.length * (number + 1)]
        start, end = self.ends[number], self.ends[number + 1]
        if not start <= end <= len(self.data):
            raise damaged(f"a text from {start} to {end} in {len(self.data)} bytes")
        return self.data[start:end]

    def _text(self, number: int) -> str:
        try:
            return str(self._span(number), "utf-8")
        except UnicodeDecodeError as error:
            raise damaged(f"a text is not UTF-8: {error}") from None

    def _bytes(self, number: int) -> bytes | memoryview:
        span = self._span(number)
        return span if len(span) >= LARGE else bytes(span)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return elements as plain objects."""
        if self.kind is str:
            return super().plain(start, stop)
        return [bytes(self._span(number)) for number in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Look at every text."""
        super().check(seen)
        for number in range(self.header.n):
            self.get(number)


KINDS |= {NULL: Nulls, BOOL: Bools, INT: Numbers, UINT: Numbers, FLOAT: Numbers, STR: Texts, BYTES: Texts}
