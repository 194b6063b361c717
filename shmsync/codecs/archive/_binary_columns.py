"""Columns of strings and bytes. See `_format` for format and terms."""

from __future__ import annotations

import codecs
from functools import partial
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _blocks
from shmsync.codecs._schema import Recipe
from shmsync.codecs.archive._columns import COLUMN_TYPES, Column
from shmsync.codecs.archive._format import (
    BYTES,
    BYTES_VIEW,
    STR,
    STR_VIEW,
    VIEW_FROM,
    WORD,
    Header,
    buffer_at,
    damaged,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._schema import Span

_U64: Any = "Q"


class VarBinary(Column):
    """A column of strings or bytes.

    Attributes:
        data: the bytes of all elements.
        length: length of each element in bytes, if `offsets` is None.
        offsets: element i is data[offsets[i] : offsets[i + 1]]; None if all elements have the same length.
        type: str or bytes.
    """

    __slots__ = ("data", "length", "offsets", "type")

    def __init__(self, archive: memoryview, header: Header) -> None:
        super().__init__(archive, header)
        offsets, data, size = header.words[:3]
        self.offsets = self.u64_buffer(offsets, header.n + 1) if offsets else None
        self.data = buffer_at(archive, header, data, size)
        self.type: type[str | bytes] = str if header.kind == STR else bytes
        self.length = size // header.n if header.n else 0
        if not offsets and (not size or self.length * header.n != size):
            raise damaged(f"{header.n} values of equal length cannot have {size} bytes")

    def get(self, index: int) -> Any:
        """Return an element."""
        return self._str(index) if self.type is str else self._bytes(index)

    def getter(self) -> Callable[[int], Any]:
        """Return the fastest equivalent of `get`."""
        return self._str if self.type is str else self._bytes

    def key_getter(self) -> Callable[[int], Any]:
        """Return a function that returns an element as the key of a map."""
        return self._str if self.type is str else super().key_getter()

    def content(self) -> tuple[Span, ...]:
        """Return where the elements are."""
        offsets, data, size = self.header.words[:3]
        return (offsets, offsets + WORD * (self.header.n + 1) if offsets else 0), (data, data + size)

    def recipe(self) -> Recipe:
        """Return how to open this column in another archive."""
        offsets, data = (slice(*span) for span in self.content())
        fixed = self.header, self.type, self.length, offsets if self.offsets is not None else None
        return Recipe((self.header.span,), partial(_var_binary, *fixed, data))

    def _span(self, index: int) -> memoryview:
        if self.offsets is None:
            return self.data[self.length * index : self.length * (index + 1)]
        start, end = self.offsets[index], self.offsets[index + 1]
        if not start <= end <= len(self.data):
            raise damaged(f"a value spans bytes {start} to {end} of {len(self.data)}")
        return self.data[start:end]

    def _str(self, index: int) -> str:
        try:
            return str(self._span(index), "utf-8")
        except UnicodeDecodeError as error:
            raise damaged(f"a string is not UTF-8: {error}") from None

    def _bytes(self, index: int) -> bytes | memoryview:
        span = self._span(index)
        return span if self.header.zero_copy_bytes and len(span) >= VIEW_FROM else _blocks.to_bytes(span)

    def plain(self, start: int, stop: int) -> list[Any]:
        """Return a range of elements as plain objects."""
        if self.type is str:
            return super().plain(start, stop)
        return [_blocks.to_bytes(self._span(index)) for index in range(start, stop)]

    def check(self, seen: set[int]) -> None:
        """Validate every value."""
        super().check(seen)
        for index in range(self.header.n):
            span = self._span(index)
            if self.type is str and len(span) > _blocks.BLOCK_SIZE:
                _check_utf8(span)
            elif self.type is str:
                self._str(index)


def _var_binary(
    header: Header, type_: type[str | bytes], length: int, offsets: slice | None, data: slice, archive: memoryview
) -> VarBinary:
    column = VarBinary.__new__(VarBinary)
    column.archive = archive
    column.header = header
    column.offsets = None if offsets is None else archive[offsets].cast(_U64)
    column.data = archive[data]
    column.type = type_
    column.length = length
    return column


class BinaryViews(VarBinary):
    """A column of strings or bytes that are at any place in `data`. `offsets` are the start and end of each."""

    __slots__ = ()

    def __init__(self, archive: memoryview, header: Header) -> None:
        Column.__init__(self, archive, header)
        spans, data, size = header.words[:3]
        self.offsets = self.u64_buffer(spans, 2 * header.n)
        self.data = buffer_at(archive, header, data, size)
        self.type = str if header.kind == STR_VIEW else bytes
        self.length = 0

    def content(self) -> tuple[Span, ...]:
        """Return where the elements are."""
        spans, data, size = self.header.words[:3]
        return (spans, spans + 2 * WORD * self.header.n), (data, data + size)

    def recipe(self) -> Recipe:
        """Return how to open this column in another archive."""
        spans, data = (slice(*span) for span in self.content())
        return Recipe((self.header.span,), partial(_binary_views, self.header, self.type, spans, data))

    def _span(self, index: int) -> memoryview:
        assert self.offsets is not None
        start, end = self.offsets[2 * index], self.offsets[2 * index + 1]
        if not start <= end <= len(self.data):
            raise damaged(f"a value spans bytes {start} to {end} of {len(self.data)}")
        return self.data[start:end]


def _binary_views(
    header: Header, type_: type[str | bytes], spans: slice, data: slice, archive: memoryview
) -> BinaryViews:
    column = BinaryViews.__new__(BinaryViews)
    column.archive = archive
    column.header = header
    column.offsets = archive[spans].cast(_U64)
    column.data = archive[data]
    column.type = type_
    column.length = 0
    return column


def _check_utf8(text: memoryview) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        _blocks.each(text, decoder.decode)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise damaged(f"a string is not UTF-8: {error}") from None


COLUMN_TYPES |= {STR: VarBinary, BYTES: VarBinary, STR_VIEW: BinaryViews, BYTES_VIEW: BinaryViews}
