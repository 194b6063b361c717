"""The commands doctor and bench."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ESCAPES, command, environment, run, run_in_terminal, run_json
from helpers import SHM, TIMEOUT, Child, command_works, publish

import shmsync
from shmsync._shm import futex, ofd_locks
from shmsync.cli import _checks
from shmsync.cli._checks import Check
from shmsync.cli.doctor import verdict


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
    check = _checks.damaged()
    assert (check.state, check.found) == ("warn", f"1 name: {cleaned_name}")


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


def test_the_last_line_is_a_verdict() -> None:
    ok, warn, fail = (Check(what, state, "") for what, state in (("a", "ok"), ("b", "warn"), ("c", "fail")))
    assert verdict([ok]) == Check("verdict", "ok", "the host is set up correctly")
    assert verdict([ok, warn, warn])[1:3] == ("warn", "shmsync works on this host, with 2 warnings (b, b)")
    assert verdict([fail, warn])[1:3] == (
        "fail",
        "shmsync does not work on this host: 1 check failed (c), 1 warning (b)",
    )
    assert re.match("(ok|warn|fail) +verdict +", run("doctor").out.splitlines()[-1])
    assert max(map(len, run_in_terminal("doctor").out.splitlines())) <= 80
