"""Which rows are drawn together, by the names that they have in the document, and the sizes of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark import names

if TYPE_CHECKING:
    from benchmark.peers import Shape

_CALLS = {"get(), nothing new": names.UNCHANGED, "get() after a change": names.POLLED, "write()": names.WRITE}


def calls(shape: Shape) -> dict[str, str]:
    """Return the rows of a workload, by what is called."""
    return {name: names.row_of(shape, metric) for name, metric in _CALLS.items()}


MEMORY_VALUE = 64 << 20

TAILS = {
    "Config of 1 KiB": (names.ONE_READ, 1),
    "Array of 8 MiB, changed reads": (names.POLL_CHANGED, 8 << 20),
}
"""By what is read: the row, and the x in it."""

BY_SIZE = {
    "unchanged get()": names.SCALED_GET,
    "unchanged read()": names.SCALED_READ,
    "changed read()": names.SCALED_CHANGED,
    "write_raw()": names.SCALED_WRITE_RAW,
}
