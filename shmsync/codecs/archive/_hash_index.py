"""The hash table of an archived map: built by the writer, and read in place by every reader.

Separate chaining over a prime number of buckets. Integer keys are their own hash: `key % prime` is a single operation
in Python and a vectorized one in NumPy, and runs of consecutive ids, the most common integer keys, fall into distinct
buckets. Chaining rather than probing, because runs may overlap modulo the prime: with chaining, a lookup passes only
the few keys that share its bucket; with probing, it would pass whole runs.

Measured against it: a power of two of slots, probed linearly from a mixed hash, with 8 bits of the hash beside each
entry number or in its highest bits. Prototypes of both, a million keys looked up at random, on 2 busy cores of an AMD
EPYC (Python 3.11, no NumPy); the times as shares of those of this table, medians of paired repeats, hits and misses:

    keys                            C              Python
    random integers     0.8 to 0.9, 0.7 to 1.0    1.2, 1.0
    runs of integers    1.5 to 1.8, 0.7 to 0.8    not measured
    strings             0.7, 0.3 to 0.4           0.8, 0.7

So it is better for strings, but slower where integers are found: in Python, and among runs of ids. It takes 8 to 16
bytes for each entry, according to how far their number is above a power of two; this table takes 10 to 12.

Updates change the chains of a map with a capacity: see `_chain_edit`.

The primes that are tried depend on the keys themselves, because keys chosen to collide under one prime do not collide
under another.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from xxhash import xxh3_64_intdigest

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import LINK_SIZE, damaged
from shmsync.codecs.archive._keys import canonical_bytes, plain_key
from shmsync.codecs.archive._packed_keys import PACK_FROM, PackedKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmsync.codecs.archive._binary_columns import VarBinary
    from shmsync.codecs.archive._columns import Column, Numbers

MAX_CHAIN = 24
"""How many keys of a chain are few: a million random keys have chains of up to 9 or 10."""

_MAX_ATTEMPTS = 8
_MAX_I64 = (1 << 63) - 1
_VECTORIZED_UNTIL = 1 << 31  # an entry and its bucket fit into 64 bits


class HashTable(NamedTuple):
    """A hash table. Heads and links are entry index + 1, or 0 for none.

    Attributes:
        bucket_count: a prime.
        heads: the newest entry of each bucket.
        links: for each entry, the next one in its chain.
    """

    bucket_count: int
    heads: Any
    links: Any


# ------------------------------------------------------------------------------------------------------------ building


class HashedKeys(NamedTuple):
    """The keys of a map in the form in which they are hashed.

    Attributes:
        keys: integers (an `array` or a NumPy array), a list of bytes, or PackedKeys.
        content: the bytes of all keys, concatenated.
        are_integers: whether the keys are integers, and therefore their own hashes.
    """

    keys: Sequence[Any] | PackedKeys
    content: Any
    are_integers: bool = False


def hashed_keys(keys: Sequence[Any]) -> HashedKeys:
    """Return keys of mixed types, or of types other than int, str and bytes, in their hashed form."""
    canonical = [canonical_bytes(key) for key in keys]
    return HashedKeys(canonical, b"".join(canonical))


def build(hashed: HashedKeys, capacity: int = 0) -> HashTable:
    """Return the hash table of a map: the first with short chains, else the best of those tried.

    Args:
        hashed: its keys.
        capacity: how many entries the buckets are for, if more than there are keys.
    """
    count = len(hashed.keys)
    numpy = _numpy.numpy_if_installed() if PACK_FROM <= count < _VECTORIZED_UNTIL else None
    best = shortest = None
    for attempt in range(_MAX_ATTEMPTS):
        prime = bucket_count(hashed.content, max(count, capacity), attempt)
        table, longest_chain = _chain(bucket_indices(hashed, prime, numpy), prime, numpy)
        if shortest is None or longest_chain < shortest:
            best, shortest = table, longest_chain
        if longest_chain <= MAX_CHAIN:
            break
    assert best is not None
    return best


def bucket_count(content: Any, count: int, attempt: int = 0) -> int:
    """Return how many buckets a table of `count` keys with this content is given, at first or in a later attempt."""
    return _prime_from(count + count // 2 + xxh3_64_intdigest(content, attempt) % (count // 2 + 1))


def bucket_indices(hashed: HashedKeys, prime: int, numpy: Any) -> Any:
    """Return the bucket of each key."""
    if numpy is not None and hashed.are_integers:
        return numpy.asarray(hashed.keys) % prime
    if isinstance(hashed.keys, PackedKeys):
        return hashed.keys.hashes(prime) % prime
    hashes = hashed.keys if hashed.are_integers else map(xxh3_64_intdigest, hashed.keys, repeat(prime))
    if numpy is not None:
        return numpy.fromiter(hashes, numpy.uint64, len(hashed.keys)) % prime
    return [hash_ % prime for hash_ in hashes]


def _chain(buckets: Any, prime: int, numpy: Any) -> tuple[HashTable, int]:
    """Return the table and the length of its longest chain, given the bucket of each key."""
    if numpy is not None:
        return _chain_vectorized(buckets, prime, numpy)
    heads, links = array("I", bytes(LINK_SIZE * prime)), array("I", bytes(LINK_SIZE * len(buckets)))
    for entry, bucket in enumerate(buckets):
        links[entry] = heads[bucket]
        heads[bucket] = entry + 1
    return HashTable(prime, heads, links), max(Counter(buckets).values(), default=0)


def _chain_vectorized(buckets: Any, prime: int, numpy: Any) -> tuple[HashTable, int]:
    """Build the same table with array operations."""
    links_to = numpy.arange(1, len(buckets) + 1, dtype=numpy.uint32)
    heads = numpy.zeros(prime, numpy.uint32)
    heads[buckets] = links_to  # of several entries for one bucket, the last assignment wins
    links = numpy.zeros(len(buckets), numpy.uint32)
    others = numpy.flatnonzero(heads[buckets] != links_to).astype(numpy.uint64)
    if not len(others):
        return HashTable(prime, heads, links), 1
    # The others by bucket, so that each follows its successor in the chain. Each with its bucket is one integer: these
    # are sorted much faster than indices.
    shift = len(buckets).bit_length()
    others |= buckets[others].astype(numpy.uint64) << shift
    others.sort()
    bucket, entry = others >> shift, (others & ((1 << shift) - 1)).astype(numpy.uint32)
    is_last = numpy.concatenate((bucket[1:] != bucket[:-1], [True]))  # of those with its bucket
    ends = numpy.flatnonzero(is_last)
    links[entry[1:]] = numpy.where(is_last[:-1], 0, links_to[entry[:-1]])
    links[heads[bucket[ends]] - 1] = links_to[entry[ends]]
    return HashTable(prime, heads, links), 1 + int(numpy.diff(ends, prepend=-1).max())


def _prime_from(minimum: int) -> int:
    """Return the smallest odd prime that is not less than `minimum`."""
    candidate = minimum | 1
    while any(candidate % divisor == 0 for divisor in range(3, int(candidate**0.5) + 1, 2)):
        candidate += 2
    return max(candidate, 3)


# ----------------------------------------------------------------------------------------------------------- looking up


class _Chains:
    """A hash table in an archive.

    The subclasses are all made of the number of buckets, of the table (first the heads, then the links), and of the
    column of keys.
    """

    __slots__ = ("_heads", "_links", "_prime")

    _links: memoryview

    def _next(self, link: int) -> int:
        following: int = self._links[link - 1]
        if following >= link:
            raise damaged("a hash table contains a cycle")
        return following


class KeyIndex(_Chains):
    """Looks up keys of any type in the hash table of a map."""

    __slots__ = ("_get",)

    def __init__(self, buckets: int, table: memoryview, keys: Column) -> None:
        self._prime = buckets
        self._heads = table[:buckets]
        self._links = table[buckets:]
        self._get = keys.key_getter()

    def find(self, key: Any) -> int:
        """Return the entry of a key; -1 if the map does not contain it.

        Raises:
            TypeError: the key is not hashable.
        """
        key = plain_key(key)
        try:
            canonical = canonical_bytes(key)
        except (TypeError, ValueError, OverflowError):  # a key that an archive cannot contain
            return -1
        link: int = self._heads[xxh3_64_intdigest(canonical, self._prime) % self._prime]
        while link:
            if self._get(link - 1) == key:
                return link - 1
            link = self._next(link)
        return -1


class IntegerKeyIndex(_Chains):
    """Looks up keys among integers."""

    __slots__ = ("_keys",)

    def __init__(self, buckets: int, table: memoryview, keys: Numbers) -> None:
        self._prime = buckets
        self._heads = table[:buckets]
        self._links = table[buckets:]
        self._keys = keys.view

    def find(self, key: Any) -> int:
        """Return the entry of a key; -1 if the map does not contain it."""
        if type(key) is not int:
            key = plain_key(key)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if not isinstance(key, int):
                return -1
        link: int = self._heads[key % self._prime]
        while link:
            if self._keys[link - 1] == key:
                return link - 1
            link = self._next(link)
        return -1

    def find_many(self, numpy: Any, keys: Any) -> Any:
        """Return the entries of an array of integers, as an array of int64; -1 for those that the map does not contain.

        All chains are followed together: a step for the longest of them, not for each key.
        """
        heads, links = numpy.frombuffer(self._heads, numpy.uint32), numpy.frombuffer(self._links, numpy.uint32)
        known = numpy.frombuffer(self._keys, numpy.int64 if self._keys.format == "q" else numpy.uint64)
        keys = keys.astype(numpy.int64 if keys.dtype.kind == "i" else numpy.uint64)
        entries = numpy.full(len(keys), -1, numpy.int64)
        left = numpy.arange(len(keys))
        if keys.dtype != known.dtype:  # neither contains what the other one cannot
            left = numpy.flatnonzero(keys <= numpy.uint64(_MAX_I64) if keys.dtype == numpy.uint64 else keys >= 0)
        at = heads[keys[left] % self._prime].astype(numpy.int64)
        keys = keys.astype(known.dtype)
        while True:
            is_inside = (at > 0) & (at <= len(links))
            left, at = left[is_inside], at[is_inside]
            if not len(left):
                return entries
            is_found = known[at - 1] == keys[left]
            entries[left[is_found]] = at[is_found] - 1
            left, at = left[~is_found], at[~is_found]
            following = links[at - 1].astype(numpy.int64)
            if (following >= at).any():
                raise damaged("a hash table contains a cycle")
            at = following


class BinaryKeyIndex(_Chains):
    """Looks up keys among strings, or among bytes."""

    __slots__ = ("_data", "_length", "_offsets", "_type")

    def __init__(self, buckets: int, table: memoryview, keys: VarBinary) -> None:
        self._prime = buckets
        self._heads = table[:buckets]
        self._links = table[buckets:]
        self._type: Any = keys.type
        self._data = keys.data
        self._offsets = keys.offsets
        self._length = keys.length

    def find(self, key: Any) -> int:
        """Return the entry of a key; -1 if the map does not contain it."""
        if type(key) is not self._type:
            key = plain_key(key)
            if type(key) is not self._type:
                return -1
        try:
            encoded: bytes = key.encode() if self._type is str else key
        except UnicodeEncodeError:  # a lone surrogate, which the writer rejects
            return -1
        offsets, length = self._offsets, self._length
        if offsets is None and len(encoded) != length:
            return -1
        link: int = self._heads[xxh3_64_intdigest(encoded, self._prime) % self._prime]
        while link:
            end = length * link if offsets is None else offsets[link]
            start = end - length if offsets is None else offsets[link - 1]
            if self._data[start:end] == encoded:
                return link - 1
            link = self._next(link)
        return -1


class BinaryViewIndex(_Chains):
    """Looks up keys among strings, or among bytes, that are at any place in a buffer.

    Args:
        buckets: the number of buckets.
        table: the table.
        keys: the keys, with `type`, `data` and `offsets`: the start and end of each.
    """

    __slots__ = ("_data", "_spans", "_type")

    def __init__(self, buckets: int, table: memoryview, keys: Any) -> None:
        self._prime = buckets
        self._heads = table[:buckets]
        self._links = table[buckets:]
        self._type: Any = keys.type
        self._data = keys.data
        self._spans = keys.offsets

    def find(self, key: Any) -> int:
        """Return the entry of a key; -1 if the map does not contain it."""
        if type(key) is not self._type:
            key = plain_key(key)
            if type(key) is not self._type:
                return -1
        try:
            encoded: bytes = key.encode() if self._type is str else key
        except UnicodeEncodeError:  # a lone surrogate, which the writer rejects
            return -1
        link: int = self._heads[xxh3_64_intdigest(encoded, self._prime) % self._prime]
        while link:
            if self._data[self._spans[2 * link - 2] : self._spans[2 * link - 1]] == encoded:
                return link - 1
            link = self._next(link)
        return -1
