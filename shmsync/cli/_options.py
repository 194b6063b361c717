"""Parsers of option values. Their messages are ours: those of typer depend on its version, and quote its validator."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable


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
