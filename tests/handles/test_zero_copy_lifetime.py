"""Invariant 6 for every kind of value: it does not change while it is referenced, and its memory is released then."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import TIMEOUT, Child, State, environment, hazards, slots_locked

from shmsync import ArrayMap, ClosedError, Reader, Writer, codecs
from shmsync._core.layout import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RNG = np.random.default_rng(7)
ARRAY = RNG.random((64, 1024))
TABLE = pa.table({"x": ARRAY[0], "s": [str(number) for number in range(1024)]})
MAP_READ = {number: np.full(3, float(number)) for number in range(1000)}
MAP = {number: [float(number)] * 3 for number in range(1000)}


def first_of_map(value: Any) -> bytes:
    return bytes(np.concatenate([value[number] for number in (0, 500, 999)]).tobytes())


def pieces(value: Any) -> bytes:
    return repr(list(map(list, value))).encode()


def cells(value: Any) -> bytes:
    return repr(value.to_pylist()).encode()


# By kind: codec, value to write, the part of it that a test keeps, and that part as bytes.
KINDS: dict[str, tuple[str, Any, Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "array": ("msgpack", ARRAY, lambda value: value, np.ndarray.tobytes),
    "array in a dict": ("msgpack", {"a": [ARRAY], "n": 1}, lambda value: value["a"][0], np.ndarray.tobytes),
    "slice of an array": ("msgpack", {"a": ARRAY}, lambda value: value["a"][3:9, ::2], np.ndarray.tobytes),
    "bytes in a list": ("msgpack", [b"x" * 5000, 1], lambda value: value[0][7:99], bytes),
    "raw": ("raw", ARRAY.tobytes(), lambda value: value[100:], bytes),
    "archived map": ("archive", MAP, lambda value: value, first_of_map),
    "map of arrays": (
        "archive",
        ArrayMap(np.arange(1000), ARRAY.reshape(-1, 8)[:1000]),
        lambda value: value,
        first_of_map,
    ),
    "row of a map": ("archive", {"rows": MAP, "x": 1}, lambda value: value["rows"][500], np.ndarray.tobytes),
    "archived list": ("archive", [["a", number] for number in range(100)], lambda value: value, pieces),
    "large bytes": ("archive", {"b": b"y" * 9000}, lambda value: value["b"], bytes),
    "table": ("arrow", TABLE, lambda value: value, cells),
    "column of a table": ("arrow", TABLE, lambda value: value["x"].chunk(0), cells),
    "pickled array": ("pickle", {"a": ARRAY}, lambda value: value["a"], np.ndarray.tobytes),
}


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    with Writer(name, grace_duration=0) as writer:
        yield writer
    with Writer(name) as last:
        last.unlink()


def publish(writer: Writer, codec: str, value: Any) -> None:
    """Write with a given codec instead of the writer's."""
    chosen = codecs.by_name(codec)
    writer._publish(chosen, chosen.encode(value), None)


def mapped(name: str) -> list[str]:
    """Return this process's mappings of data segments."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if f"/{name}_data_" in line]


def resident_of_deleted(name: str) -> int:
    """Return how much memory of unlinked data segments this process has mapped, in KiB."""
    total = 0
    counts = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            counts = f"/{name}_data_" in line and line.endswith("(deleted)")
        elif counts and line.startswith("Rss:"):
            total += int(line.split()[1])
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["get", "read"])
def test_a_value_outlives_block_handle_and_later_publishes(writer: Writer, name: str, kind: str, way: str) -> None:
    codec, value, take, as_bytes = KINDS[kind]
    publish(writer, codec, value)
    reader = Reader(name, allow_pickle=True, zero_copy_bytes=True)
    if way == "get":
        part = take(reader.get())
    else:
        with reader.read() as snapshot:
            part = take(snapshot.value)
        with pytest.raises(ClosedError):
            _ = snapshot.value
        del snapshot
    before = as_bytes(part)
    for number in range(5):
        writer.write_raw(os.urandom(number * 3000))
        assert bytes(reader.get()) != before
    assert as_bytes(part) == before
    reader.close()
    for number in range(1000):
        writer.write_raw(bytes([number & 255]) * (1 + number * 37 % 9000))
    assert as_bytes(part) == before
    assert slots_locked(name)
    del part, reader
    assert not slots_locked(name)
    assert not hazards(name)
    assert len(mapped(name)) == 2  # the writer's


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_released_with_the_last_reference(writer: Writer, name: str, kind: str) -> None:
    """It is released at once, without a garbage collection or another call of the reader."""
    codec, value, take, _ = KINDS[kind]
    with Reader(name, allow_pickle=True, zero_copy_bytes=True) as reader:
        gc.collect()
        gc.disable()
        try:
            publish(writer, codec, value)
            part = take(reader.get())
            writer.write("next")
            assert reader.get() == "next"
            assert len(hazards(name)) == 1
            del part
            assert not hazards(name)
        finally:
            gc.enable()


def test_a_large_array_is_retained_and_then_released(writer: Writer, name: str) -> None:
    array = RNG.random(4 * 2**20)
    writer.write({"a": array})
    with Reader(name) as reader:
        held = reader.get()["a"]
        for number in range(1000):
            writer.write({"other": np.full(number * 7 % 5000, number)})
            if number % 100 == 0:
                reader.get()
        assert held.tobytes() == array.tobytes()
        assert resident_of_deleted(name) >= array.nbytes // 1024
        del held
        assert resident_of_deleted(name) < 1024


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_that_keeps_up_costs_no_new_memory(writer: Writer, name: str, kind: str) -> None:
    """`value = reader.get()` references the old value while the new one is read; `with` references none afterwards."""
    codec, value, take, as_bytes = KINDS[kind]
    with Reader(name, allow_pickle=True, zero_copy_bytes=True) as reader:
        for way in ("get", "read"):
            for _ in range(4):
                publish(writer, codec, value)
                reader.read().close()
            before = writer.stats().replaced
            found = None
            for _ in range(10):
                publish(writer, codec, value)
                if way == "get":
                    found = reader.get()
                    as_bytes(take(found))
                else:
                    with reader.read() as snapshot:
                        as_bytes(take(snapshot.value))
                        assert kind == "raw" or snapshot.value is snapshot.value
            assert writer.stats().replaced == before
            del found


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_keeps_no_view_retains_nothing(writer: Writer, name: str, kind: str) -> None:
    codec, value, take, as_bytes = KINDS[kind]
    publish(writer, codec, value)
    with Reader(name, allow_pickle=True, zero_copy_bytes=True) as reader:
        with reader.read() as snapshot:
            as_bytes(take(snapshot.value))
            assert kind == "raw" or snapshot.value is snapshot.value
        assert not hazards(name)
        del snapshot


def test_values_in_a_reference_cycle_are_released_by_the_collector(writer: Writer, name: str) -> None:
    class Node:
        def __init__(self) -> None:
            self.me = self

    gc.collect()
    for kind, (codec, value, take, _) in KINDS.items():
        publish(writer, codec, value)
        node: Any = Node()
        reader = Reader(name, allow_pickle=True, zero_copy_bytes=True)
        node.value = reader.get()
        node.part = take(node.value)
        with reader.read() as snapshot:
            node.snapshot, node.buffer, node.again = snapshot, snapshot.buffer, snapshot.value
        node.reader = reader
        del node, reader, snapshot
        gc.collect()
        assert not slots_locked(name), kind
        assert len(mapped(name)) <= 2, kind


def test_a_view_dropped_while_the_handle_is_locked(writer: Writer, name: str) -> None:
    """The thread that drops it does not wait; the reader's next call clears the hazard."""
    writer.write(ARRAY)
    with Reader(name) as reader:
        views = [reader.get()]
        writer.write("next")
        reader.get()
        with reader.lock:
            dropper = threading.Thread(target=views.clear)
            dropper.start()
            dropper.join(TIMEOUT)
            assert not dropper.is_alive()
            assert hazards(name)
        reader.read(check_bytes=True).close()
        assert not hazards(name)


def test_interrupted_reads_of_a_retained_value_leak_no_slots(writer: Writer, name: str) -> None:
    """Each read discards its slot; only one slot is needed to retain the value."""
    publish(writer, "archive", MAP)
    with Reader(name) as reader:
        held = reader.get()
        for _ in range(50):
            snapshot = reader.read()
            slot, view = snapshot._slots[0], snapshot.buffer
            assert slot is not None
            reader.discard_slot(slot)  # as after an exception of a signal handler
            snapshot.close()
            del snapshot, slot, view
        assert len(slots_locked(name)) <= 2
        for number in range(4):
            writer.write(number)
        assert first_of_map(held) == first_of_map(MAP_READ)
    del held
    assert not slots_locked(name)


def test_threads_take_and_drop_views(writer: Writer, name: str) -> None:
    """Four threads create and drop views while the writer never waits: no value is torn, and no slot is leaked."""
    size = 5000
    writer.write({"a": np.zeros(size)})
    errors: list[str] = []
    done = threading.Event()

    def read_repeatedly(reader: Reader[Any]) -> None:
        held: list[Any] = []
        while not done.is_set():
            with reader.read() as snapshot:
                held.append(snapshot.value["a"])
            held.append(reader.get()["a"][5:])
            errors.extend("torn" for array in held if not (array == array[0]).all())
            if len(held) > 6:
                del held[:5]

    with Reader(name) as reader:
        threads = [threading.Thread(target=read_repeatedly, args=(reader,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(600):
            writer.write({"a": np.full(size, number)})
        done.set()
        for thread in threads:
            thread.join()
        assert not errors
        writer.write("last")
        reader.get()
    del threads
    gc.collect()
    assert not slots_locked(name)
    assert not hazards(name)


# ----------------------------------------------------------------------------------------------------------- processes


def take_part(state: State, name: str, kind: str) -> bytes:
    _, _, take, as_bytes = KINDS[kind]
    state.reader = Reader(name, allow_pickle=True, zero_copy_bytes=True)
    state.part = take(state.reader.get())
    return as_bytes(state.part)


def part_as_bytes(state: State, kind: str) -> bytes:
    return KINDS[kind][3](state.part)


def drop_part(state: State) -> None:
    del state.part
    state.reader.close()


@pytest.mark.parametrize("kind", ["array in a dict", "archived map", "table", "raw"])
def test_after_a_fork_each_process_retains_the_value(writer: Writer, name: str, kind: str) -> None:
    codec, value, *_ = KINDS[kind]
    publish(writer, codec, value)
    with Child() as child:
        before = child.call(take_part, name, kind)
        forked = child.fork()
        child.call(drop_part)
        for number in range(20):
            writer.write_raw(bytes([number]) * 100_000)
        assert forked.call(part_as_bytes, kind) == before
        assert not slots_locked(name)  # the memory was sealed: what a child inherits costs no slot
        forked.call(drop_part)
        assert not slots_locked(name)
        forked.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_killed_with_a_retained_value_costs_nothing(writer: Writer, name: str, kind: str) -> None:
    codec, value, *_ = KINDS[kind]
    publish(writer, codec, value)
    with Child() as child:
        child.call(take_part, name, kind)
        child.kill()
    for number in range(4):
        writer.write(number)
    before = writer.stats().replaced
    for number in range(10):
        writer.write(number)
    assert writer.stats().replaced == before
    with Reader(name) as reader:
        assert reader.get() == 9


EXITS = {
    "live values": "",
    "a reference cycle": "class N: pass\nn = N(); n.me = n; n.all = (value, reader, snapshot, part)",
    "an open snapshot": "again = reader.read(); inside = again.value",
    "closed handles": "reader.close(); writer.close()",
    "a running thread": (
        "import threading, time\n"
        "def go():\n    while True:\n        with reader.read() as s: s.value\n"
        "threading.Thread(target=go, daemon=True).start(); time.sleep(0.05)"
    ),
    "an exit handler": "import atexit; atexit.register(lambda: (reader.get(), writer.write('late')))",
    "an exception": "sys.excepthook = lambda *_: None\nraise SystemExit(0)",
}


EXIT_KINDS = ["array in a dict", "archived map", "table", "pickled array", "raw"]
EXIT_CASES = [
    # A default run covers each way and each kind at least once.
    pytest.param(kind, way, marks=[pytest.mark.slow] * (number % len(EXIT_KINDS) != EXIT_KINDS.index(kind)))
    for number, way in enumerate(EXITS)
    for kind in EXIT_KINDS
]


@pytest.mark.parametrize(("kind", "way"), EXIT_CASES)
def test_nothing_is_printed_at_exit(writer: Writer, name: str, kind: str, way: str) -> None:
    writer.close()
    script = f"""
import sys
from test_zero_copy_lifetime import KINDS, publish
from shmsync import Reader, Writer
codec, content, take, as_bytes = KINDS[{kind!r}]
writer = Writer({name!r}, grace_duration=0)
publish(writer, codec, content)
reader = Reader({name!r}, allow_pickle=True, zero_copy_bytes=True)
value = reader.get()
part = take(value)
with reader.read() as snapshot:
    part = take(snapshot.value)
{textwrap.dedent(EXITS[way])}
"""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", script]
    # Up to 3.13, CPython itself occasionally crashes if a daemon thread returns from C after finalization.
    for _ in range(3 if way == "a running thread" else 1):
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment())
        if run.returncode != -signal.SIGSEGV:
            break
    assert (run.returncode, run.stderr, run.stdout) == (0, "", "")
    assert not slots_locked(name)


def test_get_releases_what_the_last_read_has_pinned(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        writer.write_raw(b"1")
        reader.read().close()
        attachment = reader._attachment
        assert attachment is not None
        mapping = attachment._mappings[0]
        assert mapping is not None
        memory = weakref.ref(mapping.memory)
        del mapping
        for size in (1, 20 * PAGE, 20 * PAGE):  # the second one replaces the memory that was read
            writer.write_raw(bytes(size))
            assert len(reader.get()) == size
        assert memory() is None


def test_get_of_arrays_retains_only_the_newest(writer: Writer, name: str) -> None:
    with Reader[Any](name) as reader:
        for number in range(8):
            writer.write(np.full(PAGE, number))
            assert reader.get()[0] == number
    assert writer.stats().replaced == 2  # the first memory of each segment
