"""The command line as a user runs it: in a pipe, in a terminal, on healthy and on damaged names."""

from __future__ import annotations

import codecs
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rich.console
from helpers import SHM, TIMEOUT, Child, command_works, open_snapshot, publish

import shmsync
from shmsync import ArrayMap, Reader, Writer, __version__
from shmsync._shm import futex, ofd_locks
from shmsync.cli import _checks, _key_path, _sampler
from shmsync.cli._output import Grid
from shmsync.cli._units import size_text, span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = "from shmsync.__main__ import main; main()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BOXES = re.compile("[\u2500-\u257f]")


def command(*args: str, before: str = "") -> list[str]:
    return [sys.executable, "-W", "error", "-c", f"{before}\n{MAIN}", *args]


def only(prefix: str) -> str:
    """Return code that limits the command line to names and segments with a prefix, independent of other programs."""
    return f"""
import shmsync
from shmsync.cli import _checks
names, segment_names = shmsync.names, _checks.segment_names
shmsync.names = lambda: [name for name in names() if name.startswith({prefix!r})]
_checks.segment_names = lambda: [name for name in segment_names() if name.startswith({prefix!r})]
"""


def environment(**more: str) -> dict[str, str]:
    others = {"NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED"}
    inherited = {key: value for key, value in os.environ.items() if key not in others}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **more}


def run(*args: str, stdin: bytes = b"", before: str = "") -> SimpleNamespace:
    done = subprocess.run(
        command(*args, before=before),
        input=stdin,
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    return SimpleNamespace(
        status=done.returncode, out=done.stdout.decode(errors="replace"), err=done.stderr.decode(), raw=done.stdout
    )


def run_json(*args: str, stdin: bytes = b"", status: int = 0, before: str = "") -> Any:
    """Run with --json; return the parsed output."""
    done = run(*args, "--json", stdin=stdin, before=before)
    assert done.status == status, done.err
    return json.loads(done.out)


def run_failing(*args: str, stdin: bytes = b"", before: str = "") -> str:
    """Run a command that must fail; return its error message, which must be one line."""
    done = run(*args, stdin=stdin, before=before)
    assert done.status == 1
    line: str
    (line,) = done.err.splitlines()
    assert line.startswith("shmsync: ")
    return line


@pytest.fixture
def cleaned_name(name: str) -> Iterator[str]:
    """A name whose segments are removed after the test, even if they are damaged."""
    yield name
    for path in SHM.glob(f"{name}_*"):
        path.unlink()


# ----------------------------------------------------------------------------------------------- ls, inspect, readers


def test_ls(writer: Writer, name: str) -> None:
    writer.write({"a": 1})
    done = run("ls")
    assert (done.status, done.err) == (0, "")
    assert not ESCAPES.search(done.out)
    assert not BOXES.search(done.out)
    (line,) = [line for line in done.out.splitlines() if line.startswith(name)]
    assert re.fullmatch(rf"{name} +4 B +1 +\d+s +alive {os.getpid()} +0 +msgpack", line)
    (found,) = [info for info in run_json("ls") if info["name"] == name]
    assert (found["seq"], found["writer"]["state"], found["readers"], found["problems"]) == (1, "alive", [], [])


def test_ls_reports_problems(cleaned_name: str) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"something else" * 1000)
    done = run("ls")
    assert done.status == 0
    assert f"! {cleaned_name}: /{cleaned_name}_state is not a shmsync segment" in done.out


def test_inspect_and_readers(writer: Writer, name: str) -> None:
    writer.write("value")
    with Child() as child:
        child.call(open_snapshot, name)
        done = run("inspect", name)
        assert (done.status, done.err) == (0, "")
        for words in ("alive, pid", "1 of 256 slots", "data_0", "1 on data_0 (version 1)"):
            assert words in done.out
        assert run_json("inspect", name)["segments"][2]["generation"] == 1
        writer.write(2, grace_duration=0)
        writer.write(3, grace_duration=0)
        (reader,) = run_json("readers", name)
        assert (reader["pid"], reader["state"]) == (child.pid, "evicted")
        child.kill()
    assert re.search(rf"0 +{child.pid} +dead +\d+s +\d[-\ds]* +0 B +1 on data_0", run("readers", name).out)
    writer.write(4)
    writer.write(5)
    done = run("readers", name)
    assert (done.status, done.out) == (0, "")


def test_inspect_of_damaged_segments(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    (SHM / f"{cleaned_name}_data_0").write_bytes(b"no")
    done = run("inspect", cleaned_name)
    assert done.status == 1
    assert "is truncated" in done.err
    assert run_json("inspect", cleaned_name, status=1)["problems"]
    assert run_json("readers", cleaned_name) == []
    (SHM / f"{cleaned_name}_readers").write_bytes(b"no")
    assert "is truncated" in run("readers", cleaned_name).err


@pytest.mark.parametrize("verb", ["inspect", "readers", "get", "rm"])
def test_no_such_name(verb: str, name: str) -> None:
    assert name in run_failing(verb, name)
    done = run(verb, "a/b")
    assert done.status == 2
    assert "invalid name 'a/b'" in done.err


def test_version() -> None:
    assert run("--version").out == f"{__version__}\n"


def test_put_of_a_value_nested_too_deeply(name: str) -> None:
    assert "nested too deeply" in run_failing("put", name, "-", stdin=b"[" * 100_000)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_file_that_is_not_a_segment(name: str, make: Callable[[Path], None]) -> None:
    """Any user may create it; opening a FIFO must not block."""
    path = SHM / f"{name}_state"
    make(path)
    try:
        assert f"! {name}: " in run("ls").out
        for verb in ("inspect", "get", "rm", "readers"):
            assert (
                "not a shared memory segment but another kind of file, such as a directory or a FIFO; remove it"
                in run_failing(verb, name)
            )
        assert "not a shared memory segment" in run_failing("put", name, "-", stdin=b"1")
        if make is os.mkdir:
            assert "Is a directory" in run_failing("rm", "--force", name)
        else:
            assert run("rm", "--force", name).status == 0
    finally:
        if path.is_dir():
            path.rmdir()


@pytest.mark.skipif(not command_works("unshare", "--mount", "true"), reason="needs a mount namespace")
def test_without_shared_memory() -> None:
    hide = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "
    words = " ".join(f"'{word}'" for word in command("put", "any", "-"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide + words],
        input=b"1",
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert done.returncode == 1
    assert "/dev/shm does not exist" in done.stderr.decode()


def test_usage() -> None:
    for args in (["get"], ["nonsense"], ["get", "a", "--raw", "--json"], ["top", "--interval", "0"]):
        done = run(*args)
        assert done.status == 2
        assert "Usage:" in done.err
        assert not BOXES.search(done.err)
    done = run("--help")
    assert done.status == 0
    for verb in ("ls", "inspect", "get", "put", "watch", "top", "readers", "rm", "doctor", "bench", "demo"):
        assert re.search(rf"^  {verb} ", done.out, re.MULTILINE)


# -------------------------------------------------------------------------------------------------------------- values

VALUE: dict[Any, Any] = {"a": {"b": [1, 2.5, None, True]}, "x.y": "dots", 17: "number", "blob": b"\x00\x01"}


@pytest.mark.parametrize("codec", ["msgpack", "archive"])
def test_get(name: str, codec: str) -> None:
    with Writer(name, codec=codec) as writer:
        writer.write(VALUE)
        assert json.loads(run("get", name).out) == {
            "a": {"b": [1, 2.5, None, True]},
            "x.y": "dots",
            "17": "number",
            "blob": {"base64": "AAE="},
        }
        assert run_json("get", name, "a.b.1") == 2.5
        assert run_json("get", name, "a", "b", "0") == 1
        assert run_json("get", name, "x.y") == "dots"
        assert run_json("get", name, "17") == "number"
        assert run("get", name, "blob", "--raw").raw == b"\x00\x01"
        assert run("get", name, "x.y", "--raw").raw == b"dots"
        assert "which has 4 keys: a, x.y, 17, blob" in run_failing("get", name, "c")
        assert "no item 9 in a.b" in run_failing("get", name, "a.b.9")
        assert "which is of type int" in run_failing("get", name, "a.b.0.c")
        assert "omit --raw" in run_failing("get", name, "a", "--raw")
        writer.unlink()


def test_get_of_raw_bytes_and_of_pickles(name: str) -> None:
    with Writer(name, codec="pickle") as writer:
        writer.write_raw(bytes(range(256)))
        assert run("get", name, "--raw").raw == bytes(range(256))
        assert f"shmsync get {name} --raw" in run_failing("get", name)
        writer.write({1, 2})
        assert "does not decode" in run_failing("get", name)
        writer.unlink()


def test_paths_and_json() -> None:
    assert _key_path.resolve({"a.b": {"c": 1}}, ["a.b", "c"]) == 1
    assert _key_path.resolve({(1, 2): "tuple", None: "none", True: "yes"}, ["[1, 2]"]) == "tuple"
    assert _key_path.resolve({None: "none"}, ["null"]) == "none"
    assert _key_path.resolve({"a": np.arange(6).reshape(2, 3)}, ["a.1.2"]) == 5
    plain = _key_path.to_json({"nan": float("nan"), "inf": -np.inf, "array": np.eye(2, dtype="f4"), (1, 2): np.int8(3)})
    assert plain == {"nan": "NaN", "inf": "-Infinity", "array": [[1.0, 0.0], [0.0, 1.0]], "[1, 2]": 3}
    with pytest.raises(_key_path.NoSuchKeyError, match="is not an integer"):
        _key_path.resolve([1], ["a"])


def test_get_of_arrays(name: str) -> None:
    with Writer(name, codec="archive") as writer:
        writer.write(ArrayMap(np.array([3, 5]), np.ones((2, 2))))
        assert run_json("get", name, "5") == [1.0, 1.0]
        assert run_json("get", name) == {"3": [1.0, 1.0], "5": [1.0, 1.0]}
        writer.unlink()


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


PRINTS_BEFORE_IT_READS = """
from shmsync import Reader
read = Reader.read
def print_and_read(self):
    print(flush=True)
    return read(self)
Reader.read = print_and_read
"""


def test_ctrl_c_while_waiting(name: str) -> None:
    with subprocess.Popen(
        command("get", name, "--timeout", "60", before=PRINTS_BEFORE_IT_READS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_put_beside_a_writer(writer: Writer, name: str) -> None:
    writer.write(1)
    assert f"(pid {os.getpid()}, since" in run_failing("put", name, "-", stdin=b"2")
    with Reader(name) as reader:
        assert reader.get() == 1


def test_the_mode_of_put(cleaned_name: str) -> None:
    assert run("put", cleaned_name, "-", "--mode", "640", stdin=b"1").status == 0
    assert (SHM / f"{cleaned_name}_data_0").stat().st_mode & 0o777 == 0o640
    assert run("put", cleaned_name, "-", "--mode", "999", stdin=b"1").status == 2


def test_watch(writer: Writer, name: str) -> None:
    with subprocess.Popen(
        command("watch", name, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        for number in range(3):
            size = writer.write(number).size
            line = json.loads(process.stdout.readline())
            assert (line["seq"], line["size"]) == (number + 1, size)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, "", "")
    done = run("watch", name, "--count", "1")
    assert (done.status, len(done.out.splitlines())) == (0, 1)
    assert "no new version for 0.1 s" in run("watch", name, "--count", "2", "--timeout", "0.1").err


# ------------------------------------------------------------------------------------------------------------ removing


def test_rm(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    assert run_json("rm", cleaned_name) == {"name": cleaned_name, "removed": True}
    assert not list(SHM.glob(f"{cleaned_name}_*"))
    assert "no such name" in run_failing("rm", cleaned_name)


def test_rm_while_a_writer_is_active(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
        assert "already has a writer" in run_failing("rm", cleaned_name)
        assert len(list(SHM.glob(f"{cleaned_name}_*"))) == 3
        assert run("rm", cleaned_name, "--force").status == 0
        assert not list(SHM.glob(f"{cleaned_name}_*"))


@pytest.mark.parametrize("size", [10, 10_000])
def test_rm_of_a_foreign_segment(cleaned_name: str, size: int) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"x" * size)
    if size > 4096:
        assert "is not a shmsync segment" in run_failing("rm", cleaned_name)
        assert run("rm", cleaned_name, "--force").status == 0
    else:
        assert run("rm", cleaned_name).status == 0
    assert not list(SHM.glob(f"{cleaned_name}_*"))


def test_rm_without_a_state_segment(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    (SHM / f"{cleaned_name}_state").unlink()
    assert run("rm", cleaned_name).status == 0
    assert not list(SHM.glob(f"{cleaned_name}_*"))


# -------------------------------------------------------------------------------------------------------------- doctor


def test_doctor() -> None:
    done = run("doctor", "--json")
    found = json.loads(done.out)
    assert {check["what"] for check in found} >= {
        "/dev/shm",
        "space",
        "kernel locks",
        "futex",
        "RemoveIPC",
        "dead writers",
    }
    assert all(check["state"] in {"ok", "warn", "fail"} for check in found)
    assert done.status == any(check["state"] == "fail" for check in found)
    assert not ESCAPES.search(run("doctor").out)


def test_doctor_finds_dead_writers(cleaned_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = shmsync.names
    monkeypatch.setattr(shmsync, "names", lambda: [each for each in names() if each == cleaned_name])
    with Child() as child:
        child.call(publish, cleaned_name, 1)
        assert _checks.dead_writers().state == "ok"
        child.kill()
    check = _checks.dead_writers()
    assert check.state == "warn"
    assert check.found == f"1 name: {cleaned_name}"
    assert _checks.damaged().state == "ok"
    (SHM / f"{cleaned_name}_state").write_bytes(b"no")
    assert _checks.damaged().state == "warn"


def test_doctor_fails_without_kernel_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ofd_locks, "try_lock", lambda *_: True)
    monkeypatch.setattr(futex, "AVAILABLE", False)
    assert _checks.kernel_locks().state == "fail"
    assert _checks.futexes().state == "warn"
    monkeypatch.setattr(_checks, "_SHM", Path("/nowhere"))
    found = list(_checks.run_all())
    assert {"/dev/shm", "space"} <= {check.what for check in found if check.state == "fail"}


def test_doctor_finds_leftovers(cleaned_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks, "_MAX_LISTED", sys.maxsize)  # other processes may have left names behind
    with Child() as child:
        child.call(publish, cleaned_name, 1)
        child.kill()
    (SHM / f"{cleaned_name}-2_readers").write_bytes(b"")
    (SHM / f"{cleaned_name}-2_data_0").write_bytes(b"")
    try:
        found = {check.what: check.found for check in _checks.run_all()}
    finally:
        for path in SHM.glob(f"{cleaned_name}-2_*"):
            path.unlink()
    assert cleaned_name in found["dead writers"]
    assert f"{cleaned_name}-2" in found["orphans"]


@pytest.mark.skipif(not command_works("unshare", "--mount", "true"), reason="needs a mount namespace")
def test_doctor_in_a_small_shm() -> None:
    mount = "mount -t tmpfs -o size=512k tmpfs /dev/shm && exec "
    words = " ".join(f"'{word}'" for word in command("doctor", "--json"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount + words],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        env=environment(),
    )
    assert done.returncode == 1
    (space,) = [check for check in json.loads(done.stdout) if check["what"] == "space"]
    assert space["state"] == "fail"
    assert "--shm-size" in space["advice"]


@pytest.mark.parametrize(
    ("files", "removed"),
    [
        ({}, True),
        ({"etc/systemd/logind.conf": "[Login]\n#RemoveIPC=no\n"}, True),
        ({"etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"}, False),
        ({"usr/lib/systemd/logind.conf": "[Login]\nRemoveIPC=no\n", "etc/systemd/logind.conf": "[Login]\n"}, True),
        (
            {
                "etc/systemd/logind.conf": "[Login]\nRemoveIPC=yes\n",
                "usr/lib/systemd/logind.conf.d/50.conf": "[Login]\nRemoveIPC=no\n",
            },
            False,
        ),
        (
            {
                "run/systemd/logind.conf.d/50.conf": "[Login]\nRemoveIPC=no\n",
                "etc/systemd/logind.conf.d/60.conf": "[Login]\nRemoveIPC=yes\n",
            },
            True,
        ),
        ({"etc/systemd/logind.conf": "no section\n"}, True),
    ],
)
def test_the_value_of_remove_ipc(tmp_path: Path, files: dict[str, str], *, removed: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _checks.is_ipc_removed(tmp_path) is removed


def test_bench() -> None:
    rows = run_json("bench", "--seconds", "0.2")
    assert all(0 < row["least_us"] <= row["us"] for row in rows)
    assert rows[0]["what"] == "get(), unchanged"


# --------------------------------------------------------------------------------------------------------------- pipes


def test_a_closed_pipe(writer: Writer, name: str) -> None:
    writer.write(list(range(200_000)))
    with subprocess.Popen(
        command("get", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"["
        process.stdout.close()
        assert process.wait(TIMEOUT) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("verb", ["get", "inspect"])
def test_a_full_disk(writer: Writer, name: str, verb: str) -> None:
    writer.write("value")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(verb, name), stdout=full, stderr=subprocess.PIPE, check=False, timeout=TIMEOUT, env=environment()
        )
    assert done.returncode == 1
    assert done.stderr == b"shmsync: cannot write the output: No space left on device\n"


def test_closed_streams(cleaned_name: str) -> None:
    words = " ".join(f"'{word}'" for word in command("put", cleaned_name, "-"))
    for streams, status, message in (("<&-", 1, "stdin is not valid json"), (">&- <<< 1", 0, ""), ("2>&- <&-", 1, "")):
        done = subprocess.run(
            ["bash", "-c", f"exec {words} {streams}"], capture_output=True, check=False, env=environment()
        )
        assert done.returncode == status
        assert message in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert run_json("get", cleaned_name) == 1


# ----------------------------------------------------------------------------------------------------------- terminals


class Terminal:
    """A process in a pseudo-terminal, and all its output so far."""

    def __init__(self, *args: str, before: str = "", **more: str) -> None:
        self._master, self._slave = pty.openpty()
        termios.tcsetwinsize(self._slave, (24, 80)) if hasattr(termios, "tcsetwinsize") else None
        self.modes = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command(*args, before=before)],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=environment(TERM="xterm-256color", **more),
        )
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, words: str, lines: int = 1) -> None:
        deadline = time.monotonic() + TIMEOUT
        while words not in self.text or self.text.count("\n") < lines - 1:
            assert time.monotonic() < deadline, self.text
            self._read()

    def wait(self) -> int:
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read()
        self._read()
        return self.process.returncode

    def _read(self, timeout: float = 0.1) -> None:
        while select.select([self._master], [], [], timeout)[0]:
            self.text += self._decoder.decode(os.read(self._master, 65536))
            timeout = 0.0

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)
        os.close(self._master)
        os.close(self._slave)


@contextmanager
def terminal(*args: str, before: str = "", **more: str) -> Iterator[Terminal]:
    opened = Terminal(*args, before=before, **more)
    try:
        yield opened
    finally:
        opened.close()


FAILS_LATER = """
from shmsync.cli._sampler import Sampler
sample, calls = Sampler.sample, []
def fail(self):
    calls.append(1)
    if len(calls) > 2:
        raise OSError(5, "it broke")
    return sample(self)
Sampler.sample = fail
"""


@pytest.mark.parametrize(
    ("end", "before", "status"), [("q", "", 0), ("\x03", "", 0), (signal.SIGTERM, "", 143), (None, FAILS_LATER, 1)]
)
def test_top_restores_the_terminal(
    writer: Writer, name: str, end: str | signal.Signals | None, before: str, status: int
) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1", before=only(name) + before) as screen:
        screen.wait_for("publishes/s")
        if end is not None:
            screen.wait_for("q quits")
            assert screen.modes_now() != screen.modes
        if isinstance(end, str):
            screen.press(end)
        elif end is not None:
            screen.process.send_signal(end)
        assert screen.wait() == status
        assert screen.modes_now() == screen.modes
        assert screen.text.count("\x1b[?1049h") == screen.text.count("\x1b[?1049l") == 1
        assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")
        assert "Traceback" not in screen.text
        assert ("it broke" in screen.text.rpartition("\x1b[?1049l")[2]) == bool(before)


def test_top_scrolls(name: str) -> None:
    names = [f"{name}-{number:02}" for number in range(30)]
    with ExitStack() as stack:
        for each in names:
            writer = stack.enter_context(Writer(each, max_readers=1))
            stack.callback(writer.unlink)
            writer.write(0)
        screen = stack.enter_context(
            terminal("top", "--interval", "3600", LINES="14", COLUMNS="120", before=only(name))
        )
        screen.wait_for("arrow and page keys scroll")
        assert names[-1] not in screen.text
        assert names[0] in screen.text
        for keys, wanted in (("\x1b[B", names[-1]), ("\x1b[5~", names[0]), (" jj", names[-1]), ("k", names[0])):
            for _ in range(len(names)):
                screen.text = ""
                screen.press(keys)
                screen.wait_for("keys scroll", lines=14)
                assert len(screen.text.split("\n")) == 14
                if wanted in screen.text:
                    break
            else:
                pytest.fail(f"{keys!r} did not lead to {wanted}")
        screen.press("q")
        assert screen.wait() == 0


def test_top_is_suspended_and_continued(writer: Writer, name: str) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1", before=only(name)) as screen:
        screen.wait_for("publishes/s")
        screen.process.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)
        screen.wait_for("\x1b[?1049l")
        assert screen.modes_now() == screen.modes
        screen.process.send_signal(signal.SIGCONT)
        screen.text = ""
        screen.wait_for("\x1b[?1049h")
        screen.press("q")
        assert screen.wait() == 0


def test_top_in_a_pipe(writer: Writer, name: str) -> None:
    writer.write(1)
    done = run("top", "--interval", "0.1", "--count", "2")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("publishes/s") == 2
    assert not ESCAPES.search(done.out)
    (row,) = [row for row in run_json("top", "--interval", "0.1", "--count", "1") if row["name"] == name]
    assert (row["rate"], row["holders"], row["lag"]) == (0.0, 0, None)


def test_the_lag_of_readers(writer: Writer, name: str) -> None:
    def row() -> _sampler.Row:
        (found,) = [each for each in sampler.sample() if each.info.name == name]
        return found

    sampler = _sampler.Sampler()
    writer.write(1)
    assert row().rate is None
    with Child() as child:
        child.call(open_snapshot, name)
        writer.write(2)
        assert (row().holders, row().lag, row().lag_is_exact) == (1, 1, True)
        writer.write(3, grace_duration=0)
        seen = row()
        assert (seen.evicted, seen.lag, seen.lag_is_exact) == (1, 2, True)
        sampler = _sampler.Sampler()
        writer.write(4)
        seen = row()
        assert (seen.lag, seen.lag_is_exact) == (0, False)
        writer.write(5)
        assert row().lag == 1
        assert row().rate is not None
        child.kill()
    assert (row().holders, row().lag) == (0, None)


def test_colours_in_a_terminal_only(writer: Writer, name: str) -> None:
    writer.write(1)
    colour = re.compile(r"\x1b\[(?:\d+;)*3\d")
    own = only(name)
    with (
        terminal("inspect", name) as screen,
        terminal("ls", before=own) as other,
        terminal("ls", before=own, NO_COLOR="1") as plain,
    ):
        assert screen.wait() == other.wait() == plain.wait() == 0
        assert colour.search(other.text)
        assert not colour.search(plain.text)
        for each in (screen, other, plain):
            assert name in each.text
            assert not BOXES.search(each.text)


def test_units() -> None:
    assert [size_text(size) for size in (None, 0, 1023, 1024, 5 << 20, 1 << 60)] == [
        "-",
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "1048576.0 TiB",
    ]
    spans = (None, -1, 0.4, 119, 120, 7199, 7200, 48 * 3600, 1e7)
    assert [span_text(span) for span in spans] == ["-", "0s", "0s", "119s", "2m", "119m", "2h", "2d", "115d"]


def test_a_narrow_grid() -> None:
    grid = Grid("NAME", "SIZE>", cut=True)
    for name in ("recommendation-features-01", "recommendation-features-02"):
        grid.add_row(name, "1")
    console = rich.console.Console(width=22, file=io.StringIO())
    console.print(grid.to_table(22))
    assert isinstance(console.file, io.StringIO)
    assert [line.split() for line in console.file.getvalue().splitlines()] == [
        ["NAME", "SIZE"],
        ["recommen\u2026ures-01", "1"],
        ["recommen\u2026ures-02", "1"],
    ]
