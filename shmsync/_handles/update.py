"""Update: the newest value, to be changed and published as the next version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from shmsync.codecs._drafts import check_supported, draft_in
from shmsync.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from types import TracebackType

    from typing_extensions import Self

    from shmsync._handles.reservation import OpenReservation
    from shmsync._types import WriteResult
    from shmsync.codecs._drafts import Draft


class UpdatingWriter(Protocol):
    """The interface that an Update needs from its writer."""

    name: str

    def _open_update(
        self, update: Update, initial: Any, grace_duration: float | timedelta | None
    ) -> tuple[OpenReservation, Draft]:
        """Prepare the next version as a copy of the newest one; return a token for `_close_update`, and the draft."""

    def _close_update(
        self, opened: OpenReservation | None, draft: Draft | None, *, publish: bool
    ) -> WriteResult | None:
        """Publish the draft, or discard it."""


class Update:
    """The context manager that `Writer.update` returns; its block changes the newest value.

    The draft mirrors the value. `draft[key]` is a part of it: an array or a container to change further, or a plain
    value. Arrays that are read from it are read-only, refer to the memory of the draft, and must not be used after the
    block. Nothing is visible to readers before the block ends. An exception publishes nothing.

    Attributes:
        result: the result of the write; None until it is published, and after an exception.

    Example:
        >>> import numpy as np
        >>> from shmsync import Reader, Writer
        >>> writer = Writer("doc-update")
        >>> _ = writer.write({"prices": np.zeros(1000), "at": "09:00"})
        >>> with writer.update() as draft:
        ...     draft["prices"][[3, 7]] = 1.08
        ...     draft["at"] = "09:01"
        >>> with Reader("doc-update") as reader:
        ...     reader.get()["prices"][:4].tolist(), reader.get()["at"]
        ([0.0, 0.0, 0.0, 1.08], '09:01')
        >>> writer.unlink(); writer.close()
    """

    def __init__(self, writer: UpdatingWriter, initial: Any, grace_duration: float | timedelta | None) -> None:
        self.result: WriteResult | None = None
        self._writer = writer
        self._initial = initial
        self._grace_duration = grace_duration
        self._opened: OpenReservation | None = None
        self._draft: Draft | None = None

    def _current(self) -> Draft:
        """Return the draft.

        Raises:
            ClosedError: outside the block.
        """
        if self._draft is None:
            raise ClosedError("a draft can be used inside the `with` block of its update only")
        return self._draft

    @property
    def value(self) -> Any:
        """The whole value, as `draft[key]` returns parts of it. Assign to it to replace the value.

        Raises:
            ClosedError: outside the block.
        """
        return self._current().root

    @value.setter
    def value(self, value: Any) -> None:
        self._current().replace(value)

    @property
    def buffer(self) -> Any:
        """The payload of a value that was written with `write_raw`: slices of it are read and assigned as bytes.

        Raises:
            InvalidArgumentError: the value is not raw.
            ClosedError: outside the block.
        """
        return self._current().buffer()

    def __enter__(self) -> Self:
        if self._opened is not None:
            raise ClosedError("this update is open already; call update again")
        self.result = None
        self._opened, self._draft = self._writer._open_update(self, self._initial, self._grace_duration)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        opened, draft = self._opened, self._draft
        self._opened = self._draft = None
        try:
            self.result = self._writer._close_update(opened, draft, publish=exc_type is None)
        finally:
            if draft is not None:
                draft.close()

    # For the writer, which does not import the drafts.

    _check_supported = staticmethod(check_supported)
    _begin = staticmethod(draft_in)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.value[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.value[key]

    def __contains__(self, key: object) -> bool:
        return key in self.value

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def update(self, *args: Any, **named: Any) -> None:
        """Assign to many keys of a value that is a map: see `DraftMap.update`."""
        self.value.update(*args, **named)

    def remove(self, keys: Any) -> None:
        """Remove many keys from a value that is a map: see `DraftMap.remove`."""
        self.value.remove(keys)

    def add(self, rows: Any, amount: Any) -> None:
        """Add to rows of a value that is an array: see `DraftArray.add`."""
        self.value.add(rows, amount)

    def __repr__(self) -> str:
        state = "published" if self.result else "open" if self._opened else "not open"
        return f"<Update of {self._writer.name!r}, {state}>"
