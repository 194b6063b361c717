"""The data name of an isolated incarnation: what it leads to, and what a writer that died has not given that name."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX, Label
from shmsync._core.layout import PAYLOAD_AT, parse_data_header
from shmsync._shm.segment import open_segment, segment_names, status_of, unlink_segment
from shmsync._util.os_errors import raised_as
from shmsync.errors import DataReadError, DataWriteError, StateReadError

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader, Names
    from shmsync._shm.segment import Segment


def header_of(name: str, segment: Segment) -> DataHeader:
    """Return the header of an open data segment.

    Raises:
        DataReadError: it is damaged.
    """
    return parse_data_header(name, segment.read(0, PAYLOAD_AT), segment.status().st_size)


def newest_label(names: Names, incarnation: int, owner: int) -> Label | None:
    """Return the label of what the data name leads to; None if that is not a version of this incarnation and owner.

    Raises:
        StateReadError: the kernel refuses to tell.
    """
    name = names.data[INDEX]
    status = status_of(name)
    if status is None or status.st_uid != owner:  # removed, or put there by another user
        return None
    try:
        with raised_as(StateReadError, f"open {name}"), open_segment(name, writable=False) as segment:
            header = header_of(name, segment)
    except (FileNotFoundError, DataReadError):
        return None
    return Label(header.generation, header.seq) if header.incarnation == incarnation else None


def unlink_unpublished(names: Names) -> None:
    """Remove the inodes that have not got the data name, as far as this process may.

    Raises:
        DataWriteError: /dev/shm cannot be listed.
    """
    with raised_as(DataWriteError, "list /dev/shm"):
        found = [f"/{each}" for each in segment_names()]
    for segment in filter(names.is_unpublished, found):
        with suppress(DataWriteError):  # any user may create a file of such a name
            unlink_segment(segment)
