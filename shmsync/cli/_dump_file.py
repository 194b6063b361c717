"""Dump files: a tar archive with the segments of a name as they are, headers included, and a description of them.

    info.json            the name, the versions of shmsync and Python, the system, the Info
    state, readers       the segments; one that cannot be read is left out, and `info.json` says why
    data_0, data_1

While a dump is written, a snapshot pins the current version, so that it is complete. The other data segment may be in
the middle of a write.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import sys
import tarfile
import time
import zlib
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import shmsync
from shmsync._core.layout import (
    GENERATION_AT,
    PAYLOAD_AT,
    STATE_SIZE,
    VERSION_AT,
    names_of,
    parse_data_header,
)
from shmsync._shm import ofd_locks
from shmsync._shm.segment import create_empty_segment, open_segment, status_of, unlink_segment
from shmsync.cli._output import info_to_dict
from shmsync.errors import ShmSyncError, format_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from shmsync._core.layout import Names
    from shmsync._shm.segment import Segment

_CHUNK = 1 << 20
_ATTEMPTS = 20  # a writer may replace a segment between two system calls
_WORD = struct.Struct("=Q")
_MAGIC_SIZE = 8


class DumpFileError(ShmSyncError, ValueError):
    """A dump cannot be written or restored."""


# ------------------------------------------------------------------------------------------------------------- writing


class Dump(NamedTuple):
    """The result of `save`: bytes in the segments, the version that is complete, and what could not be read."""

    size: int
    seq: int | None
    problems: list[str]


def save(name: str, file: BinaryIO, compression: str, owner: str | None) -> Dump:
    """Write a dump of a name.

    Args:
        name: the name.
        file: where to write; it need not be seekable.
        compression: that of the archive: "gz", "bz2", "xz" or "".
        owner: a user whose segments are trusted, too.

    Raises:
        StateNotFoundError: the name does not exist.
        ShmSyncError: no segment can be read.
    """
    names = names_of(name)
    info = shmsync.info(name)
    with ExitStack() as stack:
        state, problems, seq = None, [], None
        table = _table(names)
        pinned: dict[str, Segment] = {}
        try:
            state, seq = _pin(names, stack, owner, pinned)
        except (ShmSyncError, OSError) as error:  # damaged, or nothing published: the segments are copied as they are
            problems.append(f"no complete version: {format_error(error)}")
        segments = {**dict(_opened(names, stack, problems)), **pinned}
        if not segments:
            raise DumpFileError(f"no segment of {name!r} can be read: {problems[-1]}")
        head = {
            "name": name,
            "shmsync": shmsync.__version__,
            "python": sys.version,
            "system": platform.platform(),
            "time": time.time(),
            "seq": seq,
            "problems": problems,
            "info": info_to_dict(info),
        }
        with tarfile.open(fileobj=file, mode=f"w|{compression}") as archive:  # type: ignore[call-overload]
            _add(archive, "info.json", BytesIO(json.dumps(head, indent=2).encode()))
            for part, segment in segments.items():
                copy = {"state": state, "readers": table}.get(part)
                if copy is not None:
                    _add(archive, part, BytesIO(copy))
                else:
                    with open(os.dup(segment.fd), "rb") as source:  # noqa: PTH123 - a descriptor
                        _add(archive, part, source)
        return Dump(sum(segment.status().st_size for segment in segments.values()), seq, problems)


def _pin(names: Names, stack: ExitStack, owner: str | None, pinned: dict[str, Segment]) -> tuple[bytes, int]:
    """Pin the current version until the stack is closed; return the state segment as of that version, and its number.

    A writer that publishes in between changes the version word, and the generation of the other data segment. It may
    also give the name of the pinned segment a new inode.

    Args:
        names: the name.
        stack: closes what is opened.
        owner: a user whose segments are trusted, too.
        pinned: gets the pinned data segment.
    """
    reader = stack.enter_context(shmsync.Reader[Any](names.name, owner=owner))
    for _ in range(_ATTEMPTS):
        snapshot = stack.enter_context(reader.read())
        version = snapshot.version
        data = stack.enter_context(open_segment(names.data[version.idx], writable=False))
        header = parse_data_header(data.name, data.read(0, PAYLOAD_AT), data.status().st_size)
        if header.seq != version.seq:
            snapshot.close()
            continue  # the name leads to a newer inode already
        with open_segment(names.state, writable=False) as segment:
            state = bytearray(segment.read(0, STATE_SIZE))
        _WORD.pack_into(state, VERSION_AT, version.seq)
        _WORD.pack_into(state, GENERATION_AT[version.idx], header.generation)
        pinned[f"data_{version.idx}"] = data
        return bytes(state), version.seq
    raise DumpFileError(f"{names.name}: its writer replaces its segments all the time; try again")


def _table(names: Names) -> bytes | None:
    """Return the reader table as it is before this process attaches; None if it cannot be read."""
    try:
        with open_segment(names.readers, writable=False) as segment:
            return segment.read(0, segment.status().st_size)
    except (ShmSyncError, OSError):
        return None


def _opened(names: Names, stack: ExitStack, problems: list[str]) -> Iterator[tuple[str, Segment]]:
    for part, segment_name in _parts(names).items():
        try:
            yield part, stack.enter_context(open_segment(segment_name, writable=False))
        except OSError as error:  # noqa: PERF203 - the others are saved
            if not isinstance(error, FileNotFoundError):
                problems.append(f"{part} is left out: {format_error(error)}")


def _parts(names: Names) -> dict[str, str]:
    return {"state": names.state, "readers": names.readers, "data_0": names.data[0], "data_1": names.data[1]}


def _add(archive: tarfile.TarFile, part: str, source: BinaryIO) -> None:
    member = tarfile.TarInfo(part)
    member.size = source.seek(0, os.SEEK_END)
    member.mtime = int(time.time())
    source.seek(0)
    archive.addfile(member, source)


# ----------------------------------------------------------------------------------------------------------- restoring


def restore(file: str, name: str | None) -> str:
    """Create a name from a dump; return the name.

    Only this user may read it. Its writer counts as dead if one was active, and the next one continues from it.

    Args:
        file: path of the dump.
        name: the name to create; None for that of the dump.

    Raises:
        DumpFileError: the file is not a dump, or the name exists.
        CapacityError: not enough memory.
    """
    with _reading(file), tarfile.open(file) as archive:
        members = {member.name: member for member in archive.getmembers() if member.isreg()}
        if not {"info.json", "state"} <= members.keys():
            raise DumpFileError(f"{file} is not a dump of shmsync: it contains no info.json and no state")
        names = names_of(name or json.load(_part(archive, members["info.json"]))["name"])
        sources = {
            part: (_part(archive, members[part]), members[part].size) for part in _parts(names) if part in members
        }
        _create(file, names, sources)
    return names.name


@contextmanager
def _reading(file: str) -> Iterator[None]:
    try:
        yield
    except tarfile.ReadError as error:
        raise DumpFileError(
            f"{file} is not a dump of shmsync, or is damaged: it is not a complete tar archive"
        ) from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ShmSyncError):
            raise
        raise DumpFileError(f"{file} is not a dump of shmsync, or is damaged: {error}") from error


def _part(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    return archive.extractfile(member)


def _create(file: str, names: Names, sources: dict[str, tuple[Any, int]]) -> None:
    """Create the segments as a writer does: the state first and its magic last, under both of its locks."""
    try:
        state = create_empty_segment(names.state)
    except FileExistsError:
        text = f"remove it with `shmsync rm {names.name}`, or restore the dump as another name"
        raise DumpFileError(f"{names.name!r} exists already; {text}: shmsync restore {file} NAME") from None
    with state:
        if not (all(ofd_locks.try_lock(state.fd, at) for at in (0, 1)) and _is_named(names, state)):
            raise DumpFileError(f"{names.name!r} was just created by another process; choose another name")
        try:
            for part, segment_name in reversed(_parts(names).items()):
                if part != "state":
                    unlink_segment(segment_name)  # of an incarnation whose state segment another program removed
                    if part in sources:
                        with create_empty_segment(segment_name) as segment:
                            _fill(segment, *sources[part])
            _fill(state, *sources["state"])
        except BaseException:
            for segment_name in reversed(_parts(names).values()):
                unlink_segment(segment_name)
            raise


def _is_named(names: Names, state: Segment) -> bool:
    found = status_of(names.state)
    return found is not None and found.st_ino == state.status().st_ino


def _fill(segment: Segment, source: BinaryIO, size: int) -> None:
    """Copy a part of a dump into an empty segment, its first word last."""
    segment.set_mode(0o600)
    segment.reserve(size)
    magic = source.read(min(size, _MAGIC_SIZE))
    at = len(magic)
    while at < size:
        chunk = source.read(_CHUNK)
        if not chunk:
            raise EOFError(f"{segment.name} has {at:,} of {size:,} bytes")
        segment.write(at, chunk)
        at += len(chunk)
    segment.write(0, magic)
