"""Named POSIX shared memory segments, their mappings and views of these: the only importer of posix_ipc and mmap.

Errors are raised as builtins (FileNotFoundError, PermissionError, FileExistsError, OSError) or as CapacityError. The
callers, which know the purpose of the segment, translate them.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import stat
from typing import TYPE_CHECKING

import posix_ipc

from shmsync._shm import fork
from shmsync.errors import CapacityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_DIRECTORY = "/dev/shm"  # noqa: S108 - where Linux keeps them


class Segment(posix_ipc.SharedMemory):  # type: ignore[misc]
    """An open segment, with an open file description of its own, so that it can carry a lock.

    Opened and closed in C: an exception from a signal handler finds either no descriptor, or one that is closed with
    this object. Closed in a forked child, see `_open`.
    """

    __slots__ = ("__weakref__",)

    name: str
    fd: int
    close: Callable[[], None] = posix_ipc.SharedMemory.close_fd  # mappings stay; idempotent
    __del__ = close

    def status(self) -> os.stat_result:
        """Return size, inode and link count."""
        return os.fstat(self.fd)

    def reserve(self, size: int) -> None:
        """Give an empty segment its size, and allocate the memory.

        Raises:
            CapacityError: not enough memory.
        """
        try:
            # ftruncate alone would succeed on a full file system, and the first store would raise SIGBUS.
            os.posix_fallocate(self.fd, 0, size)
        except OverflowError:
            raise _no_space(self.name, size) from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EFBIG, errno.ENOMEM}:
                raise _no_space(self.name, size) from None
            raise

    def map(self, *, writable: bool) -> mmap.mmap:
        """Map the whole segment. Raises ValueError if it is empty."""
        return mmap.mmap(self.fd, self.status().st_size, prot=_protection(writable=writable))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _protection(*, writable: bool) -> int:
    return mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ


def open_segment(name: str, *, writable: bool) -> Segment:
    """Open an existing segment. Never creates or changes one."""
    return _open(name, flags=0, writable=writable)


def create_segment(name: str, size: int, mode: int) -> Segment:
    """Create a segment of `size` bytes, zeroed, with its memory allocated.

    Raises:
        FileExistsError: the name is taken.
        CapacityError: not enough memory; nothing is left behind.
    """
    segment = _open(name, flags=posix_ipc.O_CREX, writable=True)
    try:
        os.fchmod(segment.fd, mode)  # regardless of the umask
        segment.reserve(size)
    except BaseException:
        segment.close()
        unlink_segment(name)
        raise
    return segment


def unlink_segment(name: str) -> bool:
    """Remove a segment name; return whether it existed. Mappings of the segment stay valid."""
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    except posix_ipc.PermissionsError as error:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name) from error
    except OSError as error:  # a directory, a read-only file system
        raise OSError(error.errno, error.strerror, name) from error
    return True


def segment_names() -> list[str]:
    """Return the names of all segments on the host, of all programs, without the slash."""
    return os.listdir(_DIRECTORY)  # noqa: PTH208 - only the names are needed


def status_of(name: str) -> os.stat_result | None:
    """Return size, inode and mode of a segment, even without permission to open it; None if it does not exist."""
    try:
        return os.lstat(f"{_DIRECTORY}{name}")
    except OSError:
        return None


def access_of(name: str) -> str:
    """Describe who may open a segment that this process may not open."""
    status = status_of(name)
    if status is None:
        return "its mode is unknown"
    return f"its mode is {stat.S_IMODE(status.st_mode):#o}, its owner user {status.st_uid} and group {status.st_gid}"


class _Opened(list[Segment]):
    """The place of a segment that is being opened."""

    __slots__ = ("__weakref__",)

    def close(self) -> None:
        """Close it in a forked child."""
        for segment in self:
            segment.close()


def _open(name: str, *, flags: int, writable: bool) -> Segment:
    # A child must not keep a descriptor that only a local variable of another thread of its parent knows: it may carry
    # a lock. So the place for the segment is registered first, and the segment opened and put there in one C call.
    opened = _Opened()
    fork.descriptors.add(opened)
    try:
        # Any user may create a FIFO there, and opening one would block until another process opens its other end.
        opened.extend(itertools.starmap(Segment, ((name, flags | os.O_NONBLOCK, 0o600, 0, not writable),)))
    except posix_ipc.ExistentialError:  # exists already, or does not exist: posix_ipc does not say which
        if not flags:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        if not os.path.isdir(_DIRECTORY):  # noqa: PTH112
            text = f"{_DIRECTORY} does not exist; mount a tmpfs there for POSIX shared memory"
            raise FileNotFoundError(errno.ENOENT, text, name) from None
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
    except posix_ipc.PermissionsError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name) from None
    except ValueError:
        raise _foreign(name) from None
    except OSError as error:
        if error.errno is None:  # too many open files: posix_ipc raises this without an errno
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name) from error
        raise OSError(error.errno, error.strerror, name) from error
    segment = opened[0]
    fork.descriptors.add(segment)
    if not stat.S_ISREG(segment.status().st_mode):
        segment.close()
        raise _foreign(name)
    return segment


def _no_space(segment: str, size: int) -> CapacityError:
    return CapacityError(
        errno.ENOSPC,
        f"{os.strerror(errno.ENOSPC)}: {segment} needs {size:,} bytes and {_DIRECTORY} has {_free_space()} left; "
        f"enlarge {_DIRECTORY} (docker run --shm-size=...) or publish less",
    )


def _free_space() -> str:
    try:
        status = os.statvfs(_DIRECTORY)
    except OSError:
        return "an unknown number of bytes"
    return f"{status.f_bavail * status.f_frsize:,} of {status.f_blocks * status.f_frsize:,} bytes"


def _foreign(name: str) -> OSError:
    return OSError(
        errno.EINVAL,
        "not a shared memory segment but another kind of file, such as a directory or a FIFO; remove it",
        name,
    )


class _Memory(mmap.mmap):
    """Mapped memory. `companion` lives as long as the memory, and so as long as any view of it."""

    companion: object


class Mapping:
    """A mapped data segment.

    Attributes:
        generation: generation of the mapped inode.
        index: index of the data segment, 0 or 1.
        inode, size: inode number and size in bytes of the segment when it was mapped.
    """

    __slots__ = ("_memory", "generation", "index", "inode", "size")

    def __init__(self, segment: Segment, index: int, generation: int, *, writable: bool) -> None:
        self.index = index
        self.generation = generation
        status = segment.status()
        self.inode = status.st_ino
        self.size = status.st_size
        self._memory = _Memory(segment.fd, self.size, prot=_protection(writable=writable))

    def put(self, at: int, data: bytes) -> None:
        """Write bytes; for a few of them twice as fast as through a view."""
        self._memory[at : at + len(data)] = data

    def copy(self, start: int, end: int) -> bytes:
        """Return a copy of a part of the segment; for a few bytes twice as fast as through a view."""
        return self._memory[start:end]

    def view(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a new view of a part of the segment; read-only if the mapping is."""
        return memoryview(self._memory)[start:end]
