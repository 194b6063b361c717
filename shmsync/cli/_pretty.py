"""Values as JSON for people: indented, with long parts shortened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from shmsync.cli._key_path import json_text, key_text, to_json
from shmsync.cli._units import count_text

_INDENT = 2


class Limits(NamedTuple):
    """How much of a value is shown.

    Attributes:
        keys: keys of a map, by its depth; the last one is for all that are deeper.
        items: items of a sequence, likewise.
        parts: items of a sequence of maps or sequences.
        characters: characters of a text.
        octets: bytes of a binary part.
    """

    keys: tuple[int, ...] = (50, 10, 5)
    items: tuple[int, ...] = (20, 20, 6, 4)
    parts: int = 8
    characters: int = 400
    octets: int = 48


class _More(str):
    """A note in place of what was left out. It is printed without quotes."""

    __slots__ = ()


def pretty(value: Any, width: int, limits: Limits | None) -> tuple[list[str], bool]:
    """Return a value as lines, and whether something was left out.

    Args:
        value: the value.
        width: width of the terminal in columns. Long texts may exceed it.
        limits: how much is shown; None for everything.
    """
    plain = to_json(value) if limits is None else _shorten(value, limits, 0)
    return list(_lines(plain, width)), _is_shortened(plain)


def _shorten(value: Any, limits: Limits, depth: int) -> Any:
    if isinstance(value, str):
        rest = len(value) - limits.characters
        return value if rest <= 0 else _more(value[: limits.characters], rest, "character")
    if isinstance(value, bytes | bytearray | memoryview):
        data = memoryview(value).cast("B")
        rest = len(data) - limits.octets
        return to_json(data) if rest <= 0 else _more(data[: limits.octets].hex(" "), rest, "byte")
    if isinstance(value, Mapping):
        count = _limit(limits.keys, depth)
        shown = {key_text(key): _shorten(item, limits, depth + 1) for key, item in islice(value.items(), count)}
        return shown | _rest(len(value) - count, "key")
    if _is_sequence(value):
        count = _limit(limits.items, depth)
        if len(value) and (isinstance(value[0], Mapping) or _is_sequence(value[0])) and not isinstance(value[0], str):
            count = min(count, limits.parts)
        items = [_shorten(item, limits, depth + 1) for item in _first(value, count)]
        return [*items, *_rest(len(value) - count, "item").values()]
    return to_json(value)


def _limit(limits: tuple[int, ...], depth: int) -> int:
    return limits[min(depth, len(limits) - 1)]


def _more(text: str, rest: int, what: str) -> _More:
    return _More(f"{json_text(text)} ... {count_text(rest, f'more {what}')}")


def _rest(rest: int, what: str) -> dict[_More, _More]:
    note = _More(f"... {count_text(rest, f'more {what}')}")
    return {note: note} if rest > 0 else {}


def _is_sequence(value: Any) -> bool:
    # Arrays and Arrow columns and tables are no Sequences. An array of no dimensions has no length.
    return isinstance(value, Sequence) or getattr(value, "ndim", 0) > 0 or hasattr(value, "to_pylist")


def _first(value: Any, count: int) -> Any:
    part = value.slice(0, count) if hasattr(value, "slice") else value[:count]
    return part.to_pylist() if hasattr(part, "to_pylist") else part


def _is_shortened(plain: Any) -> bool:
    if isinstance(plain, dict):
        return any(isinstance(key, _More) or _is_shortened(item) for key, item in plain.items())
    return any(map(_is_shortened, plain)) if isinstance(plain, list) else isinstance(plain, _More)


# ---------------------------------------------------------------------------------------------------------- as lines


def _lines(plain: Any, width: int, indent: int = 0, key: str = "", end: str = "") -> Iterator[str]:
    """Yield the lines of a value of JSON types. Short ones take one line, and numbers fill lines."""
    margin = " " * indent
    line = f"{margin}{key}{_on_one_line(plain)}{end}"
    if len(line) <= width or not plain or not isinstance(plain, dict | list):
        yield line
        return
    inner = indent + _INDENT
    first, last = "{}" if isinstance(plain, dict) else "[]"
    yield f"{margin}{key}{first}"
    if isinstance(plain, dict):
        for number, (name, item) in enumerate(plain.items(), 1):
            comma = "," if number < len(plain) else ""
            if isinstance(name, _More):
                yield f"{' ' * inner}{name}"
            else:
                yield from _lines(item, width, inner, f"{_text(name)}: ", comma)
    elif any(isinstance(item, dict | list) for item in plain):
        for number, item in enumerate(plain, 1):
            yield from _lines(item, width, inner, "", "," if number < len(plain) else "")
    else:
        yield from _filled([_text(item) for item in plain], width, inner)
    yield f"{margin}{last}{end}"


def _filled(items: list[str], width: int, indent: int) -> Iterator[str]:
    line = ""
    for number, item in enumerate(items, 1):
        part = f"{item}," if number < len(items) else item
        if line and indent + len(line) + 1 + len(part) > width:
            yield " " * indent + line
            line = part
        else:
            line = f"{line} {part}" if line else part
    yield " " * indent + line


def _on_one_line(plain: Any) -> str:
    if isinstance(plain, dict):
        parts = (name if isinstance(name, _More) else f"{_text(name)}: {_on_one_line(plain[name])}" for name in plain)
        return f"{{{', '.join(parts)}}}"
    return f"[{', '.join(map(_on_one_line, plain))}]" if isinstance(plain, list) else _text(plain)


def _text(plain: Any) -> str:
    return plain if isinstance(plain, _More) else json_text(plain)
