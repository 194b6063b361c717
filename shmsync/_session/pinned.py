"""One published version that a reader has pinned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync import codecs
from shmsync._core.digests import damaged
from shmsync._core.layout import PAYLOAD_AT, DataHeader, required_size, table_span
from shmsync._types import InstanceVersion, instance_version
from shmsync.errors import IntegrityError

if TYPE_CHECKING:
    from shmsync._session.mapping import TrackedMapping
    from shmsync._types import Origin
    from shmsync.codecs import NumberedCodec
    from shmsync.codecs._changes import Changes

UNSET: Any = object()
_SHOWN = 3  # damaged ranges in a message


class ClosedVersion:
    """What remains of a version after its snapshot was closed: its header, without its memory and its value."""

    __slots__ = ("_header", "index", "seq", "value")

    def __init__(self, header: DataHeader, index: int) -> None:
        self.seq = header.seq
        self.index = index
        self.value: Any = UNSET
        self._header = header

    @property
    def incarnation(self) -> int:
        """Incarnation of the name that it belongs to."""
        return self._header.incarnation

    @property
    def version(self) -> InstanceVersion:
        """Sequence number, index, size and checksum."""
        return instance_version(self._header.seq, self.index, self._header.size, self._header.checksum)


class PinnedVersion(ClosedVersion):
    """The location of one version, and its value once decoded. Shared by all snapshots of it.

    Args:
        header: header of its data segment.
        mapping: mapping of its data segment.

    Attributes:
        value: UNSET, or the value: one that does not refer to the segment, or the one that `get` has returned and that
            no caller can spoil.
        closed: replaces it in a closed snapshot, so that the memory is released with the last open one. Made by the
            first one that is closed.
        label: what the word is compared with that says whether this is still the newest: its sequence number, or in
            isolated mode its generation.
    """

    __slots__ = ("_end", "closed", "codec", "label", "mapping")

    def __init__(self, header: DataHeader, mapping: TrackedMapping) -> None:  # one call for each version that is read
        self._header = header
        self.seq = self.label = header.seq
        self.mapping = mapping
        self.index = mapping.index
        self._end = PAYLOAD_AT + header.size
        self.codec: NumberedCodec = codecs.by_id(header.codec)
        self.value: Any = UNSET
        self.closed: ClosedVersion | None = None

    def close(self) -> ClosedVersion:
        """Return `closed`."""
        closed = self.closed = self.closed or ClosedVersion(self._header, self.index)
        return closed

    def view(self) -> memoryview:
        """Return a view of the payload, which must not outlive the pin."""
        return self.mapping.view(PAYLOAD_AT, self._end)

    def export(self) -> memoryview:
        """Return a view of the payload that may outlive the pin."""
        return self.mapping.export(PAYLOAD_AT, self._end)

    def changes_since(self, since: int) -> Changes | None:
        """Return what may differ between an older version and this one; None if that is not known. Call while pinned.

        Args:
            since: its sequence number.
        """
        from shmsync._session.change_log import changes_since  # noqa: PLC0415 - few readers need it

        return changes_since(since, self._header, self.mapping)

    def origin(self) -> Origin | None:
        """Return the version at a publisher on another host that this is a copy of, if it is one. Call while pinned."""
        from shmsync._session.origin import origin_of  # noqa: PLC0415 - few readers need it

        return origin_of(self.mapping, self._header)

    def verify(self) -> None:
        """Compare the payload with its checksum.

        Raises:
            IntegrityError: payload and checksum do not match.
        """
        header = self._header
        if required_size(header.size) > self.mapping.size:
            raise self._damaged("the segment is truncated")
        table = self.mapping.view(*table_span(header.size))
        ranges = damaged(self.view(), table, header.checksum)
        if ranges is None:
            raise self._damaged("the table of digests does not match its checksum")
        if ranges:
            shown = ", ".join(f"{start:,} to {end - 1:,}" for start, end in ranges[:_SHOWN])
            more = f", and {len(ranges) - _SHOWN:,} more ranges" if len(ranges) > _SHOWN else ""
            raise self._damaged(f"of {header.size:,} bytes, these do not match their digests: {shown}{more}")

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"version {self.seq}: {what}; another program wrote to the segment; the next write repairs it"
        )
