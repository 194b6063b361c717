"""What a codec could not encode, and where: found by a second, slow walk through the value, after encoding failed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    Children = Iterable[tuple[str, Any]]
    """The parts of a value, each with the step that leads to it, such as "['a']"."""

PREFIX = "cannot publish this value: "

# The exceptions of a value's own code. Not Exception: a signal handler may raise its own exception.
_ERRORS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)
_SHOWN = 60  # characters of a repr
_MAX_STEPS = 12  # of a path


def refusal(value: object, children_of: Callable[[Any], Children], otherwise: Exception) -> EntityWriteError:
    """Return the error for a value that could not be encoded.

    Args:
        value: the value.
        children_of: returns the parts of a value; raises EntityWriteError, with the reason, for one that is not
            supported by itself.
        otherwise: why encoding failed; its message is used if the walk finds nothing.
    """
    text = _first_unsupported(value, children_of)
    if text is None and "recursion" in str(otherwise):
        text = "it is nested too deeply; flatten it"
    if text is None:
        text = _reason(otherwise)
    return EntityWriteError(PREFIX + text)


def cause_of(error: Exception) -> Exception | None:
    """Return the error to name as the cause; None if its traceback is one line for each level of a deep value."""
    return None if "recursion" in str(error) else error


def check(value: object, children_of: Callable[[Any], Children]) -> None:
    """Check that all parts of a value are supported.

    Raises:
        EntityWriteError: one is not; the message contains its path.
    """
    found = _first_unsupported(value, children_of)
    if found is not None:
        raise EntityWriteError(PREFIX + found)


def _first_unsupported(value: object, children_of: Callable[[Any], Children]) -> str | None:
    """Return path and reason of the first part that is not supported, in the order of encoding."""
    path: list[str] = []
    ancestors: list[object] = []  # kept alive, so that their ids are not used again
    ids: set[int] = set()
    pending: list[Iterator[tuple[str, Any]]] = [iter([("", value)])]
    while pending:
        try:
            step, item = next(pending[-1], (None, None))
        except RuntimeError:  # another thread modifies the value
            return None
        if step is None:
            pending.pop()
            if ancestors:
                ids.discard(id(ancestors.pop()))
                path.pop()
            continue
        try:
            if id(item) in ids:
                raise EntityWriteError("it contains itself; remove the cycle")
            children = children_of(item)
        except _ERRORS as error:
            return _at([*path, step]) + _reason(error)
        if children:
            pending.append(iter(children))
            path.append(step)
            ancestors.append(item)
            ids.add(id(item))
    return None


def _reason(error: Exception) -> str:
    # Messages about an array begin with "cannot publish an array". Some of msgpack end with a full stop.
    return (str(error) or type(error).__name__).removeprefix(PREFIX).removeprefix("cannot publish ").rstrip(".")


def _at(path: list[str]) -> str:
    steps = [step for step in path if step]
    if len(steps) > _MAX_STEPS:
        half = _MAX_STEPS // 2
        steps = [*steps[:half], f"...({len(steps) - 2 * half} more)...", *steps[-half:]]
    return f"at {''.join(steps)}: " if steps else ""


def items_of(mapping: Mapping[Any, Any], check_key: Callable[[Any], None]) -> Children:
    """Return the values of a map, with their steps.

    Raises:
        EntityWriteError: `check_key` has refused a key.
    """
    for key in mapping:
        check_key(key)
    return [(f"[{short(key)}]", item) for key, item in mapping.items()]


def elements_of(sequence: Iterable[Any]) -> Children:
    """Return the elements of a list or tuple, with their steps."""
    return [(f"[{index}]", item) for index, item in enumerate(sequence)]


def attributes_of(fields: Mapping[Any, Any] | Iterable[Any]) -> Children:
    """Return the fields of a record, with their steps."""
    if isinstance(fields, dict):
        return [(f".{name}", item) for name, item in fields.items()]
    return elements_of(fields)


def check_text(value: str) -> None:
    """Check that a string can be encoded.

    Raises:
        EntityWriteError: it contains surrogates.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise EntityWriteError(
            f"the string {short(value)} is not valid Unicode: {error}; encode it to bytes, for example with "
            'errors="surrogateescape"'
        ) from error


def short(value: object) -> str:
    """Return the repr of a value, shortened; its type if it has no repr."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the caller's own code
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def type_name(value: object) -> str:
    """Return the name of the type of a value, with its module unless that is builtins."""
    type_ = type(value)
    return type_.__qualname__ if type_.__module__ == "builtins" else f"{type_.__module__}.{type_.__qualname__}"


def unsupported(value: object, remedy: str) -> EntityWriteError:
    """Return the error for a value of a type that a codec does not support.

    Args:
        value: the value.
        remedy: what to do if nothing better is known for its type.
    """
    for pattern, known in _REMEDIES:
        if any(re.fullmatch(pattern, f"{each.__module__}.{each.__qualname__}") for each in type(value).__mro__):
            remedy = known
            break
    return EntityWriteError(f"{type_name(value)} is not supported; {remedy}")


_TABLE = 'use codec="arrow", which takes whole tables and data frames'
_LIST = "make a list of it"
_REMEDIES = (
    (r"pandas\.(.+\.)?DataFrame", _TABLE),
    (r"polars\.(.+\.)?DataFrame", _TABLE),
    (r"polars\.(.+\.)?LazyFrame", 'collect() it, and use codec="arrow"'),
    (r"(pandas|polars)\.(.+\.)?(Series|Index)", 'use its to_numpy(), or a frame of it with codec="arrow"'),
    (r"pandas\..*(Timestamp|Timedelta|NaTType)", "convert it with to_pydatetime() or to_pytimedelta()"),
    (r"pyarrow\.lib\.(Table|RecordBatch)", 'use codec="arrow"'),
    (r"pydantic\.main\.BaseModel", "publish its model_dump(); Reader(type=...) reads it into the model again"),
    (r"enum\.Enum", "publish its value; in a field of a dataclass or Struct that is done for you"),
    (
        r"google\.protobuf\..*|google\._upb\._message\.Message",
        "publish its SerializeToString()",
    ),
    (r"torch\.Tensor", "publish its numpy()"),
    (r"array\.array", "publish memoryview(...) or numpy.asarray(...) of it"),
    (r"numpy\.datetime64|numpy\.timedelta64", "publish its item(), or an array of it"),
    (r"numpy\.complex\d+|numpy\.clongdouble", "publish complex(...) of it, or an array of it"),
    (r"numpy\.(longdouble|float128)", "publish float(...) of it, or an array of it"),
    (r"fractions\.Fraction", "publish its numerator and denominator"),
    (r"collections\.deque|builtins\.(generator|\w+iterator|map|filter|zip|dict_\w+|enumerate|reversed)", _LIST),
    (r"(builtins\.)?(coroutine|function|builtin_function_or_method)", "call it, and publish the result"),
    (r"ipaddress\..*", "publish str(...) of it"),
    (r"re\.Pattern", "publish its pattern"),
)
