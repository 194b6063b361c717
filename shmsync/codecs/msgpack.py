"""The msgpack codec, for plain Python values with arrays and large buffers among them.

Takes None, bool, int (64 bits, signed or unsigned), float, str, bytes, list and dict, nested up to 1,000 deep (400 if
there are large buffers in it), with any of the scalars or tuples of them as dict keys; and NumPy arrays of every dtype
but object. Everything reads back equal, but for these conversions: tuples that are not dict keys come back as lists,
bytearray and memoryview as bytes, NumPy's bools, integers, floats and strings as Python's, dataclasses and msgspec
Structs as dicts, subclasses as their base; bytes-like values of 4 KiB and more as read-only memoryviews of the segment,
arrays as read-only arrays on it. What msgpack cannot hold (larger ints, sets, datetimes, other objects) is refused.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. A value with arrays or large buffers is a frame (see
`_frame`): its body is the msgpack value, in which an extension of type 64 stands for each buffer. The extension's bytes
are the 7 bytes "shmsync" and a msgpack array: the number of the buffer; for a NumPy array also dtype, order, shape.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeGuard

from msgpack import ExtType, Packer, packb, unpackb

from shmsync.codecs import _frame, _numpy, raw
from shmsync.codecs._records import record_of
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shmsync.codecs._gather import Bytes, Payload

is_frame = _frame.is_frame

NAME = "msgpack"
ID = 0

LARGE = 4096
"""Bytes from which on a bytes-like value lies beside the body."""

EXTENSION = 64
_TAG = b"shmsync"  # so that an extension of the caller's own with this number is not taken for one of ours
_LONG_BINS = (b"\xc5", b"\xc6")  # how a bytes-like value of 256 bytes and more begins in msgpack

# What msgpack raises. Not all exceptions: a signal handler may raise one of its own in the middle.
_REFUSALS = (TypeError, ValueError, OverflowError, BufferError, RuntimeError)
_BYTES = (bytes, bytearray, memoryview)
_BUFFER = 256 * 1024  # what a Packer has from the beginning
_LEAVES = frozenset({int, float, str, bool, type(None)})


class _Large:
    """Stands in a value for a large bytes-like object: msgpack asks about it, as about arrays."""

    __slots__ = ("buffer",)

    def __init__(self, value: Any) -> None:
        self.buffer = raw.flat(value)


def encode(value: object) -> Payload:
    """Return the packed value, as a frame if there are arrays or large buffers in it.

    Raises:
        EntityWriteError: it holds something that msgpack cannot.
    """
    try:
        packed, buffers = _pack(_Large(value) if isinstance(value, _BYTES) and _is_large(value) else value)
        if len(packed) < LARGE and not buffers:
            return packed[1:]
        # Large bytes may be in there, and msgpack does not ask about them. If so, pack again.
        if len(packed) >= LARGE and any(mark in packed for mark in _LONG_BINS) and _holds_large(value):
            packed, buffers = _pack(_with_large_marked(value))
    except EntityWriteError:
        raise
    except _REFUSALS as error:
        raise EntityWriteError(
            f"cannot publish this value: {error}. The msgpack codec takes None, bool, 64-bit int, float, str, bytes, "
            "list, tuple, dict and NumPy arrays; convert the rest (a set to a list, a datetime to a timestamp), or "
            'publish a buffer with write_raw, or use codec="pickle" between processes that trust each other'
        ) from error
    body = memoryview(packed)[1:]
    return _frame.pack(body, buffers) if buffers else body


_idle: list[tuple[Packer, list[_frame.Buffer]]] = []
"""Packers with the list that their hook fills. To make them for each value costs 0.5 us, to pack 1 KiB 2.5 us."""


def _pack(value: object) -> tuple[bytes, Sequence[_frame.Buffer]]:
    """Return the value packed inside a list, and what lies beside it."""
    try:
        packer, buffers = _idle.pop()  # its own for each that packs at the same time: threads, and what a hook calls
    except IndexError:
        buffers = []
        packer = Packer(default=partial(_put_beside, buffers))
    # In a list, which `encode` takes off again: the packer goes one level deeper than the unpacker, so what passes with
    # a level to spare can be read back.
    packed: bytes = packer.pack([value])
    if buffers or len(packed) > _BUFFER:
        return packed, buffers
    _idle.append((packer, buffers))
    return packed, ()


def _put_beside(buffers: list[_frame.Buffer], value: object) -> object:
    """Do what msgpack asks for with a value that it does not know."""
    if isinstance(value, _Large):
        buffers.append(_frame.Buffer(value.buffer, len(value.buffer)))
        return _reference(len(buffers) - 1)
    if _numpy.is_array(value):
        dtype, order, shape = _numpy.describe(value)
        buffers.append(_numpy.buffer_of(value))
        return _reference(len(buffers) - 1, dtype, order, *shape)
    plain = _numpy.scalar_of(value)
    if plain is not value:
        return plain
    record = record_of(value)
    if record is None:
        raise TypeError(f"can not serialize {type(value).__name__!r} object")
    return _with_large_marked(record)


def _reference(*fields: int | str) -> ExtType:
    return ExtType(EXTENSION, _TAG + packb(fields))


def _is_large(value: object) -> bool:
    return isinstance(value, _BYTES) and memoryview(value).nbytes >= LARGE


def _holds_large(value: object) -> bool:
    """Tell whether there is a large bytes-like object in a value; level by level, mostly at the speed of C."""
    level = [value]
    while level:
        containers = filter(_is_container, level)
        inner: list[Iterable[object]] = [each.values() if isinstance(each, dict) else each for each in containers]
        if set(map(type, chain.from_iterable(inner))) <= _LEAVES:
            return False
        level = [item for item in chain.from_iterable(inner) if type(item) not in _LEAVES]
        if any(map(_is_large, level)):
            return True
    return False


def _with_large_marked(value: object) -> object:
    """Return the value with each large bytes-like object replaced by a `_Large`."""
    if _is_large(value):
        return _Large(value)
    if not _is_container(value):
        return value
    if isinstance(value, dict):
        return {key: _with_large_marked(item) for key, item in value.items()}
    return [_with_large_marked(item) for item in value]


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, (dict, list, tuple)) and not isinstance(value, ExtType)  # which is a named tuple


def decode(payload: memoryview) -> Any:
    """Return the unpacked value; large buffers and arrays in place.

    Raises:
        EntityReadError: not one whole msgpack value.
        MissingExtraError: there is an array in it, and NumPy is not installed.
    """
    if not is_frame(payload):
        return unpack(payload)
    body, buffers = _frame.unpack(payload)
    return unpack(body, partial(resolve, buffers))


def unpack(packed: Bytes, hook: Callable[[int, bytes], Any] = ExtType) -> Any:
    """Return a value that is no frame; it does not refer to the bytes.

    Args:
        packed: the msgpack value.
        hook: what to make of extensions.

    Raises:
        EntityReadError: not one whole msgpack value.
    """
    try:
        try:
            return unpackb(packed, strict_map_key=False, ext_hook=hook)
        except TypeError:
            # A tuple as a dict key arrives as a list, which cannot be one. Rare, so its slower way is only taken now.
            return unpackb(packed, strict_map_key=False, ext_hook=hook, object_pairs_hook=_with_tuple_keys)
    except EntityReadError:
        raise
    except _REFUSALS as error:
        raise EntityReadError(f"the published bytes are no msgpack value: {error}") from error


def resolve(buffers: list[memoryview], code: int, data: bytes | memoryview) -> Any:
    """Return what an extension inside a frame stands for."""
    data = bytes(data)
    if code != EXTENSION or not data.startswith(_TAG):
        return ExtType(code, data)
    try:
        number, description = _reference_in(data)
        view = buffers[number]
    except (*_REFUSALS, IndexError) as error:
        raise EntityReadError(f"the published frame is damaged: reference {data[:40]!r}") from error
    return _numpy.array_at(view, *description) if description else view


@lru_cache(maxsize=256)  # the next version mostly has the same arrays
def _reference_in(data: bytes) -> tuple[int, tuple[str, str, tuple[int, ...]] | None]:
    """Return the number of a buffer, and dtype, order and shape if it is an array."""
    number, *description = unpackb(data[len(_TAG) :])
    if not description:
        return number, None
    dtype, order, *shape = description
    return number, (dtype, order, tuple(shape))


def _with_tuple_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in pairs}


def _hashable(key: Any) -> Any:
    return tuple(map(_hashable, key)) if isinstance(key, list) else key
