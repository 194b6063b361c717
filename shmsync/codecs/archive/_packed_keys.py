"""Strings or bytes that are the keys of a large map, packed by array operations: their bytes, and where each begins.

Encoding, measuring and hashing each of a million keys by itself takes most of the time of writing a map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive import _xxh3
from shmsync.codecs.archive._format import BYTES, STR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACK_FROM = 500
"""With fewer keys, a loop in Python is faster than starting array operations."""

_BLOCK = 16384
"""How many keys are packed at once: signals are handled, and other threads run, between blocks."""
_BLOCK_SIZE = 4 * 1024 * 1024
"""How many bytes of an array of strings are packed at once."""
_WIDEST = 256
"""Strings of variable width become fixed ones if none in their block is longer: one of a megabyte would widen all."""
_SEPARATOR = "\0"
_UTF8_SIZES = 0x80, 0x800, 0x10000
"""A code point takes one byte, and one more from each of these on."""


class _OtherTypeError(Exception):
    """Some keys are not of the type of the first one."""


class PackedKeys:
    """Keys of one type.

    Args:
        kind: STR or BYTES.
        parts: for each block of keys, their bytes, and their lengths in bytes (an array of int64).

    Attributes:
        kind: STR or BYTES.
        data: the bytes of all keys.
        offsets: key i is data[offsets[i] : offsets[i + 1]]; an array of int64.
    """

    __slots__ = ("_hashed", "data", "kind", "offsets")

    def __init__(self, kind: int, parts: Iterator[tuple[Any, Any]]) -> None:
        numpy = _numpy.require_numpy()
        self.kind = kind
        self.data = bytearray()
        lengths = []
        for content, length in parts:
            self.data.extend(content)
            lengths.append(length)
        self.offsets = numpy.concatenate(([0], *lengths), dtype=numpy.int64)
        numpy.cumsum(self.offsets, out=self.offsets)
        self._hashed: tuple[int, Any] = -1, None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def are_of_equal_length(self) -> bool:
        """Return whether all keys have the same length, and are not empty."""
        end = self.offsets[1]
        return bool(end) and bool((self.offsets[1:] - self.offsets[:-1] == end).all())

    def hashes(self, seed: int) -> Any:
        """Return the xxh3-64 of each key. The last result is remembered."""
        if self._hashed[0] != seed:
            numpy = _numpy.require_numpy()
            data = numpy.frombuffer(self.data, numpy.uint8)
            self._hashed = seed, _xxh3.hashes(numpy, data, self.offsets, seed)
        return self._hashed[1]

    def are_distinct(self, seed: int) -> bool:
        """Return whether all hashes are distinct, and therefore all keys."""
        ordered = _numpy.require_numpy().sort(self.hashes(seed))
        return not (ordered[1:] == ordered[:-1]).any()


def packed(keys: Any) -> PackedKeys | None:
    """Return strings or bytes in packed form; None for other keys, or if some need a closer look.

    Args:
        keys: a list, or a one-dimensional array of a dtype that `is_packable` accepts.
    """
    numpy = _numpy.numpy_if_installed() if len(keys) >= PACK_FROM else None
    if numpy is None or not len(keys):
        return None
    try:
        if not isinstance(keys, list):
            rows = min(_BLOCK, max(1, _BLOCK_SIZE // max(1, keys.dtype.itemsize)))
            parts = (_part_of_array(numpy, each) for each in _blocks_of(keys, rows))
            return PackedKeys(BYTES if keys.dtype.kind == "S" else STR, parts)
        kind = STR if type(keys[0]) is str else BYTES
        part_of = _part_of_texts if kind == STR else _part_of_bytes
        return PackedKeys(kind, (part_of(numpy, each) for each in _blocks_of(keys, _BLOCK)))
    except (_OtherTypeError, UnicodeError):  # surrogates: the caller finds out which key has them
        return None


def is_packable(dtype: Any) -> bool:
    """Return whether the items of a dtype are strings or bytes, of fixed or variable width."""
    # A missing value, which `na_object` stands for, is not a string.
    return dtype.kind in "US" or (dtype.kind == "T" and not hasattr(dtype, "na_object"))


def _blocks_of(keys: Any, count: int) -> Iterator[Any]:
    for start in range(0, len(keys), count):
        yield keys[start : start + count]


def _lengths(numpy: Any, keys: Sequence[Any]) -> Any:
    return numpy.fromiter(map(len, keys), numpy.int64, len(keys))


def _check_types(keys: list[Any], type_: type) -> None:
    if set(map(type, keys)) != {type_}:
        raise _OtherTypeError


def _part_of_bytes(numpy: Any, keys: list[bytes]) -> tuple[Any, Any]:
    _check_types(keys, bytes)
    return b"".join(keys), _lengths(numpy, keys)


def _part_of_texts(numpy: Any, texts: list[str]) -> tuple[Any, Any]:
    """Return strings in UTF-8, and the length of each, found by the separators between them."""
    _check_types(texts, str)
    joined = _SEPARATOR.join([*texts, ""]).encode()
    codes = numpy.frombuffer(joined, numpy.uint8)
    ends = numpy.flatnonzero(codes == 0)
    if len(ends) > len(texts):  # some contain the separator
        encoded = [text.encode() for text in texts]
        return b"".join(encoded), _lengths(numpy, encoded)
    lengths = numpy.diff(ends, prepend=-1) - 1
    return joined.replace(_SEPARATOR.encode(), b""), lengths


def _part_of_array(numpy: Any, block: Any) -> tuple[Any, Any]:
    if block.dtype.kind == "T":
        # A mark at the end of each, because strings of fixed width cannot end with a zero.
        marked = numpy.strings.add(block, "|")
        width = numpy.strings.str_len(marked).max()
        if width > _WIDEST:
            return _part_of_texts(numpy, block.tolist())
        codes = _codes(numpy, marked.astype(f"U{width}"), numpy.uint32)
        lengths = _lengths_of_rows(numpy, codes) - 1
    else:
        codes = _codes(numpy, block, numpy.uint8 if block.dtype.kind == "S" else numpy.uint32)
        lengths = _lengths_of_rows(numpy, codes)
    width = codes.shape[1]
    flat = codes.ravel() if (lengths == width).all() else codes[numpy.arange(width) < lengths[:, None]]
    return (flat, lengths) if codes.itemsize == 1 else _utf8(numpy, flat, lengths)


def _codes(numpy: Any, strings: Any, dtype: Any) -> Any:
    """Return the code points of strings of fixed width, or the bytes of such bytes: one row each, padded with 0."""
    strings = numpy.ascontiguousarray(strings, strings.dtype.newbyteorder("="))
    width = strings.dtype.itemsize // numpy.dtype(dtype).itemsize
    return numpy.frombuffer(strings, dtype).reshape(len(strings), width)


def _lengths_of_rows(numpy: Any, codes: Any) -> Any:
    """Return the lengths without the zeros at the end, which are padding."""
    width = codes.shape[1]
    if not width or codes[:, -1].all():
        return numpy.full(len(codes), width, numpy.int64)
    is_set = codes[:, ::-1] != 0
    return numpy.where(is_set.any(axis=1), width - is_set.argmax(axis=1), 0)


def _utf8(numpy: Any, codes: Any, lengths: Any) -> tuple[Any, Any]:
    """Return code points in UTF-8, and the lengths of the strings in bytes.

    Raises:
        UnicodeError: some are surrogates, or no code points.
    """
    if not len(codes) or codes.max() < _UTF8_SIZES[0]:
        return codes.astype(numpy.uint8), lengths
    # How many bytes each takes, summed up to the end of each string.
    sizes = 1 + sum((codes >= limit).astype(numpy.int64) for limit in _UTF8_SIZES)
    ends = numpy.concatenate(([0], numpy.cumsum(sizes)))[numpy.cumsum(lengths)]
    text = codes.tobytes().decode("utf-32-le" if numpy.little_endian else "utf-32-be")
    return text.encode(), numpy.diff(ends, prepend=0)
