"""Inspection of names from outside: their writer, readers and segments. For tools.

A result is a sample, not a consistent snapshot: writer and readers continue during the scan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import names_of
from shmsync._inspect.inspector import Inspector
from shmsync._shm.segment import segment_names
from shmsync.errors import InvalidArgumentError, StateReadError, not_found

if TYPE_CHECKING:
    from shmsync._info_types import Info, ReaderInfo

_SUFFIX = "_state"


def names() -> list[str]:
    """List all names on this host, sorted. Names that this process may not read are included.

    Returns:
        Every NAME for which a segment NAME_state exists.

    Raises:
        StateReadError: /dev/shm cannot be listed.

    Example:
        >>> from shmsync import Writer, names
        >>> with Writer("names-example") as writer:
        ...     _ = writer.write(1)
        ...     "names-example" in names()
        ...     writer.unlink()
        True
    """
    found = []
    try:
        listing = segment_names()
    except OSError as error:
        reason = f"cannot list /dev/shm: {error.strerror}; POSIX shared memory needs a tmpfs mounted there"
        raise StateReadError(error.errno or 0, reason) from error
    for segment in listing:
        name = segment.removesuffix(_SUFFIX)
        if name != segment and _is_valid(name):
            found.append(name)
    return sorted(found)


def info(name: str) -> Info:
    """Inspect a name. Takes no reader slot and changes nothing.

    Segments that are damaged, missing or not readable are not an error: `problems` of the result describes them.

    Args:
        name: the name to inspect.

    Returns:
        The state of the name, its writer, its readers and its segments.

    Raises:
        InvalidArgumentError: the name is not valid.
        StateNotFoundError: the name does not exist.

    Example:
        >>> from shmsync import Writer, info
        >>> with Writer("info-example") as writer:
        ...     _ = writer.write({"price": 9.5})
        ...     found = info("info-example")
        ...     writer.unlink()
        >>> found.seq, found.codec, found.writer.state, found.problems
        (1, 'msgpack', 'alive', ())
    """
    names_of(name)
    found = Inspector().inspect([name])
    if not found:
        raise not_found(name)
    return found[0]


def readers(name: str) -> list[ReaderInfo]:
    """List the readers of a name: the slots of its reader table that are in use.

    Args:
        name: the name to inspect.

    Returns:
        One entry for each slot in use, in the order of the slots.

    Raises:
        InvalidArgumentError: the name is not valid.
        StateNotFoundError: the name does not exist.
        StateReadError: the state segment or the reader table cannot be read; `info` returns the rest.

    Example:
        >>> from shmsync import Reader, Writer, readers
        >>> with Writer("readers-example") as writer, Reader("readers-example") as reader:
        ...     _ = writer.write("value")
        ...     with reader.read():
        ...         [(found.slot, found.state, found.counts) for found in readers("readers-example")]
        ...     writer.unlink()
        [(0, 'reading', (1, 0))]
    """
    found = info(name)
    if found.max_readers is None:
        raise StateReadError(0, "; ".join(found.problems) or f"{name}: nothing has been published yet")
    return list(found.readers)


def _is_valid(name: str) -> bool:
    try:
        names_of(name)
    except InvalidArgumentError:
        return False
    return True
