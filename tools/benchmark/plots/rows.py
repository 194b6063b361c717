"""The rows that are drawn, by the names that they have in the document, and the sizes of their values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.comparisons import POLLED, UNCHANGED, WRITE, row_of

if TYPE_CHECKING:
    from benchmark.peers import Shape

_CALLS = {"get(), nothing new": UNCHANGED, "get() after a change": POLLED, "write()": WRITE}


def calls(shape: Shape) -> dict[str, str]:
    """Return the rows of a workload, by what is called."""
    return {name: row_of(shape, metric) for name, metric in _CALLS.items()}


PRIVATE = "Memory: private (USS) of a reader, 64 MiB array"
PROPORTIONAL = "Memory: proportional (PSS) of a reader, 64 MiB array"
MEMORY_VALUE = 64 << 20

SPACE_FREE = "Space: memory in use after 100 publishes of 8 MiB, nobody reads"
SPACE_HELD = "Space: the same, a reader has taken a value and holds it"
SPACE_VALUE = 8 << 20

THROUGHPUT = "W4 config: reads/s of all readers, writer at full speed"
TAILS = {
    "Config of 1 KiB": ("W4 config: one get(), writer at full speed", 1),
    "Array of 8 MiB, changed reads": ("W7 array: one of these reads that returned another array", 8 << 20),
}
"""By what is read: the row, and the x in it."""

BY_READERS = "Scaling: one write of a config, by attached readers"
BY_SIZE = {
    "unchanged get()": "Scaling: one get(), unchanged, by size of the raw value",
    "unchanged read()": "Scaling: one `with read()`, unchanged, by size of the raw value",
    "changed read()": "Scaling: one `with read()` after a change, by size of the raw value",
    "write_raw()": "Scaling: one write_raw, by size of the raw value",
}
