"""The checks of `shmsync doctor`. Each returns ok, warn or fail, its finding, and advice."""

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
from shmsync._shm.segment import create_segment, open_segment, unlink_segment
from shmsync.cli._infos import all_infos, orphans
from shmsync.cli._units import count_text, size_text
from shmsync.errors import ShmSyncError, format_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHM = Path("/dev/shm")  # noqa: S108 - the mount point of POSIX shared memory on Linux
_MIB = 1 << 20
_DOCKER_SIZE = 64 * _MIB  # the default size of /dev/shm in a container
_PAGE = 4096
_LOW_SPACE = 0.1  # part of /dev/shm that should be free
_INIT_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, the same on every Linux
_FIRST_USER = 1000  # systemd's RemoveIPC does not apply to system users, who have lower IDs
_MAX_LISTED = 5  # names in a message


class Check(NamedTuple):
    """The result of a check.

    Attributes:
        what: the subject of the check.
        state: "ok", "warn" or "fail".
        found: the finding.
        advice: what to do; empty if there is nothing to do.
    """

    what: str
    state: str
    found: str
    advice: str = ""


def run_all() -> Iterator[Check]:
    """Run all checks in turn. One of them creates a temporary segment."""
    yield from map(_run, _CHECKS)


def _run(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except (ShmSyncError, OSError) as error:
        return Check(check.__name__.replace("_", " "), "fail", format_error(error))


# ---------------------------------------------------------------------------------------------------------- the system


def python() -> Check:
    """Check the interpreter and the speed of atomic operations."""
    version = f"CPython {sys.version.split()[0]}"
    if sys.implementation.name != "cpython":
        return Check("python", "fail", f"{sys.implementation.name} is not supported", "use CPython")
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return Check("python", "fail", f"{version} without the GIL", "use a build with the GIL, or set PYTHON_GIL=1")
    if not atomics.are_fast():
        advice = "install the version of the package atomics that shmsync was tested with"
        return Check("python", "warn", f"{version}; atomic operations are ten times slower than necessary", advice)
    return Check("python", "ok", f"{version}, shmsync {shmsync.__version__}")


def shared_memory() -> Check:
    """Check the file system of the segments."""
    what = "/dev/shm"  # noqa: S108
    if not _SHM.is_dir():
        return Check(what, "fail", "does not exist", "mount a tmpfs: mount -t tmpfs tmpfs /dev/shm")
    types = [line.split()[2] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == what]
    if not types or types[-1] not in {"tmpfs", "ramfs"}:
        advice = "mount a tmpfs there; otherwise values are written to disk"
        return Check(what, "warn", f"{types[-1] if types else 'a plain directory'}, not a tmpfs", advice)
    if os.statvfs(_SHM).f_flag & os.ST_RDONLY:
        return Check(what, "fail", "mounted read-only", f"mount -o remount,rw {what}")
    mode = stat.S_IMODE(_SHM.stat().st_mode)
    if not os.access(_SHM, os.W_OK | os.X_OK):
        return Check(what, "fail", f"mode {mode:04o}: this user cannot write to it", f"chmod 1777 {what}")
    if mode & 0o002 and not mode & stat.S_ISVTX:
        return Check(what, "warn", f"mode {mode:04o}: every user can remove every segment", f"chmod 1777 {what}")
    return Check(what, "ok", f"{types[-1]}, mode {mode:04o}")


def space() -> Check:
    """Check the size and the free space of /dev/shm."""
    status = os.statvfs(_SHM)
    size, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    found = f"{size_text(free)} of {size_text(size)} free"
    advice = "enlarge /dev/shm (docker run --shm-size=1g, mount -o remount,size=...), or remove names with shmsync rm"
    if size and free < _MIB:
        return Check("space", "fail", found, advice)
    if size and (free < size * _LOW_SPACE or size <= _DOCKER_SIZE):
        return Check("space", "warn", found, f"each name needs twice the size of its value; {advice}")
    return Check("space", "ok", found)


def kernel_locks() -> Check:
    """Try the kernel locks that detect dead processes."""
    name = f"/doctor-{os.getpid()}-{secrets.token_hex(4)}"
    with create_segment(name, _PAGE, 0o600) as first:
        try:
            with open_segment(name, writable=True) as second:
                locked = ofd_locks.try_lock(first.fd, 0)
                works = locked and not ofd_locks.try_lock(second.fd, 0) and ofd_locks.is_locked(second.fd, 0)
        finally:
            unlink_segment(name)
    if not works:
        advice = "use 64-bit Linux 3.15 or newer; a sandbox such as gVisor may not implement them"
        return Check("kernel locks", "fail", "open file description locks do not exclude each other", advice)
    return Check("kernel locks", "ok", "open file description locks work")


def futexes() -> Check:
    """Check the system calls that wait for the next version."""
    if not futex.AVAILABLE:
        advice = "allow futex in the seccomp filter of the sandbox; without it, wait() polls every 5 ms"
        return Check("futex", "warn", f"no futex (Linux {os.uname().release}, {os.uname().machine})", advice)
    if not futex.MANY_AVAILABLE:
        advice = "use Linux 5.16 or newer, or allow futex_waitv; without it, wait_async() polls every 5 ms"
        return Check("futex", "warn", f"futex, but no futex_waitv (Linux {os.uname().release})", advice)
    return Check("futex", "ok", "futex and futex_waitv")


# ----------------------------------------------------------------------------------------------------- the environment


def namespaces() -> Check:
    """Check whether this process runs in a container or in another PID namespace."""
    found = []
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        found.append("a container")
    if os.readlink("/proc/self/ns/pid") != _INIT_PID_NAMESPACE:  # noqa: PTH115 - the target is not a path
        found.append("its own PID namespace")
    if not found:
        return Check("namespaces", "ok", "not in a container")
    advice = "to share names with other containers, share /dev/shm: docker run --ipc=host, or --ipc=container:NAME"
    text = f"in {' and '.join(found)}; pids of processes elsewhere may differ"
    return Check("namespaces", "ok", text, advice)


def remove_ipc() -> Check:
    """Check whether systemd removes the segments of a user at logout."""
    what = "RemoveIPC"
    if not Path("/run/systemd/system").is_dir():
        return Check(what, "ok", "systemd is not running")
    if os.getuid() < _FIRST_USER:
        return Check(what, "ok", f"does not apply to system users (uid {os.getuid()})")
    if not is_ipc_removed(Path("/")):
        return Check(what, "ok", "RemoveIPC is off")
    advice = "set RemoveIPC=no in /etc/systemd/logind.conf, run as a system user, or use loginctl enable-linger"
    return Check(what, "warn", "systemd removes the segments of this user when their last session ends", advice)


def is_ipc_removed(root: Path) -> bool:
    """Return the value of RemoveIPC that systemd-logind reads from the files under a root directory; default: True."""
    removed = True
    folders = [root / part / "systemd" for part in ("usr/lib", "usr/local/lib", "run", "etc")]
    main = [folder / "logind.conf" for folder in folders if (folder / "logind.conf").is_file()][-1:]
    drop_ins = {path.name: path for folder in folders for path in folder.glob("logind.conf.d/*.conf")}
    for path in [*main, *(drop_ins[name] for name in sorted(drop_ins))]:
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read_string(path.read_text(errors="replace"))
        except (OSError, configparser.Error):
            continue
        value = parser.get("Login", "RemoveIPC", fallback=None)
        removed = value.strip().lower() in {"1", "yes", "y", "true", "t", "on"} if value else removed
    return removed


# ----------------------------------------------------------------------------------------------------------- the names


def permissions() -> Check:
    """Check which users can read and write the names."""
    infos = all_infos()
    unreadable = [info.name for info in infos if not _may_attach(info)]
    exposed = [info.name for info in infos if any(segment.mode & 0o002 for segment in _writer_only(info))]
    if exposed:
        advice = "any user can change what readers see: remove the name with shmsync rm and publish it again"
        return Check("permissions", "warn", f"every user can write to the values of {_list(exposed)}", advice)
    if unreadable:
        advice = "the writer sets the permissions: Writer(mode=0o640) for the group, 0o644 for all users"
        return Check("permissions", "ok", f"this user cannot read {_list(unreadable)}", advice)
    return Check("permissions", "ok", f"this user can read all names ({len(infos)})")


def _may_attach(info: shmsync.Info) -> bool:
    table = _SHM / f"{info.name}_readers"
    return info.readable and (info.isolated or os.access(table, os.R_OK | os.W_OK) or not table.exists())


def _writer_only(info: shmsync.Info) -> list[shmsync.SegmentInfo]:
    return [segment for segment in info.segments if info.isolated or not segment.segment.endswith("_readers")]


def damaged() -> Check:
    """Check for damaged segments."""
    infos = [info for info in all_infos() if info.problems and info.readable]
    if not infos:
        return Check("damaged", "ok", "no damaged or foreign segments")
    names = [info.name for info in infos]
    advice = "shmsync ls says what is wrong; start the writer, which may repair it, or use shmsync rm --force NAME"
    return Check("damaged", "warn", f"{count_text(len(names), 'name')}: {_list(names)}", advice)


def dead_writers() -> Check:
    """Check for names whose writer died."""
    names = [info.name for info in all_infos() if info.writer.state == "dead"]
    if names:
        advice = "readers still get the last version; restart the writers, or remove the names with shmsync prune"
        return Check("dead writers", "warn", f"{count_text(len(names), 'name')}: {_list(names)}", advice)
    return Check("dead writers", "ok", "none")


def leftovers() -> Check:
    """Check for segments that no name refers to."""
    names = orphans()
    if names:
        text = f"data segments or reader tables without a state segment: {_list(names)}"
        return Check("orphans", "warn", text, "remove them with shmsync prune")
    return Check("orphans", "ok", "no segments without a name")


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


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
    dead_writers,
    leftovers,
)
