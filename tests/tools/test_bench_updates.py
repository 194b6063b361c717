"""W8: what a peer changes is what its readers see; anything else is an error instead of a result."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from helpers import Child, State

from bench import settings
from bench.peers import FULL_WRITE, SHMSYNC, UPDATING, Peer, chosen, updating
from bench.results import result
from bench.targets import checked
from bench.values import COLUMNS, ROW, Items, Source, TornError, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

np = pytest.importorskip("numpy")
SHM = Path("/dev/shm")
COUNT = 1024
CHANGED = (3, 700, 999)


def small(shape: str) -> Items:
    """Return few items; the keys of a map are in another order than its rows."""
    if shape == "row map":
        return Items(np.arange(COUNT), np.zeros((COUNT, COLUMNS), np.float32))
    return Items(np.arange(COUNT)[::-1].copy(), np.zeros((COUNT, ROW), np.float32))


def start(state: State, peer: Peer, shape: str) -> Any:
    state.value = small(shape)
    state.handle = peer.writer(shape, size_of(state.value))
    state.handle.write(state.handle.prepare(state.value))
    return state.handle.address


def update(state: State, numbers: list[int], counter: int) -> None:
    state.value.values[numbers] = counter
    part = Items(state.value.keys[numbers], state.value.values[numbers])
    state.handle.update(state.handle.prepare_part(part))


def attach(state: State, peer: Peer, shape: str, address: Any) -> None:
    state.handle = peer.reader(shape, address)
    state.handle.get()


def look_up(state: State, keys: list[int]) -> list[list[float]]:
    found = state.handle.get()
    return [state.handle.look_up(found, key).tolist() for key in keys]


def close(state: State) -> None:
    state.handle.close()
    del state.handle


@pytest.mark.parametrize(
    ("peer", "shape"),
    [pytest.param(peer, shape, id=f"{peer.name}-{shape}") for peer in UPDATING for shape in sorted(peer.shapes)],
)
def test_a_reader_sees_the_rows_that_are_changed_and_all_others(peer: Peer, shape: str) -> None:
    if missing := peer.missing():
        pytest.skip(f"not installed: {missing}")
    value = small(shape)
    with Child() as writer, Child() as reader:
        address = writer.call(start, peer, shape)
        reader.call(attach, peer, shape, address)
        for counter, number in enumerate(CHANGED, 1):
            numbers = [number, number - 1, 0]
            value.values[numbers] = counter
            writer.call(update, numbers, counter)
            seen = [*numbers, *CHANGED, 500]
            assert reader.call(look_up, value.keys[seen].tolist()) == value.values[seen].tolist()
        reader.call(close)
        writer.call(close)
        made_by_writer = f"bench-{writer.pid}-"
    left = [entry.name for entry in SHM.iterdir() if made_by_writer in entry.name.replace("_", "-")]
    assert not left, f"left in /dev/shm: {left}"


def test_those_that_can_change_a_part_are_measured_if_they_are_chosen() -> None:
    assert [peer.name for peer in updating(chosen("shmsync"))] == ["shmsync", FULL_WRITE.name]
    assert [peer.name for peer in updating(chosen("sharedarray"))][-1] == "SharedArray in place"
    assert updating(chosen("all")) == list(UPDATING)


@pytest.mark.parametrize("shape", settings.UPDATED)
def test_a_peer_that_cannot_be_measured_has_the_reason_in_each_row(shape: str) -> None:
    pytest.importorskip("psutil")
    from bench import updates  # noqa: PLC0415 - it needs psutil

    peer = replace(SHMSYNC, package="not_there")
    found = list(updates.Entry(peer, shape, updates.Effort(1, 1, 1, 1), ExitStack()).results())
    assert {one["row"] for one in found} == set(settings.rows_of(shape))
    assert {one["remark"] for one in found} == {"not installed: pip install not_there"}


def test_a_part_changes_the_value_and_is_expected() -> None:
    source = Source("row map")
    part, key = source.part(20)
    assert part.values.shape == (20, COLUMNS)
    assert len(set(part.keys.tolist())) == 20
    assert (source.value.values[part.keys] == source.counter).all()
    expected = source.expected()
    assert key in expected
    assert set(part.keys.tolist()) <= expected.keys()


class FakeReader:
    """Returns one row after the other."""

    def __init__(self, *rows: list[float]) -> None:
        self.rows: Iterator[list[float]] = iter(rows)
        self.last: Any = None

    def get(self) -> FakeReader:
        return self

    def look_up(self, _: Any, __: Any) -> Any:
        self.last = next(self.rows, self.last)
        return np.array(self.last)


def followed(*rows: list[float], tears: bool = False) -> float:
    pytest.importorskip("psutil")
    from bench import updates  # noqa: PLC0415 - it needs psutil

    return updates.follow(SimpleNamespace(reader=FakeReader(*rows), shape="int map"), 1, 7, tears=tears)


def test_a_reader_follows_until_it_sees_the_change() -> None:
    assert followed([5, 6], [6, 6], [7, 7]) > 0


def test_a_change_that_is_not_seen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psutil")
    monkeypatch.setattr("bench.updates._POLL_LIMIT", 0.05)
    with pytest.raises(RuntimeError, match="version 7 is not seen"):
        followed([6, 6])


def test_a_torn_row_is_an_error_unless_the_peer_is_known_to_tear() -> None:
    with pytest.raises(TornError):
        followed([7, 6], [7, 7])
    assert followed([7, 6], [7, 7], tears=True) > 0


def test_a_value_that_changes_while_it_is_held_is_an_error() -> None:
    pytest.importorskip("psutil")
    from bench import sustained  # noqa: PLC0415 - it needs psutil

    hold = partial(sustained.hold_each, begin=time.monotonic(), seconds=0.05, rate=100, keys=[1])
    hold(SimpleNamespace(reader=FakeReader([1, 1])))
    with pytest.raises(RuntimeError, match="while it was held"):
        hold(SimpleNamespace(reader=FakeReader(*([float(number)] for number in range(1000)))))


def test_targets_of_updates() -> None:
    row, first = settings.update_of("int map", 1_000), settings.first_read_of("int map", 1_000)
    array, config = settings.update_of("row map", 1), settings.update_of("config", 1)
    own = SHMSYNC.name
    found = checked(
        [
            result(row, own, "s", (1.0,), 1),
            result(row, own, "s", (9.0,), 4),
            result(row, "LMDB", "s", (2.0,), 1),
            result(row, "SQLite", "s", (0.1,), 1),
            result(row, FULL_WRITE.name, "s", (10.0,), 1),
            result(first, own, "s", (3.0,), 1),
            result(first, FULL_WRITE.name, "s", (2.0,), 1),
            result(array, own, "s", (6.0,), 1),
            result(config, own, "s", (2.0,), 1),
            result(settings.SUSTAINED, own, "s", [1.0] * 97 + [30.0] * 3),
            result(settings.SUSTAINED_MEMORY, own, "bytes", (10.0, 30.0, 20.0)),
            result(settings.SUSTAINED_SIZE, own, "bytes", (10.0,)),
        ]
    )
    assert [(one["value"], one["at_most"], one["met"]) for one in found] == [
        (0.5, 0.7, True),
        (0.1, 0.02, False),
        (1.5, 1.0, False),
        (3.0, 3, True),
        (30.0, 20, False),
        (3.0, 4, True),
    ]
