"""Partition the values of a column by the kind of column that they can be written to."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from enum import Enum
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from msgpack import ExtType

from shmsync.codecs import _culprit, _numpy, raw
from shmsync.codecs._parts import from_hook
from shmsync.codecs._records import fields_of
from shmsync.codecs.archive import _keys
from shmsync.codecs.archive._array_map import ArrayMap
from shmsync.codecs.archive._views import unarchive
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shmsync.codecs._culprit import Children

_MIN_INT64, _MAX_INT64, _MAX_UINT64 = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
_REMEDY = 'convert it, pass Writer(enc_hook=...) to convert it, or use codec="msgpack"'


class ValueKind(Enum):
    """Values of one kind share a column."""

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


class Partition(NamedTuple):
    """The values of a column by kind.

    Attributes:
        children: the values of each kind.
        type_ids: for each value, in the order of the column, the index of its kind in `children`.
        value_offsets: for each value, its index among the values of its kind.
        converted: whether some containers are new objects, made from the caller's.
    """

    children: dict[ValueKind, list[Any]]
    type_ids: bytearray
    value_offsets: array[int]
    converted: bool = False


_KIND_OF_TYPE = {
    type(None): ValueKind.NULL,
    bool: ValueKind.BOOL,
    float: ValueKind.FLOAT,
    str: ValueKind.STR,
    bytes: ValueKind.BYTES,
    dict: ValueKind.MAP,
}


def partition(values: Sequence[Any], enc_hook: Callable[[Any], Any] | None = None) -> Partition:
    """Partition the values of a column by kind; instances of subclasses become instances of the base type.

    Args:
        values: the values of the column.
        enc_hook: converts values of unsupported types.

    Raises:
        EntityWriteError: a value is of an unsupported type.
    """
    types = set(map(type, values))
    if len(types) == 1:
        kind = _common_kind(types.pop(), values)
        if kind is not None:
            return Partition({kind: list(values)}, bytearray(), array("Q"))
    if not values:
        return Partition({ValueKind.NULL: []}, bytearray(), array("Q"))
    children: dict[ValueKind, list[Any]] = {}
    type_id_of: dict[ValueKind, int] = {}
    result = Partition(children, bytearray(), array("Q"))
    converted = False
    for value in values:
        kind, plain = _classify(value, enc_hook)
        converted |= plain is not value and isinstance(plain, (dict, list, tuple))
        result.type_ids.append(type_id_of.setdefault(kind, len(type_id_of)))
        child = children.setdefault(kind, [])
        result.value_offsets.append(len(child))
        child.append(plain)
    return result._replace(converted=converted)


def _common_kind(type_: type, values: Sequence[Any]) -> ValueKind | None:
    """Return the kind of values of a single type; None if they must be classified one by one."""
    if type_ is int:
        return _kind_of_ints(min(values), max(values))
    if type_ is list or type_ is tuple:
        return _kind_of_lists(values)
    return _KIND_OF_TYPE.get(type_)


def _kind_of_ints(minimum: int, maximum: int) -> ValueKind | None:
    if minimum >= _MIN_INT64 and maximum <= _MAX_INT64:
        return ValueKind.INT
    return ValueKind.UINT if minimum >= 0 and maximum <= _MAX_UINT64 else None


def _kind_of_lists(lists: Sequence[Any]) -> ValueKind | None:
    """Return the common kind of lists; None if they have none."""
    types = set(map(type, chain.from_iterable(lists)))
    if types == {float}:
        return ValueKind.FLOATS
    if types == {int}:
        kind = _kind_of_ints(min(chain.from_iterable(lists)), max(chain.from_iterable(lists)))
        return {ValueKind.INT: ValueKind.INTS, ValueKind.UINT: ValueKind.UINTS, None: None}[kind]
    return ValueKind.LIST if types.isdisjoint({int, float}) else None


def _classify(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> tuple[ValueKind, Any]:
    """Return the kind of a value, and the value in its base type."""
    type_ = type(value)
    if type_ in _KIND_OF_TYPE:
        return _KIND_OF_TYPE[type_], value
    if isinstance(value, (list, tuple)) and not isinstance(value, ExtType):
        return _kind_of_lists([value]) or ValueKind.LIST, value
    value = unarchive(_numpy.to_python_scalar(value))
    if isinstance(value, int):
        if isinstance(value, bool):
            return ValueKind.BOOL, value
        kind = _kind_of_ints(value, value)
        if kind is None:
            raise EntityWriteError(
                f"cannot publish this value: an int of {value.bit_length()} bits does not fit in 64 bits; convert it "
                'to str or float, or use codec="msgpack"'
            )
        return kind, int(value)
    return _classify_other(value, enc_hook)


def _classify_other(value: Any, enc_hook: Callable[[Any], Any] | None) -> tuple[ValueKind, Any]:
    if _numpy.is_array(value):
        _numpy.describe(value)
        return ValueKind.ARRAY, value
    for base, kind, convert in _BASES:
        if isinstance(value, base):
            return kind, convert(value)
    fields = value if isinstance(value, list) else fields_of(value, dates_as_text=True)
    if fields is not None:
        return _classify(fields)
    return _classify(from_hook(enc_hook, value, _REMEDY), enc_hook)


_BASES: tuple[tuple[Any, ValueKind, Any], ...] = (
    (float, ValueKind.FLOAT, float),
    (str, ValueKind.STR, str.__str__),
    ((bytes, bytearray, memoryview), ValueKind.BYTES, raw.flat),
    (Mapping, ValueKind.MAP, dict),
    (ArrayMap, ValueKind.ARRAY_MAP, lambda value: value),
)


def parts_of(enc_hook: Callable[[Any], Any] | None, value: Any) -> Children:
    """Return the parts of a value, with their steps; see `_culprit.refusal`.

    Raises:
        EntityWriteError: the value is not supported, whatever its parts are.
    """
    kind, plain = _classify(value, enc_hook)
    if kind is ValueKind.STR:
        _culprit.check_text(plain)
    if kind is ValueKind.MAP:
        is_record = not isinstance(value, Mapping) and plain is not value
        return _culprit.attributes_of(plain) if is_record else _culprit.items_of(plain, _check_key)
    if kind in (ValueKind.LIST, ValueKind.INTS, ValueKind.UINTS, ValueKind.FLOATS):
        return _culprit.elements_of(plain) if kind is ValueKind.LIST else ()
    return ()


def _check_key(key: Any) -> None:
    plain = _keys.writable_key(key)
    for part in plain if isinstance(plain, tuple) else (plain,):
        if isinstance(part, str):
            _culprit.check_text(part)


def has_cycle(value: Any) -> bool:
    """Return whether a value contains itself."""
    ancestors: set[int] = set()
    pending: list[tuple[Any, bool]] = [(value, False)]
    while pending:
        item, is_done = pending.pop()
        if is_done:
            ancestors.discard(id(item))
            continue
        if id(item) in ancestors:
            return True
        if item is None or isinstance(item, (int, float, str, bytes)):
            continue
        fields = item if isinstance(item, (Mapping, list, tuple)) else fields_of(item)
        if fields:
            ancestors.add(id(item))
            pending.append((item, True))
            pending += [(child, False) for child in (fields.values() if isinstance(fields, Mapping) else fields)]
    return False
