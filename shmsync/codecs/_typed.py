"""Typed reads: msgspec decodes and validates in one step, into Structs, dataclasses, TypedDicts and more.

Types with pydantic models are left to pydantic.
"""

from __future__ import annotations

import sys
import typing
from functools import partial
from pathlib import PosixPath
from typing import TYPE_CHECKING, Any, Protocol

from msgpack import ExtType

from shmsync._util.optional import import_optional
from shmsync.codecs import _frame, archive, msgpack
from shmsync.codecs._registry import has_registered
from shmsync.errors import EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._registry import NumberedCodec

_REMEDY = "make Reader(type=...) and the writer's value agree"


class TypeDecoder(Protocol):
    """Decodes into one type."""

    def decode(self, codec: NumberedCodec, payload: memoryview, exposed: list[memoryview] | None) -> Any:
        """Return the value. See `msgpack.decode` for `exposed`.

        Raises:
            EntityReadError: the value is not of the type; the message contains the path to the first mismatch.
        """


def typed_decoder(type_: Any, dec_hook: Callable[[type, Any], Any] | None, *, any_class: bool) -> TypeDecoder:
    """Return the decoder for a type.

    Args:
        type_: any type that msgspec supports: Structs, dataclasses, attrs classes, TypedDicts, NamedTuples, containers
            of them. Or a pydantic model, or a type with one. Arrays and other values that msgspec does not know are
            only checked with isinstance.
        dec_hook: called with a class that msgspec does not support, and a value; returns the instance of the class.
        any_class: whether the codecs that the reader accepts may return instances of any class.

    Raises:
        InvalidArgumentError: no value can be decoded into the type.
        MissingExtraError: msgspec or pydantic is not installed.
    """
    if _contains_model(type_):
        return _PydanticDecoder(type_, dec_hook)
    return _MsgspecDecoder(type_, dec_hook, any_class=any_class or has_registered())


def _plain(codec: NumberedCodec, payload: memoryview, exposed: list[memoryview] | None = None) -> Any:
    """Return a value as plain objects. See `msgpack.decode` for `exposed`."""
    if codec.NAME == msgpack.NAME:
        return msgpack.decode(payload, exposed, extended=codec is not msgpack)
    return archive.decode_plain(payload) if codec is archive else codec.decode(payload)


def _mismatch(type_: Any, error: Exception) -> EntityReadError:
    name = getattr(type_, "__name__", type_)
    return EntityReadError(f"the published value is not of type {name}: {error}; {_REMEDY}")


# ------------------------------------------------------------------------------------------------------------- msgspec


class _MsgspecDecoder:
    def __init__(self, type_: Any, dec_hook: Callable[[type, Any], Any] | None, *, any_class: bool) -> None:
        self._type = type_
        self._msgspec = import_optional("msgspec", "typed", "Reader(type=...)")
        try:
            self._decoder = self._msgspec.msgpack.Decoder(type_, dec_hook=dec_hook, ext_hook=_own_extension)
            self._convert = partial(self._msgspec.convert, type=type_, dec_hook=dec_hook)
            unsupported = None if dec_hook or any_class else _unsupported_class(self._msgspec, type_)
        except (TypeError, NameError) as error:  # NameError: an annotation that cannot be resolved
            raise InvalidArgumentError(
                f"cannot decode into type={type_!r}: {error}; use a type that msgspec supports, such as a dataclass"
            ) from error
        if unsupported is not None:
            raise InvalidArgumentError(
                f"cannot decode into type={type_!r}: msgspec does not support {unsupported.__qualname__}; use a "
                "dataclass, or pass dec_hook= to make its instances"
            )

    def decode(self, codec: NumberedCodec, payload: memoryview, exposed: list[memoryview] | None) -> Any:
        try:
            if codec is msgpack and not _frame.is_frame(payload):
                return self._decoder.decode(payload)
            return self._convert(_plain(codec, payload, exposed))
        except self._msgspec.ValidationError as error:
            raise _mismatch(self._type, error) from error
        except (self._msgspec.MsgspecError, AttributeError, TypeError, RecursionError) as error:
            raise EntityReadError(
                f"the published value cannot be decoded into {self._type}: {error}; {_REMEDY}"
            ) from error


def _own_extension(code: int, data: memoryview) -> ExtType:
    return ExtType(code, bytes(data))


def _unsupported_class(msgspec: Any, type_: Any) -> Any:
    """Return a class within a type whose instances no codec can return; None if there is none."""
    seen: set[int] = set()
    pending: list[Any] = [msgspec.inspect.type_info(type_)]
    while pending:
        info = pending.pop()
        if isinstance(info, (tuple, list)):
            pending += info
        elif isinstance(info, msgspec.inspect.CustomType):
            if not any(issubclass(each, info.cls) for each in _returned_classes()):
                return info.cls
        elif isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(info) not in seen:
            seen.add(id(info))
            pending += (getattr(info, name) for name in info.__struct_fields__)
    return None


def _returned_classes() -> list[type]:
    """Return the classes that msgspec does not know, and that values read with the library's codecs may have."""
    numpy, arrow = sys.modules.get("numpy"), sys.modules.get("pyarrow")
    found = [str, int, float, bytes, list, dict, set, frozenset, memoryview, complex, range, PosixPath, ExtType]
    if numpy is not None:
        found.append(numpy.ndarray)
    if arrow is not None:
        found += [arrow.Table, arrow.RecordBatch]
    return found


# ------------------------------------------------------------------------------------------------------------ pydantic


def _contains_model(type_: Any) -> bool:
    """Return whether a type is a pydantic model or dataclass, or a container, union or annotation of one."""
    if "pydantic" not in sys.modules:  # the module of a model has imported it
        return False
    if isinstance(type_, type) and hasattr(type_, "__pydantic_validator__"):
        return True
    return any(map(_contains_model, typing.get_args(type_)))


class _PydanticDecoder:
    def __init__(self, type_: Any, dec_hook: object) -> None:
        if dec_hook is not None:
            raise InvalidArgumentError(f"dec_hook is not called for type={type_!r}: give the model a validator instead")
        self._type = type_
        pydantic = import_optional("pydantic", "pydantic", "Reader(type=...) with a pydantic model")
        try:
            self._adapter = pydantic.TypeAdapter(type_)
        except AttributeError:
            raise InvalidArgumentError("Reader(type=...) needs pydantic 2 or newer: pip install -U pydantic") from None
        except (TypeError, NameError, pydantic.errors.PydanticUserError) as error:
            raise InvalidArgumentError(
                f"cannot decode into type={type_!r}: {error}; use a type that pydantic supports"
            ) from error
        self._error = pydantic.ValidationError

    def decode(
        self,
        codec: NumberedCodec,
        payload: memoryview,
        exposed: list[memoryview] | None,  # noqa: ARG002 - a model accepts no memoryview as bytes
    ) -> Any:
        """See `TypeDecoder`. Bytes are copied."""
        value = _plain(codec, payload)
        try:
            return self._adapter.validate_python(value)
        except self._error as error:
            raise _mismatch(self._type, error) from error
