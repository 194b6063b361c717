"""Payloads that carry their own sequence number, timestamp and digest."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash

from stress.settings import Violation
from stress.tables import verify_table

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from stress.removals import Removals

HEADER = struct.Struct("=QQQQ")
"""The first four of `Fields`."""
NUMBER = struct.Struct("=QQ")
"""The smallest payload: sequence number and epoch alone."""
_BLOCK = 4096
_SMALL_LIMIT = 1 << 18


class Fields(NamedTuple):
    """The parts of a value.

    Attributes:
        timestamp: when its write began, in nanoseconds; 0 if unknown.
        number: the sequence number that its writer expected; 0 if unknown.
        epoch: that of the removals when the writer began this incarnation.
        digest: digest of the content; 0 if unknown.
        content: the rest.
    """

    timestamp: int
    number: int
    epoch: int
    digest: int
    content: Any


def size_limits(rng: random.Random, largest: int) -> Iterator[int]:
    """Yield the size limit of each payload: mostly small, rarely as large as allowed.

    A limit is repeated for a while, so that many payloads fit into the existing segments and are written in place.
    """
    while True:
        limit = min(rng.choices([64, 4096, _SMALL_LIMIT, 1 << 22, largest], [300, 450, 200, 48, 2])[0], largest)
        yield from itertools.repeat(limit, rng.randrange(1, 60 if limit <= _SMALL_LIMIT else 4))


def random_content(rng: random.Random, limit: int) -> bytes:
    """Return content of a random size between half the limit and the limit."""
    size = rng.randrange(limit // 2, limit + 1)
    return (rng.randbytes(_BLOCK) * (size // _BLOCK + 1))[:size]


def digest_of(content: bytes | memoryview) -> int:
    """Return the digest that a payload with this content carries."""
    return xxhash.xxh3_64_intdigest(content)


def unpack(value: Any) -> Fields:
    """Return the parts of a value that a reader received."""
    if not isinstance(value, memoryview):
        return Fields(*(value[name] for name in Fields._fields))
    if len(value) == NUMBER.size:
        number, epoch = NUMBER.unpack(value)
        return Fields(0, number, epoch, 0, b"")
    timestamp, number, epoch, digest = HEADER.unpack_from(value)
    return Fields(timestamp, number, epoch, digest, value[HEADER.size :])


def verify(value: Any, seq: int, removals: Removals) -> int:
    """Check a value against its digest and the sequence number of its version; return its timestamp.

    The first write after a writer becomes the owner knows neither its sequence number nor a timestamp later than its
    predecessor's: both are 0. A removal from outside lets a writer start over at version 1, whatever it expected.

    Raises:
        Violation: the value is not what was published as this version.
    """
    timestamp, number, epoch, digest, content = unpack(value)
    if isinstance(value, dict) and "rows" in value:
        verify_table(value, seq, restarted=removals.permit_restart(epoch))
    if number not in {0, seq} and not removals.permit_restart(epoch):
        raise Violation(f"version {seq} carries number {number}")
    if digest and digest != digest_of(content):
        raise Violation(f"version {seq}: the content of {len(content)} bytes does not match its digest")
    return timestamp
