"""The parts of a value, for the checks of the msgpack codec that encoding does not make, and for its error messages.

All of this runs only when a value has been refused, or has parts that msgpack itself does not support.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgpack import ExtType, Timestamp

from shmsync.codecs import _culprit, _extensions, _numpy
from shmsync.codecs._records import fields_of
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._culprit import Children

KEYS = "keys of dicts and elements of sets must be scalars, dates, UUIDs and the like, or tuples or frozensets of them"
_TAGGED = (
    f"an ExtType of type {_extensions.EXTENSION} whose data begins with {_extensions.TAG!r} is not supported beside "
    "arrays, large buffers, dates and the like, which are written so; use another type"
)
_ATOMS = (bool, int, float, bytes, bytearray, ExtType, Timestamp, type(None))
_REMEDY = "convert it, or pass Writer(enc_hook=...) to convert it"
_HOOK_ERRORS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


def parts_of(enc_hook: Callable[[Any], Any] | None, value: Any) -> Children:
    """Return the parts of a value, with their steps.

    Raises:
        EntityWriteError: the value is not supported, whatever its parts are.
    """
    if isinstance(value, (list, tuple)) and not isinstance(value, ExtType):
        return _culprit.elements_of(value)
    if isinstance(value, Mapping):
        return _culprit.items_of(value, check_key)
    if isinstance(value, (*_ATOMS, str, memoryview, set, frozenset)) or _numpy.is_array(value):
        _check_whole(value)
        return ()
    return _parts_of_object(enc_hook, value)


def _check_whole(value: Any) -> None:
    """Check a value that has no parts of its own."""
    if isinstance(value, str):
        _culprit.check_text(value)
    elif isinstance(value, (set, frozenset)):
        for element in value:
            check_key(element, "element")
    elif isinstance(value, memoryview) and not value.c_contiguous:
        raise EntityWriteError("a memoryview that is not contiguous is not supported; publish bytes(...) of it")
    elif _numpy.is_array(value):
        _numpy.describe(value)


def _parts_of_object(enc_hook: Callable[[Any], Any] | None, value: Any) -> Children:
    if _numpy.to_python_scalar(value) is not value or _extensions.fields_of(value) is not None:
        return ()
    fields = fields_of(value)
    if fields is not None:
        return _culprit.attributes_of(fields)
    return [("", from_hook(enc_hook, value))]


def from_hook(enc_hook: Callable[[Any], Any] | None, value: object, remedy: str = _REMEDY) -> Any:
    """Return what the caller's hook makes of a value of an unsupported type.

    Args:
        enc_hook: the hook; None if there is none.
        value: the value.
        remedy: what to do without a hook.

    Raises:
        EntityWriteError: there is no hook, or it does not support the value.
    """
    if enc_hook is None:
        raise _culprit.unsupported(value, remedy)
    try:
        converted = enc_hook(value)
    except NotImplementedError as error:
        raise _culprit.unsupported(value, "convert it; enc_hook does not support it either") from error
    except _HOOK_ERRORS as error:
        raise EntityWriteError(
            f"enc_hook has raised {type(error).__name__} for a value of type {_culprit.type_name(value)}: {error}"
        ) from error
    if type(converted) is type(value):
        raise EntityWriteError(
            f"enc_hook has returned a {_culprit.type_name(value)} again; return a value of another type, or raise "
            "NotImplementedError"
        )
    return converted


def check_key(key: Any, role: str = "key") -> None:
    """Check a key of a dict, or an element of a set.

    Raises:
        EntityWriteError: no reader could decode it as one.
    """
    pending = [key]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            _culprit.check_text(part)
        elif isinstance(part, (tuple, frozenset)) and not isinstance(part, ExtType):
            pending += part
        elif isinstance(part, (*_ATOMS, memoryview)):
            continue
        elif _numpy.to_python_scalar(part) is part and _extensions.fields_of(part) is None:
            raise EntityWriteError(
                f"the {role} {_culprit.short(key)} of type {_culprit.type_name(key)} is not supported; {KEYS}"
            )


def check_untagged(value: object) -> None:
    """Check that a value contains no extension of the caller's own that carries our tag.

    Raises:
        EntityWriteError: it contains one; the message contains its path.
    """
    _culprit.check(value, _untagged_parts_of)


def _untagged_parts_of(value: Any) -> Children:
    if _is_tagged(value):
        raise EntityWriteError(_TAGGED)
    if isinstance(value, (*_ATOMS, str, memoryview)):
        return ()
    if isinstance(value, Mapping):
        return [*((f"[{_culprit.short(key)}]", key) for key in value), *_culprit.items_of(value, lambda _: None)]
    if isinstance(value, (list, tuple, set, frozenset)):
        return _culprit.elements_of(value)
    fields = fields_of(value)
    return () if fields is None else _culprit.attributes_of(fields)


def _is_tagged(value: object) -> bool:
    return (
        isinstance(value, ExtType)
        and value.code == _extensions.EXTENSION
        and bytes(value.data).startswith(_extensions.TAG)
    )
