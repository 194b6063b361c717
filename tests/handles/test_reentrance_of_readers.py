"""What another thread or a signal handler does between any two instructions of a call.

A trace function acts at one instruction after another: it stands for a thread that is scheduled there, or for a signal
handler that is called there.
"""

from __future__ import annotations

import gc
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import PACKAGE, SHM, hazards, pins, slots_locked

from shmsync import ClosedError, Reader, Writer
from shmsync._core import slots
from shmsync._core.layout import names_of
from shmsync._shm.fork import MAX_CALLS
from shmsync._util.weak import WeakRegistry

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType


def act_at(number: int, call: Callable[[], object], act: Callable[[], object]) -> bool:
    """Make a call, and act before its instruction `number`; return whether there is one with that number."""
    if sys.version_info[:2] == (3, 12):
        return act_at_monitored(number, call, act)
    passed = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == number:
                sys.settrace(None)
                act()
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(previous)
    return passed >= number


def act_at_monitored(number: int, call: Callable[[], object], act: Callable[[], object]) -> bool:
    """Do as `act_at`. In Python 3.12, tracing misses instructions of code that has run before."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined] # not in the oldest version
    passed = 0

    def at_instruction(code: CodeType, _offset: int) -> None:
        nonlocal passed
        if passed < number and code.co_filename.startswith(PACKAGE):
            passed += 1
            if passed == number:
                monitoring.set_events(monitoring.PROFILER_ID, 0)
                act()

    monitoring.use_tool_id(monitoring.PROFILER_ID, __name__)
    try:
        monitoring.register_callback(monitoring.PROFILER_ID, monitoring.events.INSTRUCTION, at_instruction)
        monitoring.set_events(monitoring.PROFILER_ID, monitoring.events.INSTRUCTION)
        call()
    finally:
        monitoring.set_events(monitoring.PROFILER_ID, 0)
        monitoring.free_tool_id(monitoring.PROFILER_ID)
    return passed >= number


def test_of_two_threads_that_close_a_snapshot_one_unpins(writer: Writer, name: str) -> None:
    writer.write(np.arange(5000))
    with Reader(name) as reader, reader.read():
        alone = pins(name)
        number = 1
        while True:
            snapshot = reader.read()
            found = act_at(number, snapshot.close, snapshot.close)
            assert pins(name) == alone, f"at instruction {number}"
            if not found:
                break
            number += 1
        assert number > 10


@pytest.mark.parametrize("value", [np.arange(5000), "small"], ids=["views", "small"])
@pytest.mark.parametrize("call", [Reader.get, lambda reader: reader.read().value, Reader.version])
def test_a_reader_closed_in_the_middle_of_a_call_stays_closed(
    writer: Writer, name: str, value: Any, call: Callable[[Reader], object]
) -> None:
    writer.write(value)
    number = 1
    while True:
        reader = Reader(name)
        if number % 2:
            reader.get()
            writer.write(value)

        def guarded(reader: Reader = reader) -> None:
            with suppress(ClosedError):
                call(reader)

        found = act_at(number, guarded, reader.close)
        if not found:
            break
        for use in (reader.get, reader.read, reader.version):
            with pytest.raises(ClosedError):
                use()
        assert not slots_locked(name), f"at instruction {number}"
        number += 1
    reader.close()
    gc.collect()
    assert number > 50
    assert not pins(name)
    assert not hazards(name)


# ------------------------------------------------------------------------------------------------------- the collector


class Collected(dict[int, Any]):
    """Changes while it is iterated, as if the collector ran finalizers then. A copy is made in one step."""

    def __iter__(self) -> Any:
        for number in super().__iter__():
            yield number
            self.pop(number, None)


def test_claims_may_be_released_while_another_is_made(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(np.arange(5000))
    readers = [Reader(name) for _ in range(3)]
    for reader in readers:
        reader.get()
    original = slots._claims
    monkeypatch.setattr(slots, "_claims", Collected(original))
    with Reader(name) as another:
        another.get()
    for reader in readers:
        reader.close()
    gc.collect()
    assert not slots_locked(name)
    for number in original.keys() - slots._claims.keys():
        del original[number]  # released, in its copy


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs between instructions only")
def test_the_collector_frees_slots_during_a_claim(writer: Writer, name: str) -> None:
    writer.write(np.arange(5000))
    threshold = gc.get_threshold()
    try:
        for _ in range(30):
            live = [Reader(name) for _ in range(3)]
            for reader in live:
                reader.get()
            for _ in range(3):
                cycle: list[Any] = [Reader(name)]
                cycle[0].get()
                cycle.append(cycle)
            del cycle
            another = Reader(name)
            gc.set_threshold(1)
            another.get()
            gc.set_threshold(*threshold)
            for reader in (*live, another):
                reader.close()
    finally:
        gc.set_threshold(*threshold)


def test_registered_objects_may_be_destroyed_while_they_are_listed() -> None:
    class Item:
        pass

    registry: WeakRegistry[Item] = WeakRegistry()
    items = [Item() for _ in range(5)]
    for item in items:
        registry.add(item)
    del item
    registry._references = Collected(registry._references)
    assert len(registry.items()) == 5
    items.clear()
    assert registry.items() == []
    assert not registry._references


# ----------------------------------------------------------------------------------------- a name that is created again


def create_again(name: str) -> None:
    """Remove a name as `rm` does, and publish it again."""
    for segment in (names_of(name).state, names_of(name).readers, *names_of(name).data):
        (SHM / segment[1:]).unlink(missing_ok=True)
    with Writer(name) as writer:
        writer.write("new")


@pytest.mark.parametrize("value", [np.arange(5000), "small"], ids=["views", "small"])
@pytest.mark.parametrize("before", [1, 10, 10 * MAX_CALLS])
def test_get_finds_a_name_that_was_created_again(name: str, value: Any, before: int) -> None:
    with Writer(name) as writer:
        writer.write(value)
    with Reader(name) as reader:
        old = reader.get()
        for _ in range(before):
            assert reader.get() is old
        create_again(name)
        calls = 0
        while reader.get() is old:
            calls += 1
            assert calls <= MAX_CALLS
        assert reader.get() == "new"
    with Writer(name) as writer:
        writer.unlink()


@pytest.mark.parametrize("call", [lambda reader: reader.read().version.seq, lambda reader: reader.version().seq])
def test_read_finds_a_name_that_was_created_again(
    name: str, call: Callable[[Reader], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(name) as writer:
        for number in range(3):
            writer.write(number)
    now = 1000.0
    monkeypatch.setattr("shmsync._handles.reader.monotonic", lambda: now)
    with Reader(name) as reader:
        assert call(reader) == call(reader) == 3
        create_again(name)
        now += 0.2
        assert call(reader) == 1
    with Writer(name) as writer:
        writer.unlink()


def test_the_rate_of_checks_follows_the_rate_of_calls(
    writer: Writer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow poller finds out at its next call, and a fast one pays little."""
    writer.write("value")
    now, checks = 1000.0, 0
    monkeypatch.setattr("shmsync._handles.reader.monotonic", lambda: now)
    with Reader(name) as reader:
        reader.get()
        assert reader._attachment is not None
        check = type(reader._attachment.channel).is_superseded

        def counted(channel: Any) -> bool:
            nonlocal checks
            checks += 1
            return check(channel)

        monkeypatch.setattr(type(reader._attachment.channel), "is_superseded", counted)
        for _ in range(20):
            now += 0.5
            reader.get()
        assert checks >= 9
        checks = 0
        for _ in range(20 * MAX_CALLS):
            now += 1e-6
            reader.get()
        assert checks < 40
