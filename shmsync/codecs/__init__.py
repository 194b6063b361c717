"""Codecs: how a value becomes the payload of a data segment, and back. One file each.

The writer chooses; its choice stands in the data header, so a reader needs to be told nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs import archive, arrow, msgpack, pickle, raw
from shmsync.codecs._typed import TypedDecoder
from shmsync.errors import EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Bytes, Payload

__all__ = ["NOT_PLAIN", "Codec", "Decoder", "by_id", "by_name"]

NOT_PLAIN: Any = object()


class Codec(Protocol):
    """What a codec module offers."""

    NAME: str
    ID: int

    def encode(self, value: Any) -> Payload:
        """Return what to lay into the segment. Raises EntityWriteError if the value would not read back equal."""

    def decode(self, payload: memoryview) -> Any:
        """Return the value, or a view of it. Raises EntityReadError if the bytes are not this codec's."""


_ALL: tuple[Codec, ...] = (msgpack, raw, archive, arrow, pickle)
_BY_NAME = {codec.NAME: codec for codec in _ALL}
_BY_ID = {codec.ID: codec for codec in _ALL}
_CHECKS = {archive.ID: archive.check, arrow.ID: arrow.check}  # the others decode as a whole, which is a check


def by_name(name: str) -> Codec:
    """Return the codec of this name.

    Raises:
        InvalidArgumentError: there is none.
    """
    codec = _BY_NAME.get(name) if isinstance(name, str) else None
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


class Published(Protocol):
    """One version in a segment, pinned while it is decoded."""

    codec: Codec

    def view(self) -> memoryview:
        """Return a view of the payload, which must not outlive the pin."""

    def export(self) -> memoryview:
        """Return a view of the payload that may outlive the pin, which costs several times as much."""


class Decoder:
    """How one reader decodes.

    Args:
        kind: decode into this type; None for whatever was written.
        allow_pickle: take pickles. Loading one runs code of the writer's choice.

    Raises:
        InvalidArgumentError: the type is not supported.
        MissingExtraError: a typed read needs msgspec.
    """

    def __init__(self, kind: Any = None, *, allow_pickle: bool = False) -> None:
        self._typed = None if kind is None else TypedDecoder(kind)
        self._allow_pickle = allow_pickle

    def decode(self, published: Published) -> Any:
        """Return the value; it may refer to the payload, which is lent then.

        Raises:
            EntityReadError: the bytes are not the codec's, the value is not of the type, or a pickle is not allowed.
        """
        codec = published.codec
        value = self.decode_plain(codec.ID, published.view()) if codec is msgpack else NOT_PLAIN
        return self._decode_lent(codec, published.export()) if value is NOT_PLAIN else value

    def decode_plain(self, codec: int, payload: Bytes) -> Any:
        """Return a value that does not refer to the payload; NOT_PLAIN if it might.

        Args:
            codec: its number.
            payload: what it made.

        Raises:
            EntityReadError: the bytes are not the codec's.
        """
        if codec != msgpack.ID or self._typed is not None or msgpack.is_frame(payload):
            return NOT_PLAIN
        return msgpack.unpack(payload)

    def _decode_lent(self, codec: Codec, payload: memoryview) -> Any:
        if codec is pickle and not self._allow_pickle:
            raise EntityReadError(
                'published with codec="pickle", which can run any code in the process that reads it; if you trust the '
                "writer, open the Reader with allow_pickle=True"
            )
        return codec.decode(payload) if self._typed is None else self._typed.decode(codec, payload)

    def check(self, codec: Codec, payload: memoryview) -> None:
        """Look at all that decoding in place would not look at. Raises EntityReadError."""
        check = _CHECKS.get(codec.ID)
        if check is not None:
            check(payload)
