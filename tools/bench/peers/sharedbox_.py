"""sharedbox: a record in shared memory whose fields are declared beforehand; reads are copies.

A config has a field for each key, arrays are array fields, a map has one for its keys and one for its rows. All fields
of a version are updated in one call; one of them is its number.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import numpy as np
from sharedbox import Capacity, DType, Shape, SharedBox

from bench.names import new_name
from bench.peers import base
from bench.values import ROW, Items

_KEY_WIDTH = 12
_SETTING = tuple[int, float, Annotated[str, Capacity(32)], bool]
_TEXT = Annotated[str, Capacity(1024)]


def _class_for(shape: str, size: int) -> Any:
    fields: dict[str, Any] = {"version": int}
    if shape == "config":
        fields |= {f"setting_{number:02d}": _SETTING for number in range(19)} | {"text": _TEXT}
    elif shape == "array":
        fields["values"] = _array("float32", size // 4)
    else:
        width = 8 if shape == "int map" else _KEY_WIDTH
        count = size // (width + 4 * ROW)
        keys = _array("int64", count) if shape == "int map" else _array("uint8", count, width)
        fields |= {"keys": keys, "values": _array("float32", count, ROW)}
    metaclass: Any = type(SharedBox)
    return metaclass("Value", (SharedBox,), {"__module__": __name__, "__annotations__": fields})


def _array(dtype: str, *dimensions: int) -> Any:
    return Annotated[np.ndarray, Shape(*dimensions), DType(dtype)]


class Writer(base.Writer):
    """Creates the box with the first version, as each field must have a value."""

    def __init__(self, shape: str, size: int) -> None:
        self.address = new_name("sharedbox"), size
        self._class = _class_for(shape, size)
        self._box: Any = None
        self._version = 0

    def write(self, value: Any) -> None:
        self._version += 1
        fields = {"version": self._version, **_fields(value)}
        if self._box is None:
            self._box = self._class.create(self.address[0], **fields)
        else:
            self._box.update(**fields)

    def close(self) -> None:
        if self._box is not None:
            self._box.unlink()
            self._box.close()


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: tuple(field) if isinstance(field, list) else field for key, field in value.items()}
    if isinstance(value, Items):
        keys = value.keys
        if isinstance(keys, list):
            keys = np.array(keys, f"S{_KEY_WIDTH}").view(np.uint8).reshape(-1, _KEY_WIDTH)
        return {"keys": keys, "values": value.values}
    return {"values": value}


class Reader(base.Reader):
    """Copies a new version: an array over the last one, anything else as a snapshot."""

    def __init__(self, shape: str, address: tuple[str, int]) -> None:
        self._shape = shape
        self._box = _class_for(shape, address[1]).attach(address[0])
        self._out = np.empty(address[1] // 4, np.float32) if shape == "array" else None

    def get(self) -> Any:
        if self._box.version != self._seen:
            if self._shape == "array":
                self._seen = self._box.version
                self._value = self._box.read_into("values", self._out)
            else:
                found = self._box.snapshot()
                self._seen = found.pop("version")
                self._value = self._made(found)
        return self._value

    def _made(self, found: dict[str, Any]) -> Any:
        if self._shape == "config":
            return {key: list(field) if isinstance(field, tuple) else field for key, field in found.items()}
        keys = found["keys"]
        if self._shape == "str map":
            keys = [key.decode() for key in keys.view(f"S{_KEY_WIDTH}").reshape(-1).tolist()]
        return base.Rows(keys, found["values"])

    def wait(self, timeout: float) -> None:
        with suppress(TimeoutError):
            self._box.watch("version").future().result(timeout)

    def close(self) -> None:
        self._box.close()
