"""Inspect names again and again: what has not changed since the last time is not worked out again.

A screen or a scrape inspects every name, of which few have changed. Each is scanned, which takes some ten system calls,
and the result is compared with the previous scan. Processes are examined once for all the names that they read.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync._core.layout import names_of
from shmsync._inspect import scan
from shmsync._inspect.processes import Processes
from shmsync._inspect.slots import used_slots, with_outdated
from shmsync._inspect.summary import age_of, summarize
from shmsync._session.held import held_segments
from shmsync.errors import StateNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shmsync._core.layout import Names
    from shmsync._info_types import Info, ProcessInfo, ReaderInfo
    from shmsync._inspect.scan import Scan
    from shmsync._types import HeldSegmentInfo

_ATTEMPTS = 3  # a problem is reported only if each of them finds it: another process may be creating the name
_RETRY_AFTER = 0.002


class _Inspected:
    """A name as it was last inspected.

    Attributes:
        names: the segment names.
        scan: the scan.
        info: what follows from the scan alone.
        pids: processes of the live readers.
        readers: the readers, with what is known of their processes.
        processes: the processes of the readers, when `readers` was made.
        holds: whether a reader holds a version that may be outdated.
    """

    def __init__(self, names: Names, result: Scan) -> None:
        self.names = names
        self.scan = result
        self.info = summarize(result, names)
        self.readers = used_slots(result)
        self.pids = {reader.pid for reader in self.readers if reader.alive and reader.pid}
        self.processes: list[ProcessInfo | None] | None = None
        self.holds = any(reader.is_reading or reader.retained for reader in self.readers)

    def identity(self) -> tuple[int, int, int]:
        """Return what changes when memory of the name is replaced, or the name is created again."""
        header, words = self.scan.header, self.scan.words
        assert header is not None
        assert words is not None
        return header.incarnation, *words.generations


class Inspector:
    """Inspects names, and remembers what it found for the next time."""

    def __init__(self) -> None:
        self._inspected: dict[str, _Inspected] = {}
        self._processes = Processes()

    def inspect(self, names: Iterable[str]) -> list[Info]:
        """Inspect names. Those that do not exist are left out.

        Args:
            names: valid names.
        """
        previous, self._inspected = self._inspected, {}
        for name in names:
            found = _inspect(name, previous.get(name))
            if found is not None:
                self._inspected[name] = found
        self._examine_processes()
        return [self._info(found) for found in self._inspected.values()]

    def _examine_processes(self) -> None:
        used: dict[int, list[tuple[int, int, int]]] = {}
        for found in self._inspected.values():
            if found.pids:
                identity = found.identity()
                for pid in found.pids:
                    used.setdefault(pid, []).append(identity)
        self._processes.examine(used)

    def _info(self, found: _Inspected) -> Info:
        info, processes = found.info, self._processes
        writer = info.writer
        if writer.pid is not None and writer.state == "alive":
            writer = writer._replace(process=processes.process(writer.pid, writer.since))
        if not found.readers:
            return info._replace(age=age_of(found.scan), writer=writer)
        table = info.segments[1].inode
        mapped = {pid: processes.mapped(pid, table) for pid in found.pids}
        held, unexamined = held_segments(found.names, mapped)
        seen = [processes.reader(reader, table) for reader in found.readers]
        if found.holds or seen != found.processes or held != info.held or unexamined != info.unexamined:
            now = time.monotonic()
            readers = (
                with_outdated(found.scan, reader, now)._replace(
                    held_memory=_held_memory(held, unexamined, reader), process=process
                )
                for reader, process in zip(found.readers, seen, strict=True)
            )
            found.processes = seen
            found.info = info = info._replace(readers=tuple(readers), held=held, unexamined=unexamined)
        return info._replace(age=age_of(found.scan), writer=writer)


def _inspect(name: str, previous: _Inspected | None) -> _Inspected | None:
    """Scan a name; return None if it does not exist."""
    names = previous.names if previous is not None else names_of(name)
    try:
        result = scan.scan(name, names)
        for _ in range(_ATTEMPTS - 1):
            if not result.problems or (previous is not None and previous.scan == result):
                break
            time.sleep(_RETRY_AFTER)
            result = scan.scan(name, names)
    except StateNotFoundError:
        return None
    return previous if previous is not None and previous.scan == result else _Inspected(names, result)


def _held_memory(held: tuple[HeldSegmentInfo, ...], unexamined: tuple[int, ...], reader: ReaderInfo) -> int | None:
    if not reader.alive:
        return 0
    if reader.pid is None or reader.pid in unexamined:
        return None
    return sum(segment.memory for segment in held if reader.pid in segment.pids)
