"""The command publish, with the alias put: formats, and following a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from command_line import command, environment, run, run_failing, run_json
from helpers import SHM, TIMEOUT, until

from shmsync import Reader, Writer, unlink
from shmsync._files import Format, parse
from shmsync.errors import EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_put(cleaned_name: str, tmp_path: Path) -> None:
    assert run_json("put", cleaned_name, "-", stdin=b'{"a": [1, 2]}')["seq"] == 1
    assert run_json("get", cleaned_name, "a.1") == 2
    file = tmp_path / "value.msgpack"
    file.write_bytes(b"\x93\x01\x02\x03")
    assert "version 2" in run("put", cleaned_name, str(file), "--codec", "archive").out
    assert run_json("get", cleaned_name) == [1, 2, 3]
    assert run_json("put", cleaned_name, str(file), "--format", "raw")["size"] == 4
    assert run("get", cleaned_name, "--raw").raw == b"\x93\x01\x02\x03"
    assert "stdin is not valid json" in run_failing("put", cleaned_name, "-", stdin=b"{")
    assert "is not valid msgpack" in run_failing("put", cleaned_name, "-", "--format", "msgpack", stdin=b"\xc1")
    message = run_failing("put", cleaned_name, "-", "--format", "msgpack", stdin=b"\x01\x02")
    assert "stdin is not valid msgpack: unpack(b) received extra data; choose" in message
    assert "No such file" in run_failing("put", cleaned_name, str(tmp_path / "missing"))
    assert run_json("inspect", cleaned_name)["seq"] == 3


def test_put_beside_a_writer(writer: Writer, name: str) -> None:
    writer.write(1)
    assert f"(pid {os.getpid()}, since" in run_failing("put", name, "-", stdin=b"2")
    with Reader(name) as reader:
        assert reader.get() == 1


def test_the_mode_of_put(cleaned_name: str) -> None:
    assert run("put", cleaned_name, "-", "--mode", "640", stdin=b"1").status == 0
    assert (SHM / f"{cleaned_name}_data_0").stat().st_mode & 0o777 == 0o640
    assert run("put", cleaned_name, "-", "--mode", "999", stdin=b"1").status == 2


def test_put_of_a_value_nested_too_deeply(name: str) -> None:
    assert "nested too deeply" in run_failing("put", name, "-", stdin=b"[" * 100_000)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.json", '{"a": [1, "\u00e4"]}'),
        ("a.JSON", '{"a": [1, "\u00e4"]}'),
        ("a.conf", '{"a": [1, "\u00e4"]}'),
        ("a.toml", 'a = [1, "\u00e4"]'),
        ("a.yaml", "a: [1, \u00e4]"),
        ("a.yml", "a:\n- 1\n- \u00e4"),
    ],
)
def test_formats_by_suffix(cleaned_name: str, tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert run("publish", cleaned_name, str(tmp_path / file)).status == 0
    assert run_json("get", cleaned_name) == {"a": [1, "\u00e4"]}


@pytest.mark.parametrize("kind", [Format.JSON, Format.TOML, Format.YAML, Format.MSGPACK])
@pytest.mark.parametrize("data", [b"\xff\x00{", b"[" * 100_000, b"{\x00", b"a: [1\nb: }"])
def test_a_bad_file_of_any_format(kind: Format, data: bytes) -> None:
    with pytest.raises(EntityWriteError, match="the file"):
        parse("the file", data, kind)


@contextmanager
def following(name: str, path: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command("publish", name, str(path), "--watch", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        yield process
        process.kill()


def replace(path: Path, value: Any) -> None:
    """Replace a file as editors and deployments do."""
    new = path.with_name("new")
    new.write_text(json.dumps(value))
    new.replace(path)


def test_follows_a_file(cleaned_name: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("1")
    with following(cleaned_name, path) as process, Reader(cleaned_name, timeout=TIMEOUT) as reader:
        assert process.stdout is not None
        assert process.stderr is not None
        assert reader.get() == 1
        assert process.stdout.readline() == f"{cleaned_name}: published version 1, 1 B\n"
        replace(path, {"limit": 2})
        until(lambda: reader.get() == {"limit": 2})
        path.write_text("3")  # in place
        until(lambda: reader.get() == 3)
        replace(tmp_path / "other.json", 4)  # not this one
        path.write_text("{")
        line = process.stderr.readline()
        assert line.startswith(f"shmsync: {cleaned_name}: kept the last value: {path} is not valid json: ")
        path.unlink()
        assert "No such file" in process.stderr.readline()
        assert reader.get() == 3
        replace(path, 5)
        until(lambda: reader.get() == 5)
        assert "already has a writer" in run_failing("publish", cleaned_name, "-", stdin=b"1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    assert run_json("inspect", cleaned_name)["writer"]["state"] == "closed"
    assert run_json("get", cleaned_name) == 5


def test_follows_a_symbolic_link(cleaned_name: str, tmp_path: Path) -> None:
    """As deployments switch: the link to a release is replaced, and neither the file nor its directory changes."""
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "value.json").write_text(version)
    (tmp_path / "current").symlink_to("1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "value.json").symlink_to("../current/value.json")
    with (
        following(cleaned_name, tmp_path / "etc" / "value.json") as process,
        Reader(cleaned_name, timeout=TIMEOUT) as reader,
    ):
        assert reader.get() == 1
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(tmp_path / "current")
        until(lambda: reader.get() == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130


def test_waits_for_a_file_and_publishes_again_what_was_removed(cleaned_name: str, tmp_path: Path) -> None:
    path = tmp_path / "value.raw"
    with following(cleaned_name, path, "--json") as process, Reader[Any](cleaned_name, timeout=TIMEOUT) as reader:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "No such file" in process.stderr.readline()
        path.write_bytes(b"some bytes")
        until((SHM / f"{cleaned_name}_data_0").exists)
        assert bytes(reader.get()) == b"some bytes"
        assert json.loads(process.stdout.readline())["seq"] == 1
        assert unlink(cleaned_name, force=True)
        assert json.loads(process.stdout.readline())["size"] == 10
        assert bytes(reader.get()) == b"some bytes"


def test_following_needs_a_file_and_an_extra(name: str, tmp_path: Path) -> None:
    assert run("publish", name, "-", "--watch").status == 2
    assert f"{tmp_path}/no: No such file" in run_failing("publish", name, str(tmp_path / "no" / "file.json"), "-w")
    hidden = "import sys; sys.modules['watchfiles'] = None"
    assert "pip install 'shmsync[publish]'" in run_failing("publish", name, str(tmp_path / "a"), "-w", before=hidden)
    (tmp_path / "a.yaml").write_text("1")
    hidden = "import sys; sys.modules['yaml'] = None"
    assert "pip install 'shmsync[publish]'" in run_failing("publish", name, str(tmp_path / "a.yaml"), before=hidden)
