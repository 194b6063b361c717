"""Arguments of public calls: what they must be, said in the same words everywhere."""

from __future__ import annotations

from typing import Any

from shmsync.errors import InvalidArgumentError


def flag(value: Any, parameter: str) -> bool:
    """Return an argument that must be a bool.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{parameter} must be True or False, not {value!r}")
    return value


def optional_flag(value: Any, parameter: str) -> bool | None:
    """Return an argument that must be a bool or None.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if value is not None and not isinstance(value, bool):
        raise InvalidArgumentError(f"{parameter} must be True, False or None, not {value!r}")
    return value


def function(value: Any, parameter: str) -> Any:
    """Return an argument that must be a function or None.

    Raises:
        InvalidArgumentError: it is neither.
    """
    if value is not None and not callable(value):
        raise InvalidArgumentError(f"{parameter} must be a function or None, not {value!r}")
    return value


def integer(value: Any, parameter: str, lowest: int, highest: int, unit: str = "") -> int:
    """Return an argument that must be an int in a range.

    Args:
        value: the argument.
        parameter: its name.
        lowest: the least value.
        highest: the largest value.
        unit: of the number, for the message.

    Raises:
        InvalidArgumentError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        text = f", in {unit}," if unit else ","
        raise InvalidArgumentError(f"{parameter} must be an int from {lowest} to {highest}{text} not {value!r}")
    return value


_OWNER_BITS = 0o600
_READ_WRITE = 0o666


def permission_bits(value: Any) -> int:
    """Return an argument `mode`, which must consist of permissions to read and write.

    Raises:
        InvalidArgumentError: it does not, or the owner lacks one of them.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidArgumentError(f"mode must be permission bits such as 0o640, not {value!r}")
    if value & ~_READ_WRITE:
        # A larger number may be an octal one without its prefix 0o.
        in_decimal = "" if value in range(0o1000) else f" ({value} in decimal)"
        raise InvalidArgumentError(
            f"mode must consist of permissions to read and write, such as 0o640, not {value:#o}{in_decimal}: "
            f"the bits {value & ~_READ_WRITE & 0xFFFF_FFFF:#o} are others"
        )
    if value & _OWNER_BITS != _OWNER_BITS:
        raise InvalidArgumentError(
            f"mode must let the owner read and write, such as 0o640, not {value:#o}: the bits 0o600 are required"
        )
    return value
