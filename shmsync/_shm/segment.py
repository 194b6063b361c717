"""Named POSIX shared memory segments, their mappings and views of these: the only importer of posix_ipc and mmap.

Opening a segment raises builtins (FileNotFoundError, PermissionError, FileExistsError, OSError), which the callers
translate, because they know the purpose of the segment. Everything else here raises a ShmSyncError, so a caller that
does not expect an error cannot let a bare one pass.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import posix_ipc

from shmsync._shm import fork
from shmsync._shm.capacity import DIRECTORY, allocation_error, free_bytes, official, too_large
from shmsync._shm.ffi import BYTES, ffi, libc
from shmsync._util.os_errors import raised_as
from shmsync._util.weak import WeakRegistry
from shmsync.errors import DataWriteError, StateReadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

_STEP = 1 << 20  # bytes, allocated in about a millisecond
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000  # the same on all architectures that have futexes: see `futex`

_RENAMEAT2 = {"x86_64": 316, "AMD64": 316, "aarch64": 276, "riscv64": 276}  # renameat2(2), Linux 3.15
_AT_FDCWD = (1 << 64) - 100
_RENAME_EXCHANGE = 2

MemoryT = TypeVar("MemoryT", bound=mmap.mmap)


def _max_mappings() -> int:
    try:
        with open("/proc/sys/vm/max_map_count", "rb") as file:  # noqa: PTH123 - pathlib is slow to import
            limit = int(file.read())
    except (OSError, ValueError):
        limit = 65530  # the kernel's default
    return limit - limit // 4


_ADDRESS = ffi.typeof("uintptr_t")
_mmap = libc.mmap
_mapped: WeakRegistry[mmap.mmap] = WeakRegistry()
_MAX_MAPPINGS = _max_mappings()


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
        """Return size, inode and link count.

        Raises:
            StateReadError: the kernel refuses to tell.
        """
        with raised_as(StateReadError, f"inspect {self.name}"):
            return os.fstat(self.fd)

    def read(self, start: int, size: int) -> bytes:
        """Return a copy of a part of the segment; less of it beyond the end.

        Raises:
            StateReadError: the kernel refuses.
        """
        with raised_as(StateReadError, f"read {self.name}"):
            return os.pread(self.fd, size, start)

    def write(self, start: int, data: bytes) -> None:
        """Write bytes into memory that is allocated.

        Raises:
            DataWriteError: the kernel refuses.
        """
        with raised_as(DataWriteError, f"write {self.name}"):
            done = 0
            while done < len(data):
                done += os.pwrite(self.fd, memoryview(data)[done:], start + done)

    def set_mode(self, mode: int) -> None:
        """Set the permission bits, regardless of the umask.

        Raises:
            DataWriteError: the kernel refuses.
        """
        with raised_as(DataWriteError, f"give {self.name} mode {mode:#o}"):
            os.fchmod(self.fd, mode)

    def reserve(self, size: int) -> None:
        """Give an empty segment its size, and allocate the memory.

        Raises:
            CapacityError: not enough memory, or a limit forbids that much.
            DataWriteError: it failed for another reason.
        """
        try:
            self._allocate(size)
        except OverflowError:
            raise too_large(official(self.name), size, errno.ENOSPC) from None
        except OSError as error:
            if error.errno is None:  # raised by a signal handler
                raise
            raise allocation_error(official(self.name), size, error) from error

    def _allocate(self, size: int) -> None:
        if size > free_bytes(self.fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # before other programs run out of memory, too
        # ftruncate alone would succeed on a full file system, and the first store would raise SIGBUS. In steps: a
        # signal that arrives during one makes Linux before 6.17 undo it, and Python repeat it; so if one took longer
        # than the interval of a timer, it would never end. And Python runs signal handlers only between system calls.
        for at in range(0, size, _STEP):
            os.posix_fallocate(self.fd, at, min(_STEP, size - at))

    def map(self, *, writable: bool) -> mmap.mmap:
        """Map the whole segment.

        Raises:
            StateReadError: it is empty, or cannot be mapped.
        """
        size = self.status().st_size
        with raised_as(StateReadError, f"map {self.name}"):
            return _map(mmap.mmap, self, size, writable=writable)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _map(kind: type[MemoryT], segment: Segment, size: int, *, writable: bool) -> MemoryT:
    """Map a segment without a descriptor of its own.

    CPython's `mmap` duplicates the descriptor and keeps it as long as the mapping (3.13 can do without). So it gets an
    anonymous mapping, which takes no memory, and the segment is mapped over that.
    """
    if not size:
        raise ValueError("cannot map an empty segment")
    if len(_mapped) >= _MAX_MAPPINGS:  # beyond the kernel's limit, the interpreter itself would get no memory
        text = f"this process has mapped {len(_mapped):,} versions, and vm.max_map_count limits them; drop old values"
        raise OSError(errno.ENOMEM, text, segment.name)
    protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
    memory = kind(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE, prot=protection)
    address = ffi.cast(_ADDRESS, ffi.from_buffer(BYTES, memory))
    if _mmap(address, size, protection, mmap.MAP_SHARED | _MAP_FIXED, segment.fd, 0) != int(address):
        raise OSError(ffi.errno, os.strerror(ffi.errno), segment.name)
    _mapped.add(memory)
    return memory


def open_segment(name: str, *, writable: bool) -> Segment:
    """Open an existing segment. Never creates or changes one."""
    return _open(name, flags=0, writable=writable)


def create_empty_segment(name: str) -> Segment:
    """Create a segment of 0 bytes that only its owner may open.

    Raises:
        FileExistsError: the name is taken.
        DataWriteError: it cannot be created.
    """
    with raised_as(DataWriteError, f"create {official(name)}"):
        return _open(name, flags=posix_ipc.O_CREX, writable=True)


def create_segment(name: str, size: int, mode: int) -> Segment:
    """Create a segment of `size` bytes, zeroed, with its memory allocated.

    Raises:
        FileExistsError: the name is taken.
        CapacityError: not enough memory, or a limit forbids that much; nothing is left behind.
        DataWriteError: it failed for another reason; nothing is left behind.
    """
    segment = create_empty_segment(name)
    try:
        segment.set_mode(mode)
        segment.reserve(size)
    except BaseException:
        segment.close()
        with suppress(DataWriteError):  # the first error says more
            unlink_segment(name)
        raise
    return segment


def rename_segment(name: str, new_name: str) -> None:
    """Rename a segment; it replaces one that has the new name. Mappings of either stay valid.

    Raises:
        DataWriteError: it cannot be renamed.
    """
    with raised_as(DataWriteError, f"replace {new_name}"):
        try:
            os.rename(f"{DIRECTORY}{name}", f"{DIRECTORY}{new_name}")  # noqa: PTH104 - as in all of this module
        except PermissionError as error:
            raise _refused(new_name, error) from None


def exchange_segments(name: str, other: str) -> bool:
    """Exchange the names of two segments at once; return False if one does not exist, or the kernel has no such call.

    Raises:
        DataWriteError: the kernel refuses for another reason.
    """
    number = _RENAMEAT2.get(os.uname().machine)
    if number is None:
        return False
    paths = [ffi.from_buffer(BYTES, f"{DIRECTORY}{each}\0".encode()) for each in (name, other)]
    at, to = (int(ffi.cast(_ADDRESS, path)) for path in paths)
    while libc.syscall(number, _AT_FDCWD, at, _AT_FDCWD, to, _RENAME_EXCHANGE, 0):
        code = ffi.errno
        if code in {errno.ENOENT, errno.ENOSYS, errno.EINVAL, errno.EPERM}:  # EPERM: a sandbox
            return False
        if code != errno.EINTR:
            with raised_as(DataWriteError, f"replace {other}"):
                raise OSError(code, os.strerror(code), name)
    return True


def unlink_segment(name: str) -> bool:
    """Remove a segment name; return whether it existed. Mappings of the segment stay valid.

    Raises:
        DataWriteError: it cannot be removed.
    """
    with raised_as(DataWriteError, f"remove {name}"):
        try:
            # Not through posix_ipc, which stops all threads while the kernel frees the memory: 0.3 s for a GiB.
            os.unlink(f"{DIRECTORY}{name}")  # noqa: PTH108 - as in all of this module
        except FileNotFoundError:
            return False
        except PermissionError as error:
            raise _refused(name, error) from None
    return True


def _refused(name: str, error: PermissionError) -> PermissionError:
    """Return the error for a name that cannot be removed or replaced; it says whose it is, if it is another user's."""
    with suppress(StateReadError):
        status = status_of(name)
        if status is not None and status.st_uid != os.geteuid():
            text = f"{os.strerror(errno.EACCES)}: {access_of(name)}; remove it as its owner"
            return PermissionError(errno.EACCES, text)
    return error


def segment_names() -> list[str]:
    """Return the names of all segments on the host, of all programs, without the slash."""
    return os.listdir(DIRECTORY)  # noqa: PTH208 - only the names are needed


def status_of(name: str) -> os.stat_result | None:
    """Return size, inode and mode of a segment, even without permission to open it; None if it does not exist.

    Raises:
        StateReadError: the kernel refuses to tell.
    """
    try:
        with raised_as(StateReadError, f"inspect {name}"):
            return os.lstat(f"{DIRECTORY}{name}")
    except StateReadError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return None
        raise


def access_of(name: str) -> str:
    """Describe who may open a segment that this process may not open."""
    try:
        status = status_of(name)
    except StateReadError:
        status = None
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
    except (posix_ipc.Error, ValueError) as error:
        raise _builtin(error, name, creating=bool(flags)) from None
    except OSError as error:
        if type(error) is OSError and error.errno is None:  # posix_ipc: too many open files, here or on the system
            code = errno.ENFILE if "system" in str(error) else errno.EMFILE
            raise OSError(code, os.strerror(code), name) from error
        raise
    segment = opened[0]
    fork.descriptors.add(segment)
    if not flags and not stat.S_ISREG(segment.status().st_mode):
        segment.close()
        raise _foreign(name)
    return segment


def _builtin(error: Exception, name: str, *, creating: bool) -> OSError:
    """Return the builtin for an error of posix_ipc when it opens or creates a segment."""
    if isinstance(error, posix_ipc.PermissionsError):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    if isinstance(error, ValueError):
        is_too_long = "long" in str(error)
        return OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name) if is_too_long else _foreign(name)
    # It exists already, or does not exist: posix_ipc does not say which.
    if not creating:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    if not os.path.isdir(DIRECTORY):  # noqa: PTH112
        text = f"{DIRECTORY} does not exist; mount a tmpfs there for POSIX shared memory"
        return FileNotFoundError(errno.ENOENT, text, name)
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


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
        memory: the mapped memory; for a few bytes, its slices take half the time of a view.
    """

    __slots__ = ("generation", "index", "inode", "memory", "size")

    def __init__(self, segment: Segment, index: int, generation: int, *, writable: bool) -> None:
        self.index = index
        self.generation = generation
        status = segment.status()
        self.inode = status.st_ino
        self.size = status.st_size
        self.memory = _map(_Memory, segment, self.size, writable=writable)

    def copy(self, start: int, end: int) -> bytes:
        """Return a copy of a part of the segment; for a few bytes twice as fast as through a view."""
        return self.memory[start:end]

    def view(self, start: int = 0, end: int | None = None) -> memoryview:
        """Return a new view of a part of the segment; read-only if the mapping is."""
        return memoryview(self.memory)[start:end]
