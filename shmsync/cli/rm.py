"""The commands rm and prune: remove names."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

import shmsync
from shmsync.cli._infos import orphans
from shmsync.cli._names import expand, is_pattern
from shmsync.cli._output import FAILED, Json, Patterns, fail, no_such_name, print_json, print_line, print_note
from shmsync.cli._units import count_text
from shmsync.errors import LayoutMismatchError, ShmSyncError, StateNotFoundError, WriteLockConflictError, format_error

if TYPE_CHECKING:
    from shmsync import Info

DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print what would be removed, and remove nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation in a terminal.")]


_BY_FORCE = "`shmsync rm --dead --force` removes it, too"  # prune has no --force


class _Removal(NamedTuple):
    """What is known of a name before it is removed."""

    name: str
    info: Info | None  # None if it has no state segment

    @property
    def live_writer(self) -> str:
        """Its live writer, as a clause; empty if it has none."""
        if self.info is None or self.info.writer.state != "alive":
            return ""
        pid = self.info.writer.pid
        return "its writer" if pid is None else f"its writer (pid {pid})"

    @property
    def readers(self) -> int:
        """Number of live readers."""
        return 0 if self.info is None else sum(reader.alive for reader in self.info.readers)


def rm(
    names: Patterns = None,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", "-f", help="Remove even if a writer is active or the segments are damaged or foreign."),
    ] = False,
    dead: Annotated[bool, typer.Option("--dead", help="Remove only names whose writer died.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Remove names and their segments. Open snapshots stay valid.

    Fails if a writer is active. In a terminal, asks before names are removed that were not spelled out.

    --dead removes the names whose writer died without closing, and segments without a state segment. Names that still
    have readers are kept, unless --force is given.
    """
    if not names and not dead:
        raise typer.BadParameter("give a NAME, a pattern, or --dead")
    removals = _dead(names, force=force) if dead else _removals(names or [])
    if not removals:
        print_note("no name to remove: no writer has died")
        return
    asks = dead or any(is_pattern(name) for name in names or [])
    if asks and not (yes or dry_run or json) and not _confirmed(removals):
        print_note("nothing removed")
        raise typer.Exit(FAILED)
    errors = []
    for removal in removals:
        try:
            _remove(removal, force=force, dead=dead, dry_run=dry_run)
        except (ShmSyncError, OSError) as error:  # the others are removed, too
            errors.append(_with_hint(error, can_force=not (force or dead)))
            continue
        _report(removal, dry_run=dry_run, json=json)
    if errors:
        sys.stdout.flush()
        fail(*errors)


def prune(names: Patterns = None, *, dry_run: DryRun = False, yes: Yes = False, json: Json = False) -> None:
    """Remove names whose writer died, like `rm --dead`.

    Names that still have readers are kept.
    """
    rm(names, dead=True, dry_run=dry_run, yes=yes, json=json)


def _removals(texts: list[str]) -> list[_Removal]:
    existing = shmsync.names()
    return [_look_at(name) for name in expand(texts, existing)]


def _look_at(name: str) -> _Removal:
    try:
        return _Removal(name, shmsync.info(name))
    except StateNotFoundError:
        return _Removal(name, None)


def _dead(texts: list[str] | None, *, force: bool) -> list[_Removal]:
    without_state = orphans()
    existing = sorted({*shmsync.names(), *without_state})
    candidates = [_look_at(name) for name in (expand(texts, existing) if texts else existing)]
    dead = [each for each in candidates if each.name in without_state or (each.info and _is_dead(each.info))]
    for each in dead:
        if each.readers and not force:
            print_note(f"{each.name}: kept, it has {count_text(each.readers, 'reader')}; {_BY_FORCE}")
    return [each for each in dead if force or not each.readers]


def _is_dead(info: Info) -> bool:
    return info.writer.state == "dead" and info.readable


def _confirmed(removals: list[_Removal]) -> bool:
    """Ask, if a person can answer."""
    if not (os.isatty(0) and os.isatty(2)):
        return True
    for each in removals:
        print_note(each.name)
    answer: bool = typer.confirm(f"Remove {count_text(len(removals), 'name')}?", err=True)
    return answer


def _remove(removal: _Removal, *, force: bool, dead: bool, dry_run: bool) -> None:
    name = removal.name
    if removal.info is None and name not in orphans():
        raise StateNotFoundError(errno.ENOENT, no_such_name(name))
    if dry_run:
        if not force:
            _refuse_as_unlink(removal)
        return
    info = _look_at(name).info if dead else None  # again: confirming takes time
    if info is not None and not _is_dead(info):
        raise WriteLockConflictError(errno.EAGAIN, f"{name!r} was not removed: it has had a new writer since")
    if not shmsync.unlink(name, force=force and not dead):
        raise StateNotFoundError(errno.ENOENT, no_such_name(name))


def _refuse_as_unlink(removal: _Removal) -> None:
    """Raise if the name would not be removed without force."""
    if removal.live_writer:
        reason = f"{removal.name!r} would not be removed: {removal.live_writer} is active"
        raise WriteLockConflictError(errno.EAGAIN, reason)
    for problem in removal.info.problems if removal.info is not None else ():
        if "--force" in problem:
            raise LayoutMismatchError(f"{removal.name!r} would not be removed: {problem}")


def _with_hint(error: Exception, *, can_force: bool) -> str:
    text = format_error(error)
    # What does not exist or belongs to another user cannot be removed by force either.
    helps = can_force and getattr(error, "errno", None) not in {errno.ENOENT, errno.EACCES}
    return f"{text}; to remove the name anyway, add --force" if helps and "--force" not in text else text


def _report(removal: _Removal, *, dry_run: bool, json: bool) -> None:
    if json:
        print_json({"name": removal.name, "removed": not dry_run})
        return
    text = "would be removed" if dry_run else "removed"
    if removal.live_writer:
        text += f"; {removal.live_writer} is active, and creates the name again with its next write"
    print_line(f"{removal.name}: {text}")
