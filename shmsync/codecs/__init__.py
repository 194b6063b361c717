"""Codecs: how a value is encoded into the payload of a data segment, and decoded from it. One module each.

The writer chooses the codec. Its number is stored in the data header, so a reader does not have to be configured.

The first handle of a process imports all codecs: see `load`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from shmsync._util.os_errors import raised_as
from shmsync.codecs import msgpack, raw
from shmsync.errors import DataReadError, EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shmsync.codecs._gather import Bytes, Payload
    from shmsync.codecs._typed import TypedDecoder

__all__ = ["NAMES", "NOT_PLAIN", "Codec", "Decoder", "are_intact", "by_id", "by_name", "encoder_of", "load"]

NAMES = {0: "msgpack", 1: "raw", 2: "archive", 3: "arrow", 4: "pickle"}
"""The names of the codecs by number."""

NOT_PLAIN: Any = object()


class Codec(Protocol):
    """The interface of a codec module."""

    NAME: str
    ID: int

    def encode(self, value: Any) -> Payload:
        """Return the payload to copy into the segment.

        Raises:
            EntityWriteError: the value cannot be encoded so that it reads back equal.
        """

    def decode(self, payload: memoryview) -> Any:
        """Return the value, or a view of the payload.

        Raises:
            EntityReadError: the payload is not valid for this codec.
        """


_BY_ID: dict[int, Codec] = {}
_CHECKS: dict[int, Callable[[memoryview], None]] = {}  # the other codecs validate the whole payload in `decode`


def load() -> None:
    """Import all codecs.

    A program that only lists names does not need them. Every new handle calls this, because a read must not import the
    codec of its value: in a signal handler that interrupted the same import the module would be incomplete, and in a
    child forked while another thread imported it, it would stay locked.

    Raises:
        DataReadError: the kernel refuses, as it does without a free file descriptor.
    """
    if _BY_ID:
        return
    with raised_as(DataReadError, "import the codecs"):
        from shmsync.codecs import _typed, archive, arrow, pickle  # noqa: F401, PLC0415 - see above

    _CHECKS.update({archive.ID: archive.check, arrow.ID: arrow.check})
    codecs: tuple[Codec, ...] = (msgpack, raw, archive, arrow, pickle)
    _BY_ID.update({codec.ID: codec for codec in codecs})  # last: an interrupted load is repeated


def by_name(name: str) -> Codec:
    """Return the codec with this name.

    Raises:
        InvalidArgumentError: there is no such codec.
    """
    load()
    for codec in _BY_ID.values():
        if name == codec.NAME:
            return codec
    raise InvalidArgumentError(f"unknown codec {name!r}; choose one of {', '.join(NAMES.values())}")


def by_id(number: int) -> Codec:
    """Return the codec with this number, as stored in a data header.

    Raises:
        EntityReadError: this version of shmsync does not have the codec.
    """
    codec = _BY_ID.get(number)
    if codec is None:
        raise EntityReadError(
            f"the value was published with codec {number}, which this version of shmsync does not have; "
            "install the writer's version of shmsync"
        )
    return codec


def encoder_of(codec: Codec) -> Callable[[Any], Payload]:
    """Return the function that encodes the values of one writer. It is `codec.encode`, or does the same faster."""
    return msgpack.Encoder().encode if codec is msgpack else codec.encode


def are_intact(views: Iterable[memoryview]) -> bool:
    """Return whether none of these views, which are not empty, was released."""
    try:
        return all(map(len, views))
    except ValueError:
        return False


class PinnedPayload(Protocol):
    """The payload of one version, pinned while it is decoded."""

    codec: Codec

    def view(self) -> memoryview:
        """Return a view of the payload that must not outlive the pin."""

    def export(self) -> memoryview:
        """Return a view of the payload that may outlive the pin; several times as expensive as `view`."""


class Decoder:
    """Decodes the versions that one reader reads.

    Args:
        type_: decode into this type; None for the value as it was written.
        allow_pickle: accept codec="pickle". Loading a pickle runs code that the writer chose.
        zero_copy_bytes: return bytes of 4 KiB and more as memoryviews of the payload, not as copies.

    Raises:
        InvalidArgumentError: msgspec does not support the type.
        MissingExtraError: a type is given, and msgspec is not installed.
    """

    def __init__(self, type_: Any = None, *, allow_pickle: bool = False, zero_copy_bytes: bool = False) -> None:
        load()
        self._typed = None if type_ is None else _typed_decoder(type_)
        self._allow_pickle = allow_pickle
        self._zero_copy_bytes = zero_copy_bytes
        self._decode_archive = _archive_decoder(zero_copy_bytes=zero_copy_bytes)

    def decode(self, published: PinnedPayload, exposed: list[memoryview] | None = None) -> Any:
        """Return the value. If it refers to the payload, the payload is exported.

        Args:
            published: the payload.
            exposed: the memoryviews in the value are appended to it. A memoryview is a context manager that releases
                it, so a caller that shares the value with others may spoil it for them.

        Raises:
            EntityReadError: the payload is not valid for its codec, the value is not of the type, or it is a pickle
                and pickles are not allowed.
        """
        codec = published.codec
        value = self.decode_plain(codec.ID, published.view()) if codec is msgpack else NOT_PLAIN
        if value is not NOT_PLAIN:
            return value
        value = self._decode_exported(codec, published.export(), [] if exposed is None else exposed)
        if exposed is not None and type(value) is memoryview:
            exposed.append(value)
        return value

    def decode_plain(self, codec: int, payload: Bytes) -> Any:
        """Return a value that does not refer to the payload.

        Args:
            codec: the number of the codec.
            payload: the encoded value.

        Returns:
            The value; NOT_PLAIN if it may refer to the payload, so that `decode` is required.

        Raises:
            EntityReadError: the payload is not valid for the codec.
        """
        if codec != msgpack.ID or self._typed is not None or msgpack.is_frame(payload):
            return NOT_PLAIN
        return msgpack.unpack(payload)

    def _decode_exported(self, codec: Codec, payload: memoryview, exposed: list[memoryview]) -> Any:
        if codec.NAME == "pickle" and not self._allow_pickle:
            raise EntityReadError(
                'the value was published with codec="pickle", and unpickling runs code that the writer chose; '
                "if you trust the writer, open the Reader with allow_pickle=True"
            )
        views = exposed if self._zero_copy_bytes else None
        if self._typed is not None:
            return self._typed.decode(codec, payload, views)
        if codec is msgpack:
            return msgpack.decode(payload, views)
        if codec.NAME == "archive":
            return self._decode_archive(payload)
        return codec.decode(payload)

    def check(self, codec: Codec, payload: memoryview) -> None:
        """Validate the parts of a payload that decoding in place does not read.

        Raises:
            EntityReadError: the payload is damaged.
        """
        check = _CHECKS.get(codec.ID)
        if check is not None:
            check(payload)


def _typed_decoder(type_: Any) -> TypedDecoder:
    from shmsync.codecs._typed import TypedDecoder  # noqa: PLC0415 - imported by `load`

    return TypedDecoder(type_)


def _archive_decoder(*, zero_copy_bytes: bool) -> Callable[[memoryview], Any]:
    from shmsync.codecs import archive  # noqa: PLC0415 - as above

    return partial(archive.decode, zero_copy_bytes=zero_copy_bytes)
