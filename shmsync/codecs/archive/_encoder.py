"""From a value to its archive: columns, built from the inside out. Format and names: see `_format`.

Values are taken a column at a time, not one by one: what a column is made of is asked in one pass at the speed of C,
and a column of one kind is converted in another. Only where kinds are mixed does a Python loop sort them.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs._gather import LINE_ALIGNMENT, WORD_ALIGNMENT, GatherList
from shmsync.codecs.archive import _format as f
from shmsync.codecs.archive import _hash_index, _keys
from shmsync.codecs.archive._array_map import ArrayMap, without_repeats
from shmsync.codecs.archive._hash_index import Hashed
from shmsync.codecs.archive._partition import Group, cycles, sort
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shmsync.codecs._gather import Source

_ALIGNED_FROM = 1024  # bytes; aligning less than this would waste more than it gains
_MANY, _DEEP = 1000, 8


class Builder:
    """Builds one archive.

    Args:
        value: what it will hold.

    Raises:
        EntityWriteError: it holds something that an archive cannot.
    """

    def __init__(self, value: Any) -> None:
        self.payload = GatherList()
        self._value = value
        self._above: list[set[int]] = []  # by level, the containers on the way down to where we are
        self._converted = False  # whether some containers are not the caller's, but made from his
        self._ends_somewhere = False
        self._add(f.pack_start())
        root = self._column([value])
        self._add(f.pack_trailer(root, self.payload.next_offset()))

    # ------------------------------------------------------------------------------------------------- parts, headers

    def _add(self, source: Source, size: int | None = None, *, align: int = WORD_ALIGNMENT) -> int:
        return self.payload.add(source, size, align=align)

    def _header(self, kind: int, n: int, *words: int) -> int:
        return self._add(f.pack_header(kind, n, *words))

    def _words(self, words: Iterable[int]) -> int:
        return self._add(_bytes_of(array("Q", words)))

    def _ends(self, values: Sequence[Any]) -> int:
        return self._words(accumulate(map(len, values), initial=0))

    # -------------------------------------------------------------------------------------------------------- columns

    def _column(self, values: list[Any]) -> int:
        """Write a column; return the offset of its header."""
        groups = sort(values)
        self._converted |= groups.converted
        if len(groups.members) == 1:
            ((group, members),) = groups.members.items()
            return _MAKERS[group](self, members)
        children = [_MAKERS[group](self, members) for group, members in groups.members.items()]
        kinds = self._add(bytes(groups.kinds))
        places = self._words(groups.places)
        return self._header(f.MIX, len(values), kinds, places, self._words(children), len(children))

    def _nulls(self, values: list[Any]) -> int:
        return self._header(f.NULL, len(values), self._add(bytes(len(values))))

    def _bools(self, values: list[Any]) -> int:
        return self._header(f.BOOL, len(values), self._add(bytes(values)))

    def _ints(self, values: list[Any]) -> int:
        return self._numbers(f.INT, array("q", values))

    def _uints(self, values: list[Any]) -> int:
        return self._numbers(f.UINT, array("Q", values))

    def _floats(self, values: list[Any]) -> int:
        return self._numbers(f.FLOAT, _doubles(values, len(values)))

    def _numbers(self, kind: int, numbers: Any) -> int:
        data = _bytes_of(numbers)
        at = self._add(data, align=LINE_ALIGNMENT if len(data) >= _ALIGNED_FROM else WORD_ALIGNMENT)
        return self._header(kind, len(numbers), at)

    def _strings(self, values: list[Any]) -> int:
        texts = _utf8(values)
        return self._texts(f.STR, texts, b"".join(texts))

    def _byte_strings(self, values: list[Any]) -> int:
        return self._texts(f.BYTES, values, b"".join(values))

    def _texts(self, kind: int, texts: list[bytes], data: bytes) -> int:
        even = bool(data) and len(set(map(len, texts))) == 1
        return self._header(kind, len(texts), 0 if even else self._ends(texts), self._add(data), len(data))

    def _int_lists(self, lists: list[Any]) -> int:
        return self._lists(lists, lambda: self._counted(f.INT, array("q", chain.from_iterable(lists))))

    def _uint_lists(self, lists: list[Any]) -> int:
        return self._lists(lists, lambda: self._counted(f.UINT, array("Q", chain.from_iterable(lists))))

    def _float_lists(self, lists: list[Any]) -> int:
        count = sum(map(len, lists))
        return self._lists(lists, lambda: self._counted(f.FLOAT, _doubles(chain.from_iterable(lists), count)))

    def _counted(self, kind: int, numbers: Any) -> tuple[int, int]:
        return self._numbers(kind, numbers), len(numbers)

    def _other_lists(self, lists: list[Any]) -> int:
        items = list(chain.from_iterable(lists))
        return self._lists(lists, lambda: (self._below(lists, lambda: self._column(items)), len(items)))

    def _lists(self, lists: list[Any], write: Callable[[], tuple[int, int]]) -> int:
        """Write lists; `write` writes the column of their elements, and returns it and how many they are."""
        lengths = array("Q", map(len, lists))
        child, count = write()
        if sum(lengths) != count or array("Q", map(len, lists)) != lengths:
            raise EntityWriteError("cannot publish this value: it was changed while it was written")
        stride = lengths[0] if len(set(lengths)) == 1 else 0
        ends = 0 if stride else self._words(accumulate(lengths, initial=0))
        return self._header(f.LIST, len(lists), ends, stride, child)

    def _below(self, containers: list[Any], write: Callable[[], int]) -> int:
        """Go one level down."""
        if len(self._above) == f.DEEPEST:
            raise EntityWriteError(f"cannot publish this value: it is nested more than {f.DEEPEST} deep")
        ids = set(map(id, containers))
        self._check_end(ids)
        self._above.append(ids)
        try:
            return write()
        finally:
            self._above.pop()

    def _check_end(self, ids: set[int]) -> None:
        """Refuse a value that contains itself, once something speaks for it."""
        shared = not all(map(ids.isdisjoint, self._above))
        grows = self._converted and (len(ids) > _MANY or len(self._above) > _DEEP)  # these have new ids on each level
        if (shared or grows) and not self._ends_somewhere:
            if cycles(self._value):
                raise EntityWriteError("cannot publish this value: it contains itself")
            self._ends_somewhere = True

    # ----------------------------------------------------------------------------------------------------------- maps

    def _maps(self, maps: list[dict[Any, Any]]) -> int:
        # Copies, made in one step each: keys and values are taken in several, and another thread may change a dict.
        return self._below(maps, lambda: self._maps_below([_keys.with_plain_keys(one.copy()) for one in maps]))

    def _maps_below(self, maps: list[dict[Any, Any]]) -> int:
        largest = max(map(len, maps))
        if len(maps) > 1 and largest > f.SMALL:
            return self._boxed([self._some_maps([one]) for one in maps])
        if len(maps) > 1 and largest and len(set(map(tuple, maps))) == 1:
            keys = self._keys(list(maps[0]))[0]
            fields = [self._column([one[key] for one in maps]) for key in maps[0]]
            return self._header(f.RECORDS, len(maps), keys, self._words(fields))
        return self._some_maps(maps)

    def _some_maps(self, maps: list[dict[Any, Any]]) -> int:
        keys, hashed = self._keys(list(chain.from_iterable(maps)))
        values = self._column(list(chain.from_iterable(one.values() for one in maps)))
        return self._map_header(maps, keys, values, hashed)

    def _map_header(self, maps: list[Any], keys: int, values: int, hashed: Hashed) -> int:
        """Write the header of maps, and the table of one that is large."""
        ends = self._ends(maps)
        count = len(maps[0])
        if len(maps) > 1 or count <= f.SMALL:
            return self._header(f.MAP, len(maps), ends, keys, values, 0, 0)
        if count > f.MOST_ITEMS:
            raise EntityWriteError(f"cannot publish a map of {count} items; an archive takes up to {f.MOST_ITEMS}")
        table = _hash_index.build(hashed)
        at = self._add(_bytes_of(table.heads))
        links = self.payload.add(_bytes_of(table.links), align=f.LINK)
        assert links == at + f.LINK * table.buckets
        return self._header(f.MAP, 1, ends, keys, values, at, table.buckets)

    def _keys(self, keys: list[Any]) -> tuple[int, Hashed]:
        """Write a column of keys; return it, and what is hashed of it."""
        kinds = set(map(type, keys))
        if kinds == {int}:
            for kind in (f.INT, f.UINT):
                try:
                    numbers = array(f.NUMBERS[kind], keys)
                except OverflowError:
                    continue
                return self._numbers(kind, numbers), Hashed(numbers, numbers, numbered=True)
        if kinds in ({str}, {bytes}):
            kind, texts = (f.STR, _utf8(keys)) if kinds == {str} else (f.BYTES, keys)
            data = b"".join(texts)
            return self._texts(kind, texts, data), Hashed(texts, data)
        return self._column(keys), _hash_index.hashed(keys)

    def _boxed(self, columns: list[int]) -> int:
        return self._header(f.BOXED, len(columns), self._words(columns))

    # --------------------------------------------------------------------------------------------------------- arrays

    def _arrays(self, arrays: list[Any]) -> int:
        kinds = {(_numpy.describe(one).dtype, one.shape) for one in arrays}
        if len(kinds) == 1 and (arrays[0].nbytes or len(arrays) == 1):
            return self._same_arrays(len(arrays), arrays[0].dtype, arrays[0].shape, arrays)
        return self._boxed([self._same_arrays(1, one.dtype, one.shape, [one]) for one in arrays])

    def _same_arrays(self, n: int, dtype: Any, shape: tuple[int, ...], arrays: Iterable[Any]) -> int:
        """Write arrays of one dtype and shape, given one by one or several stacked; in C order, with one copy."""
        buffers = [_numpy.buffer_of(one, in_c_order=True) for one in arrays]
        text = _numpy.dtype_to_text(dtype).encode("ascii", "backslashreplace")
        about = (self._add(text), len(text), self._words(shape), len(shape))
        large = buffers[0].size >= _ALIGNED_FROM
        at = self._add(buffers[0].source, buffers[0].size, align=LINE_ALIGNMENT if large else WORD_ALIGNMENT)
        for buffer in buffers[1:]:
            self.payload.add(buffer.source, buffer.size, align=1)
        return self._header(f.ARRAY, n, *about, at, sum(buffer.size for buffer in buffers) // n)

    def _array_maps(self, maps: list[ArrayMap]) -> int:
        boxed = [self._array_map(without_repeats(one)) for one in maps]
        return boxed[0] if len(boxed) == 1 else self._boxed(boxed)

    def _array_map(self, one: ArrayMap) -> int:
        if not len(one.keys):
            return self._some_maps([{}])
        if isinstance(one.keys, list):
            plain = _keys.are_plain(one.keys)
            keys, hashed = self._keys(one.keys if plain else list(_keys.with_plain_keys(dict.fromkeys(one.keys))))
        else:
            kind = f.UINT if one.keys.dtype.kind == "u" else f.INT
            keys, hashed = self._numbers(kind, one.keys), Hashed(one.keys, one.keys, numbered=True)
        shape = one.values.shape[1:]
        if not shape and _numpy.has_python_scalars(one.values.dtype):
            values = self._column(one.values.tolist())
        elif one.values.nbytes:
            values = self._same_arrays(len(one.values), one.values.dtype, shape, [one.values])
        else:
            values = self._arrays(list(one.values))
        return self._map_header([one.keys], keys, values, hashed)


_MAKERS: dict[Group, Callable[[Builder, list[Any]], int]] = {
    Group.NULL: Builder._nulls,
    Group.BOOL: Builder._bools,
    Group.INT: Builder._ints,
    Group.UINT: Builder._uints,
    Group.FLOAT: Builder._floats,
    Group.STR: Builder._strings,
    Group.BYTES: Builder._byte_strings,
    Group.INTS: Builder._int_lists,
    Group.UINTS: Builder._uint_lists,
    Group.FLOATS: Builder._float_lists,
    Group.LIST: Builder._other_lists,
    Group.MAP: Builder._maps,
    Group.ARRAY: Builder._arrays,
    Group.ARRAY_MAP: Builder._array_maps,
}


def _doubles(values: Iterable[Any], count: int) -> Any:
    numpy = _numpy.numpy_if_imported()
    return array("d", values) if numpy is None else numpy.fromiter(values, numpy.float64, count)


def _bytes_of(numbers: Any) -> memoryview:
    return memoryview(numbers).cast("B") if len(numbers) else memoryview(b"")


def _utf8(texts: list[str]) -> list[bytes]:
    try:
        return [text.encode() for text in texts]
    except UnicodeEncodeError as error:
        raise EntityWriteError(f"cannot publish this value: the text {error.object!r:.60}: {error}") from error
