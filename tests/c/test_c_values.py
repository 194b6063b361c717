"""What Python publishes, C reads: the values of each codec, the look-up of keys, and payloads that are damaged."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from compiled import (
    COMPILERS,
    HERE,
    NEEDS_COMPILER,
    SHMCAT,
    Driver,
    compiler,
    failed,
    printed,
    program,
    xxhash_of_pyarrow,
)
from shown import shown

import shmsync
from shmsync import ArrayMap, Writer
from shmsync.codecs import by_name

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = NEEDS_COMPILER

PLAIN = {
    "none": None,
    "flags": [True, False],
    "ints": [0, 127, -1, -32, 255, -33, 1 << 16, -(1 << 20), 1 << 40, -(1 << 50), (1 << 63) - 1, (1 << 64) - 1],
    "floats": [1.5, -2.25, 1e300, 0.1, 3.0, math.inf, -math.inf],
    "texts": ["", "short", "x" * 40, "é" * 300, 'a "quote" \\ and a\nline'],
    "bytes": b"\0\1\2",
    "list": list(range(20)),
    ("a", 1): {17: "tuple key", None: 2.5, -1: True},
    "map": {str(number): number for number in range(20)},
}
VALUES: list[Any] = [
    PLAIN,
    [PLAIN, PLAIN],
    3,
    "text",
    [],
    {},
    [[], [[]], {}, ""],
    [None, None],
    {"rows": [{"id": number, "name": f"n{number}"} for number in range(5)]},
    {"pairs": [[1, 2], [3, 4]], "ragged": [[1.0], [], [2.0, 3.0]], "same": ["ab", "cd"], "other": ["a", "bcd"]},
    {"mixed": [1, "a", None, 2.5, True, b"x", [1, "b"], {"k": 1}, 1 << 63]},
    {number - 50: -number for number in range(100)},
    {f"key {number}": number for number in range(100)},
    {("k", number): number for number in range(100)},
    {number / 2: number for number in range(100)},
    [{f"{first} {number}": number for number in range(70)} for first in "ab"],
    {"array": np.arange(6, dtype="<i8").reshape(2, 3), "empty": np.zeros((0, 3)), "blob": b"x" * 5000},
    {"texts": np.array(["a", "bcd"]), "records": np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")])},
]
for _ in range(60):
    VALUES[0] = {"inside": VALUES[0]}


@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_values(name: str, codec: str, kind: str) -> None:
    shmcat = program(SHMCAT, kind=kind, xxhash=False)
    with Writer[Any](name, codec=codec) as writer:
        for value in VALUES:
            writer.write(value)
            assert printed(shmcat, name) == shown(value) + "\n"
        writer.unlink()


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_values_with_digests(name: str, codec: str) -> None:
    shmcat = program(SHMCAT)
    with Writer[Any](name, codec=codec) as writer:
        for value in VALUES:
            writer.write(value)
            assert printed(shmcat, name) == shown(value) + "\n"
        writer.unlink()


@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("options", [(), ("-O2", "-fno-sanitize=all"), ("-O3", "-fno-sanitize=all", "-DNDEBUG")])
def test_every_compiler_takes_it_with_xxhash(kind: str, options: tuple[str, ...]) -> None:
    program(SHMCAT, *options, kind=kind)


def test_the_xxhash_of_pyarrow(name: str) -> None:
    """Digests are compared in every environment that README's test command creates."""
    pytest.importorskip("pyarrow")
    folder = xxhash_of_pyarrow()
    assert folder
    with Writer[Any](name) as writer, Driver(name, "-I", folder) as driver:
        writer.write_raw(bytes(100_000))
        assert driver.result("has_xxhash") == 1
        assert driver.result("pin", 0) == driver.result("verify", 0) == driver.result("unpin", 0) == 0
        writer.unlink()


def test_the_implementation_must_come_first(tmp_path: Path) -> None:
    source = tmp_path / "late.c"
    source.write_text("#include <stdio.h>\n#define SHMSYNC_IMPLEMENTATION\n#include <shmsync.h>\nint main(void) {}\n")
    command = [compiler("gcc"), "-std=c11", "-c", "-I", shmsync.get_include(), str(source), "-o", "/dev/null"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "before any other header" in done.stderr


def test_raw_and_extensions(name: str) -> None:
    shmcat = program(SHMCAT, xxhash=False)
    with Writer[Any](name) as writer:
        writer.write_raw(b"as it is")
        assert printed(shmcat, name) == shown(b"as it is") + "\n"
        writer.write({
            "when": dt.datetime(2026, 1, 1, 0, 0, 0, 5, tzinfo=dt.timezone.utc),
            "early": dt.datetime(1960, 1, 1, tzinfo=dt.timezone.utc),
            "price": Decimal("1.50"),
            "array": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        })  # fmt: skip
        array = shown(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
        times = '{"when": {"$time": [1767225600, 5000]}, "early": {"$time": [-315619200, 0]}, '
        assert printed(shmcat, name) == f'{times}"price": {{"$value": ["decimal", "1.50"]}}, "array": {array}}}\n'
        writer.unlink()


def test_isolated_mode(name: str) -> None:
    shmcat = program(SHMCAT, xxhash=False)
    with Writer[Any](name, mode=0o644) as writer:
        for value in VALUES[:4]:
            writer.write(value)
            assert printed(shmcat, name) == shown(value) + "\n"
        writer.unlink()


def test_a_codec_that_c_cannot_read(name: str) -> None:
    with Writer[Any](name, codec="pickle") as writer:
        writer.write({1, 2})
        (error,) = failed(program(SHMCAT, xxhash=False), name)
        assert error == f"shmcat: {name}: the codec is not supported here, or the call needs xxhash.h"
        writer.unlink()


def test_follow(name: str) -> None:
    shmcat = program(SHMCAT, xxhash=False)
    with subprocess.Popen([shmcat, "--follow", name], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for codec in ("msgpack", "archive"):
            with Writer[Any](name, codec=codec) as writer:
                for value in ("first", 2, {"third": 3.5}):
                    writer.write(value)
                    assert process.stdout.readline() == shown(value) + "\n"
                writer.unlink()  # it goes on with the next incarnation
        process.kill()


# ------------------------------------------------------------------------------------------------------------- look-up

MISSING, TYPE = -12, -13
INT, BOOL = 2, 1

MAPS: dict[str, Any] = {
    "ints": {number * 7919 - 400_000: number for number in range(200)},
    "few ints": {number - 5: number for number in range(10)},
    "unsigned": {(1 << 63) + number: number for number in range(100)},
    "texts": {f"key {number}" * (number % 5): number for number in range(5, 200) if number % 5 or number == 5},
    "few texts": {"": 0, "a": 1, "é": 2},
    "floats": {number / 2: number for number in range(-100, 100)},
    "bools": {True: 1, False: 0, 2: 2},
    "mixed": {key: number for number in range(50) for key in (number * 999, -number - 1, f"{number}" * number)},
    "same length": {f"{number:04}": number for number in range(100)},
    "structs": {"a": 1, "b": 2},
}
ABSENT_INTS = (-(1 << 63), -9_999_999, 77, (1 << 63) - 1)


@pytest.mark.parametrize("xxhash", [True, False])
@pytest.mark.parametrize("codec", ["archive", "msgpack"])
@pytest.mark.parametrize("kind", MAPS)
def test_look_up(name: str, kind: str, codec: str, *, xxhash: bool) -> None:
    value = MAPS[kind]
    program(HERE / "driver.c", xxhash=xxhash)  # first: it may skip
    with Writer[Any](name, codec=codec) as writer:
        writer.write(value)
        with Driver(name, xxhash=xxhash) as driver:
            driver.call("pin", 0)
            for key, found in value.items():
                if isinstance(key, str) and key and not key.startswith(" "):
                    assert driver.call("str", 0, key) == f"{INT} {found}"
                elif isinstance(key, (int, float)) and key == int(key):
                    command = "uint" if key >= 1 << 63 else "int"
                    assert driver.call(command, 0, int(key)) == f"{INT} {found}"
            for absent in ABSENT_INTS:
                assert (absent in value) == (driver.call("int", 0, absent) != f"{MISSING} 0")
            assert driver.call("uint", 0, (1 << 64) - 1) == f"{MISSING} 0"
            assert driver.call("str", 0, "absent") == f"{MISSING} 0"
            driver.call("unpin", 0)
        writer.unlink()


def test_look_up_in_an_array_map(name: str) -> None:
    keys = np.array([-5, 17, 23, 17, 1 << 40])  # of repeated keys, the last value counts
    with Writer[Any](name, codec="archive") as writer:
        writer.write(ArrayMap(keys, np.arange(5)))
        with Driver(name, xxhash=False) as driver:
            driver.call("pin", 0)
            for key, found in dict(zip(keys.tolist(), range(5), strict=True)).items():
                assert driver.call("int", 0, key) == f"{INT} {found}"
            driver.call("unpin", 0)
        writer.unlink()


def test_look_up_in_another_type(name: str) -> None:
    with Writer[Any](name) as writer:
        writer.write([1, 2])
        with Driver(name, xxhash=False) as driver:
            driver.call("pin", 0)
            assert driver.call("int", 0, 1) == f"{TYPE} 0"
            driver.call("unpin", 0)
        writer.unlink()


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("xxhash", [True, False])
@pytest.mark.parametrize("codec", ["archive", "msgpack"])
def test_a_damaged_payload_is_never_read_beyond_its_end(codec: str, tmp_path: Path, *, xxhash: bool) -> None:
    fuzz, payload = program(HERE / "fuzz.c", xxhash=xxhash), tmp_path / "payload"
    encoder = by_name(codec)
    found = 0
    for seed, value in enumerate([*VALUES[1:], *MAPS.values()]):
        payload.write_bytes(bytes(encoder.encode(value)))
        number = str(encoder.ID)
        assert int(printed(fuzz, number, str(payload), str(seed), "1")) in {0, 1}  # cut off or as it is
        found += int(printed(fuzz, number, str(payload), str(seed), "200"))
    assert found > 500


@pytest.mark.parametrize(
    "raw", [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_a_length_beyond_the_payload(raw: bytes, tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(raw)
    assert printed(program(HERE / "fuzz.c", xxhash=False), "0", str(payload), "0", "1") == "1\n"


def test_the_depth_is_bounded(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    fuzz = program(HERE / "fuzz.c", xxhash=False)
    for depth, damaged in ((1000, "0\n"), (1030, "1\n"), (20_000, "1\n")):
        payload.write_bytes(b"\x91" * depth + b"\x01")
        assert printed(fuzz, "0", str(payload), "1", "1") == damaged


def test_the_folder_is_printed() -> None:
    done = subprocess.run([sys.executable, "-m", "shmsync", "--include"], capture_output=True, text=True, check=True)
    assert done.stdout == shmsync.get_include() + "\n"
