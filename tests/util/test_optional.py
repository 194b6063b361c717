"""Without the optional packages: buffers and archives work, and errors name the extra to install.

The tests run in child processes that cannot import the packages, so this module must not import them either.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from helpers import TIMEOUT, Child, State, environment

from shmsync import MissingExtraError, Reader, ShmSyncError, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONAL = ("numpy", "msgspec", "pyarrow", "typer", "rich", "prometheus_client")


def hide_packages(_: State) -> None:
    """Make the optional packages unimportable."""
    assert not [name for name in OPTIONAL if name in sys.modules]
    sys.modules.update(dict.fromkeys(OPTIONAL))  # type: ignore[arg-type]


def write(state: State, name: str, codec: str, value: Any) -> str:
    state.writer = Writer(name, codec=codec, grace_duration=0)
    try:
        state.writer.write(value)
    except ShmSyncError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        state.writer.close()
    return ""


def read(_: State, name: str, *path: Any) -> Any:
    """Return the type and the plain value at a path into the published value."""
    with Reader(name, allow_pickle=True) as reader:
        try:
            value = reader.get()
            for key in path:
                value = value[key]
        except ShmSyncError as error:
            return f"{type(error).__name__}: {error}"
        plain = value.tolist() if isinstance(value, memoryview) else value
        return type(value).__name__, plain


def typed(_: State, name: str) -> str:
    with pytest.raises(MissingExtraError) as caught:
        Reader(name, type=int)
    return f"{caught.value} ({caught.value.name})"


@pytest.fixture
def minimal() -> Iterator[Child]:
    """A child process without the optional packages."""
    with Child() as child:
        child.call(hide_packages)
        yield child


def unlink(name: str) -> None:
    with Writer(name) as writer:
        writer.unlink()


def test_bytes_and_archives_work_without_numpy(minimal: Child, name: str) -> None:
    assert minimal.call(write, name, "msgpack", {"blob": b"x" * 5000, "n": 1}) == ""
    assert minimal.call(read, name, "blob") == ("bytes", b"x" * 5000)
    value = {"vector": [1.5, 2.5], "ragged": [[1], [2, 3]], "map": {number: [number] for number in range(600)}}
    assert minimal.call(write, name, "archive", value) == ""
    assert minimal.call(read, name, "vector") == ("memoryview", [1.5, 2.5])
    assert minimal.call(read, name, "ragged", 1) == ("memoryview", [2, 3])
    assert minimal.call(read, name, "map", 599) == ("memoryview", [599])
    unlink(name)


def test_the_archive_is_the_same_without_numpy(minimal: Child, name: str) -> None:
    value = {"map": {number * 7: [float(number)] * 3 for number in range(3000)}}
    minimal.call(write, name, "archive", value)
    with Reader(name) as reader:
        checksum = reader.version().checksum
        assert reader.get() == value
    assert importlib.util.find_spec("numpy")
    with Writer(name, codec="archive") as writer:
        assert writer.write(value).version.checksum == checksum
        writer.unlink()


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_reading_an_array_reports_the_extra(minimal: Child, name: str, codec: str) -> None:
    with Child() as other:
        assert other.call(write_array, name, codec) == ""
    answer = minimal.call(read, name, "a")
    assert answer == "MissingExtraError: reading an array needs numpy: pip install 'shmsync[numpy]'"
    if codec == "archive":
        assert minimal.call(read, name, "plain") == ("int", 1)
    unlink(name)


def write_array(state: State, name: str, codec: str) -> str:
    import numpy as np  # noqa: PLC0415 - in the child only

    return write(state, name, codec, {"a": np.arange(3), "plain": 1})


def test_other_features_report_their_extra(minimal: Child, name: str) -> None:
    assert minimal.call(typed, name) == "Reader(type=...) needs msgspec: pip install 'shmsync[typed]' (msgspec)"
    answer = minimal.call(write, name, "arrow", 1)
    assert answer == "MissingExtraError: codec=\"arrow\" needs pyarrow: pip install 'shmsync[arrow]'"
    assert minimal.call(write, name, "raw", b"abc") == ""
    assert minimal.call(reserve_array, name) == "ndarray() needs numpy: pip install 'shmsync[numpy]'"
    assert minimal.call(read, name) == ("memoryview", list(b"abc"))
    unlink(name)


def reserve_array(_: State, name: str) -> str:
    with Writer(name, grace_duration=0) as writer:
        try:
            with writer.reserve(8) as slot:
                slot.ndarray(1)
        except MissingExtraError as error:
            return str(error)
    return ""


def test_importing_shmsync_imports_no_optional_package() -> None:
    script = """
        import sys, shmsync
        from shmsync.codecs import arrow, archive
        print([name for name in {names} if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(script).format(names=OPTIONAL)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True, env=environment())
    assert run.stdout.strip() == "[]"
