"""The commands dump and restore."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from command_line import run, run_failing, run_in_terminal, run_json
from helpers import SHM

from shmsync import Reader, Writer, info
from shmsync._shm.segment import open_segment
from shmsync.cli import _dump_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.xz"])
def test_a_name_is_restored_as_it_was(cleaned_name: str, tmp_path: Path, suffix: str) -> None:
    file, copy = str(tmp_path / f"dump.{suffix}"), f"{cleaned_name}_copy"
    with Writer(cleaned_name, max_readers=7) as writer:
        for number in range(5):
            writer.write({"number": number, "array": np.full(1000, number)})
        with Reader(cleaned_name) as reader:
            reader.get()
            done = run("dump", cleaned_name, file)
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith(f"{cleaned_name}: saved version 5, ")
        assert run("restore", file, copy).out.startswith(f"{copy}: restored")
        before, after = info(cleaned_name), info(copy)
        for field in ("seq", "version", "codec", "created", "layout", "incarnation", "max_readers"):
            assert getattr(after, field) == getattr(before, field)
        assert [(each.size, each.generation, each.seq) for each in after.segments] == [
            (each.size, each.generation, each.seq) for each in before.segments
        ]
        assert (after.writer.state, after.writer.pid, after.problems) == ("dead", os.getpid(), ())
        assert [reader.state for reader in after.readers] in ([], ["dead"])
    with Reader[Any](copy) as reader:
        assert reader.get()["array"].tolist() == [4] * 1000
        with Writer(copy) as successor:
            assert successor.write(1).version.seq == 6
        assert reader.get() == 1
    assert not list(tmp_path.glob("*.part"))
    with tarfile.open(file) as archive:
        head = json.load(archive.extractfile("info.json"))  # type: ignore[arg-type]
    assert (head["name"], head["seq"], head["info"]["codec"]) == (cleaned_name, 5, "msgpack")


def test_restores_under_its_own_name(cleaned_name: str, tmp_path: Path) -> None:
    file = str(tmp_path / "dump")
    with Writer(cleaned_name) as writer:
        writer.write("value")
        message = run("dump", cleaned_name, file, "--json")
        assert json.loads(message.out)["seq"] == 1
        assert f"'{cleaned_name}' exists already" in run_failing("restore", file)
        writer.unlink()
    assert run_json("restore", file) == {"name": cleaned_name, "restored": True}
    assert run_json("get", cleaned_name) == "value"
    assert (SHM / f"{cleaned_name}_state").stat().st_mode & 0o777 == 0o600


def damage_data(name: str) -> None:
    (SHM / f"{name}_data_0").write_bytes(b"no")


def damage_state(name: str) -> None:
    (SHM / f"{name}_state").write_bytes(b"something else" * 1000)


def truncate_state(name: str) -> None:
    (SHM / f"{name}_state").write_bytes(b"")


def remove_table(name: str) -> None:
    (SHM / f"{name}_readers").unlink()


@pytest.mark.parametrize("damage", [damage_data, damage_state, truncate_state, remove_table])
def test_damage_is_restored_too(cleaned_name: str, tmp_path: Path, damage: Callable[[str], None]) -> None:
    file, copy = str(tmp_path / "dump.tar"), f"{cleaned_name}_copy"
    with Writer(cleaned_name) as writer:
        writer.write(1)
    damage(cleaned_name)
    done = run("dump", cleaned_name, file)
    assert done.status == 0
    assert "saved its segments as they are" in done.out
    assert f"{cleaned_name}: no complete version: " in done.err
    assert "Reader(" not in done.err
    assert run("restore", file, copy).status == 0
    for path in SHM.glob(f"{cleaned_name}_[sd]*"):
        assert (SHM / path.name.replace(cleaned_name, copy)).read_bytes() == path.read_bytes()
    assert len(info(copy).problems) == len(info(cleaned_name).problems)


def test_a_dump_is_complete_while_a_writer_publishes(cleaned_name: str) -> None:
    """The state of the dump is that of the version that it contains, and every dump can be read."""
    copy = f"{cleaned_name}_copy"
    stop = threading.Event()
    with Writer(cleaned_name, grace_duration=0) as writer:
        writer.write([0] * 1000)

        def publish_all() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                writer.write([number] * (1000 + number % 7 * 1000))

        thread = threading.Thread(target=publish_all)
        thread.start()
        try:
            for _ in range(20):
                file = io.BytesIO()
                saved = _dump_file.save(cleaned_name, file, "", None)
                assert saved.problems == []
                path = SHM / f"{cleaned_name}_dump"
                path.write_bytes(file.getvalue())
                _dump_file.restore(str(path), copy)
                with Reader(copy) as reader, reader.read(check_bytes=True) as snapshot:
                    assert snapshot.version.seq == saved.seq
                    assert len(set(snapshot.value)) == 1
                with Writer(copy) as removed:
                    removed.unlink()
        finally:
            stop.set()
            thread.join()


def test_to_stdout(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    done = run("dump", cleaned_name, "-")
    with tarfile.open(fileobj=io.BytesIO(done.raw)) as archive:
        assert archive.getnames() == ["info.json", "state", "readers", "data_0"]


def test_a_dump_of_a_name_that_does_not_exist(name: str, tmp_path: Path) -> None:
    assert "no such name" in run_failing("dump", name, str(tmp_path / "dump"))
    assert not list(tmp_path.iterdir())
    assert "No such file" in run_failing("dump", name, str(tmp_path / "no" / "dump"))


def tar_of(**parts: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for part, data in parts.items():
            member = tarfile.TarInfo(part.replace("_json", ".json"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a dump of shmsync"),
        (b"no tar" * 1000, "is not a dump of shmsync"),
        (tar_of(other=b"1"), "contains no info.json"),
        (tar_of(info_json=b"{", state=b""), "is not a dump of shmsync"),
        (tar_of(info_json=b"[]", state=b""), "is not a dump of shmsync"),
        (tar_of(info_json=b"{}", state=b""), "is not a dump of shmsync"),
        (tar_of(info_json=b"{}", state=bytes(5000))[:3000], "is not a dump of shmsync"),
    ],
)
def test_what_is_not_a_dump(name: str, tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(data)
    assert message in run_failing("restore", str(file), *([name] if b"contains" in message.encode() else []))
    assert not list(SHM.glob(f"{name}*"))


def test_an_incomplete_dump_leaves_nothing_behind(cleaned_name: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.tar"
    with Writer(cleaned_name) as writer:
        writer.write_raw(bytes(1_000_000))
        run("dump", cleaned_name, str(file))
        writer.unlink()
    data = file.read_bytes()
    for size in (len(data) // 2, 2048):
        file.write_bytes(data[:size])
        assert "is not a dump of shmsync, or is damaged" in run_failing("restore", str(file))
        assert not list(SHM.glob(f"{cleaned_name}*"))


def test_a_dump_does_not_choose_where_it_is_restored(name: str, tmp_path: Path) -> None:
    file = tmp_path / "dump.tar"
    file.write_bytes(tar_of(info_json=b'{"name": "../../tmp/x"}', state=bytes(4096)))
    done = run("restore", str(file))
    assert done.status == 2
    assert "invalid name" in done.err


def test_the_state_is_that_of_the_saved_version(cleaned_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the writer publishes after the version was pinned and before the state is read."""
    opened = open_segment

    def open_after_publishes(segment: str, *, writable: bool) -> Any:
        if segment == f"/{cleaned_name}_state":
            for number in range(3):
                writer.write([number] * 5000, grace_duration=0)
        return opened(segment, writable=writable)

    monkeypatch.setattr(_dump_file, "open_segment", open_after_publishes)
    with Writer(cleaned_name) as writer:
        writer.write("saved")
        file = SHM / f"{cleaned_name}_dump"
        with file.open("wb") as target:
            saved = _dump_file.save(cleaned_name, target, "", None)
    _dump_file.restore(str(file), f"{cleaned_name}_copy")
    with Reader(f"{cleaned_name}_copy") as reader, reader.read(check_bytes=True) as snapshot:
        assert (snapshot.version.seq, snapshot.value) == (saved.seq, "saved") == (1, "saved")


def test_a_dump_is_not_printed_on_a_terminal(writer: Writer, name: str) -> None:
    writer.write(1)
    done = run_in_terminal("dump", name, "-")
    assert done.status == 1
    assert "redirect it" in done.out


def test_a_file_that_cannot_be_created(writer: Writer, name: str, tmp_path: Path) -> None:
    writer.write(1)
    path = tmp_path / "nowhere" / "x.tar"
    assert run_failing("dump", name, str(path)) == f"shmsync: {path}: No such file or directory"
