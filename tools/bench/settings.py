"""Row names, payload sizes and durations: what is measured, and for how long."""

from __future__ import annotations

from typing import NamedTuple

KIB, MIB = 1 << 10, 1 << 20
LARGE = 64 * MIB

UNCHANGED, POLLED, IDLE, WRITE = "get(), unchanged", "get(), changed, polling", "get(), changed, idle", "write()"
METRICS = (UNCHANGED, POLLED, IDLE, WRITE)
WORKLOADS = {"config": "W1 config", "array": "W2 array", "int map": "W3 int map", "str map": "W3 str map"}


def row_of(shape: str, metric: str) -> str:
    """Return the name of a row of W1 to W3."""
    return f"{WORKLOADS[shape]}: {metric.replace('get()', 'get() + lookup') if shape.endswith('map') else metric}"


READER_COUNTS = (1, 2, 4)
READS = "W4 config: reads/s of all readers, writer at full speed"
WRITES = "W4 config: writes/s, readers at full speed"
ONE_READ = "W4 config: one get(), writer at full speed"
ONE_WRITE = "W4 config: one write, readers at full speed"
UNCHANGED_READS = "W4 config: reads/s of 4 readers, writer at 100 Hz"
PINNED = {"config": "config", "array of 8 MiB": "array"}
"""What a reader that is pinned to a core reads: name and shape."""
BESIDE = "W4 {}: one get() of a pinned reader, writer at full speed on the other core"
ALONE = "W4 {}: one get() of a pinned reader, no writer"
CHANGED_BESIDE = "W4 {}: one get() that found a change, writer at full speed on the other core"
CHANGED_PAUSED = "W4 {}: one get() that found a change, writer pausing between versions"


def beside(value: str) -> tuple[str, ...]:
    """Return the names of the rows of a pinned reader."""
    return tuple(row.format(value) for row in (BESIDE, ALONE, CHANGED_BESIDE, CHANGED_PAUSED))


WAKE_LATENCY = "W5 config: wake-up latency, one publish every 5 ms"
READER_KILLED = tuple(
    f"W6 reader killed: longest {call} {when} the kill"
    for call in ("write", "read of another reader")
    for when in ("before", "after")
)
FIRST_READ = "W6 writer killed: first complete read after the kill"
NEXT_WRITER = "W6 writer killed: first publish by the next writer"
POLL_SIZES = (8 * MIB, 64 * MIB)
POLL = "W7 array: one read, writer at full speed"
POLL_CHANGED = "W7 array: one read that found a change, writer at full speed"

ROWS = 16 * KIB
"""Of an array of 64 MiB."""
UPDATED = {"int map": (1, 100, 1_000, 100_000, 1_000_000), "row map": (1, ROWS // 100, ROWS), "config": (1,)}
"""How many items of a map or rows of an array are changed at a time."""
POLLING = (1, 4)
"""Numbers of readers."""
_UPDATE = {
    "int map": "W8 map: {} {:,} of 1,000,000 int keys",
    "row map": "W8 array: {} {:,} of 16,384 rows",
    "config": "W8 config: {}",
}


def update_of(shape: str, count: int) -> str:
    """Return the name of the row of an update, which for a config is a write."""
    return _UPDATE[shape].format("write()" if shape == "config" else "update", count)


READ_AFTER = {("int map", 1_000), ("row map", 1)}
"""Updates after which the first read is shown."""


def first_read_of(shape: str, count: int) -> str:
    """Return the name of the row of the first read after an update."""
    return _UPDATE[shape].format("first get() + lookup after an update of", count)


def rows_of(shape: str) -> list[str]:
    """Return the names of all rows of a shape in W8."""
    counts = UPDATED[shape]
    reads = [first_read_of(shape, count) for count in counts if (shape, count) in READ_AFTER]
    return [*(update_of(shape, count) for count in counts), *reads]


SUSTAINED_RATE = 100
SUSTAINED_COUNT = 1000
HOLDING = (1, 10, 100, 1000)
"""How often each reader takes the newest value, which it holds until then: times a second."""
SUSTAINED = "W8 sustained: one update of 1,000 of 1,000,000 int keys, 100 a second, 4 readers that hold values"
SUSTAINED_MEMORY = "W8 sustained: memory in use during that"
SUSTAINED_SIZE = "W8 sustained: size of the value"

REPLICATED = "W9: publish 64 MiB, until a replica has it"
BYSTANDER = "W9: PING of another client, while 64 MiB are published"
UNDISTURBED = "W9: PING of another client, while nothing is published"
REPLICA_MEMORY = "W9: private memory of the replica, while it receives 64 MiB"
REPLICATED_SMALL = "W9: publish 1 KiB, until a replica has it"
REPLICATED_UPDATE = "W9: update 1,000 of 1,000,000 rows, until a replica has it"
LOCAL_UPDATE = "W9: the same update, until it is visible on its own host"
UPDATE_TRAFFIC = "W9: bytes that the server receives and sends for it"
REPLICATED_TO_MANY = "W9: publish 64 MiB, until all replicas of one machine have it"
REPLICA_COUNTS = (1, 4, 16)
REPLICATION = (
    *(REPLICATED, BYSTANDER, UNDISTURBED, REPLICA_MEMORY, REPLICATED_SMALL),
    *(REPLICATED_UPDATE, LOCAL_UPDATE, UPDATE_TRAFFIC, REPLICATED_TO_MANY),
)

SPACE_SIZE = 8 * MIB
SPACE_FREE = "Space: memory in use after 100 publishes of 8 MiB, no readers"
SPACE_HOLDING = "Space: the same, one reader holds a value"
SPACE_STOPPED = "Space: the same, one reader is stopped inside `with read()`"
PRIVATE = "Memory: private (USS) of a reader, 64 MiB array"
PROPORTIONAL = "Memory: proportional (PSS) of a reader, 64 MiB array"
ATTACHED = (1, 4, 16, 64, 256, 1000)
SCALED_SIZES = tuple(64 * 16**power for power in range(6))  # 64 bytes to 64 MiB
SCALED_WRITE = "Scaling: one write of a config, by attached readers"
SCALED_ATTACH = "Scaling: open a reader and read once, by attached readers"
SCALED_READ = "Scaling: one `with read()`, unchanged, by size of the raw value"
SCALED_GET = "Scaling: one get(), unchanged, by size of the raw value"
SCALED_CHANGED = "Scaling: one `with read()` after a change, by size of the raw value"
SCALED_WRITE_RAW = "Scaling: one write_raw, by size of the raw value"

TIMEOUT = 2.0
"""Seconds after which a call that has not returned counts as blocked."""
START_DELAY = 0.05
"""Seconds between the request to processes to start and the agreed start time."""
WARM_UP = 0.15
"""Seconds at the start of a measurement that do not count: segments are mapped and caches are filled."""


class Settings(NamedTuple):
    """Durations in seconds, and counts, of one run."""

    load: float = 1.0  # one measurement with readers at full speed
    readers: tuple[int, ...] = READER_COUNTS
    turn: float = 0.5  # one of the alternating measurements with and without a writer
    turns: int = 3
    poll: float = 1.0  # reads of arrays beside a writer at full speed
    sizes: tuple[int, ...] = POLL_SIZES  # of these arrays, in bytes
    wake_latency: float = 2.0
    sustained: float = 60.0
    reader_kills: int = 10
    writer_kills: int = 3
    publishing: float = 10.0  # limit for the publishes before the memory in use is read
    holders: tuple[int, ...] = (1, 4, 16)  # numbers of readers that hold a value at the same time
    rounds: int = 9


FULL = Settings()
QUICK = Settings(
    load=0.2,
    readers=READER_COUNTS[::2],
    turn=0.3,
    turns=2,
    poll=0.2,
    sizes=POLL_SIZES[1:],
    wake_latency=0.7,
    sustained=10.0,
    reader_kills=2,
    writer_kills=1,
    publishing=1.5,  # one write of shmsync waits one second for a reader that is stopped
    holders=(1, 2),
    rounds=3,
)
