"""Fixtures: servers, networks and names."""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from replication.network import Network, reason_to_skip
from replication.servers import Certificate, RedisServer
from shmsync import unlink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of all that is random in a test; printed."""
    chosen: int | None = request.config.getoption("--replication-seed")
    seed = random.SystemRandom().randrange(1 << 32) if chosen is None else chosen
    print(f"--replication-seed {seed}")
    return seed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps its data over a restart."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def forgetful_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that is empty after a restart."""
    with RedisServer(tmp_path / "redis", persistent=False) as server:
        yield server


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """A certificate for servers on 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    return Certificate(tmp_path)


@pytest.fixture
def network(seed: int) -> Iterator[Network]:
    """Two hosts in network namespaces."""
    reason = reason_to_skip()
    if reason is not None:
        pytest.skip(reason)
    with Network(seed) as network:
        yield network


@pytest.fixture
def name(name: str) -> Iterator[str]:
    """A name that no other test uses; it is unlinked after the test, with the names that begin with it."""
    with ExitStack() as stack:
        for suffix in ("", *LOCAL_SUFFIXES):
            stack.callback(unlink, name + suffix, force=True)
        yield name


LOCAL_SUFFIXES = ("-a", "-b")


@pytest.fixture
def local(name: str) -> str:
    """The local name of a replica of `name`."""
    return f"{name}{LOCAL_SUFFIXES[0]}"


@pytest.fixture
def other_local(name: str) -> str:
    """The local name of another replica of `name`."""
    return f"{name}{LOCAL_SUFFIXES[1]}"
