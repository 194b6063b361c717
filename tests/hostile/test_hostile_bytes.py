"""Whatever the segments contain, a call raises a ShmSyncError or returns a correct value: no crash, no hang."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import resource
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import SHM, Child, State
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shmsync import IntegrityError, Reader, ShmSyncError, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = ["state", "readers", "data_0", "data_1"]
VALUE = {"EURUSD": 1.08, "codes": list(range(40)), "name": "prices"}
MEMORY = 1 << 31

SETTINGS = settings(
    max_examples=int(os.environ.get("SHMSYNC_EXAMPLES", "60")),
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
parts = st.sampled_from(PARTS)
words = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 2**31, 2**32, 2**63, 2**64 - 1]))


@contextlib.contextmanager
def published(value: Any = VALUE) -> Iterator[str]:
    """Publish twice under a unique name, with no reader attached; remove its segments afterwards."""
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with Writer(name) as writer:
        writer.write("older")
        writer.write(value)
    try:
        yield name
    finally:
        for part in PARTS:
            (SHM / f"{name}_{part}").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Limit memory, so that allocating a corrupt length fails the test instead of exhausting the machine."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def read_all(name: str, value: Any = VALUE) -> None:
    """Call everything that a reader offers; with `check_bytes` a value is correct or rejected."""
    with Reader(name) as reader:
        for call in (reader.get, reader.version, lambda: reader.read().close(), lambda: reader.get(default=None)):
            with contextlib.suppress(ShmSyncError):
                call()
        with contextlib.suppress(ShmSyncError), reader.read(check_bytes=True) as snapshot:
            assert snapshot.value in (value, "older", "next")
    with contextlib.suppress(ShmSyncError), Writer(name) as writer:
        assert writer.write("next", grace_duration=0).version.seq > 0
        with Reader(name) as reader:
            assert reader.get() == "next"


def patch(name: str, part: str, change: Callable[[bytearray], None]) -> None:
    path = SHM / f"{name}_{part}"
    raw = bytearray(path.read_bytes())
    change(raw)
    with path.open("r+b") as file:
        file.write(raw)
        file.truncate(len(raw))


@SETTINGS
@given(part=parts, changes=st.lists(st.tuples(st.integers(0, 4095), st.integers(1, 255)), min_size=1, max_size=8))
def test_any_bytes_changed(part: str, changes: list[tuple[int, int]]) -> None:
    def flip(raw: bytearray) -> None:
        for at, bits in changes:
            raw[at % min(len(raw), 4096)] ^= bits

    with published() as name:
        patch(name, part, flip)
        read_all(name)


@SETTINGS
@example(part="state", at=16, word=2**64 - 1)  # the generation of data_0, which has no successor
@given(part=parts, at=st.integers(0, 511), word=words)
def test_any_word_changed(part: str, at: int, word: int) -> None:
    def overwrite(raw: bytearray) -> None:
        raw[8 * (at % 64) : 8 * (at % 64) + 8] = word.to_bytes(8, "little")

    with published() as name:
        patch(name, part, overwrite)
        read_all(name)


@SETTINGS
@given(part=parts, size=st.integers(0, 20_000))
def test_any_size(part: str, size: int) -> None:
    with published() as name:
        path = SHM / f"{name}_{part}"
        os.truncate(path, min(size, 2 * path.stat().st_size))
        read_all(name)


@SETTINGS
@given(part=parts, raw=st.binary(max_size=9000))
def test_a_foreign_file(part: str, raw: bytes) -> None:
    with published() as name:
        (SHM / f"{name}_{part}").write_bytes(raw)
        read_all(name)


@SETTINGS
@given(part=parts, other=parts)
def test_segments_of_another_name(part: str, other: str) -> None:
    with published() as name, published("other") as stranger:
        (SHM / f"{name}_{part}").write_bytes((SHM / f"{stranger}_{other}").read_bytes())
        read_all(name)


@SETTINGS
@given(part=st.sampled_from(["data_0", "data_1"]), missing=parts)
def test_a_stale_generation_or_a_missing_segment(part: str, missing: str) -> None:
    with published() as name:
        stale = (SHM / f"{name}_{part}").read_bytes()
        with Writer(name) as writer:
            for number in range(2):
                writer.write([number] * 5000, grace_duration=0)  # larger: a new generation
        (SHM / f"{name}_{part}").write_bytes(stale)
        read_all(name, [1] * 5000)
        (SHM / f"{name}_{missing}").unlink(missing_ok=True)
        read_all(name, [1] * 5000)


@SETTINGS
@given(at=st.integers(0, 3000), bits=st.integers(1, 255))
def test_no_corrupted_payload_passes_the_check(at: int, bits: int) -> None:
    payload = bytes(range(256)) * 12

    def flip(raw: bytearray) -> None:
        raw[64 + at] ^= bits

    with published() as name:
        with Writer(name, codec="raw") as writer:
            writer.write(payload)
        patch(name, "data_0", flip)
        with Reader(name) as reader:
            with pytest.raises(IntegrityError):
                reader.read(check_bytes=True)
            assert bytes(reader.get()) != payload  # unchecked, so it is damaged


# --------------------------------------------------------------------------------------------------- a hostile reader

GRACE = 0.05


def overwrite_table(_state: State, name: str, seed: int, seconds: float) -> int:
    """Write random words all over the reader table, which every reader can write to."""
    rng, end, times = random.Random(seed), time.monotonic() + seconds, 0
    with (SHM / f"{name}_readers").open("r+b") as file, mmap.mmap(file.fileno(), 0) as table:
        while time.monotonic() < end:
            at = 8 * rng.randrange(len(table) // 8)
            table[at : at + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
            times += 1
    return times


def test_a_reader_that_overwrites_the_reader_table(writer: Writer, name: str) -> None:
    """Writes succeed, and a read between two writes returns what was written or raises an error."""
    writer.write_raw(b"first")
    writes = reads = 0
    with Child() as hostile:
        hostile.send(overwrite_table, name, 7, 2.0)
        while not hostile.has_result():
            payload = str(writes).encode() * 100
            writer.write_raw(payload, grace_duration=GRACE)
            writes += 1
            with contextlib.suppress(ShmSyncError), Reader(name) as reader, reader.read(check_bytes=True) as snapshot:
                assert bytes(snapshot.buffer) == payload
                reads += 1
        assert hostile.receive() > 1000
    assert writes > 10
    assert reads > 0
