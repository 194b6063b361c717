"""Weak references in a container that may change at any time.

Finalizers, weak-reference callbacks, signal handlers and other threads run between any two bytecode instructions, and
before Python 3.12 also in the middle of C code that allocates, as `tuple(container)` does. The rule for a container
that any of them changes, here and in `_core`:

- It is a dict with integer keys, changed by single C calls only: `container[key] = item`, `container.pop(key, None)`.
- To iterate over it, iterate over `container.copy()`: one C call, in which nothing else runs.
- What must happen once is decided by `pop`: of two threads that pop the same key, one gets the item.
"""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class WeakRegistry(Generic[T]):
    """Objects, as long as they are alive."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[T]] = {}

    def add(self, item: T) -> None:
        """Register an object; it is forgotten when it is destroyed."""
        reference = weakref.ref(item, self._forget)
        self._references[id(reference)] = reference

    def _forget(self, reference: weakref.ref[T]) -> None:
        self._references.pop(id(reference), None)

    def __len__(self) -> int:
        return len(self._references)

    def items(self) -> list[T]:
        """Return the objects that are alive."""
        found = [reference() for reference in self._references.copy().values()]
        return [item for item in found if item is not None]
