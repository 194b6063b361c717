"""Typed reads: decode and validate in one go into Structs, dataclasses, TypedDicts, with msgspec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.codecs import _frame, archive, msgpack
from shmsync.errors import EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from shmsync.codecs import Codec


class TypedDecoder:
    """Decodes into one type.

    Args:
        kind: any type that msgspec supports: Structs, dataclasses, TypedDicts, NamedTuples, containers of them; arrays
            and other classes are checked with isinstance.

    Raises:
        InvalidArgumentError: msgspec does not support the type.
        MissingExtraError: msgspec is not installed.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._msgspec = import_optional("msgspec", "typed", "Reader(type=...)")
        try:
            self._decoder = self._msgspec.msgpack.Decoder(kind)
        except (TypeError, NameError) as error:  # NameError: an annotation that cannot be resolved
            raise InvalidArgumentError(f"type={kind!r} cannot be read: {error}") from error

    def decode(self, codec: Codec, payload: memoryview) -> Any:
        """Return the value.

        Raises:
            EntityReadError: it is of another type; the text names the path to what differs.
        """
        try:
            if codec is msgpack and not _frame.is_frame(payload):
                return self._decoder.decode(payload)
            value = archive.decode_plain(payload) if codec is archive else codec.decode(payload)
            return self._msgspec.convert(value, self._kind)
        except self._msgspec.ValidationError as error:
            kind = getattr(self._kind, "__name__", self._kind)
            raise EntityReadError(f"the published value is not of type {kind}: {error}") from error
        except (self._msgspec.MsgspecError, AttributeError, TypeError, RecursionError) as error:
            raise EntityReadError(f"the published value cannot be read as {self._kind}: {error}") from error
