"""Compression of chunks by Zstandard, each for itself. Needs the extra `zstd`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.replication._entry import DamagedError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_LEVEL = 1  # the fastest of those that are always there


def _library() -> Any:
    return import_optional("zstandard", "zstd", 'compression="zstd"')


class Compressor:
    """Compresses chunks.

    Raises:
        MissingExtraError: zstandard is not installed.
    """

    def __init__(self) -> None:
        self._compress = _library().ZstdCompressor(level=_LEVEL).compress

    def shorter(self, chunk: memoryview) -> Buffer:
        """Return the compressed chunk, if that is shorter; else the chunk itself."""
        compressed: bytes = self._compress(chunk)
        return compressed if len(compressed) < len(chunk) else chunk


def decompressed(chunk: bytes, size: int) -> bytes:
    """Return a chunk of `size` bytes that `Compressor.shorter` has returned.

    Raises:
        DamagedError: it is not valid, or has another size.
        MissingExtraError: zstandard is not installed.
    """
    if len(chunk) >= size:
        return chunk
    library = _library()
    try:
        found = library.frame_content_size(chunk)
        if found != size:  # before memory is allocated for it
            raise DamagedError(f"one of its chunks has {found:,} bytes, not {size:,}")
        result: bytes = library.ZstdDecompressor().decompress(chunk, max_output_size=size)
    except library.ZstdError as error:
        raise DamagedError(f"one of its chunks cannot be decompressed: {error}") from None
    return result
