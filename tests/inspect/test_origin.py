"""The origin of a version that a replica has received: in `info`, in the command inspect, and in the metrics."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from helpers import SHM, checksum
from prometheus_client import CollectorRegistry

import shmsync
from shmsync import Origin
from shmsync._handles.receiving import Incoming, ReceivingWriter
from shmsync._session.origin import origin_in
from shmsync.prometheus import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

EPOCH = 1_700_000_000_123
RAW = 1  # number of the codec


@contextmanager
def receiving(name: str, mode: int = 0o600) -> Iterator[ReceivingWriter]:
    with ReceivingWriter(name, mode=mode) as writer:
        yield writer
        writer.unlink()


def receive(writer: ReceivingWriter, payload: bytes, seq: int, published: float = 1_700_000_000.5) -> None:
    version = Incoming(len(payload), RAW, checksum(payload), Origin(EPOCH, seq, published, 0.0))
    with writer.receive(version) as block:
        block.memory[:] = payload


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=["shared", "isolated"])
@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_info(name: str, mode: int, size: int) -> None:
    with receiving(name, mode) as writer:
        for seq in (7, 9, 10):
            receive(writer, b"x" * size, seq)
            origin = shmsync.info(name).origin
            assert origin is not None
            assert (origin.epoch, origin.seq, origin.published) == (EPOCH, seq, 1_700_000_000.5)
            assert origin.received > origin.published
        writer.write({"a": 1})
        assert shmsync.info(name).origin is None


def test_a_damaged_origin_is_none(name: str) -> None:
    with receiving(name) as writer:
        receive(writer, b"x", 1)
        with (SHM / f"{name}_data_0").open("r+b") as file:
            file.seek(-20, 2)
            file.write(b"\xff")
        info = shmsync.info(name)
        assert (info.seq, info.origin, info.problems) == (1, None, ())


def test_an_origin_that_is_overwritten_during_the_scan(name: str) -> None:
    """Then the scan is repeated, and returns the later version with its origin."""
    with receiving(name) as writer:
        receive(writer, b"1", 1)
        with ExitStack() as stack:

            def overwrite(*args: Any) -> Origin | None:
                stack.close()
                receive(writer, b"2", 2)
                receive(writer, b"3", 3)
                return origin_in(*args)

            stack.enter_context(mock.patch("shmsync._inspect.scan.origin_in", overwrite))
            info = shmsync.info(name)
        assert info.seq == 3
        assert info.origin is not None
        assert info.origin.seq == 3


def test_metrics(name: str) -> None:
    registry = CollectorRegistry()
    registry.register(Collector([name]))

    def value(metric: str) -> float | None:
        return registry.get_sample_value(f"shmsync_origin_{metric}", {"name": name})

    with receiving(name) as writer:
        receive(writer, b"x", 3)
        origin = shmsync.info(name).origin
        assert origin is not None
        assert (value("epoch"), value("seq")) == (EPOCH, 3)
        assert value("travel_seconds") == origin.received - origin.published
        writer.write(1)
        assert (value("epoch"), value("seq"), value("travel_seconds")) == (None, None, None)
