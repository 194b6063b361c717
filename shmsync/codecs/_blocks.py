"""Copies and comparisons of large buffers, in blocks.

While one call copies, no other thread of the process runs; and Python handles signals only between calls. So none of
the calls made here processes more than `BLOCK_SIZE` bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_SIZE = 1024 * 1024
"""Fits the cache, so hashing a block after copying it costs no memory access; processed in well under a millisecond."""


def blocks(size: int) -> Iterator[slice]:
    """Yield the slices that divide `size` bytes into blocks."""
    for start in range(0, size, BLOCK_SIZE):
        yield slice(start, min(start + BLOCK_SIZE, size))


def copy(target: memoryview, source: memoryview, then: Callable[[memoryview], object]) -> None:
    """Copy `source` into `target`, which has its size; call `then` with each block of the copy."""
    for block in blocks(len(target)):
        copied = target[block]
        copied[:] = source[block]
        then(copied)


def each(buffer: memoryview, function: Callable[[memoryview], object]) -> None:
    """Call a function with each block of a buffer."""
    for block in blocks(len(buffer)):
        function(buffer[block])


def to_bytes(buffer: memoryview) -> bytes:
    """Return a copy of a buffer."""
    if len(buffer) <= BLOCK_SIZE:
        return bytes(buffer)
    # It uses the memory of its argument, and `getvalue` returns that: nothing is copied twice, no memory is moved.
    copied = io.BytesIO(bytes(len(buffer)))
    each(buffer, copied.write)
    return copied.getvalue()


def encode(text: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
        UnicodeEncodeError: it contains surrogates.
    """
    if len(text) <= BLOCK_SIZE:
        return text.encode()
    encoded = io.BytesIO(bytes(len(text)))  # as above; it grows unless the text is ASCII
    for block in blocks(len(text)):
        encoded.write(text[block].encode())
    return encoded.getvalue()


def flatten(view: memoryview) -> memoryview:
    """Return a copy of a buffer that is not contiguous, as contiguous bytes."""
    items = len(view)
    if view.nbytes <= BLOCK_SIZE or not items:
        return memoryview(view.tobytes())
    copied = memoryview(bytearray(view.nbytes))
    item_size = view.nbytes // items
    for block in blocks(view.nbytes):
        start, stop = block.start // item_size, block.stop // item_size  # block by block, all items are covered
        copied[start * item_size : stop * item_size] = view[start:stop].tobytes()
    return copied


def are_equal(one: memoryview, other: memoryview) -> bool:
    """Return whether two buffers of bytes are equal."""
    return len(one) == len(other) and all(one[block] == other[block] for block in blocks(len(one)))
