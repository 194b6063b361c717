"""The commands rm and prune."""

from __future__ import annotations

import os

import pytest
from command_line import only, run, run_failing, run_in_terminal, run_json, terminal
from helpers import SHM, Child, get_value, open_reader, publish

import shmsync
from shmsync import LayoutMismatchError, Reader, WriteLockConflictError, Writer


def test_rm(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    assert run_json("rm", cleaned_name) == {"name": cleaned_name, "removed": True}
    assert not list(SHM.glob(f"{cleaned_name}_*"))
    assert "no such name" in run_failing("rm", cleaned_name)


def test_rm_while_a_writer_is_active(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
        message = run_failing("rm", cleaned_name)
        assert "already has a writer" in message
        assert "--force" in message
        assert "lock_timeout" not in message
        assert "unlink(" not in message
        assert "its writer" in run_failing("rm", cleaned_name, "--dry-run")  # as without it
        forced = run("rm", cleaned_name, "--dry-run", "--force").out
        assert forced.startswith(f"{cleaned_name}: would be removed; its writer (pid {os.getpid()}) is active")
        assert len(list(SHM.glob(f"{cleaned_name}_*"))) == 3
        done = run("rm", cleaned_name, "--force")
        assert done.status == 0
        assert f"its writer (pid {os.getpid()}) is active, and creates the name again with its next write" in done.out
        assert not list(SHM.glob(f"{cleaned_name}_*"))
        writer.write(2)
        assert run_json("get", cleaned_name) == 2


@pytest.mark.parametrize("size", [10, 10_000])
def test_rm_of_a_foreign_segment(cleaned_name: str, size: int) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"x" * size)
    if size > 4096:
        message = run_failing("rm", cleaned_name)
        assert "is not a shmsync segment" in message
        assert f"`shmsync rm --force {cleaned_name}`" in message
        assert "is not a shmsync segment" in run_failing("rm", cleaned_name, "--dry-run")
        assert run("rm", cleaned_name, "--dry-run", "--force").out == f"{cleaned_name}: would be removed\n"
        assert run("rm", cleaned_name, "--force").status == 0
    else:
        assert run("rm", cleaned_name, "-n").out == f"{cleaned_name}: would be removed\n"
        assert run("rm", cleaned_name).status == 0
    assert not list(SHM.glob(f"{cleaned_name}_*"))


def test_rm_without_a_state_segment(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer:
        writer.write(1)
    (SHM / f"{cleaned_name}_state").unlink()
    assert run("rm", cleaned_name).status == 0
    assert not list(SHM.glob(f"{cleaned_name}_*"))


def test_several_names_and_patterns(cleaned_name: str) -> None:
    names = [f"{cleaned_name}_{suffix}" for suffix in ("a1", "a2", "b")]
    for each in names:
        shmsync.Synchronizer(each).write(1)
    assert run("rm", "--dry-run", f"{cleaned_name}_*").out.splitlines() == [
        f"{each}: would be removed" for each in names
    ]
    assert len(list(SHM.glob(f"{cleaned_name}_*_state"))) == 3
    done = run("rm", f"{cleaned_name}_x", f"{cleaned_name}_a*")  # the others are removed although one does not exist
    assert done.status == 1
    assert done.out.splitlines() == [f"{each}: removed" for each in names[:2]]
    assert f"no such name: '{cleaned_name}_x'" in done.err
    assert "no name matches" in run_failing("rm", f"{cleaned_name}_a*")
    assert run("rm", names[2]).status == 0


@pytest.mark.parametrize(("keys", "removed"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_asks_in_a_terminal_before_a_pattern_is_removed(cleaned_name: str, keys: str, *, removed: bool) -> None:
    shmsync.Synchronizer(cleaned_name).write(1)
    with terminal("rm", f"{cleaned_name}*") as screen:
        screen.wait_for("Remove 1 name? [y/N]")
        screen.press(keys)
        assert screen.wait() == (0 if removed else 1)
    assert (not list(SHM.glob(f"{cleaned_name}_*"))) == removed


def test_does_not_ask_for_a_name_or_with_yes(cleaned_name: str) -> None:
    for args in ([cleaned_name], [f"{cleaned_name}*", "-y"]):
        shmsync.Synchronizer(cleaned_name).write(1)
        done = run_in_terminal("rm", *args)
        assert (done.status, done.out) == (0, f"{cleaned_name}: removed\n")


@pytest.mark.parametrize("verb", [["rm", "--dead"], ["prune"]])
def test_removes_names_of_dead_writers(cleaned_name: str, verb: list[str]) -> None:
    """Names with a live writer or a reader are kept, and so are those whose writer has closed."""
    own = only(cleaned_name)
    dead, read, closed = (f"{cleaned_name}_{suffix}" for suffix in ("dead", "read", "closed"))
    shmsync.Synchronizer(closed).write(1)
    with Child() as first, Child() as second, Child() as reader:
        first.call(publish, dead, 1)
        assert "no writer has died" in run(*verb, before=own).err
        second.call(publish, read, 1)
        reader.call(open_reader, read)
        reader.call(get_value)
        first.kill()
        second.kill()
        assert run(*verb, "-n", before=own).out == f"{dead}: would be removed\n"
        done = run(*verb, before=own)
        assert (done.status, done.out) == (0, f"{dead}: removed\n")
        assert f"{read}: kept, it has 1 reader; `shmsync rm --dead --force` removes it, too" in done.err
        assert run("ls", "-q", before=own).out.split() == [closed, read]
        if verb[0] == "rm":
            assert run(*verb, "--force", before=own).out == f"{read}: removed\n"
    assert run("ls", "-q", closed).out.split() == [closed]


def test_removes_segments_without_a_state(cleaned_name: str) -> None:
    shmsync.Synchronizer(cleaned_name).write(1)
    (SHM / f"{cleaned_name}_state").unlink()
    assert run("prune", before=only(cleaned_name)).out == f"{cleaned_name}: removed\n"
    assert not list(SHM.glob(f"{cleaned_name}_*"))


REVIVES = """
import os
from shmsync import Writer
from shmsync.cli import rm
def confirmed(removals):
    for removal in removals:
        with Writer(removal.name) as writer:
            writer.write("new")
    return True
rm._confirmed = confirmed
"""


def test_a_name_that_got_a_new_writer_meanwhile_is_kept(cleaned_name: str) -> None:
    with Child() as child:
        child.call(publish, cleaned_name, 1)
        child.kill()
    message = run_failing("prune", before=only(cleaned_name) + REVIVES)
    assert "it has had a new writer since" in message
    assert "--force" not in message
    assert run_json("get", cleaned_name) == "new"


def test_needs_a_name() -> None:
    done = run("rm")
    assert done.status == 2
    assert "give a NAME, a pattern, or --dead" in done.err


# ---------------------------------------------------------------------------------------------------------- in Python


def test_unlink(cleaned_name: str) -> None:
    with Writer(cleaned_name) as writer, Reader(cleaned_name) as reader:
        writer.write(1)
        with reader.read() as snapshot:
            with pytest.raises(WriteLockConflictError, match=r"already has a writer.*unlink\(force=True\)"):
                shmsync.unlink(cleaned_name)
            assert shmsync.unlink(cleaned_name, force=True)
            assert snapshot.value == 1
        assert reader.get(default=None) is None
        writer.write(2)
        assert reader.get() == 2
    assert cleaned_name in shmsync.names()
    assert shmsync.unlink(cleaned_name)
    assert not shmsync.unlink(cleaned_name)
    assert not shmsync.unlink(cleaned_name, force=True)
    with pytest.raises(shmsync.InvalidArgumentError):
        shmsync.unlink("a/b")


def test_unlink_of_a_foreign_segment(cleaned_name: str) -> None:
    (SHM / f"{cleaned_name}_state").write_bytes(b"x" * 10_000)
    with pytest.raises(LayoutMismatchError, match="--force"):
        shmsync.unlink(cleaned_name)
    assert shmsync.unlink(cleaned_name, force=True)
