"""The draft of an update: the newest value, to be changed.

Two kinds of change. *In place*: elements of arrays and rows of maps are written into the memory of the next version,
and recorded. *Structural*: a new key, another shape, a string: the plain parts of the value are Python objects until
the block ends, and then encoded again. If that moves no array, only the plain parts are written; otherwise the whole
value is written in full, with the same result.

A value in an archive is not made of Python objects. Its first structural change makes plain objects of all of it,
except of its maps that have a capacity: these stay arrays, in which keys are added and removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from shmsync._util import arguments
from shmsync.codecs import _numpy, archive, msgpack, raw
from shmsync.codecs._draft_memory import DraftMemory
from shmsync.codecs._draft_parts import DraftBuffer, DraftList, DraftMap, copied
from shmsync.codecs._registry import name_of
from shmsync.codecs.archive import ArchivedList, ArchivedMap, unarchive
from shmsync.codecs.archive._format import MAX_ENTRIES
from shmsync.codecs.archive._mutable_map import MutableArrayMap
from shmsync.codecs.archive._mutable_maps import MutableMaps, map_of
from shmsync.codecs.archive._rows import rows_of_map
from shmsync.codecs.msgpack import ExtendedPayload
from shmsync.errors import EntityWriteError, InvalidArgumentError

if TYPE_CHECKING:
    from shmsync.codecs._changes import Changes
    from shmsync.codecs._gather import Payload

Path = tuple[Any, ...]


class Draft:
    """The whole value of a draft.

    Args:
        memory: the memory of the draft.
        value: the decoded value: containers of its own, arrays read-only on the memory.
        maps: the maps with a capacity in it.
    """

    def __init__(self, memory: DraftMemory, value: Any, maps: MutableMaps) -> None:
        self.memory = memory
        self._value = value
        self._maps = maps
        self._is_restructured = False

    @property
    def root(self) -> Any:
        """What the caller gets of the whole value."""
        return self.draft_of(())

    def replace(self, value: Any) -> None:
        """Replace the whole value."""
        self.memory.payload  # noqa: B018 - raises outside the block
        is_same_array = _numpy.is_array(value) and _is_same(self._value, value)
        if is_same_array or isinstance(value, DraftBuffer) or self._is_part(value, ()):
            return  # `draft.value += ...`: changed already
        if isinstance(value, (DraftMap, DraftList)):
            raise EntityWriteError("cannot assign a part of a draft to the whole; assign a copy of it, as dict(...)")
        self._value = copied(value)
        self._is_restructured = True

    def buffer(self) -> DraftBuffer:
        """Return the payload of a raw value.

        Raises:
            InvalidArgumentError: the value is not raw.
        """
        root = self.root
        if not isinstance(root, DraftBuffer):
            raise InvalidArgumentError("buffer is for values that were written with write_raw; use draft[key] here")
        return root

    def close(self) -> None:
        """Refuse all further use."""
        self.memory.close()

    def encoded(self, encode: Callable[[Any], Payload]) -> Payload | None:
        """Write the structural changes in place, or return what to write in full.

        Args:
            encode: encodes a value with the codec of the draft.

        Raises:
            EntityWriteError: the value cannot be encoded.
        """
        maps = self._maps.opened.values()
        if any(each.is_own for each in maps) and not self._is_restructured:  # there was no room
            self._value = _own(unarchive(self._value))
            self._is_restructured = True
        if not self._is_restructured:
            for each in maps:
                each.finish()
            return None
        payload = encode(self._value)
        if self.memory.write_in_place(payload):
            return None
        return payload if isinstance(payload, bytes) else _of_kind(payload, bytes(payload))

    def at(self, path: Path) -> Any:
        """Return the part of the value at a path."""
        part = self._value
        for key in path:
            part = part[key]
        return part

    def plain_at(self, path: Path) -> Any:
        """Return the part at a path for a structural change: a dict or a list."""
        self.memory.payload  # noqa: B018 - raises outside the block
        part = self.at(path)
        if isinstance(part, (ArchivedMap, ArchivedList)):
            self._value = _own(unarchive(self._value))
            part = self.at(path)
        if isinstance(part, MutableArrayMap):
            return self._put(path, part.plain())
        self._is_restructured = True
        return part

    def _put(self, path: Path, value: Any) -> Any:
        """Put a value at the place of the part at a path."""
        if path:
            self.plain_at(path[:-1])[path[-1]] = value
        else:
            self._value = value
        self._is_restructured = True
        return value

    def draft_of(self, path: Path) -> Any:
        """Return what the caller gets of the part at a path: a draft of it, or a plain value."""
        self.memory.payload  # noqa: B018 - raises outside the block
        part = self.at(path)
        if _numpy.is_array(part):
            return self.draft_of_array(part)
        if part is self.memory.readable:
            return DraftBuffer(self.memory)
        if isinstance(part, (dict, ArchivedMap, MutableArrayMap)):
            return DraftMap(self, path)
        return DraftList(self, path) if isinstance(part, (list, ArchivedList)) else part

    def draft_of_array(self, array: Any) -> Any:
        """Return an array of the value as the caller gets it."""
        from shmsync.codecs._draft_arrays import draft_of  # noqa: PLC0415 - it imports NumPy

        return draft_of(self.memory, array)

    def assign(self, path: Path, key: Any, value: Any) -> None:
        """Assign a value to a key of the container at a path: in place if its memory can hold it."""
        if self._is_part(value, (*path, key)):
            return  # `draft[key] += ...`: changed already
        if isinstance(value, (DraftMap, DraftList)):
            raise EntityWriteError(
                f"cannot assign a part of a draft to {key!r}; assign a copy of it, such as dict(...)"
            )
        container = self.at(path)
        assign = (
            container.assign if isinstance(container, MutableArrayMap) else partial(self._assign_in_place, container)
        )
        if not assign(key, value):
            self.plain_at(path)[key] = copied(value)

    def _is_part(self, value: Any, path: Path) -> bool:
        """Return whether a value is the draft of the part at a path."""
        return isinstance(value, (DraftMap, DraftList)) and value._draft is self and value._path == path

    def assign_many(self, path: Path, keys: Any, rows: Any) -> bool:
        """Assign to many keys of the map at a path; return whether its memory can hold them."""
        part = self.at(path)
        if isinstance(part, MutableArrayMap):
            return part.assign_many(keys, rows)
        found = rows_of_map(part) if isinstance(part, ArchivedMap) else None
        return found is not None and found.assign_many(self.memory, keys, rows)

    def remove(self, path: Path, keys: Any) -> None:
        """Remove keys from the map at a path.

        Raises:
            KeyError: the map does not contain one of them. None is removed.
        """
        part = self.at(path)
        if isinstance(part, MutableArrayMap):
            part.remove(keys)
            return
        listed = dict.fromkeys(keys.tolist() if _numpy.is_array(keys) else keys)
        for key in listed:
            if key not in part:
                raise KeyError(key)
        for key in listed:
            del self.plain_at(path)[key]

    def reserve(self, path: Path, capacity: int) -> None:
        """Give the map at a path room for so many entries.

        Raises:
            EntityWriteError: it cannot have any.
            InvalidArgumentError: the capacity is not an int, or is less than the number of entries.
        """
        part = self.at(path)
        arguments.integer(capacity, "capacity", len(part), MAX_ENTRIES)
        if not isinstance(part, MutableArrayMap):
            given = map_of(self.memory, part) if isinstance(part, ArchivedMap) else None
            if given is None:
                raise EntityWriteError(
                    "cannot give room to this map: it must be in an archive, with keys that are integers, strings or "
                    "bytes, and values that are numbers or arrays of one shape; assign an ArrayMap with a capacity "
                    "in its place"
                )
            part = self._put(path, given)
        if capacity > part.capacity:
            part.reserve(capacity)

    def _assign_in_place(self, container: Any, key: Any, value: Any) -> bool:
        if isinstance(container, ArchivedMap):
            rows = rows_of_map(container)
            return rows is not None and rows.assign(self.memory, key, value)
        try:
            found = container[key]
        except LookupError:
            return False
        if not _numpy.is_array(found) or not _numpy.is_array(value):
            return False
        if (found.shape, found.dtype) != (value.shape, value.dtype):
            return False
        if _is_same(found, value):
            return True  # `draft[key] += ...`: changed already
        self.draft_of_array(found)[...] = value
        return True


def check_supported(codec: int) -> None:
    """Check that values of a codec can be changed in place.

    Raises:
        InvalidArgumentError: they cannot.
    """
    if codec not in _DECODE:
        raise InvalidArgumentError(
            f"values of the codec {name_of(codec)} cannot be changed in place, only those of msgpack, archive and raw; "
            "write the value in full"
        )


def draft_in(update: OpenUpdate) -> Draft:
    """Return the draft of an update.

    Raises:
        EntityReadError: the newest value is damaged.
    """
    memory = DraftMemory(update.payload(), update.changes)
    maps = MutableMaps(memory)
    if update.codec == archive.ID and _numpy.numpy_if_installed() is not None:
        return Draft(memory, archive.decode_to_update(memory.readable, maps), maps)
    return Draft(memory, _DECODE[update.codec](memory.readable), maps)


def _decode_msgpack(payload: memoryview, *, extended: bool = False) -> Any:
    return msgpack.decode(payload, [], extended=extended)  # large bytes are not copied


_DECODE: dict[int, Callable[[memoryview], Any]] = {
    raw.ID: lambda payload: payload,
    archive.ID: archive.decode,
    msgpack.ID: _decode_msgpack,
    msgpack.EXTENDED_ID: partial(_decode_msgpack, extended=True),
}


class OpenUpdate(Protocol):
    """An update in progress: see `shmsync._session.updates`."""

    codec: int
    changes: Changes

    def payload(self) -> memoryview:
        """Return a writable view of the payload."""


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two arrays have the same elements in memory."""
    if not _numpy.is_array(one):
        return False
    places = [each.__array_interface__["data"][0] for each in (one, other)]
    return places[0] == places[1] and (one.shape, one.strides) == (other.shape, other.strides)


def _of_kind(payload: Payload, content: bytes) -> Payload:
    """Return bytes as a payload with the codec number of another one."""
    return type(payload).of(content) if isinstance(payload, ExtendedPayload) else content


def _own(value: Any) -> Any:
    """Return a value in which each array has memory of its own."""
    if isinstance(value, Mapping):
        return {key: _own(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_own(each) for each in value]
    return value.copy() if _numpy.is_array(value) and value.base is not None else value
