"""Entries: how a version is described to an engine, in fields that any log or stream can contain.

An entry says where the payload is: in the entry itself if it is small, else in chunks, which are in the engine before
the entry is. A version after an update is described by what has changed since the version before it, its *base*. Such
versions form a chain, which begins with a version in full, and which the entries of the chain name.

All numbers are decimal text, so that `XRANGE` in a terminal shows what is there:

    format        1
    byteorder     little or big: that of the payload
    incarnation   of the name at the publisher
    published     when it was sent, in nanoseconds of Unix time
    size          of the payload, in bytes
    checksum      of the version, as in the header of its segment
    codec         number of the codec
    full          id of the newest version in full, in this chain: this one, or one before
    chunk         size of a chunk of this version in full, in bytes; 0 if it is not in chunks
    compression   zstd if chunks that are shorter than that are compressed, each for itself; missing if none is
    data          payload, if this version is in full and not in chunks
    base          id of the version before it, if the entry has its changes
    changes       what has changed: parts as in the change log of a segment (see `shmsync.codecs._changes`)
    content       the changed bytes, in the order of `changes`, if they are not in chunks
    changed       their number
    depth         how many entries with changes there are since `full`
    volume        the changed bytes in them

The entry is trusted in nothing: what is out of range is refused when the entry is parsed, and a payload that does not
match the checksum is not published.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import CLOSED, LAST_SEQ
from shmsync.errors import ReplicationError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
ZSTD = "zstd"
MIN_CHUNK, MAX_CHUNK = 64 << 10, 16 << 20
INLINE = 64 << 10
"""A payload of up to this many bytes is in the entry itself."""
INLINE_CHANGES = 256 << 10
"""Changed bytes, up to this many, are in the entry itself."""
MAX_CHANGES = 1 << 20
"""A description of changes that takes more bytes is not sent: the version is sent in full."""
_ID = re.compile(rb"(\d{1,20})-(\d{1,20})")
_NUMBER = re.compile(rb"\d{1,20}")
_NANOSECONDS = 10**9
_MAX_CODEC = (1 << 32) - 1
_LAST_EPOCH = CLOSED - (1 << 32)
"""Each publisher begins an epoch after all before, so those up to the largest number of the server are not used."""
_SHOWN = 40  # characters of a value in a message


class VersionId(NamedTuple):
    """Which version of which publisher: ids of one name are ordered.

    Attributes:
        epoch: number of the publisher's period: see `Origin`.
        seq: sequence number of the version at its publisher.
    """

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


BEGINNING = VersionId(0, 0)


class DamagedError(ReplicationError):
    """What the engine contains for a version is not valid.

    Attributes:
        id: the version, if it is known.
    """

    id: VersionId | None = None


class Entry(NamedTuple):
    """The description of a version. The fields are those of the module's docstring.

    Attributes:
        published: when it was sent, in seconds of Unix time.
    """

    id: VersionId
    incarnation: int
    published: float
    size: int
    checksum: int
    codec: int
    full: VersionId
    chunk: int = 0
    data: bytes | None = None
    base: VersionId | None = None
    changes: bytes = b""
    content: bytes | None = None
    changed: int = 0
    depth: int = 0
    volume: int = 0
    compression: str = ""

    @property
    def is_full(self) -> bool:
        """Whether the version is there in full."""
        return self.full == self.id

    @property
    def chunks(self) -> int:
        """How many chunks the version in full has."""
        return -(-self.size // self.chunk) if self.chunk else 0

    @property
    def change_chunks(self) -> int:
        """How many chunks its changed bytes have."""
        return -(-self.changed // INLINE_CHANGES) if self.content is None else 0

    def fields(self) -> dict[str, str | bytes]:
        """Return the fields of the entry."""
        result: dict[str, str | bytes] = {
            "format": str(FORMAT),
            "byteorder": sys.byteorder,
            "incarnation": str(self.incarnation),
            "published": str(int(self.published * _NANOSECONDS)),
            "size": str(self.size),
            "checksum": str(self.checksum),
            "codec": str(self.codec),
            "full": str(self.full),
            "chunk": str(self.chunk),
            "depth": str(self.depth),
            "volume": str(self.volume),
        }
        if self.compression:
            result["compression"] = self.compression
        if self.data is not None:
            result["data"] = self.data
        if self.base is not None:
            result |= {"base": str(self.base), "changes": self.changes, "changed": str(self.changed)}
            if self.content is not None:
                result["content"] = self.content
        return result


def parse_id(raw: bytes) -> VersionId:
    """Return an id.

    Raises:
        DamagedError: it is not valid.
    """
    found = _ID.fullmatch(raw)
    if found is None:
        raise DamagedError(f"{raw[:_SHOWN]!r} is not the id of a version")
    return VersionId(_in_range("epoch", int(found[1]), CLOSED), _in_range("seq", int(found[2]), CLOSED))


def parse_entry(raw_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """Return the entry that an engine contains.

    Raises:
        DamagedError: it is not valid.
    """
    version = parse_id(raw_id)
    try:
        return _parse(version, fields)
    except DamagedError as error:
        damaged = DamagedError(f"the entry {version} in the engine is damaged, or not one of shmsync: {error}")
        damaged.id = version
        raise damaged from None


def _parse(version: VersionId, fields: Mapping[bytes, bytes]) -> Entry:
    written_by = _number(fields, "format", _MAX_CODEC)
    if written_by != FORMAT:
        raise DamagedError(f"it has format {written_by}, and this shmsync reads format {FORMAT}")
    order = _field(fields, "byteorder")
    if order != sys.byteorder.encode():
        raise DamagedError(f"its payload is {order[:_SHOWN]!r}-endian, and this host is {sys.byteorder}-endian")
    size = _number(fields, "size", LAST_SEQ)
    base = None if b"base" not in fields else parse_id(fields[b"base"])
    entry = Entry(
        id=version,
        incarnation=_number(fields, "incarnation", CLOSED),
        published=_number(fields, "published", LAST_SEQ) / _NANOSECONDS,
        size=size,
        checksum=_number(fields, "checksum", CLOSED),
        codec=_number(fields, "codec", _MAX_CODEC),
        full=parse_id(_field(fields, "full")),
        chunk=_number(fields, "chunk", MAX_CHUNK),
        data=fields.get(b"data"),
        base=base,
        changes=b"" if base is None else _field(fields, "changes"),
        content=None if base is None else fields.get(b"content"),
        changed=0 if base is None else _number(fields, "changed", size),
        depth=_number(fields, "depth", CLOSED),
        volume=_number(fields, "volume", CLOSED),
        compression=fields.get(b"compression", b"").decode(errors="replace"),
    )
    _check(entry)
    return entry


def _check(entry: Entry) -> None:
    if entry.id.epoch > _LAST_EPOCH:
        raise DamagedError(f"its epoch is more than {_LAST_EPOCH}")
    if not 0 < entry.id.seq <= LAST_SEQ:
        raise DamagedError(f"its sequence number is not from 1 to {LAST_SEQ}")
    if entry.full > entry.id or (entry.base is not None and entry.base >= entry.id):
        raise DamagedError("it names a later version as one before it")
    if not entry.is_full and (entry.base is None or entry.base < entry.full):
        raise DamagedError("it has no payload, and no changes since the version in full that it names")
    if entry.compression not in {"", ZSTD}:
        raise DamagedError(f"its chunks are compressed by {entry.compression[:_SHOWN]!r}, not by {ZSTD}")
    if 0 < entry.chunk < MIN_CHUNK:
        raise DamagedError(f"its chunks have {entry.chunk} bytes, which is less than {MIN_CHUNK}")
    if entry.data is not None and len(entry.data) != entry.size:
        raise DamagedError(f"its payload has {len(entry.data)} bytes, not {entry.size}")
    if entry.is_full and (entry.data is None) == (entry.chunk == 0):
        raise DamagedError("it has no payload, or two")
    if entry.content is not None and len(entry.content) != entry.changed:
        raise DamagedError(f"it has {len(entry.content)} changed bytes, not {entry.changed}")


def _field(fields: Mapping[bytes, bytes], name: str) -> bytes:
    value = fields.get(name.encode())
    if value is None:
        raise DamagedError(f"it has no field {name}")
    return value


def _number(fields: Mapping[bytes, bytes], name: str, highest: int) -> int:
    value = _field(fields, name)
    if not _NUMBER.fullmatch(value):
        raise DamagedError(f"{name} is {value[:_SHOWN]!r}, which is not a number")
    return _in_range(name, int(value), highest)


def _in_range(name: str, value: int, highest: int) -> int:
    if value > highest:
        raise DamagedError(f"{name} is {value}, which is more than {highest}")
    return value
