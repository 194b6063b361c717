"""Change the chains of a hash table, for many entries at once.

A removed entry is unlinked from its chain, and the last entry of the map, which takes its place, is linked at its new
index. The alternatives belong to open addressing: tombstones, which make lookups slower until the table is built again,
and moving back the entries that follow. With chains, neither is needed, and a lookup costs the same after any number of
changes. No chain grows beyond `_hash_index.MAX_CHAIN`: see `MutableArrayMap`.

Along a chain, entries descend: readers rely on that to end a lookup in a damaged table. So the chains of the buckets
concerned are collected, changed and written again in this order; what stays the same is not written. The work is that
of the changed entries and the few others in their buckets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync.codecs import _numpy
from shmsync.codecs.archive._format import damaged

if TYPE_CHECKING:
    from collections.abc import Callable


class Chains(NamedTuple):
    """The chains of some buckets.

    Attributes:
        buckets: the buckets, distinct.
        owners: for each entry in their chains, the index of its bucket in `buckets`.
        entries: these entries, in any order.
    """

    buckets: Any
    owners: Any
    entries: Any

    def longest(self) -> int:
        """Return the length of the longest chain."""
        return int(_numpy.require_numpy().bincount(self.owners).max()) if len(self.owners) else 0

    def with_entries(self, buckets: Any, entries: Any) -> Chains:
        """Return these chains with further entries.

        Args:
            buckets: the bucket of each of them, which is one of these chains.
            entries: the entries.
        """
        numpy = _numpy.require_numpy()
        owners = numpy.searchsorted(self.buckets, buckets)
        return Chains(
            self.buckets, numpy.concatenate((self.owners, owners)), numpy.concatenate((self.entries, entries))
        )

    def replaced(self, entries: Any, others: Any) -> Chains:
        """Return these chains with entries replaced by others, or without those whose replacement is -1.

        Args:
            entries: the entries, ascending.
            others: the replacement of each.
        """
        numpy = _numpy.require_numpy()
        if not len(entries):
            return self
        at = numpy.searchsorted(entries, self.entries).clip(max=len(entries) - 1)
        changed = numpy.where(entries[at] == self.entries, others[at], self.entries)
        is_kept = changed >= 0
        return Chains(self.buckets, self.owners[is_kept], changed[is_kept])


def chains_of(table: Any, bucket_count: int, buckets: Any, count: int) -> Chains:
    """Return the chains of some buckets.

    Args:
        table: heads and links.
        bucket_count: how many of its items are heads.
        buckets: the buckets, ascending and distinct.
        count: how many entries the map has.

    Raises:
        EntityReadError: the table is damaged.
    """
    numpy = _numpy.require_numpy()
    links = table[bucket_count:]
    owners, at = numpy.arange(len(buckets)), table[buckets].astype(numpy.int64)
    all_owners, all_entries = [owners[:0]], [at[:0]]
    while True:
        owners, at = owners[at > 0], at[at > 0]
        if not len(at):
            return Chains(buckets, numpy.concatenate(all_owners), numpy.concatenate(all_entries))
        if at.max() > count:
            raise damaged("a hash table has a link beyond its map")
        all_owners.append(owners)
        all_entries.append(at - 1)
        following = links[at - 1].astype(numpy.int64)
        if (following >= at).any():
            raise damaged("a hash table contains a cycle")
        at = following


def write_chains(table: Any, bucket_count: int, chains: Chains, write: Callable[[Any, Any], None]) -> None:
    """Write chains to a table, as far as they differ from what it contains.

    Args:
        table: heads and links.
        bucket_count: how many of its items are heads.
        chains: the chains.
        write: assigns to items of the table: is called with their indices and values.
    """
    numpy = _numpy.require_numpy()
    order = numpy.lexsort((-chains.entries, chains.owners))
    owners, links = chains.owners[order], chains.entries[order] + 1
    heads, following = numpy.zeros(len(chains.buckets), numpy.int64), numpy.zeros(len(links), numpy.int64)
    is_same = owners[1:] == owners[:-1]  # an entry is in the chain of the one before it
    following[:-1][is_same] = links[1:][is_same]
    is_first = numpy.ones(len(links), bool)
    is_first[1:] = ~is_same
    heads[owners[is_first]] = links[is_first]
    items = numpy.concatenate((chains.buckets, links + (bucket_count - 1)))
    values = numpy.concatenate((heads, following))
    is_changed = table[items] != values
    write(items[is_changed], values[is_changed])
