"""The peers of the benchmark carry a value from one process to another, and remove all that they create."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import TIMEOUT, Child, State

from bench.peers import PEERS, SHAPES, Peer, chosen
from bench.report import row_table
from bench.results import result
from bench.targets import checked
from bench.values import config, size_of

np = pytest.importorskip("numpy")
BENCH = Path(__file__).parent.parent.parent / "tools" / "bench"
SHM = Path("/dev/shm")


def value_of(shape: str, counter: int) -> Any:
    if shape == "array":
        return np.full(1000, counter, np.float32)
    return config() | {"setting_00": [counter, 0.5, "a", False]}


def start(state: State, peer: Peer, shape: str) -> Any:
    first = value_of(shape, 0)
    state.handle = peer.writer(shape, size_of(first))
    state.handle.write(first)
    return state.handle.address


def write(state: State, shape: str, counter: int) -> None:
    state.handle.write(value_of(shape, counter))


def attach(state: State, peer: Peer, shape: str, address: Any) -> None:
    state.handle = peer.reader(shape, address)


def read(state: State) -> Any:
    found = state.handle.get()
    return found if isinstance(found, dict) else found.tolist()


def close(state: State) -> None:
    state.handle.close()
    del state.handle


@pytest.mark.parametrize(
    ("peer", "shape"),
    [
        pytest.param(peer, shape, id=f"{peer.name}-{shape}")
        for peer in PEERS
        for shape in ("config", "array")
        if shape in peer.shapes
    ],
)
def test_what_one_process_writes_another_reads(peer: Peer, shape: str) -> None:
    if missing := peer.missing():
        pytest.skip(f"not installed: {missing}")
    with Child() as writer, Child() as reader:
        address = writer.call(start, peer, shape)
        reader.call(attach, peer, shape, address)
        for counter in range(1, 4):
            writer.call(write, shape, counter)
            expected = value_of(shape, counter)
            for _ in range(2):  # changed, then unchanged
                assert reader.call(read) == (expected if shape == "config" else expected.tolist())
        reader.call(close)
        writer.call(close)
        made_by_writer = f"bench-{writer.pid}-"
    left = [entry.name for entry in SHM.iterdir() if made_by_writer in entry.name.replace("_", "-")]
    assert not left, f"left in /dev/shm: {left}"


def test_an_unknown_peer_is_named() -> None:
    with pytest.raises(LookupError, match="no such peer: other"):
        chosen("lmdb,other")
    pytest.importorskip("psutil")
    command = [sys.executable, str(BENCH), "--peers", "other"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert ended.returncode == 2
    assert "no such peer: other" in ended.stderr


def test_shmsync_is_always_included() -> None:
    assert [peer.name for peer in chosen("lmdb")] == ["shmsync", "LMDB"]
    assert chosen("all") == list(PEERS)


def test_each_peer_that_does_not_support_all_shapes_has_a_reason() -> None:
    for peer in PEERS:
        assert peer.shapes <= SHAPES
        assert (peer.shapes == SHAPES) is (not peer.limited_to)


def test_targets_compare_with_the_best_peer_that_counts() -> None:
    row = "W1 config: write()"
    results = [
        result(row, "shmsync", "s", (6.0, 5.0, 4.0)),
        result(row, "LMDB", "s", (2.0,)),
        result(row, "SQLite", "s", (4.0,)),
        result(row, "Manager", "s", (1.0,)),  # not crash-safe
        result(row, "Redis", remark="not installed"),
    ]
    (target,) = checked(results)
    assert (target["value"], target["met"]) == (2.5, False)
    assert target["from"].endswith(" of LMDB")
    table, lacking = row_table(results)
    assert [line[0].split()[0] for line in table.lines] == ["Manager", "LMDB", "SQLite", "shmsync"]
    assert lacking == "Not measured: Redis (not installed)."
