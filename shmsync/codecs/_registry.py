"""The codecs by name and by number: those of the library, and those that users register.

The first handle of a process imports those of the library: see `load`.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from xxhash import xxh3_64_intdigest

from shmsync._util.os_errors import raised_as
from shmsync.codecs import raw
from shmsync.errors import DataReadError, EntityReadError, InvalidArgumentError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

NAMES = {0: "msgpack", 1: "raw", 2: "archive", 3: "arrow", 4: "pickle", 5: "msgpack"}
"""The names of the library's codecs by number."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_CUSTOM = 1 << 31
"""The numbers of registered codecs have this bit, those of the library do not."""


class Codec(Protocol):
    """The interface of a codec that `register_codec` takes.

    It is used by several threads at once.
    """

    def encode(self, value: Any, /) -> Any:
        """Return the bytes of a value: any bytes-like object, which is copied into shared memory.

        Raise EntityWriteError for a value that is not supported. After any exception the last value stays published.
        """

    def decode(self, payload: memoryview, /) -> Any:
        """Return the value.

        Raise EntityReadError for a payload that is not valid.

        Args:
            payload: the bytes, read-only, in shared memory. They do not change while the memoryview, or a view of it,
                is referenced.
        """


class NumberedCodec(Protocol):
    """A codec with its name, and its number in the data header."""

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


class _RegisteredCodec:
    """A codec that a user has registered. What its methods raise is passed on.

    Args:
        name: its name.
        codec: the codec.
    """

    def __init__(self, name: str, codec: Codec) -> None:
        self.NAME = name
        self.ID = _CUSTOM | xxh3_64_intdigest(name.encode()) & (_CUSTOM - 1)
        self.codec = codec
        self.decode = codec.decode

    def encode(self, value: Any) -> Payload:
        """Return the bytes of the value."""
        return raw.flat(self.codec.encode(value))


class _UnknownCodec:
    """A codec that this process does not have. Its payloads can be passed on, but not decoded.

    Args:
        number: the number of the codec.
    """

    def __init__(self, number: int) -> None:
        self.NAME = name_of(number)
        self.ID = number

    def encode(self, _: Any) -> NoReturn:
        """Raise EntityReadError."""
        self._refuse()

    def decode(self, _: memoryview) -> NoReturn:
        """Raise EntityReadError."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        if self.ID & _CUSTOM:
            raise EntityReadError(
                "the value was published with a codec that is not registered in this process; call register_codec here "
                "as in the writer, before the read"
            )
        raise EntityReadError(
            f"the value was published with codec {self.ID}, which this version of shmsync does not have; "
            "install the writer's version of shmsync"
        )


_BY_ID: dict[int, NumberedCodec] = {}  # those of the library
_REGISTERED: dict[int, _RegisteredCodec] = {}


def load() -> None:
    """Import the codecs of the library, and what they need to decode values.

    A program that only lists names does not need them. Every new handle calls this, because a read must not import the
    codec of its value: in a signal handler that interrupted the same import the module would be incomplete, and in a
    child forked while another thread imported it, it would stay locked. A fork calls it, too, because a child often
    changes its user, and may not be able to import anything then.

    Raises:
        DataReadError: the kernel refuses, as it does without a free file descriptor; or this process may not read its
            Python installation.
    """
    if _BY_ID:
        return
    try:
        with raised_as(DataReadError, "import the codecs"):
            from shmsync.codecs import _kinds, archive, arrow, msgpack, pickle  # noqa: F401, PLC0415 - see above
    except ImportError as error:
        raise DataReadError(
            errno.EACCES,
            f"cannot import the codecs: {error}; if this process has changed its user or its root directory, construct "
            "a first handle before",
        ) from error

    codecs: tuple[NumberedCodec, ...] = (msgpack, raw, archive, arrow, pickle, msgpack.Extended())
    _BY_ID.update({codec.ID: codec for codec in codecs})  # last: an interrupted load is repeated


def register_codec(name: str, codec: Codec, *, replace: bool = False) -> None:
    """Register a codec under a name, for `Writer(codec=name)` and for the readers of what it has written.

    Writers and readers run in different processes: each has to register it, for example in a module that both import.
    The number of the codec in shared memory is derived from its name. Choose a name that says what the bytes are, and
    another one if their format changes.

    Args:
        name: 1 to 200 letters, digits, dots, dashes, underscores.
        codec: an object with the methods `encode` and `decode`; see `Codec`.
        replace: replace a codec that was registered under this name, as when a module is reloaded. Open handles keep
            the old one.

    Raises:
        InvalidArgumentError: the name is not valid or taken, or the codec lacks one of the methods.

    Example:
        >>> import json
        >>> from shmsync import Reader, Writer, register_codec
        >>> class Json:
        ...     def encode(self, value):
        ...         return json.dumps(value).encode()
        ...     def decode(self, payload):
        ...         return json.loads(bytes(payload))
        >>> register_codec("json", Json())
        >>> with Writer("doc-codec", codec="json") as writer, Reader("doc-codec") as reader:
        ...     _ = writer.write({"EURUSD": 1.08})
        ...     reader.get()
        ...     writer.unlink()
        {'EURUSD': 1.08}
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"the name of a codec must be 1 to 200 letters, digits, dots, dashes and underscores, not {name!r}"
        )
    if isinstance(codec, type):
        raise InvalidArgumentError(f"codec must be an object, not the class {codec.__name__}; pass {codec.__name__}()")
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise InvalidArgumentError(f"codec must be an object with encode and decode, but {codec!r} has no {method}")
    if name in NAMES.values():
        raise InvalidArgumentError(f"the codec {name!r} is shmsync's own; choose another name")
    registered = _RegisteredCodec(name, codec)
    known = _REGISTERED.get(registered.ID)
    if known is not None and name != known.NAME:
        raise InvalidArgumentError(f"the codecs {name!r} and {known.NAME!r} have the same number; choose another name")
    if known is not None and known.codec is not codec and not replace:
        raise InvalidArgumentError(f"a codec {name!r} is registered already; choose another name, or pass replace=True")
    _REGISTERED[registered.ID] = registered


def has_registered() -> bool:
    """Return whether a user has registered a codec in this process."""
    return bool(_REGISTERED)


def by_name(name: str) -> NumberedCodec:
    """Return the codec with this name.

    Raises:
        InvalidArgumentError: there is no such codec.
    """
    load()
    codecs = (*_BY_ID.values(), *_REGISTERED.values())
    for codec in codecs:
        if isinstance(name, str) and name == codec.NAME:
            return codec
    names = dict.fromkeys(codec.NAME for codec in codecs)
    raise InvalidArgumentError(
        f"unknown codec {name!r}; choose one of {', '.join(names)}, or register it with register_codec"
    )


def by_id(number: int) -> NumberedCodec:
    """Return the codec with this number, as stored in a data header; one that cannot decode if it is unknown."""
    return _BY_ID.get(number) or _REGISTERED.get(number) or _UnknownCodec(number)


def name_of(number: int) -> str:
    """Return the name of the codec with this number, for display."""
    if number in _REGISTERED:
        return _REGISTERED[number].NAME
    return NAMES.get(number, f"unknown ({number})")
