"""What doctor looks at. Each check says ok, warn or fail, what it found, and what to do about it."""

from __future__ import annotations

import configparser
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import shmsync
from shmsync._shm import atomics, futex, ofd_locks
from shmsync._shm.segment import create_segment, open_segment, segment_names, unlink_segment
from shmsync.cli._output import size_text
from shmsync.cli.look import all_infos
from shmsync.errors import ShmSyncError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps them
_MIB = 1 << 20
_DOCKER_SIZE = 64 * _MIB
_PAGE = 4096
_FEW_FREE = 0.1
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, the same on every Linux
_FIRST_USER = 1000
_MOST_NAMED = 5


class Check(NamedTuple):
    """What a check has found.

    Attributes:
        what: was looked at.
        state: "ok", "warn" or "fail".
        found: in a sentence.
        advice: what to do; empty if nothing.
    """

    what: str
    state: str
    found: str
    advice: str = ""


def all_checks() -> Iterator[Check]:
    """Look at everything, one after the other. Makes a segment of its own for a moment."""
    yield from map(_done, _CHECKS)


def _done(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (ShmSyncError, OSError) as error:
        return Check(check.__name__.replace("_", " "), "fail", format_error(error))


# -------------------------------------------------------------------------------------------------------- the system


def python() -> Check:
    """Look at the interpreter and at what atomic words cost."""
    version = f"CPython {sys.version.split()[0]}"
    if sys.implementation.name != "cpython":
        return Check("python", "fail", f"this is {sys.implementation.name}", "use CPython")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return Check("python", "fail", f"{version} without the GIL", "use a build with the GIL, or set PYTHON_GIL=1")
    if not atomics.are_fast():
        advice = "install the version of the package atomics that shmsync was tested with"
        return Check("python", "warn", f"{version}; atomic words take ten times as long as they could", advice)
    return Check("python", "ok", f"{version}, shmsync {shmsync.__version__}")


def shared_memory() -> Check:
    """Look at the file system that holds the segments."""
    what = "/dev/shm"  # noqa: S108
    if not _SHM.is_dir():
        return Check(what, "fail", "is not there", "mount a tmpfs there: mount -t tmpfs tmpfs /dev/shm")
    kinds = [line.split()[2] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == what]
    if not kinds or kinds[-1] not in {"tmpfs", "ramfs"}:
        advice = "mount a tmpfs there, or values are written to a disk"
        return Check(what, "warn", f"is no tmpfs but {kinds[-1] if kinds else 'a directory'}", advice)
    if os.statvfs(_SHM).f_flag & os.ST_RDONLY:
        return Check(what, "fail", "is mounted read-only", f"mount -o remount,rw {what}")
    mode = stat.S_IMODE(_SHM.stat().st_mode)
    if not os.access(_SHM, os.W_OK | os.X_OK):
        return Check(what, "fail", f"may not be written by this user; its mode is {mode:04o}", f"chmod 1777 {what}")
    if mode & 0o002 and not mode & stat.S_ISVTX:
        return Check(what, "warn", f"mode {mode:04o}: everyone may remove others' segments", f"chmod 1777 {what}")
    return Check(what, "ok", f"{kinds[-1]}, mode {mode:04o}")


def space() -> Check:
    """Look at how much room there is."""
    status = os.statvfs(_SHM)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    found = f"{size_text(free)} of {size_text(size)} free"
    advice = "enlarge /dev/shm (docker run --shm-size=1g, mount -o remount,size=...), or remove what nobody needs"
    if size and free < _MIB:
        return Check("space", "fail", found, advice)
    if size and (free < size * _FEW_FREE or size <= _DOCKER_SIZE):
        return Check("space", "warn", found, f"each name needs its value twice; {advice}")
    return Check("space", "ok", found)


def kernel_locks() -> Check:
    """Try the locks that tell who is alive."""
    name = f"/doctor-{os.getpid()}-{secrets.token_hex(4)}"
    with create_segment(name, _PAGE, 0o600) as first:
        try:
            with open_segment(name, writable=True) as second:
                taken = ofd_locks.try_lock(first.fd, 0)
                works = taken and not ofd_locks.try_lock(second.fd, 0) and ofd_locks.is_locked(second.fd, 0)
        finally:
            unlink_segment(name)
    if not works:
        advice = "use Linux 3.15 or newer on 64 bits; a sandbox such as gVisor may lack them"
        return Check("kernel locks", "fail", "open-file-description locks do not exclude each other", advice)
    return Check("kernel locks", "ok", "open-file-description locks")


def futexes() -> Check:
    """Look at what waits for the next version."""
    if not futex.AVAILABLE:
        advice = "allow futex in the sandbox's seccomp filter; wait() polls every 5 ms meanwhile"
        return Check("futex", "warn", f"not here (Linux {os.uname().release}, {os.uname().machine})", advice)
    if not futex.MANY_AVAILABLE:
        advice = "use Linux 5.16 or newer, or allow futex_waitv; wait_async() polls every 5 ms meanwhile"
        return Check("futex", "warn", f"futex, but no futex_waitv (Linux {os.uname().release})", advice)
    return Check("futex", "ok", "futex and futex_waitv")


# --------------------------------------------------------------------------------------------------- the environment


def namespaces() -> Check:
    """Look for borders between processes of this host."""
    found = []
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        found.append("a container")
    if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:  # noqa: PTH115 - no path
        found.append("a PID namespace of its own")
    if not found:
        return Check("namespaces", "ok", "not in a container")
    advice = "names are shared only where /dev/shm is: docker run --ipc=host, or --ipc=container:NAME"
    return Check("namespaces", "ok", f"in {' and '.join(found)}; pids of others may be numbered differently", advice)


def remove_ipc() -> Check:
    """Look whether systemd removes segments at logout."""
    what = "RemoveIPC"
    if not Path("/run/systemd/system").is_dir():
        return Check(what, "ok", "systemd does not run here")
    if os.getuid() < _FIRST_USER:
        return Check(what, "ok", f"spares system users such as {os.getuid()}")
    if not is_ipc_removed(Path("/")):
        return Check(what, "ok", "systemd's RemoveIPC is off")
    advice = "set RemoveIPC=no in /etc/systemd/logind.conf, run as a system user, or loginctl enable-linger"
    return Check(what, "warn", "systemd removes this user's segments when its last session ends", advice)


def is_ipc_removed(root: Path) -> bool:
    """Tell what systemd-logind is told of RemoveIPC by the files under a root directory; yes is its default."""
    removed = True
    folders = [root / part / "systemd" for part in ("usr/lib", "usr/local/lib", "run", "etc")]
    main = [folder / "logind.conf" for folder in folders if (folder / "logind.conf").is_file()][-1:]
    dropped = {path.name: path for folder in folders for path in folder.glob("logind.conf.d/*.conf")}
    for path in [*main, *(dropped[name] for name in sorted(dropped))]:
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read_string(path.read_text(errors="replace"))
        except (OSError, configparser.Error):
            continue
        said = parser.get("Login", "RemoveIPC", fallback=None)
        removed = said.strip().lower() in {"1", "yes", "y", "true", "t", "on"} if said else removed
    return removed


# ---------------------------------------------------------------------------------------------------------- the names


def permissions() -> Check:
    """Look who may read and write the names."""
    infos = all_infos()
    shut = [info.name for info in infos if not _may_attach(info)]
    wide = [info.name for info in infos if any(segment.mode & 0o002 for segment in _private(info))]
    if wide:
        advice = "whoever may write them can make readers read anything: remove the name, and publish anew"
        return Check("permissions", "warn", f"everyone may write the values of {_listed(wide)}", advice)
    if shut:
        advice = "their writer decides: Writer(mode=0o640) for the group, 0o644 for all"
        return Check("permissions", "ok", f"{_listed(shut)} may not be read by this user", advice)
    return Check("permissions", "ok", f"this user may read all {len(infos)} names")


def _may_attach(info: shmsync.Info) -> bool:
    table = _SHM / f"{info.name}_readers"
    return info.readable and (os.access(table, os.R_OK | os.W_OK) or not table.exists())


def _private(info: shmsync.Info) -> list[shmsync.SegmentInfo]:
    return [segment for segment in info.segments if not segment.segment.endswith("_readers")]


def damaged() -> Check:
    """Look for segments that cannot be used."""
    infos = [info for info in all_infos() if info.problems and info.readable]
    if not infos:
        return Check("damaged", "ok", "no segments are damaged or foreign")
    names = [info.name for info in infos]
    advice = "shmsync inspect NAME says more; a writer of the name may repair it, shmsync rm --force NAME removes it"
    return Check("damaged", "warn", f"{_listed(names)}: {infos[0].problems[0]}", advice)


def left_over() -> Check:
    """Look for what dead writers left."""
    found = [info.name for info in all_infos() if info.writer.state == "dead"]
    if found:
        advice = "their readers keep the last version; start the writer again, or shmsync rm NAME"
        return Check("left over", "warn", f"dead writers of {_listed(found)}", advice)
    return Check("left over", "ok", "nothing of dead writers")


def orphans() -> Check:
    """Look for segments that no name leads to."""
    found = sorted(set(_orphans()))
    if found:
        text = f"data segments or reader tables without a state segment: {_listed(found)}"
        return Check("orphans", "warn", text, "shmsync rm --force NAME")
    return Check("orphans", "ok", "no segments without a name")


def _orphans() -> Iterator[str]:
    """Yield names whose state segment is missing while others are there that look like it."""
    there = set(segment_names())
    for segment in there:
        name = segment.removesuffix("_readers")
        if name != segment and f"{name}_state" not in there and f"{name}_data_0" in there:
            yield name


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


_CHECKS: tuple[Callable[[], Check], ...] = (
    python,
    shared_memory,
    space,
    kernel_locks,
    futexes,
    namespaces,
    remove_ipc,
    permissions,
    damaged,
    left_over,
    orphans,
)
