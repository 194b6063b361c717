"""The peers of the benchmark carry a value from one process to another, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from helpers import Child, Held

from benchmark.claims import checked
from benchmark.figures import Figure
from benchmark.payloads import config
from benchmark.peers import PEERS, Peer, Shape, chosen, size_of
from benchmark.table import tables

BENCH = Path(__file__).parent.parent / "tools" / "bench.py"
SHM = Path("/dev/shm")
SMALL: tuple[Shape, ...] = ("config", "array")


def value_of(shape: Shape, counter: int) -> Any:
    np = pytest.importorskip("numpy")
    if shape == "array":
        return np.full(1000, counter, np.float32)
    return config() | {"setting_00": [counter, 0.5, "a", False]}


def start(held: Held, peer: Peer, shape: Shape) -> Any:
    first = value_of(shape, 0)
    held.handle = peer.writer(shape, size_of(first))
    held.handle.write(first)
    return held.handle.address


def write(held: Held, shape: Shape, counter: int) -> None:
    held.handle.write(value_of(shape, counter))


def attach(held: Held, peer: Peer, shape: Shape, address: Any) -> None:
    held.handle = peer.reader(shape, address)


def read(held: Held) -> Any:
    found = held.handle.get()
    return found if isinstance(found, dict) else found.tolist()


def close(held: Held) -> None:
    held.handle.close()
    del held.handle


@pytest.mark.parametrize(
    ("peer", "shape"),
    [pytest.param(peer, shape, id=f"{peer.name}-{shape}") for peer in PEERS for shape in SMALL if shape in peer.shapes],
)
def test_what_one_process_writes_another_reads(peer: Peer, shape: Shape) -> None:
    if missing := peer.missing():
        pytest.skip(f"not installed: {missing}")
    with Child() as writer, Child() as reader:
        address = writer.ask(start, peer, shape)
        reader.ask(attach, peer, shape, address)
        for counter in range(1, 4):
            writer.ask(write, shape, counter)
            expected = value_of(shape, counter)
            for _ in range(2):  # changed, then unchanged
                assert reader.ask(read) == (expected if shape == "config" else expected.tolist())
        reader.ask(close)
        writer.ask(close)
        made_by_writer = f"bench-{writer.pid}-"
    left = [entry.name for entry in SHM.iterdir() if made_by_writer in entry.name.replace("_", "-")]
    assert not left, f"left in /dev/shm: {left}"


def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(LookupError, match="no such peer: nobody"):
        chosen("lmdb,nobody")
    command = [sys.executable, str(BENCH), "--peers", "nobody"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert "no such peer: nobody" in ended.stderr


def test_shmsync_is_always_among_the_chosen() -> None:
    assert [peer.name for peer in chosen("lmdb")] == ["shmsync", "LMDB"]
    assert list(chosen("all")) == list(PEERS)


def test_each_peer_says_what_it_is_made_for() -> None:
    for peer in PEERS:
        assert peer.shapes <= set(get_args(Shape))
        assert (peer.shapes == set(get_args(Shape))) is (not peer.made_for)


def test_claims_are_held_against_the_best_peer_that_counts() -> None:
    row = "W1 config: write()"
    figures = [
        Figure(row, "shmsync", "s", (6.0, 5.0, 4.0)),
        Figure(row, "LMDB", "s", (2.0,)),
        Figure(row, "SQLite", "s", (4.0,)),
        Figure(row, "Manager", "s", (1.0,)),  # not crash-safe
        Figure(row, "Redis", "text", remark="not installed"),
    ]
    (claim,) = checked(figures)
    assert (claim.found.value, claim.is_met) == (2.5, False)
    assert claim.found.source.endswith(" of LMDB")
    (table,) = tables(figures)
    assert [line.split()[0] for line in table.splitlines()[3:]] == ["Manager", "LMDB", "SQLite", "shmsync", "Redis"]
