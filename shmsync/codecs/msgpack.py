"""The msgpack codec, for plain Python values with arrays and large buffers among them.

Supports None, bool, int (64 bits, signed or unsigned), float, str, bytes, list and dict, nested up to 1,000 levels deep
(400 if the value contains large buffers), with any of the scalars or tuples of them as dict keys; and NumPy arrays of
every dtype but object. Values read back equal, with these conversions: tuples other than dict keys become lists;
bytearray and memoryview become bytes; NumPy bools, integers, floats and strings become Python's; dataclasses and
msgspec Structs become dicts; instances of subclasses become instances of the base type; arrays become read-only arrays
on the segment. With `Reader(zero_copy_bytes=True)`, bytes-like values of 4 KiB and more become read-only memoryviews of
the segment. Other values (larger ints, sets, datetimes, other objects) are rejected.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. A value with arrays or large buffers is a frame (see
`_frame`). Its body is the msgpack value, with an extension of type 64 in place of each buffer. The data of the
extension is the 7 bytes "shmsync" and a msgpack array: the index of the buffer, and for a NumPy array also its dtype,
order and shape.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import chain
from operator import is_
from typing import TYPE_CHECKING, Any, TypeGuard

from msgpack import ExtType, Packer, packb, unpackb

from shmsync.codecs import _blocks, _frame, _numpy, raw
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
SEARCHES = 64
"""How many values in a row without large bytes a writer searches before it packs them at once."""

EXTENSION = 64
_TAG = b"shmsync"  # distinguishes our extensions from the caller's own of the same type

# The exceptions of msgpack. Not Exception: a signal handler may raise its own exception during a call.
_ERRORS = (TypeError, ValueError, OverflowError, BufferError, RuntimeError)
_BYTES_LIKE = (bytes, bytearray, memoryview)
_PACKER_BUFFER_SIZE = 256 * 1024  # initial size of a Packer's buffer, in bytes
_SCALARS = frozenset({int, float, str, bool, type(None)})
_CONTAINERS = frozenset({dict, list, tuple})


class Encoder:
    """Encodes the values of one writer.

    msgpack copies bytes without a callback, so large ones have to be replaced before it packs the value. The search for
    them takes up to as long as the packing. So after `SEARCHES` values in a row without any, values are packed first,
    and searched only if the result is large; until one contains some.
    """

    __slots__ = ("_searches_left",)

    def __init__(self) -> None:
        self._searches_left = SEARCHES

    def encode(self, value: object) -> Payload:
        """Return the packed value, as a frame if it contains arrays or large buffers.

        Raises:
            EntityWriteError: msgpack does not support the value or something in it.
        """
        boxed = [value]
        try:
            if self._searches_left:
                found = _contains_large(boxed)
                self._searches_left = SEARCHES if found else self._searches_left - 1
                return _payload(*_pack(boxed, has_large=found))
            packed, buffers = _pack(boxed)
            if len(packed) < OUT_OF_BAND_FROM and not buffers:
                return packed[1:]
            if len(packed) < OUT_OF_BAND_FROM or not _contains_large(boxed):
                return _payload(packed, buffers)
        except EntityWriteError:
            raise
        except _ERRORS as error:
            if self._searches_left:
                raise _rejected(error) from error
        # Packed first, and either large bytes were found, or msgpack refused the value: perhaps bytes of 4 GiB.
        packed, buffers = b"", ()
        self._searches_left = SEARCHES
        return self.encode(value)


def encode(value: object) -> Payload:
    """Return what the `Encoder` of a new writer returns."""
    return Encoder().encode(value)


def _rejected(error: Exception) -> EntityWriteError:
    return EntityWriteError(
        f'cannot publish this value: {_text(error)}. codec="msgpack" supports None, bool, 64-bit int, float, str, '
        "bytes, list, tuple, dict and NumPy arrays, nested up to 1,000 levels; convert other values (a set to a list, "
        "a datetime to a number, a larger int to a str), publish a buffer with write_raw, or use "
        'codec="pickle" between processes that trust each other'
    )


def _payload(packed: bytes, buffers: Sequence[_frame.Buffer]) -> Payload:
    if not buffers:
        return packed[1:] if len(packed) < OUT_OF_BAND_FROM else memoryview(packed)[1:]
    return _frame.pack(memoryview(packed)[1:], buffers)


_packer_pool: list[tuple[Packer, list[_frame.Buffer]]] = []
"""Idle packers, each with the list that `_default` appends to. Creating one takes 0.5 us; packing 1 KiB, 2.5 us."""


def _pack(boxed: list[object], *, has_large: bool = False) -> tuple[bytes, Sequence[_frame.Buffer]]:
    """Return a value packed inside a list, and its out-of-band buffers; large bytes are one of these if `has_large`.

    The caller strips the first byte, that of the list. The packer allows one more level of nesting than the unpacker,
    so a value that packs inside a list is certain to unpack.
    """
    try:
        packer, buffers = _packer_pool.pop()  # never shared: other threads and nested calls may be packing
    except IndexError:
        buffers = []
        packer = Packer(default=partial(_default, buffers))
    try:
        packed: bytes = packer.pack(_replace_large(boxed, buffers) if has_large else boxed)
    except BaseException:
        buffers.clear()  # a stored exception keeps this frame alive, and with it the caller's buffers
        raise
    if buffers or len(packed) > _PACKER_BUFFER_SIZE:
        return packed, buffers
    _packer_pool.append((packer, buffers))
    return packed, ()


def _default(buffers: list[_frame.Buffer], value: object) -> object:
    """Replace a value of a type that msgpack does not support."""
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
    return _replace_large(fields, buffers)


@lru_cache(maxsize=4096)  # making one takes a third of the time of encoding a buffer of a few KiB
def _reference(*fields: int | str) -> ExtType:
    return ExtType(EXTENSION, _TAG + packb(fields))


def _is_large(value: object) -> bool:
    if type(value) is bytes:
        return len(value) >= OUT_OF_BAND_FROM
    return isinstance(value, _BYTES_LIKE) and memoryview(value).nbytes >= OUT_OF_BAND_FROM


def _contains_large(boxed: list[object]) -> bool:
    """Return whether a list contains a large bytes-like object, at any level.

    Breadth-first, so that most of the work runs in C. Each container is visited once, so cycles are left to msgpack.
    """
    seen: set[int] = set()
    level: Iterable[Any] = [boxed]
    while level:
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        if _SCALARS.issuperset(map(type, chain.from_iterable(inner))):
            return False
        items = [item for item in chain.from_iterable(inner) if type(item) not in _SCALARS]
        if any(_is_large(item) for item in items if type(item) not in _CONTAINERS):
            return True
        containers = {id(item): item for item in items if type(item) in _CONTAINERS or _is_container(item)}
        level = [containers[key] for key in containers.keys() - seen]
        seen.update(containers)
    return False


def _replace_large(value: Any, buffers: list[_frame.Buffer]) -> Any:
    """Return a value with references in place of the large bytes-like objects in it, which are added to `buffers`.

    Containers without large ones are not copied.
    """
    if _is_large(value):
        source = value if type(value) is bytes else raw.flat(value)
        buffers.append(_frame.Buffer(source, len(source)))
        return _reference(len(buffers) - 1)
    if type(value) not in _CONTAINERS and not _is_container(value):
        return value
    items = value.values() if isinstance(value, dict) else value
    if _SCALARS.issuperset(map(type, items)):
        return value
    replaced = [_replace_large(item, buffers) for item in items]
    if all(map(is_, replaced, items)):
        return value
    return dict(zip(value, replaced, strict=True)) if isinstance(value, dict) else replaced


def _is_container(value: object) -> TypeGuard[dict[Any, Any] | list[Any] | tuple[Any, ...]]:
    return isinstance(value, (dict, list, tuple)) and not isinstance(value, ExtType)  # an ExtType is a named tuple


def decode(payload: memoryview, exposed: list[memoryview] | None = None) -> Any:
    """Return the value, with arrays in place.

    Args:
        payload: the encoded value.
        exposed: if given, large bytes are memoryviews in place, which are appended to it. By default they are copied.

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

    See `decode` for `exposed`. The memoryview of an array cannot be released, since the array exports it.
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
    if exposed is None:
        return _blocks.to_bytes(view)
    if len(view):
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
