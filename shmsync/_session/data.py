"""The two data segments in the writer's hands: the port `Segments`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import (
    PAGE,
    PAYLOAD_AT,
    Names,
    checksum_of,
    pack_data_header,
    parse_data_header,
)
from shmsync._shm.segment import Mapping, create_segment, open_segment, unlink_segment
from shmsync.codecs import _gather
from shmsync.errors import CapacityError, DataReadError, DataWriteError, reason

if TYPE_CHECKING:
    from shmsync.codecs import Codec
    from shmsync.codecs._gather import Payload

_SMALL = 64 * 1024
_SHRINK_BELOW = 4
_HEADROOM = 8
_FRESH = 1e9  # bytes a second at which memory comes from the kernel: 7 ms were measured for 8 MiB, 70 for 64


class DataSegments:
    """The data segments of one life of a name.

    `load` takes the payload that the next `fill` writes; `usable` and `replace` size the segment for it.

    Attributes:
        size: of the payload that was loaded last, in bytes.
        checksum: of the payload that was written last.
        now: when the next `fill` is, on the monotonic clock.
    """

    def __init__(self, names: Names, instance: int, mode: int) -> None:
        self._names = names.data
        self._instance = instance
        self._mode = mode & ~0o022  # readers never write here
        self._mappings: list[Mapping | None] = [None, None]
        self._opened = [False, False]
        self._payload: Payload = b""
        self._codec = 0
        self.size = 0
        self.checksum = 0
        self.now = 0.0

    def load(self, payload: Payload, codec: Codec, now: float) -> None:
        """Set what the next `fill` writes, and when that is, on the monotonic clock."""
        self._payload = payload
        self._codec = codec.ID
        self.now = now
        self.size = len(payload)

    def unload(self) -> None:
        """Let go of the payload, which may be a view of the caller's buffer."""
        self._payload = b""

    def usable(self, index: int, generation: int) -> bool:
        """Tell whether the inode of `generation` is mapped, still named, and of a fitting size."""
        if not self._opened[index]:
            self._opened[index] = True
            self._mappings[index] = self._inherit(index, generation)
        mapping = self._mappings[index]
        if mapping is None or mapping.generation != generation:
            return False
        need = PAYLOAD_AT + self.size
        return need <= mapping.size and (mapping.size <= _SMALL or need * _SHRINK_BELOW >= mapping.size)

    def _inherit(self, index: int, generation: int) -> Mapping | None:
        """Map what a predecessor left, if its header says that it is whole and of this life and generation."""
        try:
            with open_segment(self._names[index], writable=True) as segment:
                mapping = Mapping(segment, index, generation, writable=True)
            header = parse_data_header(self._names[index], mapping.copy(0, PAYLOAD_AT), mapping.size)
        except (OSError, ValueError, DataReadError):
            return None
        return mapping if (header.instance, header.generation) == (self._instance, generation) else None

    def price(self) -> float:
        """Return about how many seconds `replace` takes, with the first write into the new memory."""
        return self.size / _FRESH

    def replace(self, index: int, generation: int) -> None:
        """Give data segment `index` a new inode.

        Raises:
            CapacityError: no memory for it. The other segment, which holds the newest version, is untouched.
            DataWriteError: it cannot be created.
        """
        need = PAYLOAD_AT + self.size
        before = self._mappings[index]
        # A large segment that grows may grow again.
        spare = need // _HEADROOM if before is not None and _SMALL < need > before.size else 0
        # Forgotten before anything is done: interrupted from here on, the next publish replaces again. And the old
        # memory goes back before the new is asked for.
        self._mappings[index] = before = None
        self._opened[index] = True
        try:
            self._create(index, generation, need + spare)
        except CapacityError:
            if not spare:
                raise
            self._create(index, generation, need)

    def _create(self, index: int, generation: int, size: int) -> None:
        name = self._names[index]
        try:
            unlink_segment(name)
            with create_segment(name, -(-size // PAGE) * PAGE, self._mode) as segment:
                self._mappings[index] = Mapping(segment, index, generation, writable=True)
        except CapacityError:
            raise
        except OSError as error:
            raise DataWriteError(error.errno or 0, f"cannot create {name}: {reason(error)}") from error

    def room(self, index: int) -> memoryview:
        """Return where `fill` will put the payload, for whoever writes it there without a copy."""
        mapping = self._mappings[index]
        assert mapping is not None
        return mapping.view(PAYLOAD_AT, PAYLOAD_AT + self.size)

    def fill(self, index: int, generation: int, seq: int) -> None:
        """Write payload and header; sets `checksum`. What lay there before is not the newest version."""
        mapping, payload = self._mappings[index], self._payload
        assert mapping is not None
        if type(payload) is bytes:  # what nobody changes meanwhile can be hashed where it comes from
            mapping.put(PAYLOAD_AT, payload)
            self.checksum = checksum = checksum_of(payload)
        else:
            self.checksum = checksum = _gather.copy_into(self.room(index), payload)
        mapping.put(
            0, pack_data_header(self._instance, generation, seq, self.size, checksum, self._codec, int(self.now))
        )

    def discard(self, index: int) -> None:
        """Take the name from a segment that is not current: nobody, and no later writer, uses its memory again."""
        self._mappings[index] = None
        unlink_segment(self._names[index])

    def forget_unlinked(self) -> None:
        """Forget the segments whose name was removed from outside, so that the next publish creates them anew."""
        for index, mapping in enumerate(self._mappings):
            if mapping is not None and not self._is_named(mapping):
                self._mappings[index] = None

    def _is_named(self, mapping: Mapping) -> bool:
        try:
            with open_segment(self._names[mapping.index], writable=False) as segment:
                return segment.status().st_ino == mapping.inode
        except OSError:
            return False
