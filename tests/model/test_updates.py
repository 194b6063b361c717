"""Search what the writer knows about stale memory: every sequence of operations, each interrupted before every line.

The shipped code runs on small payloads. After each publish, the payload must be the value that was meant.
(`test_explorer` covers the readers.)

    pytest tests/model/test_updates.py --slow   # longer sequences
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from model.mutants import replaced
from shmsync._core import stale
from shmsync._core.layout import PAYLOAD_AT, DataHeader
from shmsync._core.spares import Spares
from shmsync._session import updates
from shmsync._session.change_log import ChangeLog
from shmsync.codecs import _changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, ModuleType

SIZE = 8
"""Bytes of a payload; each is a part of its own."""
SHIPPED = {module.__file__ for module in (stale, updates, _changes)}


class Interrupted(Exception):  # noqa: N818 - no error
    """Raised by a signal handler."""


class Inode:
    """A segment that the writer has mapped."""

    def __init__(self) -> None:
        self.memory = bytearray(PAYLOAD_AT + SIZE)
        self.size = len(self.memory)
        self.stale: tuple[int, Any] | None = None

    def view(self, start: int, end: int) -> memoryview:
        return memoryview(self.memory)[start:end]

    def payload(self) -> bytes:
        return bytes(self.memory[PAYLOAD_AT:])

    def fits(self, _size: int) -> bool:
        return True

    is_free = fits

    def wipe(self) -> None:
        self.memory[:PAYLOAD_AT] = bytes(PAYLOAD_AT)


class Operation(NamedTuple):
    """What a writer does for one version.

    Attributes:
        kind: "update" or "write".
        parts: which bytes it changes.
        replaces: whether the segment gets a new inode first, or a spare if there is one.
        aborts: whether it is given up before it is published.
        succeeds: whether another writer takes over first.
    """

    kind: str
    parts: tuple[int, ...]
    replaces: bool = False
    aborts: bool = False
    succeeds: bool = False

    def __str__(self) -> str:
        flags = [name for name in ("replaces", "aborts", "succeeds") if getattr(self, name)]
        return " ".join([self.kind, str(self.parts), *flags])


OPERATIONS = [
    Operation("update", (1,)),
    Operation("update", (1, 3)),
    Operation("update", (5,)),
    Operation("update", (2,), aborts=True),
    Operation("update", (4,), replaces=True),
    Operation("update", (6,), succeeds=True),
    Operation("write", ()),
    Operation("write", (), aborts=True),
]
WITH_SPARE = (OPERATIONS[0], OPERATIONS[4], OPERATIONS[6], OPERATIONS[2], OPERATIONS[4])
"""The last update uses a spare that was kept before a full write."""


class Writer:
    """A writer and its two segments.

    Attributes:
        value: the newest value.
        copied: how many bytes updates have copied.
    """

    def __init__(self) -> None:
        self.seq = 1
        self.inodes = [Inode(), Inode()]
        self.spares: Spares[Inode] = Spares(1)
        self.log = ChangeLog()
        self.value = bytes(SIZE)
        self.stamp = 0
        self.copied = 0

    def run(self, operation: Operation) -> None:
        index = self.seq & 1
        if operation.succeeds:
            for inode in self.inodes:
                inode.stale = None  # mapped again
            self.spares = Spares(1)
        if operation.replaces:
            self.replace(index)
        self.stamp += 1
        target, source = self.inodes[index], self.inodes[1 - index]
        if operation.kind == "write":
            self.write(target, operation)
        else:
            self.update(target, source, operation)

    def replace(self, index: int) -> None:
        place = self.spares.find_free(SIZE)
        if place is None:
            place, inode = self.spares.unused_place(index), Inode()
            inode.memory[:] = b"?" * len(inode.memory)
        else:
            inode = self.spares.take(place)
        if self.inodes[index].stale is not None:
            self.spares.put(place, self.inodes[index])
        self.inodes[index] = inode

    def write(self, target: Inode, operation: Operation) -> None:
        value = bytes([self.stamp]) * SIZE
        stale.forget(target)
        for at in range(SIZE):
            target.memory[PAYLOAD_AT + at] = value[at]
            if operation.aborts and at == SIZE // 2:
                return
        self.publish(value)

    def update(self, target: Inode, source: Inode, operation: Operation) -> None:
        header = DataHeader(1, 1, self.seq, SIZE, 0, 0)
        update = updates.catch_up(target, source, header)  # type: ignore[arg-type]
        value = bytearray(self.value)
        assert update.payload() == self.value, f"not caught up: {update.payload().hex()} instead of {self.value.hex()}"
        for part in operation.parts:
            if part & 1:
                update.changes.add(part, part + 1)
            else:
                update.changes.add_rows(0, 1, np.array([part, part]))
            update.payload()[part] = value[part] = self.stamp
        if operation.aborts:
            return
        updates.finish(update, (1, 1, self.seq + 1), self.log)
        self.copied += update.copied
        self.publish(bytes(value))
        updates.note(update, self.spares, self.seq)  # type: ignore[arg-type]

    def publish(self, value: bytes) -> None:
        self.seq, self.value = self.seq + 1, value  # in one line, as the version word
        found = self.inodes[(self.seq + 1) & 1].payload()
        assert found == value, f"version {self.seq} is {found.hex()} instead of {value.hex()}"


def interrupting(line: int) -> Callable[[FrameType, str, Any], Any]:
    """Return a trace function that raises before a line of the shipped code, counted from the start."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in SHIPPED and frame.f_code.co_filename != __file__:
            return None
        if event == "line":
            if left == 0:
                raise Interrupted
            left -= 1
        return trace

    return trace


def run(operations: tuple[Operation, ...], interrupted: int, line: int) -> bool:
    """Run a sequence, of which one operation is interrupted; return whether it was."""
    writer = Writer()
    was_interrupted = False
    for number, operation in enumerate(operations):
        seq, value = writer.seq, writer.value
        if number != interrupted:
            writer.run(operation)
            continue
        previous = sys.gettrace()
        sys.settrace(interrupting(line))
        try:
            writer.run(operation)
        except Interrupted:
            was_interrupted = True
        finally:
            sys.settrace(previous)
        if writer.seq == seq:
            writer.value = value
    return was_interrupted


def search(length: int) -> Iterator[str]:
    """Run all sequences, and a longer one; yield what is wrong."""
    for operations in (*itertools.product(OPERATIONS, repeat=length), WITH_SPARE):
        # The first operations are interrupted: what follows shows whether that did harm.
        for interrupted in range(-1, len(operations) - 2):
            line = 0
            try:
                while run(operations, interrupted, line):
                    line += 1
            except AssertionError as error:
                where = f", interrupted in {interrupted} before line {line}" if interrupted >= 0 else ""
                yield f"{'; '.join(map(str, operations))}{where}: {error}"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records of small segments, too, and use them however much is stale."""
    monkeypatch.setattr(updates, "_TRACK_FROM", 0)
    monkeypatch.setattr(updates, "_COPY_ALL_FROM", 0)
    monkeypatch.setattr(_changes, "_MANY_ARRAYS", 1)
    monkeypatch.setattr(_changes, "_MANY_RANGES", 2)
    monkeypatch.setattr(_changes, "_COARSE", 2)


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a coverage tool traces already")
@pytest.mark.parametrize("length", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_no_wrong_byte(length: int) -> None:
    assert next(search(length), None) is None


def test_only_the_changes_are_copied() -> None:
    """Otherwise a full copy each time would pass, too."""
    writer = Writer()
    for part in range(4):
        writer.run(Operation("update", (part,)))
    assert writer.copied == SIZE + 2 + 1 + 2  # the first one knows nothing; rows are counted twice here


class Mutant(NamedTuple):
    """A change to the shipped code that breaks it: see `mutants.Mutant`."""

    name: str
    module: ModuleType
    before: str
    after: str


MUTANTS = [
    Mutant(
        "what an update has changed is not stale in the inode of the version before",
        stale,
        "    previous.stale = seq, changes",
        "    previous.stale = seq, type(changes)()",
    ),
    Mutant(
        "what an update has changed is not stale in a spare",
        stale,
        "            stale.extend(changes)\n",
        "",
    ),
    Mutant(
        "a spare that equals an older version is taken for the newest one",
        stale,
        "        stale = stale_bytes(spare, seq - 1)\n",
        "        stale = spare.stale and spare.stale[1]\n",
    ),
    Mutant(
        "a record counts for every version",
        stale,
        "    return record[1] if record is not None and record[0] == newest else None",
        "    return record[1] if record is not None else None",
    ),
    Mutant(
        "a full write keeps the record",
        stale,
        "    inode.stale = None\n\n\ndef note_copied",
        "    pass\n\n\ndef note_copied",
    ),
    Mutant(
        "an aborted update leaves an empty record",
        updates,
        "        note_copied(target, header.seq, update.changes)",
        "        note_copied(target, header.seq, Changes())",
    ),
    Mutant(
        "a record is emptied before the copy",
        updates,
        "    stale: Changes | None = stale_bytes(target, header.seq)\n",
        "    stale: Changes | None = stale_bytes(target, header.seq)\n    note_copied(target, header.seq, Changes())\n",
    ),
    Mutant(
        "the copy is of the wrong segment",
        updates,
        "        stale.copy(update.payload(), source.view(PAYLOAD_AT, PAYLOAD_AT + header.size))",
        "        stale.copy(update.payload(), target.view(PAYLOAD_AT, PAYLOAD_AT + header.size))",
    ),
    Mutant(
        "the last byte of a range is not copied",
        _changes,
        "            last = min(stop, len(target))",
        "            last = min(stop, len(target)) - 1",
    ),
    Mutant(
        "a range is recorded without its last byte",
        _changes,
        "            self._ranges.append((start, stop))",
        "            self._ranges.append((start, stop - 1))",
    ),
]


@pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or a coverage tool traces already")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_found(mutant: Mutant) -> None:
    with replaced(*mutant):
        found = next(search(3), None)
    print(found)
    assert found is not None
