"""A unique name for each test, and a check that no test leaves anything behind."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from shmsync import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM = Path("/dev/shm")

# A shell starts what it runs in the background with this signal ignored, and processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shmsync", "longer tests of shmsync")
    group.addoption(
        "--explore-deep", type=float, metavar="SECONDS", help="explore each larger scenario of the protocol for SECONDS"
    )
    group.addoption(
        "--explore-mutants", action="store_true", help="print the shortest failing schedule of each broken variant"
    )
    group.addoption("--fuzz", type=float, metavar="SECONDS", help="corrupt segments for SECONDS, guided by coverage")
    group.addoption("--fuzz-seed", type=int, metavar="N", help="repeat the run of --fuzz that printed seed N")
    group.addoption(
        "--replication-seed", type=int, metavar="N", help="repeat a test of replication that printed seed N"
    )
    group.addoption("--wheel", action="store_true", help="build sdist and wheel, and install the wheel on each Python")
    group.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def _segments() -> set[str]:
    return {entry.name for entry in SHM.iterdir() if entry.name.startswith(_PREFIX)}


_PREFIX = f"test-{os.getpid()}-"


def _descriptors() -> dict[str, str]:
    listing = os.listdir("/proc/self/fd")  # noqa: PTH208 - it closes its own descriptor before the next line
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in listing if os.path.lexists(f"/proc/self/fd/{fd}")}  # noqa: PTH115


def _children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def pytest_collection_finish() -> None:
    """Exclude the objects that exist before the first test from the collection after each test: it takes a third."""
    gc.collect()
    gc.freeze()


def _kill(pid: int) -> str:
    """Kill a child process; return its command line."""
    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return command


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail the test that leaves a segment, a child process or a file descriptor; remove the first two."""
    descriptors, children = _descriptors(), _children()
    yield
    gc.collect()
    left = [f"process {pid}: {_kill(pid)}" for pid in _children() - children]  # first: it may create segments
    for segment in sorted(_segments()):
        (SHM / segment).unlink()
        left.append(f"{SHM}/{segment}")
    left += [f"descriptor {fd}: {target}" for fd, target in _descriptors().items() if descriptors.get(fd) != target]
    assert not left, "left behind: " + ", ".join(left)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"{_PREFIX}{uuid.uuid4().hex[:8]}"


@pytest.fixture
def cleaned_name(name: str) -> Iterator[str]:
    """A name whose segments are removed after the test, even if they are damaged."""
    yield name
    for path in SHM.glob(f"{name}_*"):
        path.unlink()


@pytest.fixture
def writer(name: str) -> Iterator[Writer]:
    """A writer of `name`; the name is unlinked after the test."""
    with closing(Writer(name)) as writer:  # the name is acquired by the first write
        yield writer
    with closing(Writer(name)) as last:
        last.unlink()


# --------------------------------------------------------------------- no test depends on the speed of the machine

hypothesis.settings.register_profile(
    "any speed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any speed")


# ---------------------------------------------------------------------------------------------------------- slow tests

DURATION = "about 14 minutes on 2 cores; much longer with --slow, the long part"


def pytest_report_header(config: pytest.Config) -> str | None:
    """Print how long a run of all tests takes."""
    return DURATION if config.args_source is pytest.Config.ArgsSource.TESTPATHS else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect slow tests unless --slow, -m or a test's name selects them; run slow tests first."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    asked_for = config.getoption("--slow") or config.getoption("-m") or any("::" in arg for arg in config.args)
    items[:] = [*slow, *others] if asked_for else others
    if slow and not asked_for:
        config.hook.pytest_deselected(items=slow)
