"""What follows from one scan of a name, without its readers and processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync import codecs
from shmsync._core.layout import CLOSED, Names
from shmsync._info_types import Info, SegmentInfo
from shmsync._inspect.slots import HALF_SECOND
from shmsync._types import InstanceVersion

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader
    from shmsync._inspect.scan import Scan


def summarize(result: Scan, segments: Names) -> Info:
    """Return the state of a name, without `age`, `readers`, `held` and `unexamined`."""
    header, words, newest = result.header, result.words, _newest(result)
    version = codec = origin = None
    if newest is not None:
        idx = result.index_of(newest.seq)
        version = InstanceVersion(newest.seq, idx, newest.size, newest.checksum)
        codec, origin = codecs.name_of(newest.codec), result.origin
    return Info(
        name=result.name,
        seq=words.seq if words is not None and words.seq != CLOSED else None,
        version=version,
        codec=codec,
        age=None,
        created=header.created_ns / 1e9 if header is not None and header.created_ns else None,
        layout=result.layout,
        incarnation=header.incarnation if header is not None else None,
        max_readers=_max_readers(result),
        writer=result.writer,
        readers=(),
        segments=(
            result.segments[segments.state],
            result.segments[segments.readers],
            *(_data_segment(result, segments, idx) for idx in (0, 1)),
        ),
        problems=tuple(result.problems),
        readable=result.readable,
        isolated=result.isolated,
        spares=result.spares,
        origin=origin,
    )


def _max_readers(result: Scan) -> int | None:
    if result.isolated:
        return 0
    return result.header.max_readers if result.table is not None and result.header is not None else None


def age_of(result: Scan) -> float | None:
    """Return the seconds since the newest version was published; None if unknown."""
    newest = _newest(result)
    if newest is None or not newest.published:
        return None
    return max(0.0, time.monotonic() - newest.published - HALF_SECOND)


def _newest(result: Scan) -> DataHeader | None:
    """Return the header of the newest version."""
    seq = result.words.seq if result.words is not None else CLOSED
    newest = result.data[result.index_of(seq)] if seq not in {0, CLOSED} else None
    return newest if newest is not None and newest.seq == seq else None


def _data_segment(result: Scan, segments: Names, idx: int) -> SegmentInfo:
    segment, header = result.segments[segments.data[idx]], result.data[idx]
    generation = result.words.generations[idx] if result.words is not None else None
    return segment._replace(generation=generation, seq=header.seq if header is not None and segment.size else None)
