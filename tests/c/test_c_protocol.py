"""The C reader and the Python writer: pins, hazards, eviction, death, forks, waiting, and the life of a name."""

from __future__ import annotations

import itertools
import os
import random
import signal
import struct
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from compiled import HERE, NEEDS_COMPILER, THREAD_SANITIZER, Driver, has_thread_sanitizer, mutant, printed, program
from helpers import NEVER, SHM, hazards, is_asleep, pins, slots_locked, until, without_waiting

import shmsync
from shmsync import Reader, Writer
from shmsync._core.layout import WAITERS_AT
from shmsync._shm.ofd_locks import is_locked

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = NEEDS_COMPILER

NOT_FOUND, NOT_PUBLISHED, LAYOUT, DAMAGED, FORBIDDEN, FULL, TIMEOUT = range(-1, -8, -1)
FORKED, INVALID, UNSUPPORTED, INTERRUPTED = -9, -10, -14, -16
PAYLOADS = [bytes([number]) * 5_000 for number in range(40)]


@pytest.fixture
def driver(name: str) -> Iterator[Driver]:
    with Driver(name, xxhash=False) as driver:
        yield driver


@pytest.fixture
def raw_writer(name: str) -> Iterator[Writer[Any]]:
    with Writer[Any](name, grace_duration=0.0) as writer:
        writer.write_raw(PAYLOADS[1])
        yield writer
        writer.unlink()


def fnv(payload: bytes) -> int:
    found = 14695981039346656037
    for byte in payload:
        found = (found ^ byte) * 1099511628211 & (1 << 64) - 1
    return found


HASHES = [fnv(payload) for payload in PAYLOADS]


def publish(writer: Writer[Any], *numbers: int) -> None:
    for number in numbers:
        writer.write_raw(PAYLOADS[number])


# ---------------------------------------------------------------------------------------------------------------- pins


def test_a_pinned_version_does_not_change_although_the_writer_does_not_wait(
    raw_writer: Writer[Any], driver: Driver
) -> None:
    assert driver.result("pin", 0) == 0
    publish(raw_writer, *range(2, 12))
    assert driver.result("seq", 0) == 1
    assert driver.result("hash", 0) == HASHES[1]
    assert driver.result("pin", 1) == 0  # in another slot: the first one was evicted
    assert driver.result("hash", 1) == HASHES[11]
    assert len(slots_locked(raw_writer.name)) == 2
    assert driver.result("unpin", 0) == 0  # the last snapshot unlocks its slot
    assert len(slots_locked(raw_writer.name)) == 1
    assert driver.result("unpin", 1) == 0
    assert not pins(raw_writer.name)


def test_a_slot_that_was_left_keeps_no_mark(raw_writer: Writer[Any], driver: Driver) -> None:
    driver.call("pin", 0)
    driver.call("pin", 1)
    publish(raw_writer, 2, 3)
    driver.call("pin", 2)  # in another slot
    driver.call("unpin", 2)
    driver.call("retain", 0)
    assert len(pins(raw_writer.name)) == 1
    driver.call("unpin", 1)
    assert not pins(raw_writer.name)  # although the slot is still in use, for what is retained
    assert len(slots_locked(raw_writer.name)) == 2


def test_a_retained_version_does_not_change_and_is_not_waited_for(name: str, driver: Driver) -> None:
    with Writer[Any](name, grace_duration=NEVER) as writer, without_waiting():
        for number in range(1, 9):  # of two generations that are retained, the newer one is in the word
            publish(writer, number)
            assert driver.result("pin", number) == 0
            assert driver.result("retain", number) == 0
        publish(writer, *range(20, 40))
        assert [driver.result("hash", number) for number in range(1, 9)] == [HASHES[n] for n in range(1, 9)]
        assert not pins(name)
        assert len(hazards(name)) == 2
        for number in range(1, 9):
            assert driver.result("release", number) == 0
        assert not hazards(name)
        writer.unlink()


def test_a_version_that_is_retained_twice(raw_writer: Writer[Any], driver: Driver) -> None:
    for number in (0, 1):
        assert driver.result("pin", number) == 0
        assert driver.result("retain", number) == 0
    assert driver.result("release", 0) == 0
    publish(raw_writer, 2, 3, 4)
    assert driver.result("hash", 1) == HASHES[1]
    assert driver.result("release", 1) == 0
    assert not hazards(raw_writer.name)


def test_an_unchanged_inode_is_reused_after_an_unpin(raw_writer: Writer[Any], driver: Driver) -> None:
    for number in range(2, 10):
        assert driver.result("pin", 0) == 0
        assert driver.result("unpin", 0) == 0
        publish(raw_writer, number)
    assert raw_writer.stats().replaced <= 2


def test_a_mapped_inode_is_locked(raw_writer: Writer[Any], driver: Driver) -> None:
    driver.call("pin", 0)
    with (SHM / f"{raw_writer.name}_data_0").open("rb") as data:
        publish(raw_writer, 2, 3, 4)  # the name leads to another inode
        assert is_locked(data.fileno(), 0)
        driver.call("pin", 1)
        driver.call("unpin", 0)
        assert not is_locked(data.fileno(), 0)
    driver.call("unpin", 1)


def test_what_is_pinned_is_ended_once(raw_writer: Writer[Any], driver: Driver) -> None:
    assert driver.result("unpin", 0) == INVALID
    assert driver.result("retain", 0) == INVALID
    assert driver.result("pin", 0) == 0
    assert driver.result("release", 0) == INVALID
    assert driver.result("retain", 0) == 0
    assert driver.result("retain", 0) == INVALID
    assert driver.result("unpin", 0) == INVALID
    assert driver.result("release", 0) == 0
    assert driver.result("release", 0) == INVALID


def test_snapshots_outlive_their_handle(raw_writer: Writer[Any], driver: Driver) -> None:
    driver.call("pin", 0)
    driver.call("pin", 1)
    driver.call("retain", 1)
    driver.call("detach")
    publish(raw_writer, 2, 3, 4, 5)
    assert driver.result("hash", 0) == driver.result("hash", 1) == HASHES[1]
    driver.call("unpin", 0)
    driver.call("release", 1)
    assert not slots_locked(raw_writer.name)


def test_digests(name: str) -> None:
    program(HERE / "driver.c")  # first: it may skip
    with Writer[Any](name) as writer, Driver(name) as driver:
        for size in (1, 8192, 8193, 100_000):
            writer.write_raw(b"x" * size)
            assert driver.result("pin", 0) == 0
            assert driver.result("verify", 0) == 0
            with next(iter(SHM.glob(f"{name}_data_{0 if driver.result('seq', 0) % 2 else 1}"))).open("r+b") as file:
                file.seek(64 + size - 1)
                file.write(b"y")
            assert driver.result("verify", 0) == DAMAGED
            driver.call("unpin", 0)
        writer.unlink()


def test_without_xxhash_digests_are_not_compared(raw_writer: Writer[Any], driver: Driver) -> None:
    driver.call("pin", 0)
    assert driver.result("verify", 0) == UNSUPPORTED


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_any_sequence_of_calls(name: str, driver: Driver, mode: int, seed: int) -> None:
    """Snapshots of both segments, pinned and retained, end in any order; the slot may be evicted at any time."""
    rng = random.Random(seed)
    held: dict[int, tuple[str, int]] = {}
    with Writer[Any](name, mode=mode, grace_duration=0.0) as writer:
        writer.write_raw(PAYLOADS[0])
        newest = 0
        for _ in range(250):
            action = rng.choice(["pin", "pin", "pin", "end", "end", "end", "retain", "publish"])
            number = rng.randrange(8)
            ends, version = held.get(number, ("", 0))
            if action == "publish":
                newest = rng.randrange(len(PAYLOADS))
                publish(writer, newest)
            elif action == "pin" and not ends:
                assert driver.result("pin", number) == 0
                held[number] = "unpin", newest
            elif action == "retain" and ends == "unpin":
                assert driver.result("retain", number) == 0
                held[number] = "release", version
            elif action == "end" and ends:
                assert driver.result("hash", number) == HASHES[version]
                assert driver.result(ends, number) == 0
                del held[number]
        for number, (ends, version) in held.items():
            assert driver.result("hash", number) == HASHES[version]
            assert driver.result(ends, number) == 0
        if mode == 0o600:
            assert not pins(name)
            assert not hazards(name)
        driver.call("detach")
        assert mode != 0o600 or not slots_locked(name)
        writer.unlink()


def test_many_pins_in_a_row(raw_writer: Writer[Any], driver: Driver) -> None:
    for _ in range(600):  # the fast path, and every 256th the slow one
        assert driver.result("pin", 0) == driver.result("pin", 1) == 0
        assert driver.result("unpin", 0) == driver.result("unpin", 1) == 0
    assert not pins(raw_writer.name)


# --------------------------------------------------------------------------------------------------------- known-bad


def late_pin(writer: Writer[Any], driver: Driver) -> bool:
    """A reader loads the version, then sleeps until the writer is in the middle of overwriting it."""
    publish(writer, 1, 2)
    driver.call("pin", 0)  # map both
    driver.call("unpin", 0)
    publish(writer, 3)
    driver.call("pin", 0)
    driver.call("unpin", 0)
    driver.call("arm", 0, "loaded")
    publish(writer, 4)  # so that the next pin is not that of a version that is mapped and checked
    assert driver.call("pin", 0) == "at loaded"
    publish(writer, 5)
    with suppress(ZeroDivisionError), writer.reserve(5_000) as reservation:
        result = driver.result("go")
        before = driver.result("hash", 0) if result == 0 else 0
        reservation.buffer[:] = b"torn " * 1000
        is_good = result == 0 and driver.result("hash", 0) == before == HASHES[5]
        driver.call("unpin", 0)
        raise ZeroDivisionError
    return is_good


def late_open(writer: Writer[Any], driver: Driver) -> bool:
    """A reader pins, then sleeps until it is evicted and the inode that it is about to open is another one."""
    publish(writer, 1)
    driver.call("arm", 0, "opening")
    assert driver.call("pin", 0) == "at opening"
    publish(writer, 2, 3)
    result = driver.result("go")
    is_good = result == 0 and driver.result("hash", 0) == HASHES[3]
    driver.call("unpin", 0)
    return is_good


def late_hazard(writer: Writer[Any], driver: Driver) -> bool:
    """A reader sleeps in the middle of `retain`."""
    publish(writer, 1)
    driver.call("pin", 0)
    driver.call("arm", 0, "retaining")
    assert driver.call("retain", 0) == "at retaining"
    publish(writer, 2, 3)
    assert driver.result("go") == 0
    publish(writer, 4, 5)
    is_good = driver.result("hash", 0) == HASHES[1]
    driver.call("release", 0)
    return is_good


BUGS = {"no-recheck": late_pin, "no-evicted": late_open, "late-hazard": late_hazard}


@pytest.mark.parametrize("schedule", BUGS.values(), ids=lambda schedule: schedule.__name__)
@pytest.mark.parametrize("bug", ["", *BUGS])
def test_a_reader_without_a_rule_of_the_protocol_is_found(name: str, bug: str, schedule: Any) -> None:
    found = BUGS.get(bug)
    options = mutant(bug) if bug else ()
    with Writer[Any](name, grace_duration=0.0) as writer, Driver(name, *options, xxhash=False) as driver:
        assert schedule(writer, driver) == (schedule is not found)
        writer.unlink()


def test_an_announced_reader_pins_what_is_newest(name: str, driver: Driver) -> None:
    with Writer[Any](name, grace_duration=0.0) as writer:
        publish(writer, 1)
        driver.call("arm", 0, "loaded")
        driver.send("pin", 0)
        assert driver.receive() == "at loaded"
        publish(writer, 2)
        driver.send("go")
        assert driver.receive() == "0"
        assert driver.result("seq", 0) == 2
        driver.call("unpin", 0)
        writer.unlink()


# --------------------------------------------------------------------------------------------------------------- death


def test_a_killed_reader_does_not_block_the_writer(name: str, driver: Driver) -> None:
    with Writer[Any](name, grace_duration=NEVER) as writer, without_waiting():
        publish(writer, 1)
        driver.call("pin", 0)
        driver.call("pin", 1)
        driver.call("retain", 1)
        driver.process.kill()
        driver.process.wait()
        publish(writer, *range(2, 9))
        assert not pins(name)
        assert not hazards(name)
        writer.unlink()


def test_a_reader_that_is_stopped_is_evicted(name: str, driver: Driver) -> None:
    with Writer[Any](name, grace_duration=0.001) as writer:
        publish(writer, 1)
        driver.call("pin", 0)
        publish(writer, *range(2, 9))
        assert writer.stats().resets == 1
        assert driver.result("hash", 0) == HASHES[1]
        driver.call("unpin", 0)
        writer.unlink()


def test_tools_see_it(raw_writer: Writer[Any], driver: Driver) -> None:
    driver.call("pin", 0)
    assert [reader.pid for reader in shmsync.readers(raw_writer.name)] == [driver.process.pid]


def test_all_slots_are_taken(name: str, driver: Driver) -> None:
    with Writer[Any](name, max_readers=1) as writer, Reader[Any](name) as reader:
        writer.write(1)
        with reader.read():
            assert driver.result("pin", 0) == FULL
        reader.close()
        assert driver.result("pin", 0) == 0
        writer.unlink()


# ------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("sanitizer", [False, True])
def test_threads_with_a_handle_each(name: str, *, sanitizer: bool) -> None:
    if sanitizer and not has_thread_sanitizer():
        pytest.skip("the thread sanitizer does not work here")
    threads = program(HERE / "threads.c", *(THREAD_SANITIZER if sanitizer else ()), xxhash=False)
    with Writer[Any](name, grace_duration=0.0) as writer:
        publish(writer, 0)
        with subprocess.Popen([threads, name, "4"], stdout=subprocess.PIPE, text=True) as process:
            for number in itertools.cycle(range(40)):
                publish(writer, number)
                if process.poll() is not None:
                    break
            assert process.stdout is not None
            assert process.stdout.read() == "0\n"
        assert process.returncode == 0
        assert not slots_locked(name)
        writer.unlink()


# --------------------------------------------------------------------------------------------------------------- forks


@pytest.mark.parametrize("options", [(), ("-DSHMSYNC_NO_FORK_PAGE",)])
def test_a_child_cannot_use_a_handle_of_its_parent(raw_writer: Writer[Any], options: tuple[str, ...]) -> None:
    with Driver(raw_writer.name, *options, xxhash=False) as driver:
        driver.call("pin", 0)
        driver.call("unpin", 0)
        driver.call("pin", 0)  # by the fast path, if there is one
        assert driver.call("fork") == f"{FORKED} {FORKED} {FORKED} {FORKED} 0"
        assert len(pins(raw_writer.name)) == 1
        publish(raw_writer, 2, 3, 4)
        assert driver.result("hash", 0) == HASHES[1]


@pytest.mark.parametrize("sealed", [True, False])
def test_a_child_goes_on_reading_what_was_sealed(name: str, driver: Driver, *, sealed: bool) -> None:
    with Writer[Any](name) as writer:
        publish(writer, 1)
        driver.call("pin", 0)
        if sealed:
            assert driver.result("seal") == 0
        driver.send("child", 0)  # the parent unpins
        assert driver.receive() == "0"
        publish(writer, 2, 3)
        assert driver.result("hash") == HASHES[1 if sealed else 3]
        driver.send("end")
        assert driver.receive() == "ended"
        writer.unlink()


# ------------------------------------------------------------------------------------------------------------- waiting


def test_a_wait_wakes_up(name: str, driver: Driver) -> None:
    with Writer[Any](name) as writer:
        publish(writer, 1)
        driver.call("pin", 0)
        driver.call("unpin", 0)
        driver.send("wait", 0, 50_000)
        until(lambda: waiters(name) and is_asleep(driver.process.pid))
        publish(writer, 2)
        assert driver.receive() == "0"
        assert driver.result("wait", 0, 0) == 0  # the newest is not the one that was seen, still
        driver.call("pin", 0)
        driver.call("unpin", 0)
        assert driver.result("wait", 0, 0) == driver.result("wait", 0, 20) == TIMEOUT
        writer.unlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_signal_ends_a_wait(name: str, driver: Driver, *, exists: bool) -> None:
    with Writer[Any](name) as writer:
        if exists:
            writer.write(1)
            driver.call("pin", 0)
        driver.send("wait", 0, 50_000)
        until(lambda: is_asleep(driver.process.pid))
        os.kill(driver.process.pid, signal.SIGUSR1)
        assert int(driver.receive()) == INTERRUPTED
        writer.unlink()


def waiters(name: str) -> int:
    (found,) = struct.unpack_from("=Q", (SHM / f"{name}_readers").read_bytes(), WAITERS_AT)
    return int(found)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_wait_for_a_name_that_does_not_exist_yet(name: str, mode: int, driver: Driver) -> None:
    assert driver.result("pin", 0) == NOT_FOUND
    assert driver.result("wait", 0, 1) == TIMEOUT
    driver.send("wait", 0, 50_000)
    with Writer[Any](name, mode=mode) as writer:
        writer.write(1)
        assert driver.receive() == "0"
        assert driver.result("pin", 0) == 0
        driver.call("unpin", 0)
        driver.send("wait", 0, 50_000)
        writer.write(2)
        assert driver.receive() == "0"
        writer.unlink()


# -------------------------------------------------------------------------------------------------- the life of a name


@pytest.mark.parametrize("modes", [(0o600, 0o600), (0o600, 0o644), (0o644, 0o600), (0o644, 0o644)])
def test_a_name_that_is_created_again(name: str, modes: tuple[int, int], driver: Driver) -> None:
    for number, mode in enumerate(modes):
        with Writer[Any](name, mode=mode) as writer:
            writer.write_raw(PAYLOADS[number])
            assert driver.result("pin", number) == 0
            driver.call("retain", number)
            assert driver.result("seq", number) == 1
            writer.unlink()
        assert driver.result("pin", 5) == NOT_FOUND
    assert [driver.result("hash", number) for number in range(2)] == [HASHES[0], HASHES[1]]


def test_a_name_that_is_removed_from_outside(cleaned_name: str) -> None:
    name = cleaned_name
    with Driver(name, xxhash=False) as driver:
        with Writer[Any](name) as writer:
            writer.write_raw(PAYLOADS[1])
            driver.call("pin", 0)
            driver.call("unpin", 0)
        for path in SHM.glob(f"{name}_*"):
            path.unlink()
        with Writer[Any](name) as writer:
            assert driver.result("refresh") == 0
            assert driver.result("pin", 0) == 0  # the old incarnation is still the newest that can be read
            driver.call("unpin", 0)
            writer.write_raw(PAYLOADS[2])
            assert driver.result("wait", 0, 50_000) == 0  # within a second
            assert driver.result("pin", 0) == 0
            assert driver.result("hash", 0) == HASHES[2]
            driver.call("unpin", 0)
            writer.unlink()


def test_isolated_mode(name: str, driver: Driver) -> None:
    with Writer[Any](name, mode=0o644, grace_duration=NEVER) as writer, without_waiting():
        for number in range(1, 9):
            publish(writer, number)
            assert driver.result("pin", number) == 0
            assert driver.result("seq", number) == number
            if number % 2:
                assert driver.result("retain", number) == 0
        assert [driver.result("hash", number) for number in range(1, 9)] == [HASHES[n] for n in range(1, 9)]
        writer.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a reader of another user")
def test_a_reader_of_another_user(name: str) -> None:
    nobody = 65534
    with Writer[Any](name, mode=0o644) as writer:
        writer.write_raw(PAYLOADS[1])
        with Driver(name, xxhash=False, user=nobody) as driver:
            assert driver.result("pin", 0) == 0
            assert driver.result("hash", 0) == HASHES[1]
            driver.send("wait", 0, 50_000)
            publish(writer, 2)
            assert driver.receive() == "0"
        writer.unlink()
    with Writer[Any](name) as writer:
        writer.write(1)
        with Driver(name, xxhash=False, user=nobody) as driver:
            assert driver.result("pin", 0) == FORBIDDEN
        writer.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to create a name of another user")
def test_segments_of_another_user_are_not_trusted(cleaned_name: str) -> None:
    with Writer[Any](cleaned_name, mode=0o644) as writer:
        writer.write(1)
        with Driver(cleaned_name, xxhash=False, user=65534) as driver:
            for path in SHM.glob(f"{cleaned_name}_*"):
                os.chown(path, 12345, 12345)
            assert driver.result("pin", 0) == FORBIDDEN


# -------------------------------------------------------------------------------------------------------------- damage

HEADERS = [  # file, offset, bytes, expected
    ("state", 0, b"SHMSYNCX", LAYOUT),
    ("state", 0, bytes(8), NOT_PUBLISHED),
    ("state", 8, b"\x03", LAYOUT),
    ("state", 12, b"\x04", LAYOUT),
    ("state", 16, bytes(4), DAMAGED),
    ("state", 16, b"\xff\xff\xff\xff", DAMAGED),
    ("state", 20, b"\x02", LAYOUT),
    ("state", 24, bytes(8), DAMAGED),
    ("state", 64, bytes(8), NOT_PUBLISHED),
    ("state", 128, b"\x07", DAMAGED),
    ("readers", 0, b"\x01", DAMAGED),
    ("readers", 8, b"\x03", DAMAGED),
    ("readers", 12, b"\x07", DAMAGED),
    ("readers", 16, b"\x00\x01\x02\x03\x04\x05\x06\x07", DAMAGED),
    ("data_0", 0, b"\x01", DAMAGED),
    ("data_0", 8, b"\x00\x01\x02\x03\x04\x05\x06\x07", DAMAGED),
    ("data_0", 16, b"\x07", DAMAGED),
    ("data_0", 24, b"\x07", DAMAGED),
    ("data_0", 32, b"\xff\xff\xff\xff", DAMAGED),
    ("data_0", 32, b"\xff" * 8, DAMAGED),
]


@pytest.mark.parametrize(("segment", "offset", "damage", "expected"), HEADERS)
def test_a_damaged_header(cleaned_name: str, segment: str, offset: int, damage: bytes, expected: int) -> None:
    with Writer[Any](cleaned_name) as writer:
        writer.write_raw(PAYLOADS[1])
    with (SHM / f"{cleaned_name}_{segment}").open("r+b") as file:
        file.seek(offset)
        file.write(damage)
    with Driver(cleaned_name, xxhash=False) as driver:
        assert driver.result("pin", 0) == expected


@pytest.mark.parametrize("seed", range(60))
def test_random_damage_to_the_words(cleaned_name: str, seed: int) -> None:
    """Whatever is in the segments, a reader returns, and never reads beyond them."""
    rng = random.Random(seed)
    with Writer[Any](cleaned_name) as writer:
        writer.write_raw(PAYLOADS[1])
    with Driver(cleaned_name, xxhash=False) as driver:
        for _ in range(4):
            segment = rng.choice(["state", "readers", "data_0"])
            with (SHM / f"{cleaned_name}_{segment}").open("r+b") as file:
                file.seek(rng.choice([rng.randrange(0, 64), rng.randrange(0, 320, 8)]))
                file.write(rng.choice([b"\xff" * 8, rng.randbytes(8), rng.randbytes(1), bytes(8)]))
            if driver.result("pin", 0) == 0:
                driver.call("hash", 0)
                assert driver.result(rng.choice(["unpin", "retain"]), 0) == 0
                driver.call("release", 0)
            driver.call("wait", 0, 1)


@pytest.mark.parametrize(
    ("segment", "size", "expected"),
    [
        *(("state", 0, NOT_PUBLISHED), ("state", 100, DAMAGED), ("readers", 0, DAMAGED), ("readers", 200, DAMAGED)),
        *(("data_0", 0, DAMAGED), ("data_0", 63, DAMAGED), ("data_0", 64, DAMAGED), ("data_0", 5_063, DAMAGED)),
    ],
)
def test_a_truncated_segment(cleaned_name: str, segment: str, size: int, expected: int) -> None:
    with Writer[Any](cleaned_name) as writer:
        writer.write_raw(PAYLOADS[1])
    os.truncate(SHM / f"{cleaned_name}_{segment}", size)
    with Driver(cleaned_name, xxhash=False) as driver:
        assert driver.result("pin", 0) == expected


@pytest.mark.parametrize(("segment", "expected"), [("state", NOT_FOUND), ("readers", NOT_FOUND), ("data_0", DAMAGED)])
def test_a_segment_that_is_missing(cleaned_name: str, segment: str, expected: int) -> None:
    with Writer[Any](cleaned_name) as writer:
        writer.write_raw(PAYLOADS[1])
    (SHM / f"{cleaned_name}_{segment}").unlink()
    with Driver(cleaned_name, xxhash=False) as driver:
        assert driver.result("pin", 0) == expected


def test_another_kind_of_file(cleaned_name: str) -> None:
    state = SHM / f"{cleaned_name}_state"
    with Driver(cleaned_name, xxhash=False) as driver:
        os.mkfifo(state)
        assert driver.result("pin", 0) == LAYOUT
        state.unlink()
        state.symlink_to("/etc/passwd")
        assert driver.result("pin", 0) == LAYOUT
        state.unlink()
        state.mkdir()
        assert driver.result("pin", 0) == LAYOUT
        state.rmdir()


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a b", "é", "x" * 201])
def test_an_invalid_name(bad: str) -> None:
    assert printed(program(HERE / "driver.c", xxhash=False), bad) == f"{INVALID}\n"
