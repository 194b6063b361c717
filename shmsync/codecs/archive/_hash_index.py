"""The hash table of an archived map: built once by the writer, looked up in place by every reader.

Separate chaining over a prime number of buckets. Integer keys are their own hash: `key % prime` is one short operation
in Python and one vectorised one in NumPy, and runs of ids, which are what such keys mostly are, fall into buckets of
their own. Chains rather than probing, because runs may overlap modulo the prime: a key then waits behind the few that
share its bucket, not behind whole runs.

Keys made to collide under one prime do not under another, and which primes are tried depends on the keys themselves.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from xxhash import xxh3_64_intdigest

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import LINK, damaged
from shmsync.codecs.archive._keys import canonical_bytes, plain_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shmsync.codecs.archive._columns import Texts

_LONGEST_CHAIN = 24  # a million keys at random have chains of up to 9 or 10
_TRIES = 8
_NUMPY_FROM = 500  # fewer keys are done before a vectorised loop has begun


class Table(NamedTuple):
    """A hash table: the newest item of each bucket, and the next one of each item; item number + 1, 0 for none."""

    buckets: int
    heads: Any
    links: Any


# ------------------------------------------------------------------------------------------------------------ writing


class Hashed(NamedTuple):
    """The keys of a map as they are hashed.

    Attributes:
        keys: numbers (an `array` or a NumPy array), or bytes.
        content: all of them in a row.
        numbered: whether they are numbers.
    """

    keys: Sequence[Any]
    content: Any
    numbered: bool = False


def hashed(keys: Sequence[Any]) -> Hashed:
    """Return keys that are neither all integers, nor all strings, nor all bytes."""
    raw = [canonical_bytes(key) for key in keys]
    return Hashed(raw, b"".join(raw))


def build(of: Hashed) -> Table:
    """Return the table of a map."""
    count = len(of.keys)
    numpy = _numpy.numpy_if_installed() if count >= _NUMPY_FROM else None
    table = longest = None
    for attempt in range(_TRIES):
        prime = _prime_from(count + count // 2 + xxh3_64_intdigest(of.content, attempt) % (count // 2 + 1))
        homes = _homes(of, prime, numpy)
        tried, chain = _chained(homes, prime, numpy)
        if longest is None or chain < longest:
            table, longest = tried, chain
        if chain <= _LONGEST_CHAIN:
            break
    assert table is not None
    return table


def _homes(of: Hashed, prime: int, numpy: Any) -> Any:
    if numpy is not None and of.numbered:
        return numpy.asarray(of.keys) % prime
    hashes = of.keys if of.numbered else map(xxh3_64_intdigest, of.keys, repeat(prime))
    if numpy is not None:
        return numpy.fromiter(hashes, numpy.uint64, len(of.keys)) % prime
    return [number % prime for number in hashes]


def _chained(homes: Any, prime: int, numpy: Any) -> tuple[Table, int]:
    """Return the table and its longest chain."""
    if numpy is not None:
        return _chained_at_once(homes, prime, numpy)
    heads, links = array("I", bytes(LINK * prime)), array("I", bytes(LINK * len(homes)))
    for item, home in enumerate(homes):
        links[item] = heads[home]
        heads[home] = item + 1
    return Table(prime, heads, links), max(Counter(homes).values())


def _chained_at_once(homes: Any, prime: int, numpy: Any) -> tuple[Table, int]:
    """Do the same with whole arrays: in each round, the newest item of each bucket that is left joins its chain."""
    last = numpy.zeros(prime, numpy.uint32)
    links = numpy.zeros(len(homes), numpy.uint32)
    left = numpy.arange(1, len(homes) + 1, dtype=numpy.uint32)
    heads = None
    rounds = 0
    while len(left):
        home = homes[left - 1]
        before = last[home]
        last[home] = left  # of several for one bucket, the last one stays
        joined = last[home] == left
        if heads is None:
            heads = last.copy()
        else:
            links[before[joined] - 1] = left[joined]
        left = left[~joined]
        rounds += 1
        if rounds > _LONGEST_CHAIN + len(homes) // 64:  # hopeless: give the rest up to the plain way
            return _chained(homes.tolist(), prime, None)
    return Table(prime, heads, links), rounds


def _prime_from(least: int) -> int:
    number = least | 1
    while any(number % divisor == 0 for divisor in range(3, int(number**0.5) + 1, 2)):
        number += 2
    return max(number, 3)


# ------------------------------------------------------------------------------------------------------------ reading


class Finder:
    """Finds keys in a column that has a table, whatever they are.

    Args:
        table: of the column.
        get: returns the key of an item.
    """

    __slots__ = ("_get", "_heads", "_links", "_prime")

    def __init__(self, table: Table, get: Callable[[int], Any]) -> None:
        self._prime, self._heads, self._links = table
        self._get = get

    def find(self, key: Any) -> int:
        """Return the item of a hashable key; -1 if it is not there."""
        key = plain_key(key)
        try:
            raw = canonical_bytes(key)
        except (TypeError, ValueError, OverflowError):  # nothing that could have been written
            return -1
        entry: int = self._heads[xxh3_64_intdigest(raw, self._prime) % self._prime]
        while entry:
            if self._get(entry - 1) == key:
                return entry - 1
            entry = self._after(entry)
        return -1

    def _after(self, entry: int) -> int:
        following: int = self._links[entry - 1]
        if following >= entry:
            raise damaged("a hash table goes in circles")
        return following


class NumberFinder(Finder):
    """Finds keys among integers."""

    __slots__ = ("_keys",)

    def __init__(self, table: Table, keys: memoryview) -> None:
        super().__init__(table, keys.__getitem__)
        self._keys = keys

    def find(self, key: Any) -> int:
        """Return the item of a hashable key; -1 if it is not there."""
        if type(key) is not int:
            key = plain_key(key)
            if isinstance(key, float) and key.is_integer():
                key = int(key)
            if not isinstance(key, int):
                return -1
        entry: int = self._heads[key % self._prime]
        while entry:
            if self._keys[entry - 1] == key:
                return entry - 1
            entry = self._after(entry)
        return -1


class TextFinder(Finder):
    """Finds keys among strings, or among bytes."""

    __slots__ = ("_data", "_ends", "_kind", "_length")

    def __init__(self, table: Table, keys: Texts) -> None:
        super().__init__(table, keys.get)
        self._kind: Any = keys.kind
        self._data = keys.data
        self._ends = keys.ends
        self._length = keys.length

    def find(self, key: Any) -> int:
        """Return the item of a hashable key; -1 if it is not there."""
        if type(key) is not self._kind:
            key = plain_key(key)
            if type(key) is not self._kind:
                return -1
        try:
            raw: bytes = key.encode() if self._kind is str else key
        except UnicodeEncodeError:  # a lone surrogate: the writer refuses those
            return -1
        ends, length = self._ends, self._length
        if ends is None and len(raw) != length:
            return -1
        entry: int = self._heads[xxh3_64_intdigest(raw, self._prime) % self._prime]
        while entry:
            end = length * entry if ends is None else ends[entry]
            start = end - length if ends is None else ends[entry - 1]
            if self._data[start:end] == raw:
                return entry - 1
            entry = self._after(entry)
        return -1
