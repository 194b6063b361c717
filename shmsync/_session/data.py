"""The two data segments as the writer uses them: the port `Segments`."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from shmsync._core.digests import Digester
from shmsync._core.layout import (
    DATA_MAGIC,
    PAGE,
    PAYLOAD_AT,
    Names,
    allocated_size,
    checksum_of,
    index_of,
    pack_data_header,
    pack_digest,
    pack_undigested,
    parse_data_header,
    table_span,
)
from shmsync._core.spares import Spares
from shmsync._core.stale import forget
from shmsync._session import updates
from shmsync._session.change_log import ChangeLog
from shmsync._session.held import describe_held
from shmsync._session.origin import origin_of
from shmsync._session.reusable import SMALL, ReusableMapping
from shmsync._shm.capacity import free_bytes
from shmsync._shm.segment import (
    create_segment,
    exchange_segments,
    open_segment,
    rename_segment,
    status_of,
    unlink_segment,
)
from shmsync._util.os_errors import raised_as
from shmsync.codecs import _blocks, _gather
from shmsync.errors import CapacityError, DataReadError, DataWriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync._core.layout import DataHeader
    from shmsync._core.lifecycle import NameOwner
    from shmsync._session.state_file import StateFile
    from shmsync._session.updates import OpenUpdate
    from shmsync._shm.segment import Mapping
    from shmsync._types import Origin
    from shmsync.codecs._gather import Payload

    Encoded: TypeAlias = tuple[Payload, int, float]
else:
    Encoded = tuple
"""An encoded value: payload, codec number, and the time of the write in seconds of the monotonic clock."""

_BLOCK = 512  # unit of st_blocks, in bytes
_SPARES = 2
_HEADROOM = 8
_ALLOCATION_RATE = 1e9  # bytes per second that the kernel allocates: 7 ms were measured for 8 MiB, 70 ms for 64


class DataSegments:
    """The data segments of one incarnation.

    Args:
        names: the segment names.
        incarnation: incarnation of the state segment.
        mode: permission bits; readers never write here.
        owner: the hold on the name, without which no name is changed.
    """

    def __init__(self, names: Names, incarnation: int, mode: int, owner: NameOwner[StateFile]) -> None:
        self._names = names
        self._owner = owner
        self._incarnation = incarnation
        self._mode = mode
        self._mappings: list[ReusableMapping | None] = [None, None]
        self._opened = [False, False]
        self._spares: Spares[ReusableMapping] = Spares(_SPARES)
        self._had_spares = False  # if not, no spare name is in use
        self._newest: DataHeader
        self._log = ChangeLog()
        self.update: OpenUpdate | None = None

    def is_reusable(self, index: int, generation: int, size: int) -> bool:
        """Return whether the inode of `generation` is mapped, named, and fits a payload of `size` bytes."""
        if not self._opened[index]:
            self._begin(index)
            self._mappings[index] = self._adopt(index, generation)
        mapping = self._mappings[index]
        return mapping is not None and mapping.generation == generation and size in mapping.sizes

    def _begin(self, index: int) -> None:
        """Remove what a writer that died has left next to a segment, before the first use of the segment."""
        if not self._spares.has(index):
            self._owner.unlink_staged(index)
        self._opened[index] = True

    def _adopt(self, index: int, generation: int) -> ReusableMapping | None:
        """Map the segment of a previous writer, if its header is valid and of this incarnation and generation."""
        try:
            with open_segment(self._names.data[index], writable=True) as segment:
                if segment.status().st_uid != os.geteuid():  # another user put it there: they could read and change it
                    return None
                segment.set_mode(self._mode)
                mapping = ReusableMapping(self._names, segment, index, generation)
            header = parse_data_header(self._names.data[index], mapping.copy(0, PAYLOAD_AT), mapping.size)
        except (OSError, ValueError, DataReadError):
            return None
        return mapping if (header.incarnation, header.generation) == (self._incarnation, generation) else None

    def replacement_cost(self, size: int) -> float:
        """Return roughly how many seconds `replace` takes, with the first write into the new memory."""
        return size / _ALLOCATION_RATE if self._spares.find_free(size) is None else 0.0

    def replace(self, index: int, generation: int, size: int) -> None:
        """Give data segment `index` a new inode for a payload of `size` bytes.

        That is a spare, if one is free. A new inode is complete before it takes the name. So if there is no descriptor
        or memory for it, the old one stays as it was, and a smaller value can still be written to it. While both exist,
        the name takes up to three times its value. Where the file system has no room for that, but for the new inode in
        place of the old one, the old one is released first. If the memory that it released is not enough (readers have
        mapped it, too, or another program was faster), the old inode is lost, and the next write has to find memory for
        a new one.

        Raises:
            CapacityError: not enough memory. The other segment, which holds the newest version, is untouched.
            DataWriteError: the segment cannot be created.
            StaleIncarnationError: the name does not lead to this incarnation any more.
        """
        if not self._opened[index]:
            self._begin(index)
        place = self._spares.find_free(size)
        if place is not None:
            return self._reuse(index, generation, place)
        need = allocated_size(size)
        previous = self._mappings[index]
        # A large segment that grows may grow again.
        headroom = need // _HEADROOM if previous is not None and SMALL < need > previous.size else 0
        del previous  # its memory may be about to be released
        if headroom:
            with suppress(CapacityError):
                return self._create(index, generation, need + headroom)
        try:
            return self._create(index, generation, need)
        except CapacityError as error:
            if error.errno == errno.EFBIG:  # a limit of this process, which no released memory changes
                raise
        try:
            self.drop_spares()
            self._release(index, need)
            return self._create(index, generation, need)
        except CapacityError as error:
            raise CapacityError(error.errno, f"{error.strerror}{describe_held(self._names)}") from None

    def _reuse(self, index: int, generation: int, place: int) -> None:
        """Exchange the inode of data segment `index` for a free spare."""
        spare = self._spares.take(place)
        spare.label(index, generation)

        def exchange(check: Callable[[], None]) -> bool:
            check()
            self._install(index, place, spare)
            return True

        self._owner.replace(exchange)

    def _create(self, index: int, generation: int, size: int) -> None:
        size = -(-size // PAGE) * PAGE
        self._owner.replace(lambda check: self._create_named(index, generation, size, check))

    def _create_named(self, index: int, generation: int, size: int, check: Callable[[], None]) -> bool:
        place = self._spares.unused_place(index)
        self._spares.forget(place)
        staged = self._staging_name(index, place)
        try:
            created = create_segment(staged, size, self._mode)
        except FileExistsError:
            return False
        with created as segment:
            try:
                with raised_as(DataWriteError, f"map {self._names.data[index]}"):
                    mapping = ReusableMapping(self._names, segment, index, generation)
                check()
                if staged != self._names.data[index]:
                    self._install(index, place, mapping)
                else:
                    self._mappings[index] = mapping
            except BaseException:
                with suppress(DataWriteError):  # the first error says more
                    unlink_segment(staged)
                raise
        return True

    def _install(self, index: int, place: int, mapping: ReusableMapping) -> None:
        """Give a data segment the inode that has a staging name. Keep the previous one if updates can use it again."""
        name, staged = self._names.data[index], self._names.staged[place]
        previous = self._mappings[index]
        self._mappings[index] = None  # if interrupted from here on, the next publish replaces again
        self._had_spares |= previous is not None and previous.stale is not None
        if previous is None or previous.stale is None or not exchange_segments(staged, name):
            rename_segment(staged, name)
        else:  # its inode is compared before it is used: another program may have replaced it
            self._spares.put(place, previous)
        self._mappings[index] = mapping

    def _staging_name(self, index: int, place: int) -> str:
        """Return the name under which to create an inode: a free one next to that of the segment.

        Any user can create a file there that this one cannot remove. Then it is the name itself, unlinked before.
        """
        try:
            unlink_segment(self._names.staged[place])  # the oldest spare, or left behind by a writer that died
        except DataWriteError:
            self._mappings[index] = None
            unlink_segment(self._names.data[index])
            return self._names.data[index]
        return self._names.staged[place]

    def drop_spares(self) -> None:
        """Remove the spares."""
        if self._had_spares:
            for place in range(_SPARES):
                self._spares.forget(place)
                self._owner.unlink_staged(place)
            self._had_spares = False

    def _release(self, index: int, need: int) -> None:
        """Release the memory of the segment to be replaced, if `need` bytes then fit."""
        status = status_of(self._names.data[index])
        if status is not None and free_bytes() + status.st_blocks * _BLOCK >= need:
            self.discard(index)

    def payload_view(self, index: int, size: int) -> memoryview:
        """Return a writable view of the memory of the next payload."""
        mapping = self._mappings[index]
        assert mapping is not None
        forget(mapping)
        return mapping.view(PAYLOAD_AT, PAYLOAD_AT + size)

    def newest_header(self, seq: int, generation: int) -> DataHeader:
        """Return the header of the newest version, which an update begins with.

        Args:
            seq: its sequence number.
            generation: generation of its inode.

        Raises:
            DataReadError: its segment is missing or damaged.
        """
        index = index_of(seq)
        self.is_reusable(index, generation, 0)  # maps that of a previous writer
        mapping = self._mappings[index]
        name = self._names.data[index]
        header = None if mapping is None else parse_data_header(name, mapping.copy(0, PAYLOAD_AT), mapping.size)
        if header is None or header[:3] != (self._incarnation, generation, seq):
            raise updates.no_newest(name, seq)
        self._newest = header
        return header

    def newest_payload(self) -> bytes:
        """Return a copy of the payload whose header `newest_header` has returned last."""
        header, mapping = self._newest, self._mappings[index_of(self._newest.seq)]
        assert mapping is not None
        return _blocks.to_bytes(mapping.view(PAYLOAD_AT, PAYLOAD_AT + header.size))

    def newest_origin(self) -> Origin | None:
        """Return the origin of the version whose header `newest_header` has returned last; None if it has none."""
        mapping = self._mappings[index_of(self._newest.seq)]
        assert mapping is not None
        return origin_of(mapping, self._newest)

    def catch_up(self, index: int, newest: int) -> None:
        """Make the payload of a prepared segment equal to that of version `newest`, the last of `newest_header`."""
        target, source = self._mappings[index], self._mappings[1 - index]
        assert target is not None
        assert source is not None
        assert self._newest.seq == newest
        self.update = updates.catch_up(target, source, self._newest)

    def begin(self, index: int, payload: Payload, codec: int) -> None:
        """Begin an update with another value than the newest version, in a prepared segment."""
        target = self._mappings[index]
        assert target is not None
        forget(target)
        self.update = updates.begin(target, payload, codec)

    def finish_update(self, index: int, generation: int, seq: int) -> int:
        """Write checksum and header of a payload that was changed in place; return the checksum."""
        update = self.update
        assert update is not None
        assert update.target is self._mappings[index]
        return updates.finish(update, (self._incarnation, generation, seq), self._log)

    def drop_update(self) -> None:
        """Drop the update: it refers to mappings, and so to memory that is released once it was replaced."""
        self.update = None

    def note_update(self, seq: int) -> None:
        """Note that the update was published."""
        assert self.update is not None
        updates.note(self.update, self._spares, seq)

    def write(self, index: int, generation: int, seq: int, value: Encoded) -> int:
        """Write payload and header over an older version; return the checksum of the payload."""
        mapping = self._mappings[index]
        assert mapping is not None
        forget(mapping)
        self.drop_spares()  # what they contain is of no use any more
        return fill(mapping, (self._incarnation, generation, seq), value)

    def try_write(self, index: int, generation: int, seq: int, value: Encoded, size: int) -> int | None:
        """Do the same for a payload of a few bytes, if the inode is mapped and reusable; else return None."""
        mapping = self._mappings[index]
        if mapping is None or mapping.generation != generation or size not in mapping.sizes_at_once:
            return None
        payload: Any
        payload, codec, now = value
        checksum = checksum_of(payload)
        # As `pack_data_header`, without the call.
        header = pack_undigested(DATA_MAGIC, self._incarnation, generation, seq, size, checksum, codec, int(now))
        mapping.memory[: PAYLOAD_AT + size] = header + pack_digest(checksum_of(header)) + payload
        return checksum

    def published(self, index: int) -> int:
        """Return when the version in a segment was published, as in its header; 0 if unknown."""
        mapping = self._mappings[index]
        if mapping is None:
            return 0
        try:
            return parse_data_header(self._names.data[index], mapping.copy(0, PAYLOAD_AT), mapping.size).published
        except DataReadError:
            return 0

    def discard(self, index: int) -> None:
        """Unlink a segment that is not current: no reader, and no later writer, uses its memory again."""
        self._mappings[index] = None
        self._owner.unlink_data(index)

    def forget_unlinked(self) -> None:
        """Forget the segments whose name another program removed, so that the next publish creates them again."""
        for index, mapping in enumerate(self._mappings):
            if mapping is not None and not mapping.is_at(self._names.data[index]):
                self._mappings[index] = None


def fill(mapping: Mapping, label: tuple[int, int, int], value: Encoded) -> int:
    """Write payload and header of a version into a data segment; return the checksum of the payload.

    Args:
        mapping: the mapped segment.
        label: incarnation, generation and sequence number.
        value: the encoded value.
    """
    payload, codec, now = value
    size = len(payload)
    memory = mapping.view(PAYLOAD_AT, PAYLOAD_AT + size)
    digester = Digester(memory)
    _gather.copy_into(memory, payload, digester.advance)
    checksum = digester.finish(mapping.view(*table_span(size)))
    mapping.memory[:PAYLOAD_AT] = pack_data_header(*label, size, checksum, codec, int(now))
    return checksum
