"""Codecs: how a value becomes the payload of a data segment, and back. One file each.

The writer chooses; its choice stands in the data header, so a reader needs to be told nothing.
"""

from __future__ import annotations

from typing import Protocol

from shmsync.codecs import msgpack, raw
from shmsync.errors import EntityReadError, InvalidArgumentError

__all__ = ["Codec", "by_id", "by_name"]


class Codec(Protocol):
    """What a codec module offers."""

    NAME: str
    ID: int
    IN_PLACE: bool
    """Whether decoded values refer to the segment itself, so that it must be kept while they live."""

    def encode(self, value: object) -> memoryview | bytes:
        """Return contiguous bytes. Raises EntityWriteError if the value would not read back equal."""

    def decode(self, payload: memoryview) -> object:
        """Return the value. Raises EntityReadError if the bytes are not this codec's."""


_ALL: tuple[Codec, ...] = (msgpack, raw)
_BY_NAME = {codec.NAME: codec for codec in _ALL}
_BY_ID = {codec.ID: codec for codec in _ALL}


def by_name(name: str) -> Codec:
    """Return the codec of this name.

    Raises:
        InvalidArgumentError: there is none.
    """
    codec = _BY_NAME.get(name)
    if codec is None:
        raise InvalidArgumentError(f"unknown codec {name!r}; there are: {', '.join(_BY_NAME)}")
    return codec


def by_id(number: int) -> Codec:
    """Return the codec that a data header names.

    Raises:
        EntityReadError: this version of shmsync does not know it.
    """
    codec = _BY_ID.get(number)
    if codec is None:
        raise EntityReadError(f"published with codec {number}, which this version of shmsync does not know")
    return codec
