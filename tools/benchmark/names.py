"""The rows in which shmsync stands beside its peers: their names, and the numbers that some are drawn over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmark.figures import MIB

if TYPE_CHECKING:
    from benchmark.peers import Shape

# ------------------------------------------------------------------------------------ one writer, one reader, in turn

UNCHANGED, POLLED, IDLE, WRITE = "get(), unchanged", "get(), changed, polling", "get(), changed, idle", "write()"
METRICS = (UNCHANGED, POLLED, IDLE, WRITE)
VALUES: dict[Shape, str] = {
    "config": "W1 config",
    "array": "W2 array",
    "int map": "W3 int map",
    "str map": "W3 str map",
}


def row_of(shape: Shape, metric: str) -> str:
    """Return the name of a row of W1 to W3."""
    return f"{VALUES[shape]}: {metric.replace('get()', 'get() + look-up') if shape.endswith('map') else metric}"


# ---------------------------------------------------------------------------------------------------- at the same time

READER_COUNTS = (1, 2, 4)
READS = "W4 config: reads/s of all readers, writer at full speed"
WRITES = "W4 config: writes/s, readers at full speed"
ONE_READ = "W4 config: one get(), writer at full speed"
ONE_WRITE = "W4 config: one write, readers at full speed"
UNCHANGED_READS = "W4 config: reads/s of 4 readers, writer at 100 Hz"

BESIDE_VALUES: dict[str, tuple[Shape, int]] = {"config": ("config", 4096), "array of 8 MiB": ("array", 8 * MIB)}
"""Name, shape and size of what a pinned worker reads beside a writer."""

BESIDE = "W4 {}: one get() of a pinned worker, writer at full speed on the other core"
ALONE = "W4 {}: one get() of a pinned worker, no writer"
CHANGED_BESIDE = "W4 {}: one get() that found a change, writer at full speed on the other core"
CHANGED_PAUSED = "W4 {}: one get() that found a change, writer pausing between versions"

NOTICE = "W5 config: publish to woken, one publish each 5 ms"

KILLED_READER_WRITE = "W6 reader killed: longest write {} it"
KILLED_READER_READ = "W6 reader killed: longest read of another reader {} it"
FIRST_READ = "W6 writer killed: first whole read after it"
SUCCESSOR = "W6 writer killed: first publish of a successor"

POLL_SIZES = (8 * MIB, 64 * MIB)
POLL = "W7 array: one read while it is published non-stop"
POLL_CHANGED = "W7 array: one of these reads that returned another array"

# -------------------------------------------------------------------------------------------------------------- memory

SPACE_SIZE = 8 * MIB
SPACE_FREE = "Space: memory in use after 100 publishes of 8 MiB, nobody reads"
SPACE_HOLDING = "Space: the same, a reader has taken a value and holds it"
SPACE_STOPPED = "Space: the same, a reader is stopped inside `with read()`"
PRIVATE = "Memory: private (USS) of a reader, 64 MiB array"
PROPORTIONAL = "Memory: proportional (PSS) of a reader, 64 MiB array"

# ------------------------------------------------------------------------------------------------------------- scaling

ATTACHED = (1, 4, 16, 64, 256)
SCALED_SIZES = tuple(64 * 16**power for power in range(6))  # 64 bytes to 64 MiB
SCALED_WRITE = "Scaling: one write of a config, by attached readers"
SCALED_READ = "Scaling: one `with read()`, unchanged, by size of the raw value"
SCALED_GET = "Scaling: one get(), unchanged, by size of the raw value"
SCALED_CHANGED = "Scaling: one `with read()` after a change, by size of the raw value"
SCALED_WRITE_RAW = "Scaling: one write_raw, by size of the raw value"
