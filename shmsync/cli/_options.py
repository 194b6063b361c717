"""Parsers of option values. Their messages are ours: those of typer depend on its version, and quote its validator."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable


PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        help="File with the password of the server; by default, it is in SHMSYNC_REDIS_PASSWORD.",
        metavar="FILE",
        show_default=False,
    ),
]


def number(least: float, most: float = math.inf) -> Callable[[Any], float]:
    """Return a parser of numbers within limits."""

    def parse(text: Any) -> float:
        return _within(_parse(float, text, "a number"), least, most)

    return parse


def integer(least: int, most: float = math.inf) -> Callable[[Any], int]:
    """Return a parser of integers within limits."""

    def parse(text: Any) -> int:
        return int(_within(_parse(int, text, "an integer"), least, most))

    return parse


def choice(*values: str) -> Callable[[str], str]:
    """Return a parser of a few texts. An option that it parses has to be a str: typer converts enumerations itself."""

    def parse(text: str) -> str:
        if text not in values:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(values)}")
        return text

    return parse


_SIZE = re.compile(r"(\d{1,18})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_OCTAL = 8


def size(least: int, most: int) -> Callable[[Any], int]:
    """Return a parser of sizes within limits: 512M and 512 MiB are 512 * 2**20 bytes."""

    def parse(text: Any) -> int:
        found = _SIZE.fullmatch(str(text).strip())
        if found is None:
            raise typer.BadParameter(f"{text!r} is not a size such as 4096, 64K, 512M or 2G")
        value = int(found[1]) << _SHIFTS[found[2].upper()]
        if not least <= value <= most:
            raise typer.BadParameter(f"{text} is out of range; it must be from {least:,} to {most:,} bytes")
        return value

    return parse


def octal(text: Any) -> int:
    """Parse permission bits."""
    try:
        return text if isinstance(text, int) else int(text, _OCTAL)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a valid octal mode such as 640") from None


def _parse(kind: Callable[[Any], float], text: Any, what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise typer.BadParameter(f"{text!r} is not {what}")
    return value


def _within(value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        limit = f"at least {least:g}" if value < least else f"at most {most:g}"
        raise typer.BadParameter(f"{value:g} is out of range; it must be {limit}")
    return value
