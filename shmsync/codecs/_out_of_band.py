"""Large buffers in a value of the msgpack codec: the search for them, and the references that replace them.

A value may contain thousands of buffers of a few KiB each. Copying one takes about a microsecond, as long as a few
calls of Python functions. So a container of nothing but large bytes is processed as a whole, at C speed.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, islice
from operator import is_
from typing import TYPE_CHECKING, Any, TypeGuard

from msgpack import ExtType, packb

from shmsync.codecs import raw
from shmsync.codecs._extensions import EXTENSION, TAG
from shmsync.codecs._gather import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

OUT_OF_BAND_FROM = 4096
"""Bytes-like values of at least this many bytes are stored out of band."""

_BYTES_LIKE = (bytes, bytearray, memoryview)
_SCALARS = frozenset({int, float, str, bool, type(None)})
_ONLY_BYTES = frozenset({bytes})
_CONTAINERS = frozenset({dict, list, tuple})
_REFERENCES_A_BLOCK = 64


class Found(list[Source]):
    """The out-of-band buffers of a value, and what else was replaced in it.

    Attributes:
        sizes: the sizes of the buffers.
        tags: number of extensions with our tag, nested ones included.
        is_extended: whether there are other extensions of ours than references to buffers, or datetimes.
        has_possible_keys: whether hashable objects were replaced, which no reader could decode if they are dict keys.
        is_empty: whether all of these are as they were.
    """

    __slots__ = ("has_possible_keys", "is_empty", "is_extended", "sizes", "tags")

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.tags = 0
        self.is_extended = False
        self.has_possible_keys = False
        self.is_empty = True

    def add(self, source: Source, size: int) -> int:
        """Note a buffer; return its index."""
        self.append(source)
        self.sizes.append(size)
        return len(self) - 1


def _is_large(value: object) -> bool:
    if type(value) is bytes:
        return len(value) >= OUT_OF_BAND_FROM
    return isinstance(value, _BYTES_LIKE) and memoryview(value).nbytes >= OUT_OF_BAND_FROM


def contains_large(boxed: list[object]) -> bool:
    """Return whether a list contains a large bytes-like object, at any level.

    Breadth-first, so that most of the work runs in C. Each container is visited once, so cycles are left to msgpack.
    """
    seen: set[int] = set()
    level: Iterable[Any] = [boxed]
    while level:
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        types = set(map(type, chain.from_iterable(inner)))
        if types <= _SCALARS:
            return False
        if types == _ONLY_BYTES:
            return max(map(len, chain.from_iterable(inner))) >= OUT_OF_BAND_FROM
        items = [item for item in chain.from_iterable(inner) if type(item) not in _SCALARS]
        if any(_is_large(item) for item in items if type(item) not in _CONTAINERS):
            return True
        containers = {id(item): item for item in items if type(item) in _CONTAINERS or _is_container(item)}
        level = [containers[key] for key in containers.keys() - seen]
        seen.update(containers)
    return False


def replace_large(value: Any, found: Found) -> Any:
    """Return a value with references in place of the large bytes-like objects in it, which are noted in `found`.

    Containers without large ones are not copied.
    """
    if _is_large(value):
        source = value if type(value) is bytes else raw.flat(value)
        return reference(found, found.add(source, len(source)))
    if type(value) not in _CONTAINERS and not _is_container(value):
        return value
    items = list(value.values() if isinstance(value, dict) else value)  # a copy, which no other thread can change
    types = set(map(type, items))
    if types <= _SCALARS:
        return value
    replaced: Iterable[Any]
    if types == _ONLY_BYTES and min(sizes := list(map(len, items))) >= OUT_OF_BAND_FROM:
        replaced = _references(found, items, sizes)
    else:
        replaced = [replace_large(item, found) for item in items]
        if all(map(is_, replaced, items)):
            return value
    return dict(zip(value, replaced, strict=True)) if isinstance(value, dict) else list(replaced)


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, (dict, list, tuple)) and not isinstance(value, ExtType)  # an ExtType is a named tuple


def reference(found: Found, *fields: int | str) -> ExtType:
    """Return a reference to a buffer of `found`: its index, and for an array its description."""
    found.tags += 1
    found.is_empty = False
    return _packed_reference(*fields)


@lru_cache(maxsize=4096)  # making one takes a third of the time of encoding a buffer of a few KiB
def _packed_reference(*fields: int | str) -> ExtType:
    return ExtType(EXTENSION, TAG + packb(fields))


def _references(found: Found, buffers: Iterable[bytes], sizes: list[int]) -> Iterable[ExtType]:
    """Note buffers in `found`; return a reference to each."""
    start = len(found)
    found += buffers
    found.sizes += sizes
    found.tags += len(sizes)
    found.is_empty = False
    first, skipped = divmod(start, _REFERENCES_A_BLOCK)
    block_count = -(-len(found) // _REFERENCES_A_BLOCK) - first
    cached = chain.from_iterable(map(_block_of_references, range(first, first + block_count)))
    return islice(cached, skipped, skipped + len(sizes))


@lru_cache(maxsize=256)  # up to 2.5 MB
def _block_of_references(block: int) -> tuple[ExtType, ...]:
    start = block * _REFERENCES_A_BLOCK
    return tuple(ExtType(EXTENSION, TAG + packb((index,))) for index in range(start, start + _REFERENCES_A_BLOCK))
