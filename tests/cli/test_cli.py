"""The command line, as a user runs it: in a pipe, in a terminal, on names that are well and names that are not."""

from __future__ import annotations

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
from helpers import PATIENCE, SHM, Child, hold, possible, publish

from shmsync import ArrayMap, Reader, Writer, __version__
from shmsync._shm import futex, ofd_locks
from shmsync.cli import _checks, _key_path, _sampler
from shmsync.cli._output import Grid, size_text, span_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIN = "from shmsync.__main__ import main; main()"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BOXES = re.compile("[\u2500-\u257f]")


def command(*args: str, before: str = "") -> list[str]:
    return [sys.executable, "-W", "error", "-c", f"{before}\n{MAIN}", *args]


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
        timeout=PATIENCE,
        env=environment(),
    )
    return SimpleNamespace(
        status=done.returncode, out=done.stdout.decode(errors="replace"), err=done.stderr.decode(), raw=done.stdout
    )


def answer(*args: str, stdin: bytes = b"", status: int = 0) -> Any:
    """Run with --json; return what is printed."""
    done = run(*args, "--json", stdin=stdin)
    assert done.status == status, done.err
    return json.loads(done.out)


def refused(*args: str, stdin: bytes = b"", before: str = "") -> str:
    """Run what must fail; return the one line that says why."""
    done = run(*args, stdin=stdin, before=before)
    assert done.status == 1
    line: str
    (line,) = done.err.splitlines()
    assert line.startswith("shmsync: ")
    return line


@pytest.fixture
def loose(name: str) -> Iterator[str]:
    """A name that is removed after the test, whatever became of it."""
    yield name
    for path in SHM.glob(f"{name}_*"):
        path.unlink()


# ------------------------------------------------------------------------------------------------------------- looking


def test_ls(writer: Writer, name: str) -> None:
    writer.write({"a": 1})
    done = run("ls")
    assert (done.status, done.err) == (0, "")
    assert not ESCAPES.search(done.out)
    assert not BOXES.search(done.out)
    (line,) = [line for line in done.out.splitlines() if line.startswith(name)]
    assert re.fullmatch(rf"{name} +4 B +1 +\d+s +alive {os.getpid()} +0 +msgpack", line)
    (found,) = [info for info in answer("ls") if info["name"] == name]
    assert (found["seq"], found["writer"]["state"], found["readers"], found["problems"]) == (1, "alive", [], [])


def test_ls_says_what_is_wrong(loose: str) -> None:
    (SHM / f"{loose}_state").write_bytes(b"something else" * 1000)
    done = run("ls")
    assert done.status == 0
    assert f"! {loose}: /{loose}_state is not a shmsync segment" in done.out


def test_inspect_and_readers(writer: Writer, name: str) -> None:
    writer.write("value")
    with Child() as child:
        child.ask(hold, name)
        done = run("inspect", name)
        assert (done.status, done.err) == (0, "")
        for words in ("alive, process", "1 of 256 slots", "data_0", "1 on data_0 (version 1)"):
            assert words in done.out
        assert answer("inspect", name)["segments"][2]["generation"] == 1
        writer.write(2, grace_duration=0)
        writer.write(3, grace_duration=0)
        (reader,) = answer("readers", name)
        assert (reader["pid"], reader["state"]) == (child.pid, "evicted")
        child.kill()
    assert re.search(rf"0 +{child.pid} +dead +\d+s +\d[-\ds]* +1 on data_0", run("readers", name).out)
    writer.write(4)
    writer.write(5)
    done = run("readers", name)
    assert (done.status, done.out) == (0, "")


def test_inspect_of_what_is_not_well(loose: str) -> None:
    with Writer(loose) as writer:
        writer.write(1)
    (SHM / f"{loose}_data_0").write_bytes(b"no")
    done = run("inspect", loose)
    assert done.status == 1
    assert "is truncated" in done.err
    assert answer("inspect", loose, status=1)["problems"]
    assert answer("readers", loose) == []
    (SHM / f"{loose}_readers").write_bytes(b"no")
    assert "is truncated" in run("readers", loose).err


@pytest.mark.parametrize("verb", ["inspect", "readers", "get", "rm"])
def test_no_such_name(verb: str, name: str) -> None:
    assert name in refused(verb, name)
    done = run(verb, "a/b")
    assert done.status == 2
    assert "bad name 'a/b'" in done.err


def test_version() -> None:
    assert run("--version").out == f"{__version__}\n"


def test_put_of_what_is_nested_too_deeply(name: str) -> None:
    assert "nested too deeply" in refused("put", name, "-", stdin=b"[" * 100_000)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_segment(name: str, make: Callable[[Path], None]) -> None:
    """Anybody may put it there; nobody waits for the other end of a FIFO."""
    path = SHM / f"{name}_state"
    make(path)
    try:
        assert f"! {name}: " in run("ls").out
        for verb in ("inspect", "get", "rm", "readers"):
            assert "no shared memory but a directory, a FIFO or the like" in refused(verb, name)
        assert "no shared memory" in refused("put", name, "-", stdin=b"1")
        if make is os.mkdir:
            assert "Is a directory" in refused("rm", "--force", name)
        else:
            assert run("rm", "--force", name).status == 0
    finally:
        if path.is_dir():
            path.rmdir()


@pytest.mark.skipif(not possible("unshare", "--mount", "true"), reason="needs a mount namespace")
def test_without_shared_memory() -> None:
    hide = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && exec "
    words = " ".join(f"'{word}'" for word in command("put", "any", "-"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", hide + words],
        input=b"1",
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        env=environment(),
    )
    assert done.returncode == 1
    assert "there is no /dev/shm" in done.stderr.decode()


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
        assert answer("get", name, "a.b.1") == 2.5
        assert answer("get", name, "a", "b", "0") == 1
        assert answer("get", name, "x.y") == "dots"
        assert answer("get", name, "17") == "number"
        assert run("get", name, "blob", "--raw").raw == b"\x00\x01"
        assert run("get", name, "x.y", "--raw").raw == b"dots"
        assert "there are 4: a, x.y, 17, blob" in refused("get", name, "c")
        assert "no item 9 in a.b" in refused("get", name, "a.b.9")
        assert "no parts" in refused("get", name, "a.b.0.c")
        assert "leave --raw out" in refused("get", name, "a", "--raw")
        writer.unlink()


def test_get_of_raw_bytes_and_of_pickles(name: str) -> None:
    with Writer(name, codec="pickle") as writer:
        writer.write_raw(bytes(range(256)))
        assert run("get", name, "--raw").raw == bytes(range(256))
        assert f"shmsync get {name} --raw" in refused("get", name)
        writer.write({1, 2})
        assert "does not run" in refused("get", name)
        writer.unlink()


def test_paths_and_json() -> None:
    assert _key_path.find({"a.b": {"c": 1}}, ["a.b", "c"]) == 1
    assert _key_path.find({(1, 2): "tuple", None: "none", True: "yes"}, ["[1, 2]"]) == "tuple"
    assert _key_path.find({None: "none"}, ["null"]) == "none"
    assert _key_path.find({"a": np.arange(6).reshape(2, 3)}, ["a.1.2"]) == 5
    plain = _key_path.as_json({"nan": float("nan"), "inf": -np.inf, "array": np.eye(2, dtype="f4"), (1, 2): np.int8(3)})
    assert plain == {"nan": "NaN", "inf": "-Infinity", "array": [[1.0, 0.0], [0.0, 1.0]], "[1, 2]": 3}
    with pytest.raises(_key_path.NoSuchKeyError, match="is no number"):
        _key_path.find([1], ["a"])


def test_get_of_arrays(name: str) -> None:
    with Writer(name, codec="archive") as writer:
        writer.write(ArrayMap(np.array([3, 5]), np.ones((2, 2))))
        assert answer("get", name, "5") == [1.0, 1.0]
        assert answer("get", name) == {"3": [1.0, 1.0], "5": [1.0, 1.0]}
        writer.unlink()


def test_put(loose: str, tmp_path: Path) -> None:
    assert answer("put", loose, "-", stdin=b'{"a": [1, 2]}')["seq"] == 1
    assert answer("get", loose, "a.1") == 2
    file = tmp_path / "value.msgpack"
    file.write_bytes(b"\x93\x01\x02\x03")
    assert "version 2" in run("put", loose, str(file), "--codec", "archive").out
    assert answer("get", loose) == [1, 2, 3]
    assert answer("put", loose, str(file), "--format", "raw")["size"] == 4
    assert run("get", loose, "--raw").raw == b"\x93\x01\x02\x03"
    assert "stdin is no json" in refused("put", loose, "-", stdin=b"{")
    assert "is no msgpack" in refused("put", loose, "-", "--format", "msgpack", stdin=b"\xc1")
    assert "No such file" in refused("put", loose, str(tmp_path / "missing"))
    assert answer("inspect", loose)["seq"] == 3


SAYS_THAT_IT_READS = """
from shmsync import Reader
read = Reader.read
def say_and_read(self):
    print(flush=True)
    return read(self)
Reader.read = say_and_read
"""


def test_ctrl_c_while_it_waits(name: str) -> None:
    with subprocess.Popen(
        command("get", name, "--timeout", "60", before=SAYS_THAT_IT_READS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_put_beside_a_writer(writer: Writer, name: str) -> None:
    writer.write(1)
    assert f"by process {os.getpid()}" in refused("put", name, "-", stdin=b"2")
    with Reader(name) as reader:
        assert reader.get() == 1


def test_the_mode_of_put(loose: str) -> None:
    assert run("put", loose, "-", "--mode", "640", stdin=b"1").status == 0
    assert (SHM / f"{loose}_state").stat().st_mode & 0o777 == 0o640
    assert run("put", loose, "-", "--mode", "999", stdin=b"1").status == 2


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
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "")
    done = run("watch", name, "--count", "1")
    assert (done.status, len(done.out.splitlines())) == (0, 1)
    assert "nothing new for 0.1 s" in run("watch", name, "--count", "2", "--timeout", "0.1").err


# ------------------------------------------------------------------------------------------------------------ removing


def test_rm(loose: str) -> None:
    with Writer(loose) as writer:
        writer.write(1)
    assert answer("rm", loose) == {"name": loose, "removed": True}
    assert not list(SHM.glob(f"{loose}_*"))
    assert "there is no such name" in refused("rm", loose)


def test_rm_while_the_writer_lives(loose: str) -> None:
    with Writer(loose) as writer:
        writer.write(1)
        assert "is being written" in refused("rm", loose)
        assert len(list(SHM.glob(f"{loose}_*"))) == 3
        assert run("rm", loose, "--force").status == 0
        assert not list(SHM.glob(f"{loose}_*"))


@pytest.mark.parametrize("size", [10, 10_000])
def test_rm_of_something_else(loose: str, size: int) -> None:
    (SHM / f"{loose}_state").write_bytes(b"x" * size)
    if size > 4096:
        assert "is not a shmsync segment" in refused("rm", loose)
        assert run("rm", loose, "--force").status == 0
    else:
        assert run("rm", loose).status == 0
    assert not list(SHM.glob(f"{loose}_*"))


def test_rm_of_what_has_lost_its_state(loose: str) -> None:
    with Writer(loose) as writer:
        writer.write(1)
    (SHM / f"{loose}_state").unlink()
    assert "there is no such name" in refused("rm", loose)
    assert run("rm", loose, "--force").status == 0
    assert not list(SHM.glob(f"{loose}_*"))


# -------------------------------------------------------------------------------------------------------------- doctor


def test_doctor() -> None:
    found = answer("doctor")
    assert {check["what"] for check in found} >= {
        "/dev/shm",
        "space",
        "kernel locks",
        "futex",
        "RemoveIPC",
        "left over",
    }
    assert all(check["state"] in {"ok", "warn", "fail"} for check in found)
    done = run("doctor")
    assert done.status == 0
    assert not ESCAPES.search(done.out)


def test_doctor_finds_what_dead_writers_left(loose: str) -> None:
    with Child() as child:
        child.ask(publish, loose, 1)
        assert loose not in _checks.left_over().found
        child.kill()
    check = _checks.left_over()
    assert check.state == "warn"
    assert "dead writers of" in check.found
    (SHM / f"{loose}_state").write_bytes(b"no")
    assert _checks.damaged().state == "warn"


def test_doctor_fails_without_what_shmsync_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ofd_locks, "try_lock", lambda *_: True)
    monkeypatch.setattr(futex, "AVAILABLE", False)
    assert _checks.kernel_locks().state == "fail"
    assert _checks.futexes().state == "warn"
    monkeypatch.setattr(_checks, "_SHM", Path("/nowhere"))
    found = list(_checks.all_checks())
    assert {"/dev/shm", "space"} <= {check.what for check in found if check.state == "fail"}


def test_doctor_tells_all_that_is_left_over(loose: str) -> None:
    with Child() as child:
        child.ask(publish, loose, 1)
        child.kill()
    (SHM / f"{loose}-2_readers").write_bytes(b"")
    (SHM / f"{loose}-2_data_0").write_bytes(b"")
    try:
        found = {check["what"]: check["found"] for check in answer("doctor")}
    finally:
        for path in SHM.glob(f"{loose}-2_*"):
            path.unlink()
    assert loose in found["left over"]
    assert f"{loose}-2" in found["orphans"]


@pytest.mark.skipif(not possible("unshare", "--mount", "true"), reason="needs a mount namespace")
def test_doctor_in_a_small_shm() -> None:
    mount = "mount -t tmpfs -o size=512k tmpfs /dev/shm && exec "
    words = " ".join(f"'{word}'" for word in command("doctor", "--json"))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount + words],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
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
def test_what_logind_is_told(tmp_path: Path, files: dict[str, str], *, removed: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _checks.is_ipc_removed(tmp_path) is removed


def test_bench() -> None:
    rows = answer("bench", "--seconds", "0.2")
    assert all(0 < row["least_us"] <= row["us"] for row in rows)
    assert rows[0]["what"] == "get(), unchanged"


# --------------------------------------------------------------------------------------------------------------- pipes


def test_a_pipe_that_is_closed(writer: Writer, name: str) -> None:
    writer.write(list(range(200_000)))
    with subprocess.Popen(
        command("get", name), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"["
        process.stdout.close()
        assert process.wait(PATIENCE) == -signal.SIGPIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.parametrize("verb", ["get", "inspect"])
def test_a_full_disk(writer: Writer, name: str, verb: str) -> None:
    writer.write("value")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command(verb, name), stdout=full, stderr=subprocess.PIPE, check=False, timeout=PATIENCE, env=environment()
        )
    assert done.returncode == 1
    assert done.stderr == b"shmsync: cannot write the output: No space left on device\n"


def test_closed_streams(loose: str) -> None:
    words = " ".join(f"'{word}'" for word in command("put", loose, "-"))
    for streams, status, says in (("<&-", 1, "stdin is no json"), (">&- <<< 1", 0, ""), ("2>&- <&-", 1, "")):
        done = subprocess.run(
            ["bash", "-c", f"exec {words} {streams}"], capture_output=True, check=False, env=environment()
        )
        assert done.returncode == status
        assert says in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert answer("get", loose) == 1


# ----------------------------------------------------------------------------------------------------------- terminals


class Terminal:
    """A process in a pseudo-terminal, and all that it has written there."""

    def __init__(self, *args: str, before: str = "", **more: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80)) if hasattr(termios, "tcsetwinsize") else None
        self.modes = termios.tcgetattr(theirs)
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command(*args, before=before)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm-256color", **more),
        )
        self._theirs = theirs
        self.text = ""

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def reads(self, words: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            self._read()

    def ended(self) -> int:
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read()
        self._read()
        return self.process.returncode

    def _read(self) -> None:
        while select.select([self._ours], [], [], 0.1)[0]:
            self.text += os.read(self._ours, 65536).decode()

    def modes_now(self) -> list[Any]:
        return termios.tcgetattr(self._theirs)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def terminal(*args: str, before: str = "", **more: str) -> Iterator[Terminal]:
    opened = Terminal(*args, before=before, **more)
    try:
        yield opened
    finally:
        opened.close()


FAILS_LATER = """
from shmsync.cli._sampler import Rating
look, looks = Rating.look, []
def fail(self):
    looks.append(1)
    if len(looks) > 2:
        raise OSError(5, "it broke")
    return look(self)
Rating.look = fail
"""


@pytest.mark.parametrize(
    ("end", "before", "status"), [("q", "", 0), ("\x03", "", 0), (signal.SIGTERM, "", 143), (None, FAILS_LATER, 1)]
)
def test_top_leaves_the_terminal_as_it_was(
    writer: Writer, name: str, end: str | signal.Signals | None, before: str, status: int
) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1", before=before) as screen:
        screen.reads("publishes/s")
        if end is not None:
            screen.reads("q ends")
            assert screen.modes_now() != screen.modes
        if isinstance(end, str):
            screen.press(end)
        elif end is not None:
            screen.process.send_signal(end)
        assert screen.ended() == status
        assert screen.modes_now() == screen.modes
        assert screen.text.count("\x1b[?1049h") == screen.text.count("\x1b[?1049l") == 1
        assert screen.text.rindex("\x1b[?25h") > screen.text.rindex("\x1b[?25l")
        assert "Traceback" not in screen.text
        assert ("it broke" in screen.text.rpartition("\x1b[?1049l")[2]) == bool(before)


def test_top_moves(name: str) -> None:
    names = [f"{name}-{number:02}" for number in range(30)]
    with ExitStack() as stack:
        for each in names:
            writer = stack.enter_context(Writer(each, max_readers=1))
            stack.callback(writer.unlink)
            writer.write(0)
        screen = stack.enter_context(terminal("top", "--interval", "3600", LINES="14", COLUMNS="120"))
        screen.reads("arrows and page keys move")
        assert names[-1] not in screen.text or names[0] not in screen.text
        for keys, wanted in (("\x1b[B", names[-1]), ("\x1b[5~", names[0]), (" jj", names[-1]), ("k", names[0])):
            for _ in range(200):
                screen.text = ""
                screen.press(keys)
                screen.reads("keys move")
                assert len(screen.text.split("\n")) == 14
                if wanted in screen.text:
                    break
            else:
                pytest.fail(f"{keys!r} did not lead to {wanted}")
        screen.press("q")
        assert screen.ended() == 0


def test_top_stops_and_goes_on(writer: Writer) -> None:
    writer.write(1)
    with terminal("top", "--interval", "0.1") as screen:
        screen.reads("publishes/s")
        screen.process.send_signal(signal.SIGTSTP)
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED)
        screen.reads("\x1b[?1049l")
        assert screen.modes_now() == screen.modes
        screen.process.send_signal(signal.SIGCONT)
        screen.text = ""
        screen.reads("\x1b[?1049h")
        screen.press("q")
        assert screen.ended() == 0


def test_top_in_a_pipe(writer: Writer, name: str) -> None:
    writer.write(1)
    done = run("top", "--interval", "0.1", "--count", "2")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("publishes/s") == 2
    assert not ESCAPES.search(done.out)
    (row,) = [row for row in answer("top", "--interval", "0.1", "--count", "1") if row["name"] == name]
    assert (row["rate"], row["holders"], row["lag"]) == (0.0, 0, None)


def test_how_far_readers_are_behind(writer: Writer, name: str) -> None:
    def row() -> _sampler.Row:
        (found,) = [each for each in rating.look() if each.info.name == name]
        return found

    rating = _sampler.Rating()
    writer.write(1)
    assert row().rate is None
    with Child() as child:
        child.ask(hold, name)
        writer.write(2)
        assert (row().holders, row().lag, row().lag_is_exact) == (1, 1, True)
        writer.write(3, grace_duration=0)
        seen = row()
        assert (seen.evicted, seen.lag, seen.lag_is_exact) == (1, 2, True)
        rating = _sampler.Rating()
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
    with terminal("inspect", name) as screen, terminal("ls") as other, terminal("ls", NO_COLOR="1") as plain:
        assert screen.ended() == other.ended() == plain.ended() == 0
        assert colour.search(other.text)
        assert not colour.search(plain.text)
        for each in (screen, other, plain):
            assert name in each.text
            assert not BOXES.search(each.text)


def test_numbers_for_humans() -> None:
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


def test_a_grid_gives_way() -> None:
    grid = Grid("NAME", "SIZE>", cut=True)
    for name in ("recommendation-features-01", "recommendation-features-02"):
        grid.add(name, "1")
    console = rich.console.Console(width=22, file=io.StringIO())
    console.print(grid.as_table(22))
    assert isinstance(console.file, io.StringIO)
    assert [line.split() for line in console.file.getvalue().splitlines()] == [
        ["NAME", "SIZE"],
        ["recommen\u2026ures-01", "1"],
        ["recommen\u2026ures-02", "1"],
    ]
