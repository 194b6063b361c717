"""How much memory the file system of the segments has left, and the errors to raise when it is not enough."""

from __future__ import annotations

import errno
import math
import os
import resource

from shmsync._util.os_errors import explain, raised_as
from shmsync.errors import CapacityError, DataWriteError

DIRECTORY = "/dev/shm"  # noqa: S108 - where Linux keeps them


def allocation_error(segment: str, size: int, error: OSError) -> OSError:
    """Return the error to raise when the kernel has not allocated `size` bytes."""
    code = error.errno or errno.EIO
    if code in {errno.ENOSPC, errno.EFBIG, errno.ENOMEM, errno.EDQUOT}:
        return too_large(segment, size, code)
    return DataWriteError(code, f"cannot allocate {size:,} bytes for {segment}: {explain(error)}")


def too_large(segment: str, size: int, code: int) -> CapacityError:
    """Return the error for a limit that `size` bytes exceed: which one, and how to raise it."""
    text = f"{os.strerror(code)}: {segment} needs {size:,} bytes and "
    if code == errno.EFBIG:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        text += f"this process may write files of {limit:,} bytes only (RLIMIT_FSIZE); raise that limit (ulimit -f, "
        text += "LimitFSIZE=) or publish less"
    elif code == errno.ENOMEM:
        text += "the memory limit of this container or cgroup is reached; raise it or publish less"
    elif code == errno.EDQUOT:
        text += f"the quota of user {os.geteuid()} on {DIRECTORY} is reached; raise it or publish less"
    else:
        text += f"{DIRECTORY} has {_free_space()} left; enlarge {DIRECTORY} (docker run --shm-size=...) or "
        text += "publish less"
    return CapacityError(code, text)


def free_bytes(path: str | int = DIRECTORY) -> float:
    """Return how many bytes the file system of the segments has left; infinity if it has no limit.

    Raises:
        DataWriteError: the kernel refuses to tell.
    """
    with raised_as(DataWriteError, f"inspect {DIRECTORY}"):
        status = os.statvfs(path)
    return status.f_bavail * status.f_frsize if status.f_blocks else math.inf


def _free_space() -> str:
    try:
        status = os.statvfs(DIRECTORY)
    except OSError:
        return "an unknown number of bytes"
    return f"{status.f_bavail * status.f_frsize:,} of {status.f_blocks * status.f_frsize:,} bytes"


def official(name: str) -> str:
    """Return the later name of a data segment that is not complete yet, for messages."""
    official, _, _ = name.rpartition(".")
    return official if official.endswith(("_data_0", "_data_1")) else name
