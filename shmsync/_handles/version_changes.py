"""VersionChanges: what may differ between two versions of a value."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.errors import InvalidArgumentError

if TYPE_CHECKING:
    from shmsync._session.pinned import PinnedVersion
    from shmsync.codecs._changes import Changes


class VersionChanges:
    """What may differ between two versions, as `Snapshot.changes` returns it. It may contain more, never less.

    Attributes:
        since: sequence number of the older version.
        seq: sequence number of the newer one, that of the snapshot.

    Example:
        >>> import numpy as np
        >>> from shmsync import Reader, Writer
        >>> writer = Writer("doc-changes")
        >>> _ = writer.write(np.zeros((1000, 8)))
        >>> with writer.update() as draft:
        ...     draft[[3, 7]] = 1.0
        >>> with Reader("doc-changes") as reader, reader.read() as snapshot:
        ...     changes = snapshot.changes(since=1)
        ...     changes.rows(snapshot.value).tolist()
        [3, 7]
        >>> writer.unlink(); writer.close()
    """

    __slots__ = ("_address", "_changes", "_size", "seq", "since")

    def __init__(self, since: int, pinned: PinnedVersion, changes: Changes) -> None:
        view = pinned.view()
        self.since = since
        self.seq = pinned.seq
        self._changes = changes
        self._size = len(view)
        self._address: int | None = None
        numpy = _numpy.numpy_if_imported()
        if numpy is not None and len(view):
            self._address = numpy.frombuffer(view, "u1").__array_interface__["data"][0]

    def ranges(self) -> list[tuple[int, int]]:
        """Return the ranges of bytes of the payload: start and stop, ascending, disjoint."""
        return self._changes.ranges()

    def rows(self, array: Any) -> Any:
        """Return the numbers of the rows of an array in the value: a NumPy array of int64, ascending.

        Args:
            array: the value of the snapshot, or a part of it, as the snapshot returns it.

        Raises:
            InvalidArgumentError: it is not an array, not a part of the payload, or a slice of one with gaps.
        """
        if not _numpy.is_array(array) or not array.ndim:
            raise InvalidArgumentError(f"rows takes an array of the value, not {reprlib.repr(array)}")
        start = array.__array_interface__["data"][0] - (self._address or 0)
        if self._address is None or not 0 <= start <= start + array.nbytes <= self._size:
            raise InvalidArgumentError(
                "this array is not a part of the payload of the snapshot, but a copy, or from another version; "
                "take it from the value of the snapshot"
            )
        if array.flags.c_contiguous and array.size:
            return self._changes.rows_in(start, array.nbytes // len(array), len(array))
        if array.flags.f_contiguous:  # in Fortran order, the elements of a row are apart
            items = self._changes.rows_in(start, array.itemsize, array.size)
            return _numpy.distinct(items % len(array)) if array.size else items
        raise InvalidArgumentError("this array is a slice with gaps; pass the whole array")

    def keys(self, archived: Any) -> list[Any]:
        """Return the keys of a map whose values may differ, or that were added; not those that were removed.

        Args:
            archived: the value of the snapshot, or a part of it: a map whose values are numbers or arrays of one shape.

        Raises:
            InvalidArgumentError: it is not such a map, or not a part of the payload.
        """
        from shmsync.codecs.archive import ArchivedMap  # noqa: PLC0415 - not for arrays
        from shmsync.codecs.archive._rows import rows_of_map  # noqa: PLC0415 - likewise

        found = rows_of_map(archived) if isinstance(archived, ArchivedMap) else None
        if found is None:
            raise InvalidArgumentError(
                "keys takes an archived map whose values are numbers or arrays of one shape, not "
                f"{reprlib.repr(archived)}"
            )
        entries: Any = archived._entries
        indices = entries.indices
        return [entries.key(row) for row in self.rows(found.rows).tolist() if row in indices]

    def __bool__(self) -> bool:
        return self._changes.size > 0

    def __repr__(self) -> str:
        return f"<VersionChanges from {self.since} to {self.seq}, up to {self._changes.size:,} bytes>"
