"""Updates in place: bring an older copy up to date, and finish what was changed in it. See `shmsync._core.stale`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync._core import layout
from shmsync._core.digests import copy_digests, update_table
from shmsync._core.layout import PAYLOAD_AT, DataHeader, pack_data_header, table_span
from shmsync._core.stale import note_copied, note_published, stale_bytes
from shmsync._session.origin import ORIGIN_SIZE, pack_origin
from shmsync._session.reusable import SMALL
from shmsync.codecs import _blocks, _gather
from shmsync.codecs._changes import Changes
from shmsync.errors import DataReadError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shmsync._session.change_log import ChangeLog
    from shmsync._session.reusable import ReusableMapping
    from shmsync._shm.segment import Mapping
    from shmsync._types import Origin
    from shmsync.codecs._gather import Payload

_TRACK_FROM = SMALL
_COPY_ALL_FROM = 2
"""All is copied if more than one in this many bytes is stale."""


class OpenUpdate:
    """An update that is not published yet.

    Attributes:
        target: the segment of the next version.
        source: that of the newest version, if the update began with a copy of it.
        previous: the header of the newest version, likewise.
        size: size of the payload in bytes.
        codec: number of the codec.
        changes: what may differ from the newest version.
        copied: how many bytes were copied.
        expected: the checksum that the payload must have; None for any.
        origin: the version of a publisher on another host that it is a copy of, if it is one.
    """

    __slots__ = ("changes", "codec", "copied", "expected", "origin", "previous", "size", "source", "target")

    def __init__(self, target: Mapping, source: Mapping | None, size: int, codec: int, copied: int) -> None:
        self.target = target
        self.source = source
        self.previous: DataHeader | None = None
        self.size = size
        self.codec = codec
        self.changes = Changes()
        self.copied = copied
        self.expected: int | None = None
        self.origin: Origin | None = None

    def payload(self) -> memoryview:
        """Return a writable view of the payload."""
        return self.target.view(PAYLOAD_AT, PAYLOAD_AT + self.size)

    def table(self) -> memoryview:
        """Return a writable view of the table of digests."""
        return self.target.view(*table_span(self.size))


def catch_up(target: ReusableMapping, source: ReusableMapping, header: DataHeader) -> OpenUpdate:
    """Make the payload of `target` equal to that of `source`, the newest version, whose header is given."""
    stale: Changes | None = stale_bytes(target, header.seq)
    if stale is None or stale.size * _COPY_ALL_FROM > header.size:
        update = copy_all(target, source, header)
    else:
        update = OpenUpdate(target, source, header.size, header.codec, stale.size)
        stale.copy(update.payload(), source.view(PAYLOAD_AT, PAYLOAD_AT + header.size))
        blocks = stale.blocks(layout.DIGEST_BLOCK, header.size)
        copy_digests(update.table(), source.view(*table_span(header.size)), blocks)
        update.previous = header
    if target.size > _TRACK_FROM:
        note_copied(target, header.seq, update.changes)
    return update


def copy_all(target: Mapping, source: Mapping, header: DataHeader) -> OpenUpdate:
    """Copy the whole payload."""
    update = OpenUpdate(target, source, header.size, header.codec, header.size)
    _blocks.copy(update.payload(), source.view(PAYLOAD_AT, PAYLOAD_AT + header.size), len)
    update.table()[:] = source.view(*table_span(header.size))
    update.previous = header
    return update


def begin(target: Mapping, payload: Payload, codec: int) -> OpenUpdate:
    """Begin an update with an encoded value."""
    size = len(payload)
    update = OpenUpdate(target, None, size, codec, size)
    _gather.copy_into(update.payload(), payload)
    update.changes.add(0, size)
    return update


def finish(update: OpenUpdate, label: tuple[int, int, int], log: ChangeLog) -> int:
    """Write checksum, change log and header; return the checksum.

    Args:
        update: the update.
        label: incarnation, generation and sequence number.
        log: the change log.

    Raises:
        IntegrityError: the payload does not have the expected checksum.
    """
    blocks = update.changes.blocks(layout.DIGEST_BLOCK, update.size)
    checksum = update_table(update.payload(), update.table(), blocks)
    if update.expected not in {None, checksum}:
        raise IntegrityError("what was received does not match its checksum; nothing was published")
    header = DataHeader(*label, update.size, checksum, update.codec, int(time.monotonic()))
    if update.previous is not None:
        log.write(update.target, update.previous, header, update.changes)
    if update.origin is not None:  # after the log, which leaves these bytes free
        update.target.memory[-ORIGIN_SIZE:] = pack_origin(header, update.origin)
    update.target.memory[:PAYLOAD_AT] = pack_data_header(*header)
    return checksum


def note(update: OpenUpdate, spares: Iterable[ReusableMapping], seq: int) -> None:
    """Note that an update was published as version `seq`."""
    target, source = update.target, update.source
    if source is not None and source.size > _TRACK_FROM:
        note_published(target, source, spares, seq, update.changes)  # type: ignore[arg-type] # both are reusable


def no_newest(segment: str, seq: int) -> DataReadError:
    """Return the error for a segment that does not contain the newest version."""
    return DataReadError(
        f"{segment} does not contain version {seq}, which an update begins with; write the value in full"
    )
