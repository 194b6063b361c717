"""The msgpack codec, for plain Python values with arrays and large buffers among them.

Supports None, bool, int (64 bits, signed or unsigned), float, str, bytes, list and dict, nested up to 1,000 levels deep
(400 if the value contains large buffers), with any of the scalars or tuples of them as dict keys; and NumPy arrays of
every dtype but object. Values read back equal, with these conversions: tuples other than dict keys become lists;
bytearray and memoryview become bytes; NumPy bools, integers, floats and strings become Python's; dataclasses and
msgspec Structs become dicts; instances of subclasses become instances of the base type; bytes-like values of 4 KiB and
more become read-only memoryviews of the segment, and arrays become read-only arrays on it. Other values (larger ints,
sets, datetimes, other objects) are rejected.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. A value with arrays or large buffers is a frame (see
`_frame`). Its body is the msgpack value, with an extension of type 64 in place of each buffer. The data of the
extension is the 7 bytes "shmsync" and a msgpack array: the index of the buffer, and for a NumPy array also its dtype,
order and shape.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeGuard

from msgpack import ExtType, Packer, packb, unpackb

from shmsync.codecs import _frame, _numpy, raw
from shmsync.codecs._records import fields_of
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from shmsync.codecs._gather import Bytes, Payload

NAME = "msgpack"
ID = 0

is_frame = _frame.is_frame

OUT_OF_BAND_FROM = 4096
"""Bytes-like values of at least this many bytes are stored out of band."""

EXTENSION = 64
_TAG = b"shmsync"  # distinguishes our extensions from the caller's own of the same type
_LARGE_BIN_TYPES = (b"\xc5", b"\xc6")  # first byte of bin 16 and bin 32: bytes-like values of 256 bytes and more

# The exceptions of msgpack. Not Exception: a signal handler may raise its own exception during a call.
_ERRORS = (TypeError, ValueError, OverflowError, BufferError, RuntimeError)
_BYTES_LIKE = (bytes, bytearray, memoryview)
_PACKER_BUFFER_SIZE = 256 * 1024  # initial size of a Packer's buffer, in bytes
_SCALARS = frozenset({int, float, str, bool, type(None)})


class _LargeBuffer:
    """Placeholder for a large bytes-like object. msgpack passes it to `_default`, as it does arrays."""

    __slots__ = ("buffer",)

    def __init__(self, value: Any) -> None:
        self.buffer = raw.flat(value)


def encode(value: object) -> Payload:
    """Return the packed value, as a frame if it contains arrays or large buffers.

    Raises:
        EntityWriteError: msgpack does not support the value or something in it.
    """
    try:
        packed, buffers = _pack(_LargeBuffer(value) if isinstance(value, _BYTES_LIKE) and _is_large(value) else value)
        if len(packed) < OUT_OF_BAND_FROM and not buffers:
            return packed[1:]
        # msgpack does not call `_default` for bytes. If the value may contain large ones, replace them and pack again.
        if (
            len(packed) >= OUT_OF_BAND_FROM
            and any(byte in packed for byte in _LARGE_BIN_TYPES)
            and _contains_large(value)
        ):
            packed, buffers = _pack(_wrap_large(value))
    except EntityWriteError:
        raise
    except _ERRORS as error:
        raise EntityWriteError(
            f'cannot publish this value: {_text(error)}. codec="msgpack" supports None, bool, 64-bit int, float, str, '
            "bytes, list, tuple, dict and NumPy arrays, nested up to 1,000 levels; convert other values (a set to a "
            "list, a datetime to a number, a larger int to a str), publish a buffer with write_raw, or use "
            'codec="pickle" between processes that trust each other'
        ) from error
    body = memoryview(packed)[1:]
    return _frame.pack(body, buffers) if buffers else body


_packer_pool: list[tuple[Packer, list[_frame.Buffer]]] = []
"""Idle packers, each with the list that `_default` appends to. Creating one takes 0.5 us; packing 1 KiB, 2.5 us."""


def _pack(value: object) -> tuple[bytes, Sequence[_frame.Buffer]]:
    """Return the value packed inside a list, and its out-of-band buffers."""
    try:
        packer, buffers = _packer_pool.pop()  # never shared: other threads and nested calls may be packing
    except IndexError:
        buffers = []
        packer = Packer(default=partial(_default, buffers))
    # In a list, whose first byte `encode` strips: the packer allows one more level of nesting than the unpacker, so a
    # value that packs inside a list is certain to unpack.
    packed: bytes = packer.pack([value])
    if buffers or len(packed) > _PACKER_BUFFER_SIZE:
        return packed, buffers
    _packer_pool.append((packer, buffers))
    return packed, ()


def _default(buffers: list[_frame.Buffer], value: object) -> object:
    """Replace a value of a type that msgpack does not support."""
    if isinstance(value, _LargeBuffer):
        buffers.append(_frame.Buffer(value.buffer, len(value.buffer)))
        return _reference(len(buffers) - 1)
    if _numpy.is_array(value):
        dtype, order, shape = _numpy.describe(value)
        buffers.append(_numpy.buffer_of(value))
        return _reference(len(buffers) - 1, dtype, order, *shape)
    plain = _numpy.to_python_scalar(value)
    if plain is not value:
        return plain
    fields = fields_of(value)
    if fields is None:
        raise TypeError(f"cannot serialize {type(value).__name__!r} object")
    return _wrap_large(fields)


def _reference(*fields: int | str) -> ExtType:
    return ExtType(EXTENSION, _TAG + packb(fields))


def _is_large(value: object) -> bool:
    return isinstance(value, _BYTES_LIKE) and memoryview(value).nbytes >= OUT_OF_BAND_FROM


def _contains_large(value: object) -> bool:
    """Return whether a value contains a large bytes-like object. Breadth-first, so that most of the work runs in C."""
    level = [value]
    while level:
        containers = filter(_is_container, level)
        inner: list[Iterable[object]] = [each.values() if isinstance(each, dict) else each for each in containers]
        if set(map(type, chain.from_iterable(inner))) <= _SCALARS:
            return False
        level = [item for item in chain.from_iterable(inner) if type(item) not in _SCALARS]
        if any(map(_is_large, level)):
            return True
    return False


def _wrap_large(value: object) -> object:
    """Return a copy of the value with each large bytes-like object wrapped in a `_LargeBuffer`."""
    if _is_large(value):
        return _LargeBuffer(value)
    if not _is_container(value):
        return value
    if isinstance(value, dict):
        return {key: _wrap_large(item) for key, item in value.items()}
    return [_wrap_large(item) for item in value]


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, (dict, list, tuple)) and not isinstance(value, ExtType)  # an ExtType is a named tuple


def decode(payload: memoryview, exposed: list[memoryview] | None = None) -> Any:
    """Return the value, with large buffers and arrays in place.

    Args:
        payload: the encoded value.
        exposed: the memoryviews in the value are appended to it.

    Raises:
        EntityReadError: the payload is not a valid msgpack value or frame.
        MissingExtraError: the value contains an array, and NumPy is not installed.
    """
    if not is_frame(payload):
        return unpack(payload)
    body, buffers = _frame.unpack(payload)
    return unpack(body, partial(resolve_extension, buffers, exposed=exposed))


def unpack(packed: Bytes, ext_hook: Callable[[int, bytes], Any] = ExtType) -> Any:
    """Return the value of a bare msgpack value, or of the body of a frame.

    Args:
        packed: the msgpack value; the result does not refer to it.
        ext_hook: called with type and data of each extension; returns its value.

    Raises:
        EntityReadError: `packed` is not exactly one valid msgpack value.
    """
    try:
        try:
            return unpackb(packed, strict_map_key=False, ext_hook=ext_hook)
        except TypeError:
            # A tuple as a dict key unpacks as a list, which is not hashable. Rare, so only then use the slower hook.
            return unpackb(packed, strict_map_key=False, ext_hook=ext_hook, object_pairs_hook=_with_tuple_keys)
    except EntityReadError:
        raise
    except _ERRORS as error:
        raise EntityReadError(
            f"the published bytes are not a valid msgpack value: {_text(error)}; publish the value again"
        ) from error


def _text(error: Exception) -> str:
    return str(error).rstrip(".")  # some messages of msgpack end with a full stop


def resolve_extension(
    buffers: list[memoryview], code: int, data: bytes | memoryview, *, exposed: list[memoryview] | None = None
) -> Any:
    """Return the buffer or array that an extension in a frame refers to; an `ExtType` if it is the caller's own.

    A buffer is appended to `exposed`. The memoryview of an array cannot be released, since the array exports it.
    """
    data = bytes(data)
    if code != EXTENSION or not data.startswith(_TAG):
        return ExtType(code, data)
    try:
        index, description = _reference_in(data)
        view = buffers[index]
    except (*_ERRORS, IndexError) as error:
        raise EntityReadError(
            f"the published frame is damaged: {data[:40]!r} is not a valid reference to a buffer; "
            "publish the value again"
        ) from error
    if description:
        return _numpy.array_from_buffer(view, *description)
    if exposed is not None and len(view):
        exposed.append(view)
    return view


@lru_cache(maxsize=256)  # successive versions usually have arrays of the same description
def _reference_in(data: bytes) -> tuple[int, tuple[str, str, tuple[int, ...]] | None]:
    """Return the index of a buffer, and its dtype, order and shape if it is an array."""
    index, *description = unpackb(data[len(_TAG) :])
    if not description:
        return index, None
    dtype, order, *shape = description
    return index, (dtype, order, tuple(shape))


def _with_tuple_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    return {_to_key(key): value for key, value in pairs}


def _to_key(key: Any) -> Any:
    return tuple(map(_to_key, key)) if isinstance(key, list) else key
