"""Python values that msgpack has no type for, as msgpack extensions that read back equal.

An aware datetime in UTC is the timestamp extension of the specification (type -1). All others are extensions of type
64, whose data is a tag and a msgpack array: the kind and its fields. See docs/format.md.

Only exact types are written as they are. An instance of a subclass is written as an instance of the base type, and only
if that is equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgpack import Timestamp

from shmsync.codecs._culprit import type_name
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENSION = 64
TAG = b"shmsync"  # distinguishes our extensions from the caller's own of the same type

_SETS = (set, frozenset)
_FIRST_KIND, _END_OF_KINDS = b"\xa0", b"\xc0"

DESCRIBED: dict[type, Callable[[Any], Timestamp | tuple[Any, ...]]] = {}
"""For each type, the function that describes a value. A subclass comes before its base."""
RESTORED: dict[Any, Callable[..., Any]] = {}
"""For each kind, the function that makes a value of the fields. `_kinds` adds to both."""


def fields_of(value: Any) -> Timestamp | tuple[Any, ...] | None:
    """Return the kind and the fields of a value; a Timestamp for a datetime in UTC; None for an unsupported type.

    The fields of a set are its elements, which may be of any hashable type.

    Raises:
        EntityWriteError: the value is of a supported type, but does not read back equal.
    """
    describe = DESCRIBED.get(type(value))
    if describe is not None:
        return describe(value)
    base = next((each for each in DESCRIBED if isinstance(value, each)), None)
    if base is None:
        return None
    describe = DESCRIBED[base]
    try:
        fields = describe(value)
        is_equal = isinstance(value, _SETS) or bool(value_of(fields) == value)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        is_equal = False  # such as pandas.NaT
    if not is_equal:
        raise EntityWriteError(f"{type_name(value)} is not supported: as {base.__name__} it would not be equal")
    return fields


def value_of(fields: Any) -> Any:
    """Return the value that `fields_of` has described.

    Raises:
        ValueError, TypeError, LookupError, ArithmeticError: the fields are not valid.
    """
    if isinstance(fields, Timestamp):
        return fields.to_datetime()
    kind, *arguments = fields
    return RESTORED[kind](*arguments)


def is_value(data: bytes) -> bool:
    """Return whether the data of an extension with our tag is a value, not a reference to a buffer of a frame."""
    return _FIRST_KIND <= data[len(TAG) + 1 : len(TAG) + 2] < _END_OF_KINDS  # a short text, after the array's own byte
