"""Linux: mount and PID namespaces, descendants of this process, memory of others."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

SHM = Path("/dev/shm")
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PRIVATE_SHM = "SHMSYNC_STRESS_PRIVATE"
"""Environment variable that is set in a mount namespace with its own /dev/shm."""
_MULTIPROCESSING_HELPERS = ("resource_tracker", "forkserver")

# ------------------------------------------------------------------------------------------------------------ /dev/shm


def has_private_shm() -> bool:
    """Return whether no other program uses this /dev/shm."""
    return _PRIVATE_SHM in os.environ


def run_with_private_shm(size: str, command: list[str]) -> int | None:
    """Run a command with its own /dev/shm; return its exit status, or None if mounting is not permitted."""
    mount = f"mount -t tmpfs -o size={size} tmpfs /dev/shm"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        return None
    wrapped = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
    return subprocess.run(wrapped, env={**os.environ, _PRIVATE_SHM: "1"}, check=False).returncode


def used_shm_mib() -> float:
    """Return how much of a private /dev/shm is in use; 0 if it is shared with other programs."""
    return round(shutil.disk_usage(SHM).used / (1 << 20), 1) if has_private_shm() else 0.0


# ----------------------------------------------------------------------------------------------------------- processes


def become_subreaper() -> None:
    """Become the parent of the orphans among our descendants, to wait for them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def wait_for_descendants(timeout: float) -> bool:
    """Wait until all children end, and the orphans of killed ones; return whether they did within the timeout."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        pids = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        if all(any(helper in _command_of(pid) for helper in _MULTIPROCESSING_HELPERS) for pid in pids):
            return True  # the helpers end with this process
        time.sleep(0.01)
    return False


def _command_of(pid: str) -> str:
    with suppress(OSError):
        return Path("/proc", pid, "cmdline").read_text()
    return ""


def pss_kib(pid: int) -> int:
    """Return the proportional set size of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def enter_pid_namespace() -> None:
    """Continue as process 1 of a new PID namespace, where the PIDs that the writer records have no meaning.

    Without the permission, continue in the current namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWPID):
        return
    read_end, write_end = os.pipe()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(write_end)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([read_end], [], [], 0)[0]:  # the parent was killed before the call of prctl
        os._exit(0)
    os.close(read_end)
