"""A name of shmsync's to measure with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmark.measure import new_name
from shmsync import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def channel(kind: str, **options: Any) -> Iterator[tuple[Writer, Reader[Any]]]:
    """Yield writer and reader of a name of its own."""
    name = new_name(kind)
    with Writer(name, grace_duration=0, **options) as writer, Reader(name) as reader:
        try:
            yield writer, reader
        finally:
            writer.unlink()
