"""The scan of an isolated incarnation: its public state, and the newest version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX
from shmsync._core.layout import (
    CLOSED,
    LAYOUT_VERSION,
    PUBLIC_MAGIC,
    WRITER,
    WRITER_AT,
    parse_state_header,
)
from shmsync._info_types import WriterInfo
from shmsync._inspect.words import USED, StateWords, segment_info, unix_time
from shmsync._session.control import open_control_segment
from shmsync._session.data_name import header_of
from shmsync._session.origin import origin_in
from shmsync._shm.segment import open_segment
from shmsync.errors import DataReadError, ShmSyncError, StateNotFoundError, format_error

if TYPE_CHECKING:
    from shmsync._core.layout import Names
    from shmsync._inspect.scan import Scan
    from shmsync._shm.segment import Segment

_ATTEMPTS = 20  # a fast writer may publish between two of the looks


def scan_public(result: Scan, segments: Names) -> None:
    """Scan the public state and the data segment.

    Raises:
        StateReadError: the public state cannot be opened.
        LayoutMismatchError: it is not one.
    """
    try:
        with open_control_segment(segments, segments.public, writable=False) as public:
            result.segments[public.name] = segment_info(public.name, public.status())
            raw = public.read(0, USED).ljust(USED, b"\0")
            header = parse_state_header(public.name, memoryview(raw), PUBLIC_MAGIC)
            if header is None:
                return  # it is just being created
            result.header, result.layout, result.isolated = header, LAYOUT_VERSION, True
            if result.writer.state == "unknown":  # whether it is alive shows only the state segment
                pid, since = WRITER.unpack_from(raw, WRITER_AT)
                result.writer = WriterInfo("unknown", pid, unix_time(since)) if pid else WriterInfo("closed")
            _scan_data(result, segments, public)
    except StateNotFoundError:
        result.problems.append(f"{segments.public} is missing; the next write creates it again")


def _scan_data(result: Scan, segments: Names, public: Segment) -> None:
    header = result.header
    assert header is not None
    problem = ""
    for _ in range(_ATTEMPTS):
        words = result.words = StateWords.read(public)
        if words.seq == CLOSED:
            result.problems.append(f"{public.name} is marked as removed but still exists; the next writer replaces it")
            return
        try:
            with open_segment(segments.data[INDEX], writable=False) as segment:
                status = segment.status()
                found = header_of(segment.name, segment)
                origin = origin_in(segment, found, status.st_size)
        except FileNotFoundError:
            if not words.seq:
                return
            problem = f"{segments.data[INDEX]} is missing; the next write repairs it"
        except (ShmSyncError, OSError) as error:
            problem = format_error(error)
            if not isinstance(error, DataReadError):
                break
        else:
            if found.incarnation == header.incarnation:
                # What the name leads to is published, even if the version word does not say so yet.
                result.data[INDEX], result.origin = found, origin
                result.segments[segments.data[INDEX]] = segment_info(segments.data[INDEX], status)
                result.words = words._replace(seq=found.seq)
                return
            problem = f"{segments.data[INDEX]} belongs to another incarnation; the next write repairs it"
        if StateWords.read(public) == words:
            break
    result.problems.append(problem)
