"""A summary of a value: its types, lengths and shapes, without its contents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from shmsync.cli._key_path import key_text
from shmsync.cli._units import count_text, size_text

_MAX_KEYS = 30
_ALIKE = 4  # keys from which values of the same shape are described once
_MAX_DEPTH = 4
_MAX_TYPES = 100  # items of a sequence whose types are looked at


def shape_of(value: Any, depth: int = 0) -> dict[str, Any]:
    """Return a description of a value: "type" in words, and those of its parts.

    Maps are described by "keys", their first ones, or by "values" if the values of these are alike; and sequences of
    maps and sequences by "items", their first one.
    """
    if isinstance(value, Mapping):
        return _shape_of_map(value, depth)
    if isinstance(value, str):
        return {"type": "str"}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"type": f"bytes, {size_text(memoryview(value).nbytes)}"}
    return _shape_of_sequence(value, depth) if isinstance(value, Sequence) else _shape_of_array(value)


def _shape_of_map(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": f"{type(value).__name__}, {count_text(len(value), 'key')}"}
    if value and depth < _MAX_DEPTH:
        shapes = {key_text(key): shape_of(item, depth + 1) for key, item in islice(value.items(), _MAX_KEYS)}
        first = next(iter(shapes.values()))
        if len(value) >= _ALIKE and all(shape == first for shape in shapes.values()):
            return {**found, "values": first}
        found["keys"] = shapes
        if len(value) > _MAX_KEYS:
            found["more"] = len(value) - _MAX_KEYS
    return found


def _shape_of_array(value: Any) -> dict[str, Any]:
    """Describe a NumPy array, an Arrow table, or a value without parts."""
    if hasattr(value, "schema"):
        columns = {field.name: {"type": str(field.type)} for field in value.schema}
        return {"type": f"{type(value).__name__}, {count_text(value.num_rows, 'row')}", "keys": columns}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return {"type": f"{value.dtype} array of shape {value.shape}, {size_text(value.nbytes)}"}
    return {"type": type(value).__name__}


def _shape_of_sequence(value: Sequence[Any], depth: int) -> dict[str, Any]:
    text = f"{type(value).__name__}, {count_text(len(value), 'item')}"
    kinds = dict.fromkeys(type(item).__name__ for item in islice(value, _MAX_TYPES))
    found: dict[str, Any] = {"type": f"{text} of {' | '.join(kinds)}" if kinds else text}
    if value and depth < _MAX_DEPTH and _has_parts(value[0]):
        found["items"] = shape_of(value[0], depth + 1)
    return found


def _has_parts(value: Any) -> bool:
    return (isinstance(value, Mapping | Sequence) and not isinstance(value, str | bytes)) or hasattr(value, "dtype")


def shape_lines(shape: dict[str, Any], indent: int = 0, key: str = "") -> Iterator[str]:
    """Yield a description as lines."""
    yield f"{' ' * indent}{key}{shape['type']}"
    for name, part in shape.get("keys", {}).items():
        yield from shape_lines(part, indent + 2, f"{name}: ")
    for name, label in (("values", "each: "), ("items", "[0]: ")):
        if name in shape:
            yield from shape_lines(shape[name], indent + 2, label)
    if "more" in shape:
        yield f"{' ' * indent}  ... {count_text(shape['more'], 'more key')}"
