"""Parsers of option values. Their messages are ours: those of typer depend on its version, and quote its validator."""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

EnumT = TypeVar("EnumT", bound=Enum)


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


def choice(kind: type[EnumT]) -> Callable[[Any], EnumT]:
    """Return a parser of the values of an enumeration."""

    def parse(text: Any) -> EnumT:
        for member in kind:
            if text in {member, member.value}:
                return member
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(member.value for member in kind)}")

    return parse


def one_of(kind: type[Enum]) -> str:
    """Return the placeholder of an option whose values are those of an enumeration: "json|raw"."""
    return "|".join(member.value for member in kind)


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
