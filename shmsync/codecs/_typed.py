"""Typed reads: msgspec decodes and validates in one step, into Structs, dataclasses, TypedDicts and more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.codecs import _frame, archive, msgpack
from shmsync.errors import EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from shmsync.codecs import Codec

_REMEDY = "make Reader(type=...) and the writer's value agree"


class TypedDecoder:
    """Decodes into one type.

    Args:
        type_: any type that msgspec supports: Structs, dataclasses, TypedDicts, NamedTuples, containers of them. Arrays
            and instances of other classes are only checked with isinstance.

    Raises:
        InvalidArgumentError: msgspec does not support the type.
        MissingExtraError: msgspec is not installed.
    """

    def __init__(self, type_: Any) -> None:
        self._type = type_
        self._msgspec = import_optional("msgspec", "typed", "Reader(type=...)")
        try:
            self._decoder = self._msgspec.msgpack.Decoder(type_)
        except (TypeError, NameError) as error:  # NameError: an annotation that cannot be resolved
            raise InvalidArgumentError(
                f"cannot decode into type={type_!r}: {error}; use a type that msgspec supports, such as a dataclass"
            ) from error

    def decode(self, codec: Codec, payload: memoryview, exposed: list[memoryview] | None = None) -> Any:
        """Return the value. See `msgpack.decode` for `exposed`.

        Raises:
            EntityReadError: the value is not of the type; the message contains the path to the first mismatch.
        """
        try:
            if codec is msgpack and not _frame.is_frame(payload):
                return self._decoder.decode(payload)
            if codec is msgpack:
                value = msgpack.decode(payload, exposed)
            else:
                value = archive.decode_plain(payload) if codec is archive else codec.decode(payload)
            return self._msgspec.convert(value, self._type)
        except self._msgspec.ValidationError as error:
            name = getattr(self._type, "__name__", self._type)
            raise EntityReadError(f"the published value is not of type {name}: {error}; {_REMEDY}") from error
        except (self._msgspec.MsgspecError, AttributeError, TypeError, RecursionError) as error:
            raise EntityReadError(
                f"the published value cannot be decoded into {self._type}: {error}; {_REMEDY}"
            ) from error
