"""A reader of a replica that checks each version it sees."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from helpers import until

from replication.values import number_of
from shmsync import Reader, StateNotFoundError, UninitializedStateError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Seen(NamedTuple):
    """One version as a reader has seen it.

    Attributes:
        seq: sequence number on this host.
        epoch: number of the publisher's period.
        origin: sequence number at the publisher.
        number: the number that the value contains.
    """

    seq: int
    epoch: int
    origin: int
    number: int


def seen(snapshot: Any) -> Seen:
    """Check a version of a replica; return what it is."""
    number = number_of(snapshot.value)
    origin = snapshot.origin
    assert origin is not None, f"version {snapshot.version.seq}, with number {number}, has no origin"
    return Seen(snapshot.version.seq, origin.epoch, origin.seq, number)


def newest(name: str) -> Seen | None:
    """Return what the newest version of a replica is, verified with its checksum, too; None if there is none."""
    with (
        suppress(StateNotFoundError, UninitializedStateError),
        Reader(name) as reader,
        reader.read(check_bytes=True) as snapshot,
    ):
        return seen(snapshot)
    return None


def newest_number(name: str) -> int:
    """Return the number of the newest value of a replica; 0 if there is none."""
    found = newest(name)
    return found.number if found else 0


class Watcher:
    """Reads a replica in a thread, and checks that each value is intact and none is older than the one before.

    Two independent detectors: the number that the value contains, and the origin that the version carries. Leaving the
    `with` block fails if one of them went back, or a value was damaged.

    Args:
        name: the local name.
        numbers_are_seqs: whether the number of a value is its sequence number at the publisher.
        repeats: whether two versions of an epoch may have the same number.
    """

    def __init__(self, name: str, *, numbers_are_seqs: bool = True, repeats: bool = False) -> None:
        self.versions: list[Seen] = []
        self._name = name
        self._numbers_are_seqs = numbers_are_seqs
        self._step = 0 if repeats else 1
        self._errors: list[BaseException] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            with Reader(self._name) as reader:
                while not self._stopped.is_set():
                    with suppress(StateNotFoundError, UninitializedStateError):
                        self._look(reader)
                    time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            self._errors.append(error)

    def _look(self, reader: Reader) -> None:
        if self.versions and reader.version().seq == self.versions[-1].seq:
            return
        with reader.read() as snapshot:
            version = seen(snapshot)
        if self.versions:
            before = self.versions[-1]
            if version.seq == before.seq:
                return
            assert version.seq > before.seq, f"the local version went back: {before}, {version}"
            assert version[1:3] > before[1:3], f"the origin went back: {before}, {version}"
            step = self._step if version.epoch == before.epoch else 0  # a new epoch may begin with the same value
            assert version.number >= before.number + step, f"the value went back: {before}, {version}"
        if self._numbers_are_seqs:
            assert version.number == version.origin, f"the origin is not that of the value: {version}"
        self.versions.append(version)

    def until_number(self, number: int) -> None:
        """Wait until a version with at least this number was seen."""
        until(lambda: self._errors or (self.versions and self.versions[-1].number >= number))
        self._check()

    def until_versions(self, count: int) -> None:
        """Wait until so many versions were seen."""
        until(lambda: self._errors or len(self.versions) >= count)
        self._check()

    def _check(self) -> None:
        if self._errors:
            raise self._errors[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if exc_type is None:
            self._check()
