"""Codecs: how a value is encoded into the payload of a data segment, and decoded from it. One module each.

The writer chooses the codec. Its number is stored in the data header, so a reader does not have to be configured.

The first handle of a process imports all codecs: see `load`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs._frame import MAGIC
from shmsync.codecs._registry import NAMES, Codec, NumberedCodec, by_id, by_name, load, name_of, register_codec
from shmsync.codecs._schema import NO_CODEC, NO_SCHEMA, schema_of
from shmsync.errors import EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from shmsync.codecs import msgpack  # noqa: TC004 - `load` imports it, which makes it a global of this module
    from shmsync.codecs._gather import Bytes, Payload
    from shmsync.codecs._typed import TypeDecoder

__all__ = ["NOT_PLAIN", "Codec", "Decoder", "NumberedCodec", "are_intact", "by_id", "by_name", "encoder_of", "id_of"]
__all__ += ["load", "name_of", "register_codec"]

NOT_PLAIN: Any = object()

_MSGPACK = tuple(number for number, name in NAMES.items() if name == "msgpack")
_MSGPACK_ID = _MSGPACK[0]  # of values without extension types


def encoder_of(codec: NumberedCodec, enc_hook: Callable[[Any], Any] | None = None) -> Callable[[Any], Payload]:
    """Return the function that encodes the values of one writer, with the caller's hook.

    Raises:
        InvalidArgumentError: the codec calls no hook.
    """
    if codec is msgpack:
        return msgpack.Encoder(enc_hook).encode
    if enc_hook is None:
        return codec.encode
    from shmsync.codecs import archive  # noqa: PLC0415 - imported by `load`

    if codec is archive:
        return partial(archive.encode, enc_hook=enc_hook)
    raise InvalidArgumentError(
        f'enc_hook is called by codec="msgpack" and "archive" only, not by {codec.NAME!r}; convert values before the '
        "write"
    )


def id_of(codec: NumberedCodec, payload: Payload) -> int:
    """Return the codec number to store with a payload."""
    return codec.ID if type(payload) is not msgpack.ExtendedPayload else msgpack.EXTENDED_ID


def are_intact(views: Iterable[memoryview]) -> bool:
    """Return whether none of these views, which are not empty, was released."""
    try:
        return all(map(len, views))
    except ValueError:
        return False


class PinnedPayload(Protocol):
    """The payload of one version, pinned while it is decoded."""

    codec: NumberedCodec

    def view(self) -> memoryview:
        """Return a view of the payload that must not outlive the pin."""

    def export(self) -> memoryview:
        """Return a view of the payload that may outlive the pin; several times as expensive as `view`."""


class Decoder:
    """Decodes the versions that one reader reads.

    Args:
        type_: decode into this type; None for the value as it was written.
        allow_pickle: accept codec="pickle". Loading a pickle runs code that the writer chose.
        dec_hook: makes instances of types that msgspec does not support.
        frozen: return dicts as read-only mappings, lists as tuples, and sets as frozensets.
        zero_copy_bytes: return bytes of 4 KiB and more as memoryviews of the payload, not as copies.

    Raises:
        InvalidArgumentError: no value can be decoded into the type, or the arguments exclude each other.
        MissingExtraError: a type is given, and msgspec or pydantic is not installed.

    Attributes:
        plain_codec: number of the codec whose values, other than frames, are what `unpack` returns; else NO_CODEC.
        unpack: decodes a bare msgpack value, or raises one of `unpack_errors`: then call `decode_refused`.
        schema: the schema of the last version, if it had the codec and the size of the one before. A payload with this
            schema is decoded by `schema.make`, as in `decode`.
    """

    def __init__(
        self,
        type_: Any = None,
        *,
        allow_pickle: bool = False,
        dec_hook: Callable[[type, Any], Any] | None = None,
        frozen: bool = False,
        zero_copy_bytes: bool = False,
    ) -> None:
        load()
        if type_ is None and dec_hook is not None:
            raise InvalidArgumentError("dec_hook makes instances of types named in type=; pass type=, too")
        if frozen and (type_ is not None or allow_pickle):
            raise InvalidArgumentError(
                "frozen=True is for plain values: for typed ones use immutable types (tuples, frozen dataclasses, "
                "Struct(frozen=True)); objects of a pickle cannot be frozen"
            )
        self.unpack, self.unpack_errors = msgpack.unpack_plain, msgpack.ERRORS
        self._typed = None if type_ is None else _typed_decoder(type_, dec_hook, any_class=allow_pickle)
        self._allow_pickle = allow_pickle
        self._frozen = frozen
        self.plain_codec = _MSGPACK_ID if type_ is None and not frozen else NO_CODEC
        self._zero_copy_bytes = zero_copy_bytes
        self._archive = _archive()
        self._last: tuple[NumberedCodec, int] | None = None  # codec and size of the last version that was exported
        self.schema = NO_SCHEMA  # the schema of that version, if it had the codec and the size of the one before

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
        schema = self.schema
        if schema.codec == codec.ID:
            payload = published.export()
            if len(payload) == schema.size and schema.read(payload) == schema.content:
                return schema.make(payload)  # never a memoryview, nor a container of memoryviews
        else:
            value = self.decode_plain(codec.ID, published.view()) if codec.ID in _MSGPACK else NOT_PLAIN
            if value is not NOT_PLAIN:
                return value
            payload = published.export()
        value = self._decode_exported(codec, payload, [] if exposed is None else exposed)
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
        if codec == self.plain_codec and payload and payload[0] != MAGIC:
            try:
                return self.unpack(payload)  # most values: without another call
            except msgpack.ERRORS as error:
                return msgpack.unpack_refused(payload, error)
        if codec not in _MSGPACK or self._typed is not None or msgpack.is_frame(payload):
            return NOT_PLAIN
        return msgpack.decode_plain(codec, payload, frozen=self._frozen)

    def decode_refused(self, payload: Bytes, error: Exception) -> Any:
        """Return what `decode_plain` returns for a payload of `plain_codec`, if `unpack` has raised an error."""
        return NOT_PLAIN if msgpack.is_frame(payload) else msgpack.unpack_refused(payload, error)

    def _decode_exported(self, codec: NumberedCodec, payload: memoryview, exposed: list[memoryview]) -> Any:
        if codec.NAME == "pickle" and not self._allow_pickle:
            raise EntityReadError(
                'the value was published with codec="pickle", and unpickling runs code that the writer chose; '
                "if you trust the writer, open the Reader with allow_pickle=True"
            )
        views = exposed if self._zero_copy_bytes else None
        if self._typed is not None:
            return self._typed.decode(codec, payload, views)
        last, self._last, self.schema = self._last, (codec, len(payload)), NO_SCHEMA
        if codec.ID in _MSGPACK:
            extended = codec.ID == msgpack.EXTENDED_ID
            value = msgpack.decode(payload, views, extended=extended, frozen=self._frozen)
            if last == self._last and not isinstance(value, (dict, list)):
                self.schema = schema_of(codec.ID, payload, msgpack.array_recipe(payload, value))
            return value
        if codec.NAME == "archive":
            value, root = self._archive.open_root(payload, zero_copy_bytes=self._zero_copy_bytes)
            if last == self._last:
                self.schema = schema_of(codec.ID, payload, self._archive.recipe_of(payload, root))
            return value
        return codec.decode(payload)

    def check(self, codec: NumberedCodec, payload: memoryview) -> None:
        """Validate the parts of a payload that decoding in place does not read.

        Raises:
            EntityReadError: the payload is damaged.
        """
        check = getattr(codec, "check", None)  # the other codecs validate the whole payload in `decode`
        if check is not None:
            check(payload)


def _typed_decoder(type_: Any, dec_hook: Callable[[type, Any], Any] | None, *, any_class: bool) -> TypeDecoder:
    from shmsync.codecs._typed import typed_decoder  # noqa: PLC0415 - few handles need it

    return typed_decoder(type_, dec_hook, any_class=any_class)


def _archive() -> Any:
    from shmsync.codecs import archive  # noqa: PLC0415 - imported by `load`

    return archive
