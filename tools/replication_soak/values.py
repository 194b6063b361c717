"""Values that contain their own number and a digest of all that they contain."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_HEADER = struct.Struct("=QQQQ")
_IDENTITY = struct.Struct("=QQQ")
_BLOCK = 4096
_COLUMNS = 8
_INLINE_LIMIT = 64 << 10


class TornError(Exception):
    """A value does not match its digest."""


class Identity(NamedTuple):
    """Which value it is.

    Attributes:
        tag: a random number for each incarnation of the publisher's name.
        seq: the sequence number that its publisher expected for it.
        number: a random number of its own.
    """

    tag: int
    seq: int
    number: int


def sizes(rng: random.Random, largest: int) -> Iterator[int]:
    """Yield sizes of payloads in bytes: most fit into an entry, some have many chunks. Each is repeated for a while."""
    while True:
        limit = min(rng.choices([256, 8 << 10, 200 << 10, 2 << 20, largest], [3, 4, 3, 3, 2])[0], largest)
        size = rng.randrange(max(_HEADER.size, limit // 2), limit + 1)
        yield from itertools.repeat(size, rng.randrange(1, 8 if limit <= _INLINE_LIMIT else 3))


def new_raw(rng: random.Random, identity: Identity, size: int) -> bytes:
    """Return a raw payload of a size in bytes."""
    content = (rng.randbytes(_BLOCK) * (size // _BLOCK + 1))[: size - _HEADER.size]
    return _HEADER.pack(*identity, _digest(identity, content)) + content


def new_table(rng: random.Random, identity: Identity, size: int) -> dict[str, Any]:
    """Return a table of a size in bytes, which updates can change."""
    count = max(1, size // (8 * _COLUMNS))
    rows = np.frombuffer(rng.randbytes(8 * _COLUMNS * count), np.uint64).reshape(count, _COLUMNS)
    return {**identity._asdict(), "digest": _digest(identity, rows), "rows": rows}


def change_table(draft: Any, rng: random.Random, identity: Identity) -> None:
    """Change rows of a table: single ones, or a range of them."""
    rows = draft["rows"]
    count = rng.randrange(1, max(2, len(rows) // 50))
    if rng.randrange(2):
        start = rng.randrange(len(rows) - count + 1)
        rows[start : start + count] = rng.getrandbits(63)
    else:
        selected = np.array(sorted(rng.sample(range(len(rows)), count)))
        rows[selected] = np.frombuffer(rng.randbytes(8 * _COLUMNS * count), np.uint64).reshape(count, _COLUMNS)
    draft.update(**identity._asdict(), digest=_digest(identity, np.asarray(rows)))


def identity_of(value: Any) -> Identity:
    """Return which value it is, without a check."""
    if isinstance(value, memoryview):
        return Identity(*_IDENTITY.unpack_from(value))
    return Identity(*(value[field] for field in Identity._fields))


def verified(value: Any) -> Identity:
    """Return which value it is.

    Raises:
        TornError: it does not match its digest.
    """
    identity = identity_of(value)
    content: Any
    if isinstance(value, memoryview):
        digest, content = _HEADER.unpack_from(value)[-1], value[_HEADER.size :]
    else:
        digest, content = value["digest"], np.asarray(value["rows"])
    if digest != _digest(identity, content):
        raise TornError(f"{identity}: its {content.nbytes} bytes do not match their digest")
    return identity


def _digest(identity: Identity, content: Any) -> int:
    hashed = xxhash.xxh3_64(_IDENTITY.pack(*identity))
    hashed.update(content)
    return hashed.intdigest()
