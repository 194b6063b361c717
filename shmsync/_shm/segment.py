"""Named POSIX shared memory segments, their mappings and views of these: the only importer of posix_ipc and mmap.

Errors leave here as builtins (FileNotFoundError, PermissionError, FileExistsError, OSError) or as CapacityError; the
callers know what the segment meant and raise the error for that.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from typing import TYPE_CHECKING

import posix_ipc

from shmsync._core.retention import Lending
from shmsync._shm.ffi import BYTES, ffi
from shmsync.errors import no_space

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock

    from typing_extensions import Self

_DIRECTORY = "/dev/shm"  # noqa: S108 - where Linux keeps them


class Segment(posix_ipc.SharedMemory):  # type: ignore[misc]
    """An open segment. Each has an open file description of its own, so that it can carry a lock.

    Opened and closed in C: a signal handler's exception finds either no descriptor, or one that goes with its object.
    """

    __slots__ = ()

    name: str
    fd: int
    close: Callable[[], None] = posix_ipc.SharedMemory.close_fd  # mappings stay; idempotent
    __del__ = close

    def status(self) -> os.stat_result:
        """Return size, inode and link count."""
        return os.fstat(self.fd)

    def reserve(self, size: int) -> None:
        """Give an empty segment its size and its memory.

        Raises:
            CapacityError: not enough memory.
        """
        try:
            # ftruncate alone would succeed on a full file system, and the first store would die of SIGBUS.
            os.posix_fallocate(self.fd, 0, size)
        except OverflowError:
            raise no_space(self.name, size) from None
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EFBIG, errno.ENOMEM}:
                raise no_space(self.name, size) from None
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
    """Open an existing segment. Never creates, resizes or changes anything."""
    return _open(name, flags=0, writable=writable)


def create_segment(name: str, size: int, mode: int) -> Segment:
    """Create a segment of `size` bytes, zeroed and with its memory reserved.

    Raises:
        FileExistsError: the name is taken.
        CapacityError: not enough memory; nothing is left behind.
    """
    segment = _open(name, flags=posix_ipc.O_CREX, writable=True)
    try:
        os.fchmod(segment.fd, mode)  # whatever the umask says
        segment.reserve(size)
    except BaseException:
        segment.close()
        unlink_segment(name)
        raise
    return segment


def unlink_segment(name: str) -> bool:
    """Remove a name; tell whether it was there. Mappings of it stay whole."""
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
    """Return the names of all segments on the host, whoever made them, without the slash."""
    return os.listdir(_DIRECTORY)  # noqa: PTH208 - names are all that is wanted


def status_of(name: str) -> os.stat_result | None:
    """Return size, inode and mode of a segment, which takes no permission on it; None if it is not there."""
    try:
        return os.lstat(f"{_DIRECTORY}{name}")
    except OSError:
        return None


def access_of(name: str) -> str:
    """Say who may open a segment that this process may not."""
    status = status_of(name)
    if status is None:
        return "its mode is unknown"
    return f"its mode is {stat.S_IMODE(status.st_mode):#o}, of user {status.st_uid} and group {status.st_gid}"


def _open(name: str, *, flags: int, writable: bool) -> Segment:
    try:
        # Anybody may put a FIFO there, and opening one would wait for somebody who opens its other end.
        segment = Segment(name, flags | os.O_NONBLOCK, mode=0o600, size=0, read_only=not writable)
    except posix_ipc.ExistentialError:  # it is there, or it is not: posix_ipc does not say which
        if not flags:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None
        if not os.path.isdir(_DIRECTORY):  # noqa: PTH112
            text = f"there is no {_DIRECTORY}; POSIX shared memory needs a tmpfs there"
            raise FileNotFoundError(errno.ENOENT, text, name) from None
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
    except posix_ipc.PermissionsError:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name) from None
    except ValueError:
        raise _foreign(name) from None
    except OSError as error:
        if error.errno is None:  # too many open files: it says so in words only
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), name) from error
        raise OSError(error.errno, error.strerror, name) from error
    if not stat.S_ISREG(segment.status().st_mode):
        segment.close()
        raise _foreign(name)
    return segment


def _foreign(name: str) -> OSError:
    return OSError(errno.EINVAL, "it is no shared memory but a directory, a FIFO or the like", name)


class Mapping:
    """A mapped data segment.

    Attributes:
        generation: which inode of this data segment it is.
        index: which data segment.
        inode, size: of the segment, when it was mapped.
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
        """Write bytes; for few of them twice as quick as through a view."""
        self._memory[at : at + len(data)] = data

    def copy(self, start: int, end: int) -> bytes:
        """Return a copy of a part of the segment; likewise."""
        return self._memory[start:end]

    def view(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a new view of a part of the segment; read-only if the mapping is."""
        return memoryview(self._memory)[start:end]


class _Memory(mmap.mmap):
    """Mapped memory that carries the account of what is lent out of it."""

    lending: Lending


class LendingMapping(Mapping):
    """A mapping from which readers hand out views; it knows whether some are alive.

    Args:
        segment, index, generation: see `Mapping`.
        lock: of the reader.

    Attributes:
        lending: what is lent out of the inode. The memory refers to it, too.
    """

    __slots__ = ("lending",)

    def __init__(self, segment: Segment, index: int, generation: int, lock: RLock) -> None:
        super().__init__(segment, index, generation, writable=False)
        self.lending = self._memory.lending = Lending(index, generation, lock)

    def lend(self, start: int, end: int) -> memoryview:
        """Return a read-only view to be handed out. Call while counted in."""
        # Views of a mapping refer to it directly, and a mapping cannot tell one reference from another. So they are
        # made from an object of their own between the two, which goes with the last view and everything made from it.
        lender = ffi.buffer(ffi.from_buffer(BYTES, self._memory))
        self.lending.lend(lender)
        return memoryview(lender).toreadonly()[start:end]
