"""The draft of an update: the newest value, to be changed.

Two kinds of change. *In place*: elements of arrays and rows of maps are written into the memory of the next version,
and recorded. *Structural*: a new key, another shape, a string: the plain parts of the value are Python objects until
the block ends, and then encoded again. If that moves no array, only the plain parts are written; otherwise the whole
value is written in full, with the same result.

A value in an archive is not made of Python objects. Its first structural change makes plain objects of all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, MutableSequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs import _numpy, archive, msgpack, raw
from shmsync.codecs._draft_memory import DraftMemory
from shmsync.codecs._registry import name_of
from shmsync.codecs.archive import ArchivedList, ArchivedMap, unarchive
from shmsync.codecs.archive._rows import rows_of_map
from shmsync.codecs.msgpack import ExtendedPayload
from shmsync.errors import EntityWriteError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shmsync.codecs._changes import Changes
    from shmsync.codecs._gather import Payload

Path = tuple[Any, ...]


class Draft:
    """The whole value of a draft.

    Args:
        memory: the memory of the draft.
        value: the decoded value: containers of its own, arrays read-only on the memory.
    """

    def __init__(self, memory: DraftMemory, value: Any) -> None:
        self.memory = memory
        self._value = value
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
        self._value = _copied(value)
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
        if not self._is_restructured:
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
        self._is_restructured = True
        return part

    def draft_of(self, path: Path) -> Any:
        """Return what the caller gets of the part at a path: a draft of it, or a plain value."""
        self.memory.payload  # noqa: B018 - raises outside the block
        part = self.at(path)
        if _numpy.is_array(part):
            return self.draft_of_array(part)
        if part is self.memory.readable:
            return DraftBuffer(self.memory)
        if isinstance(part, (dict, ArchivedMap)):
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
        if not self._assign_in_place(container, key, value):
            self.plain_at(path)[key] = _copied(value)

    def _is_part(self, value: Any, path: Path) -> bool:
        """Return whether a value is the draft of the part at a path."""
        return isinstance(value, (DraftMap, DraftList)) and value._draft is self and value._path == path

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
    return Draft(memory, _DECODE[update.codec](memory.readable))


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


class DraftBuffer:
    """The bytes of a raw value: slices are read as read-only memoryviews, and assigned from bytes of the same size.

    Args:
        memory: the memory of the draft.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: DraftMemory) -> None:
        self._memory = memory

    def __len__(self) -> int:
        return len(self._memory.readable)

    def __getitem__(self, key: Any) -> Any:
        self._memory.payload  # noqa: B018 - raises outside the block
        return self._memory.readable[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        selected = range(len(self))[key]
        if isinstance(selected, int):
            self._memory.write(selected, bytes((value,)))
            return
        content = memoryview(value).cast("B")
        if selected.step != 1 or len(content) != len(selected):
            raise EntityWriteError(
                f"cannot assign {len(content)} bytes to {len(selected)} bytes with step {selected.step}: the size of a "
                "raw value does not change, and the step is 1"
            )
        self._memory.write(selected.start, content)

    def __repr__(self) -> str:
        return f"<DraftBuffer of {len(self):,} bytes>"


class DraftMap(MutableMapping[Any, Any]):
    """A map of the next version.

    Args:
        draft: the whole value.
        path: the keys that lead to the map.
    """

    __slots__ = ("_draft", "_path")

    def __init__(self, draft: Draft, path: Path) -> None:
        self._draft = draft
        self._path = path

    def __getitem__(self, key: Any) -> Any:
        return self._draft.draft_of((*self._path, key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._draft.assign(self._path, key, value)

    def __delitem__(self, key: Any) -> None:
        self._draft.at((*self._path, key))  # raises for a key that is missing, before a structural change
        del self._draft.plain_at(self._path)[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._draft.at(self._path))

    def __len__(self) -> int:
        return len(self._draft.at(self._path))

    def update(self, keys: Any = (), rows: Any = None, /, **named: Any) -> None:
        """Assign to many keys: `update(keys, rows)` at NumPy's speed, or as a dict does.

        Args:
            keys: an array or a list of keys that the map contains; or a mapping.
            rows: an array with one row for each key. If a key repeats, its last row counts.
            named: further keys.

        Raises:
            EntityWriteError: the numbers of keys and rows differ.
        """
        if rows is None:
            super().update(keys, **named)
            return
        if len(keys) != len(rows):
            raise EntityWriteError(f"as many rows as keys are needed, not {len(rows)} rows for {len(keys)} keys")
        part = self._draft.at(self._path)
        found = rows_of_map(part) if isinstance(part, ArchivedMap) else None
        if found is None or not found.assign_many(self._draft.memory, keys, rows):
            for key, row in zip(keys.tolist() if _numpy.is_array(keys) else keys, rows, strict=True):
                self[key] = row
        super().update(named)

    def __repr__(self) -> str:
        return f"<DraftMap of {len(self):,} items>"


class DraftList(MutableSequence[Any]):
    """A list of the next version.

    Args:
        draft: the whole value.
        path: the keys that lead to the list.
    """

    __slots__ = ("_draft", "_path")

    def __init__(self, draft: Draft, path: Path) -> None:
        self._draft = draft
        self._path = path

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        return self._draft.draft_of((*self._path, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._draft.plain_at(self._path)[index] = _copied(value)
        else:
            self._draft.at((*self._path, index))
            self._draft.assign(self._path, index, value)

    def __delitem__(self, index: Any) -> None:
        del self._draft.plain_at(self._path)[index]

    def __len__(self) -> int:
        return len(self._draft.at(self._path))

    def insert(self, index: int, value: Any) -> None:
        """Insert an element."""
        self._draft.plain_at(self._path).insert(index, _copied(value))

    def __repr__(self) -> str:
        return f"<DraftList of {len(self):,} elements>"


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two arrays have the same elements in memory."""
    if not _numpy.is_array(one):
        return False
    places = [each.__array_interface__["data"][0] for each in (one, other)]
    return places[0] == places[1] and (one.shape, one.strides) == (other.shape, other.strides)


def _of_kind(payload: Payload, content: bytes) -> Payload:
    """Return bytes as a payload with the codec number of another one."""
    return type(payload).of(content) if isinstance(payload, ExtendedPayload) else content


def _copied(value: Any) -> Any:
    """Return an array as a copy, which the caller cannot change afterwards."""
    return value.copy() if _numpy.is_array(value) else value


def _own(value: Any) -> Any:
    """Return a value in which each array has memory of its own."""
    if isinstance(value, Mapping):
        return {key: _own(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_own(each) for each in value]
    return value.copy() if _numpy.is_array(value) and value.base is not None else value
