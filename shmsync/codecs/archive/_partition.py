"""What kinds of values stand in a column that is to be written."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync.codecs import _numpy, raw
from shmsync.codecs._records import fields_of
from shmsync.codecs.archive._array_map import ArrayMap
from shmsync.codecs.archive._views import unarchive
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LEAST_INT, _MOST_INT, _MOST_UINT = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_TAKEN = (
    "an archive takes None, bool, 64-bit int, float, str, bytes, list, tuple, dict, NumPy arrays and ArrayMap; "
    "convert the rest (a set to a list, a datetime to a timestamp)"
)


class Group(Enum):
    """Values that share a column."""

    NULL = 1
    BOOL = 2
    INT = 3
    UINT = 4
    FLOAT = 5
    STR = 6
    BYTES = 7
    INTS = 8
    UINTS = 9
    FLOATS = 10
    LIST = 11
    MAP = 12
    ARRAY = 13
    ARRAY_MAP = 14


class Sorted(NamedTuple):
    """The values of a column by group.

    Attributes:
        members: of each group.
        kinds, places: for each value, in their order, the number of its group and its place there.
        converted: whether some are containers that were made from something else.
    """

    members: dict[Group, list[Any]]
    kinds: bytearray
    places: array[int]
    converted: bool = False


_PURE = {
    type(None): Group.NULL,
    bool: Group.BOOL,
    float: Group.FLOAT,
    str: Group.STR,
    bytes: Group.BYTES,
    dict: Group.MAP,
}


def sort(values: Sequence[Any]) -> Sorted:
    """Sort the values of a column into groups; values of subclasses become their base."""
    kinds = set(map(type, values))
    if len(kinds) == 1:
        group = _group_of_all(kinds.pop(), values)
        if group is not None:
            return Sorted({group: list(values)}, bytearray(), array("Q"))
    if not values:
        return Sorted({Group.NULL: []}, bytearray(), array("Q"))
    members: dict[Group, list[Any]] = {}
    numbers: dict[Group, int] = {}
    sorted_ = Sorted(members, bytearray(), array("Q"))
    converted = False
    for value in values:
        group, plain = _group_of(value)
        converted |= plain is not value and isinstance(plain, (dict, list, tuple))
        sorted_.kinds.append(numbers.setdefault(group, len(numbers)))
        group_members = members.setdefault(group, [])
        sorted_.places.append(len(group_members))
        group_members.append(plain)
    return sorted_._replace(converted=converted)


def _group_of_all(kind: type, values: Sequence[Any]) -> Group | None:
    """Return the group of values that all have one type; None if they must be looked at one by one."""
    if kind is int:
        return _of_ints(min(values), max(values))
    if kind is list or kind is tuple:
        return _of_lists(values)
    return _PURE.get(kind)


def _of_ints(least: int, most: int) -> Group | None:
    if least >= _LEAST_INT and most <= _MOST_INT:
        return Group.INT
    return Group.UINT if least >= 0 and most <= _MOST_UINT else None


def _of_lists(lists: Sequence[Any]) -> Group | None:
    """Return the group of lists, or of one list; None if they do not belong to one group."""
    kinds = set(map(type, chain.from_iterable(lists)))
    if kinds == {float}:
        return Group.FLOATS
    if kinds == {int}:
        group = _of_ints(min(chain.from_iterable(lists)), max(chain.from_iterable(lists)))
        return {Group.INT: Group.INTS, Group.UINT: Group.UINTS, None: None}[group]
    return Group.LIST if kinds.isdisjoint({int, float}) else None


def _group_of(value: Any) -> tuple[Group, Any]:
    """Return the group of a value, and the value in its base type."""
    kind = type(value)
    if kind in _PURE:
        return _PURE[kind], value
    if isinstance(value, (list, tuple)):
        return _of_lists([value]) or Group.LIST, value
    value = unarchive(_numpy.to_python_scalar(value))
    if isinstance(value, int):
        if isinstance(value, bool):
            return Group.BOOL, value
        group = _of_ints(value, value)
        if group is None:
            raise EntityWriteError(f"cannot publish this value: the int {value!r:.60} has more than 64 bits")
        return group, int(value)
    return _group_of_other(value)


def _group_of_other(value: Any) -> tuple[Group, Any]:
    if _numpy.is_array(value):
        _numpy.describe(value)
        return Group.ARRAY, value
    for base, group, plain in _BASES:
        if isinstance(value, base):
            return group, plain(value)
    record = value if isinstance(value, list) else fields_of(value)
    if record is not None:
        return _group_of(record)
    raise EntityWriteError(f"cannot publish this value: {type(value).__name__!r} objects are not supported; {_TAKEN}")


_BASES: tuple[tuple[Any, Group, Any], ...] = (
    (float, Group.FLOAT, float),
    (str, Group.STR, str.__str__),
    ((bytes, bytearray, memoryview), Group.BYTES, lambda value: bytes(raw.flat(value))),
    (Mapping, Group.MAP, dict),
    (ArrayMap, Group.ARRAY_MAP, lambda value: value),
)


def cycles(value: Any) -> bool:
    """Tell whether a value contains itself."""
    above: set[int] = set()
    pending: list[tuple[Any, bool]] = [(value, False)]
    while pending:
        item, done = pending.pop()
        if done:
            above.discard(id(item))
            continue
        if id(item) in above:
            return True
        if item is None or isinstance(item, (int, float, str, bytes)):
            continue
        record = item if isinstance(item, (Mapping, list, tuple)) else fields_of(item)
        if record:
            above.add(id(item))
            pending.append((item, True))
            pending += [(one, False) for one in (record.values() if isinstance(record, Mapping) else record)]
    return False
