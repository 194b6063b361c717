"""The encoder: builds the columns of an archive, children before parents. See `_format` for format and terms.

Values are processed a column at a time: one pass determines their types, another converts them, and both run in C. Only
columns of mixed kinds are partitioned by a loop in Python.
"""

from __future__ import annotations

from array import array
from itertools import accumulate, chain
from math import prod
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _blocks, _numpy
from shmsync.codecs._gather import LINE_ALIGNMENT, WORD_ALIGNMENT, GatherList
from shmsync.codecs.archive import _format as f
from shmsync.codecs.archive import _hash_index, _keys
from shmsync.codecs.archive._array_map import ArrayMap, RoomyMap, deduplicated, room_for_keys, with_room
from shmsync.codecs.archive._hash_index import HashedKeys, HashTable
from shmsync.codecs.archive._packed_keys import PackedKeys, packed
from shmsync.codecs.archive._partition import ValueKind, has_cycle, partition
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shmsync.codecs._gather import Bytes, Source

_STRICT = frozenset({str, bytes, type(None)})  # types whose values are equal to none of another type
_GATHER_FROM = 4096  # bytes; strings that are smaller on average are joined first, which takes less time
_ALIGN_FROM = 1024  # bytes; the padding before smaller buffers would cost more than aligned reads gain
# Check for cycles if one level has more than _MANY containers made from the caller's, or if there are more levels than
# _DEEP.
_MANY, _DEEP = 1000, 8


class Encoder:
    """Builds one archive.

    Args:
        value: the value to archive.
        enc_hook: converts values of unsupported types.

    Raises:
        EntityWriteError: the value contains something that an archive does not support.
    """

    def __init__(self, value: Any, enc_hook: Callable[[Any], Any] | None = None) -> None:
        self.payload = GatherList()
        self._enc_hook = enc_hook
        self._value = value
        self._ancestors: list[set[int]] = []  # ids of the containers being written, one set for each level
        self._converted = False  # whether some containers are new objects, made from the caller's
        self._is_acyclic = False  # whether that has been checked
        self._add(f.pack_start())
        root = self._column([value])
        self._add(f.pack_trailer(root, self.payload.next_offset()))

    # ------------------------------------------------------------------------------------------------ buffers, headers

    def _add(self, source: Source, size: int | None = None, *, align: int = WORD_ALIGNMENT) -> int:
        return self.payload.add(source, size, align=align)

    def _room(self, size: int) -> None:
        """Leave bytes free after the last buffer. They are zero, so that equal values have equal bytes."""
        if size:
            self.payload.add(_write_zeros, size, align=1)

    def _header(self, kind: int, n: int, *words: int) -> int:
        return self._add(f.pack_header(kind, n, *words))

    def _u64s(self, numbers: Iterable[int]) -> int:
        return self._add(_bytes_of(array("Q", numbers)))

    def _offsets(self, values: Sequence[Any]) -> int:
        return self._u64s(accumulate(map(len, values), initial=0))

    # -------------------------------------------------------------------------------------------------------- columns

    def _column(self, values: list[Any]) -> int:
        """Write a column; return the offset of its header."""
        parts = partition(values, self._enc_hook)
        self._converted |= parts.converted
        if len(parts.children) == 1:
            ((kind, members),) = parts.children.items()
            return _WRITERS[kind](self, members)
        children = [_WRITERS[kind](self, members) for kind, members in parts.children.items()]
        type_ids = self._add(bytes(parts.type_ids))
        value_offsets = self._u64s(parts.value_offsets)
        return self._header(f.DENSE_UNION, len(values), type_ids, value_offsets, self._u64s(children), len(children))

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

    def _numbers(self, kind: int, numbers: Any, *, capacity: int = 0) -> int:
        data = _bytes_of(numbers)
        size = max(len(data), f.WORD * capacity)
        at = self._add(data, align=LINE_ALIGNMENT if size >= _ALIGN_FROM else WORD_ALIGNMENT)
        self._room(size - len(data))
        return self._header(kind, len(numbers), at)

    def _strings(self, values: list[Any]) -> int:
        return self._var_binary(f.STR, _utf8(values))

    def _byte_strings(self, values: list[Any]) -> int:
        return self._var_binary(f.BYTES, values)

    def _var_binary(self, kind: int, values: Sequence[Bytes], joined: bytes | None = None) -> int:
        size = sum(map(len, values))
        offsets = 0 if size and len(set(map(len, values))) == 1 else self._offsets(values)
        if joined is None and size <= len(values) * _GATHER_FROM:
            joined = b"".join(values)
        if joined is not None:
            return self._header(kind, len(values), offsets, self._add(joined), size)
        at = self._add(values[0])
        for value in values[1:]:  # large on average: not copied before they are copied into the segment
            self._add(value, align=1)
        return self._header(kind, len(values), offsets, at, size)

    def _int_lists(self, lists: list[Any]) -> int:
        return self._lists(lists, lambda: self._sized_numbers(f.INT, array("q", chain.from_iterable(lists))))

    def _uint_lists(self, lists: list[Any]) -> int:
        return self._lists(lists, lambda: self._sized_numbers(f.UINT, array("Q", chain.from_iterable(lists))))

    def _float_lists(self, lists: list[Any]) -> int:
        count = sum(map(len, lists))
        return self._lists(lists, lambda: self._sized_numbers(f.FLOAT, _doubles(chain.from_iterable(lists), count)))

    def _sized_numbers(self, kind: int, numbers: Any) -> tuple[int, int]:
        return self._numbers(kind, numbers), len(numbers)

    def _generic_lists(self, lists: list[Any]) -> int:
        items = list(chain.from_iterable(lists))
        return self._lists(lists, lambda: (self._descend(lists, lambda: self._column(items)), len(items)))

    def _lists(self, lists: list[Any], write: Callable[[], tuple[int, int]]) -> int:
        """Write lists. `write` writes the child column and returns its offset and number of elements."""
        lengths = array("Q", map(len, lists))
        child, count = write()
        if sum(lengths) != count or array("Q", map(len, lists)) != lengths:
            raise EntityWriteError(
                "cannot publish this value: it changed while it was being encoded; do not modify it during a write"
            )
        list_size = lengths[0] if len(set(lengths)) == 1 else 0
        offsets = 0 if list_size else self._u64s(accumulate(lengths, initial=0))
        return self._header(f.LIST, len(lists), offsets, list_size, child)

    def _descend(self, containers: list[Any], write: Callable[[], int]) -> int:
        """Call `write` for the elements of containers, one level deeper in the value."""
        if len(self._ancestors) == f.MAX_DEPTH:
            raise EntityWriteError(
                f"cannot publish this value: it is nested more than {f.MAX_DEPTH} levels deep; flatten it"
            )
        ids = set(map(id, containers))
        self._check_cycles(ids)
        self._ancestors.append(ids)
        try:
            return write()
        finally:
            self._ancestors.pop()

    def _check_cycles(self, ids: set[int]) -> None:
        """Reject a value that contains itself. Checked once, and only if it has a symptom of a cycle."""
        shared = not all(map(ids.isdisjoint, self._ancestors))
        # Containers made from the caller's have new ids on each level, so a cycle of them only shows as growth.
        grows = self._converted and (len(ids) > _MANY or len(self._ancestors) > _DEEP)
        if (shared or grows) and not self._is_acyclic:
            if has_cycle(self._value):
                raise EntityWriteError("cannot publish this value: it contains itself; remove the cycle")
            self._is_acyclic = True

    # ----------------------------------------------------------------------------------------------------------- maps

    def _maps(self, maps: list[dict[Any, Any]]) -> int:
        # Copied because another thread may modify a dict between the passes over its keys and values; copy() is atomic.
        return self._descend(maps, lambda: self._structs_or_maps([_keys.with_plain_keys(map_.copy()) for map_ in maps]))

    def _structs_or_maps(self, maps: list[dict[Any, Any]]) -> int:
        """Write maps with the same keys as structs, a large map as a chunk with a hash table, others as one column."""
        largest = max(map(len, maps))
        if len(maps) > 1 and largest > f.MAX_UNHASHED:
            return self._chunked([self._map_column([map_]) for map_ in maps])
        if len(maps) > 1 and largest and _have_same_keys(maps):
            keys = self._key_column(list(maps[0]))[0]
            fields = [self._column([map_[key] for map_ in maps]) for key in maps[0]]
            return self._header(f.STRUCT, len(maps), keys, self._u64s(fields))
        return self._map_column(maps)

    def _map_column(self, maps: list[dict[Any, Any]]) -> int:
        keys, hashed = self._key_column(list(chain.from_iterable(maps)))
        values = self._column(list(chain.from_iterable(map_.values() for map_ in maps)))
        return self._map_header(maps, keys, values, hashed)

    def _map_header(self, maps: list[Any], keys: int, values: int, hashed: HashedKeys) -> int:
        """Write the header of maps, and the hash table of a single large one."""
        offsets = self._offsets(maps)
        count = len(maps[0])
        if len(maps) > 1 or count <= f.MAX_UNHASHED:
            return self._header(f.MAP, len(maps), offsets, keys, values, 0, 0)
        if count > f.MAX_ENTRIES:
            raise EntityWriteError(
                f'cannot publish a map of {count} entries: codec="archive" supports at most {f.MAX_ENTRIES}; split it'
            )
        return self._header(f.MAP, 1, offsets, keys, values, *self._table(_hash_index.build(hashed)))

    def _table(self, table: HashTable) -> tuple[int, int]:
        at = self._add(_bytes_of(table.heads))
        links = self.payload.add(_bytes_of(table.links), align=f.LINK_SIZE)
        assert links == at + f.LINK_SIZE * table.bucket_count
        return at, table.bucket_count

    def _key_column(self, keys: list[Any]) -> tuple[int, HashedKeys]:
        """Write a column of keys; return its offset, and the keys in their hashed form."""
        found = packed(keys)
        if found is not None:
            return self._packed_column(found)
        types = set(map(type, keys))
        if types == {int}:
            for kind in (f.INT, f.UINT):
                try:
                    numbers = array(f.NUMBERS[kind], keys)
                except OverflowError:
                    continue
                return self._numbers(kind, numbers), HashedKeys(numbers, numbers, are_integers=True)
        if types in ({str}, {bytes}):
            kind, encoded = (f.STR, _utf8(keys)) if types == {str} else (f.BYTES, keys)
            data = b"".join(encoded)
            return self._var_binary(kind, encoded, data), HashedKeys(encoded, data)
        return self._column(keys), _hash_index.hashed_keys(keys)

    def _packed_column(self, keys: PackedKeys) -> tuple[int, HashedKeys]:
        offsets = 0 if keys.are_of_equal_length() else self._add(_bytes_of(keys.offsets))
        header = self._header(keys.kind, len(keys), offsets, self._add(keys.data), len(keys.data))
        return header, HashedKeys(keys, keys.data)

    def _chunked(self, chunks: list[int]) -> int:
        return self._header(f.CHUNKED, len(chunks), self._u64s(chunks))

    # --------------------------------------------------------------------------------------------------------- arrays

    def _arrays(self, arrays: list[Any]) -> int:
        types = {(_numpy.describe(each).dtype, each.shape) for each in arrays}
        if len(types) == 1 and (arrays[0].nbytes or len(arrays) == 1):
            return self._uniform_arrays(len(arrays), arrays[0].dtype, arrays[0].shape, arrays)
        return self._chunked([self._uniform_arrays(1, each.dtype, each.shape, [each]) for each in arrays])

    def _uniform_arrays(
        self, n: int, dtype: Any, shape: tuple[int, ...], arrays: Iterable[Any], *, capacity: int = 0
    ) -> int:
        """Write `n` arrays of one dtype and shape in C order. Each item of `arrays` is one or several, stacked."""
        buffers = [_numpy.buffer_of(each, in_c_order=True) for each in arrays]
        text = _numpy.dtype_to_text(dtype).encode("ascii", "backslashreplace")
        type_words = (self._add(text), len(text), self._u64s((dtype.itemsize, *shape)), len(shape))
        array_size = dtype.itemsize * prod(shape)
        large = max(buffers[0].size, array_size * capacity) >= _ALIGN_FROM
        at = self._add(buffers[0].source, buffers[0].size, align=LINE_ALIGNMENT if large else WORD_ALIGNMENT)
        for buffer in buffers[1:]:
            self.payload.add(buffer.source, buffer.size, align=1)
        self._room(array_size * max(capacity - n, 0))
        return self._header(f.ARRAY, n, *type_words, at, array_size)

    def _array_maps(self, maps: list[ArrayMap]) -> int:
        chunks = [self._array_map(deduplicated(each)) for each in maps]
        return chunks[0] if len(chunks) == 1 else self._chunked(chunks)

    def _array_map(self, array_map: ArrayMap) -> int:
        roomy = with_room(array_map)
        if roomy is not None:
            return self._roomy_map(roomy)
        if not len(array_map.keys):
            return self._map_column([{}])
        keys, hashed = self._array_map_keys(array_map.keys)
        rows = array_map.values
        shape = rows.shape[1:]
        if not shape and _numpy.has_python_scalars(rows.dtype):
            values = self._column(rows.tolist())
        elif rows.nbytes:
            values = self._uniform_arrays(len(rows), rows.dtype, shape, [rows])
        else:
            values = self._arrays(list(rows))
        return self._map_header([array_map.keys], keys, values, hashed)

    def _roomy_map(self, given: RoomyMap) -> int:
        """Write a map with room for more entries: after the keys, after the values, and after the links."""
        rows, capacity, count = given.rows, given.capacity, len(given.keys)
        keys, hashed = self._roomy_keys(given)
        if given.value_kind is None:
            values = self._uniform_arrays(count, rows.dtype, rows.shape[1:], [rows], capacity=capacity)
        else:
            values = self._numbers(given.value_kind, rows, capacity=capacity)
        offsets = self._offsets([given.keys])
        table = self._table(_hash_index.build(hashed, capacity))
        self._room(f.LINK_SIZE * (capacity - count))
        return self._header(f.MAP, 1, offsets, keys, values, *table, capacity)

    def _roomy_keys(self, given: RoomyMap) -> tuple[int, HashedKeys]:
        kind, keys, capacity = given.key_kind, given.keys, given.capacity
        if kind in f.NUMBERS:
            return self._numbers(kind, keys, capacity=capacity), HashedKeys(keys, keys, are_integers=True)
        data = keys.data if isinstance(keys, PackedKeys) else b"".join(keys)
        ends = keys.offsets[1:] if isinstance(keys, PackedKeys) else list(accumulate(map(len, keys)))
        numpy = _numpy.require_numpy()
        spans = numpy.zeros((len(keys), 2), numpy.uint64)
        spans[:, 1] = ends
        spans[1:, 0] = ends[:-1]
        at = self._add(_bytes_of(spans))
        self._room(2 * f.WORD * (capacity - len(keys)))
        room = room_for_keys(len(data), len(keys), capacity)
        start = self._add(data)
        self._room(room - len(data))
        return self._header(kind, len(keys), at, start, len(data), room), HashedKeys(keys, data)

    def _array_map_keys(self, keys: Any) -> tuple[int, HashedKeys]:
        if isinstance(keys, PackedKeys):
            return self._packed_column(keys)
        if isinstance(keys, list):
            plain = _keys.are_plain(keys)
            return self._key_column(keys if plain else list(_keys.with_plain_keys(dict.fromkeys(keys))))
        kind = f.UINT if keys.dtype.kind == "u" else f.INT
        return self._numbers(kind, keys), HashedKeys(keys, keys, are_integers=True)


_WRITERS: dict[ValueKind, Callable[[Encoder, list[Any]], int]] = {
    ValueKind.NULL: Encoder._nulls,
    ValueKind.BOOL: Encoder._bools,
    ValueKind.INT: Encoder._ints,
    ValueKind.UINT: Encoder._uints,
    ValueKind.FLOAT: Encoder._floats,
    ValueKind.STR: Encoder._strings,
    ValueKind.BYTES: Encoder._byte_strings,
    ValueKind.INTS: Encoder._int_lists,
    ValueKind.UINTS: Encoder._uint_lists,
    ValueKind.FLOATS: Encoder._float_lists,
    ValueKind.LIST: Encoder._generic_lists,
    ValueKind.MAP: Encoder._maps,
    ValueKind.ARRAY: Encoder._arrays,
    ValueKind.ARRAY_MAP: Encoder._array_maps,
}


def _have_same_keys(maps: list[dict[Any, Any]]) -> bool:
    """Return whether all maps have the same keys in the same order."""
    if len(set(map(tuple, maps))) > 1:
        return False
    # Equal, but perhaps not the same: 0 and False, 0.0 and -0.0, also inside tuples.
    return _STRICT.issuperset(map(type, maps[0])) or len({repr(list(each)) for each in maps}) == 1


def _doubles(values: Iterable[Any], count: int) -> Any:
    numpy = _numpy.numpy_if_imported()
    return array("d", values) if numpy is None else numpy.fromiter(values, numpy.float64, count)


def _write_zeros(target: memoryview) -> None:
    for block in _blocks.blocks(len(target)):
        target[block] = bytes(block.stop - block.start)


def _bytes_of(numbers: Any) -> memoryview:
    return memoryview(numbers).cast("B") if len(numbers) else memoryview(b"")


def _utf8(strings: list[str]) -> list[bytes]:
    try:
        return list(map(_blocks.encode, strings))
    except UnicodeEncodeError as error:
        raise EntityWriteError(
            f"cannot publish this value: the string {error.object!r:.60} is not valid Unicode: {error}; "
            "encode it to bytes"
        ) from error
