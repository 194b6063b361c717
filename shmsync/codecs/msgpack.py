"""The msgpack codec, for plain Python values with arrays and large buffers among them.

Supports None, bool, int, float, str, bytes, list and dict, nested up to 1,000 levels deep (400 if the value contains
large buffers); datetime, date, time, timedelta, Decimal, UUID, Path, complex, range, set and frozenset, nested in each
other up to 16 levels; with any of these that is hashable, or tuples of them, as dict keys; and NumPy arrays of every
dtype but object.

Values read back equal, with these conversions: tuples other than dict keys and elements of sets become lists; bytearray
and memoryview become bytes; NumPy bools, integers, floats and strings become Python's; dataclasses, msgspec Structs and
attrs instances become dicts (as dict keys or in sets they are rejected), with the value of an enumeration's member in
its place; other Mappings become dicts; instances of subclasses become instances of the base type, and of keys that are
then equal the last one counts; time zones other than UTC, fixed offsets and ZoneInfo become fixed offsets; beside
dates, sets and the like, a `msgpack.Timestamp` becomes a datetime, to the microsecond; arrays become read-only arrays
on the segment. With `Reader(zero_copy_bytes=True)`, bytes-like values of 4 KiB and more, other than dict keys and
elements of sets, become read-only memoryviews of the segment.

Other values are converted by `Writer(enc_hook=...)`, or rejected: the message says which value, where, and what to do.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md. A value with arrays or large buffers is a frame (see
`_frame`). Its body is the msgpack value, with an extension of type 64 in place of each buffer. The data of the
extension is the 7 bytes "shmsync" and a msgpack array: the index of the buffer, and for a NumPy array also its dtype,
order and shape. For the other extensions see `_extensions`. A value that contains any of these has the codec number
EXTENDED_ID, so that extensions and timestamps of the caller's own are not mistaken for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from msgpack import ExtType, Packer, Timestamp, packb, unpackb

from shmsync.codecs import _blocks, _culprit, _extensions, _frame, _numpy
from shmsync.codecs._extensions import EXTENSION, TAG
from shmsync.codecs._gather import GatherList
from shmsync.codecs._out_of_band import OUT_OF_BAND_FROM, Found, contains_large, reference, replace_large
from shmsync.codecs._parts import KEYS, check_untagged, from_hook, parts_of
from shmsync.codecs._records import fields_of
from shmsync.codecs._schema import Recipe
from shmsync.codecs._unpack import ERRORS as ERRORS  # noqa: PLC0414 - this and the next for the users of this module
from shmsync.codecs._unpack import unpack as unpack  # noqa: PLC0414
from shmsync.codecs._unpack import unpack_fields
from shmsync.codecs._unpack import unpack_plain as unpack_plain  # noqa: PLC0414
from shmsync.codecs._unpack import unpack_refused as unpack_refused  # noqa: PLC0414
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync.codecs._gather import Bytes, Payload

NAME = "msgpack"
ID = 0

is_frame = _frame.is_frame

SEARCHES = 64
"""How many values in a row without large bytes a writer searches before it packs them at once."""

EXTENDED_ID = 5
"""The codec number of a value with datetimes, or with extensions of ours other than references to buffers."""

_PACKED_BY_MSGPACK = (bool, float, str, bytes, bytearray, memoryview, list, tuple, dict, Timestamp)
_VALUE = slice(1, None)  # of what was packed inside a list: see `_pack`
_PACKER_BUFFER_SIZE = 256 * 1024  # initial size of a Packer's buffer, in bytes
_MAX_REFERENCE_SIZE = len(TAG) + len(packb([1 << 31]))  # without a description
_MAX_INDICES = 16384  # 2 MB
_MAX_SET_DEPTH = 16  # bounded: sets in sets are unpacked recursively, each with 40 KB of the C stack


class ExtendedPayload(GatherList):
    """A payload of the codec number EXTENDED_ID."""

    __slots__ = ()

    @classmethod
    def of(cls, payload: Payload) -> ExtendedPayload:
        """Return a payload with this codec number."""
        extended = cls()
        if isinstance(payload, GatherList):
            for attribute in GatherList.__slots__:
                setattr(extended, attribute, getattr(payload, attribute))
        else:
            extended.add(payload)
        return extended


_NOTHING = Found()
_indices: dict[bytes, int] = {}
"""The index in each reference without a description that was decoded, up to a number: a value may have thousands."""


class Encoder:
    """Encodes the values of one writer.

    msgpack copies bytes without a callback, so large ones have to be replaced before it packs the value. The search for
    them takes up to as long as the packing. So after `SEARCHES` values in a row without any, values are packed first,
    and searched only if the result is large; until one contains some.

    Args:
        enc_hook: called with each value of an unsupported type; returns one of a supported type.
    """

    __slots__ = ("_enc_hook", "_packs_at_once", "_searches_left")

    def __init__(self, enc_hook: Callable[[Any], Any] | None = None) -> None:
        self._enc_hook = enc_hook
        self._searches_left = SEARCHES
        self._packs_at_once = False  # whether no search is left, and there is no hook

    def encode(self, value: object) -> Payload:
        """Return the packed value, as a frame if it contains arrays or large buffers.

        Raises:
            EntityWriteError: msgpack does not support the value or something in it; the message contains the path to
                it.
        """
        if not self._packs_at_once:
            return self._encode(value)
        try:
            packer, found = idle = _idle_packers.pop()  # never shared: other threads and nested calls may be packing
        except IndexError:
            return self._encode(value)
        try:
            packed: bytes = packer.pack([value])  # in a list, as in `_pack`
        except BaseException as error:
            found.clear()  # as in `_pack`
            if not isinstance(error, ERRORS):
                raise
            return self._encode(value)
        if found.is_empty:
            if len(packed) < OUT_OF_BAND_FROM:
                _idle_packers.append(idle)
                return packed[_VALUE]  # most values: without another call
            if len(packed) <= _PACKER_BUFFER_SIZE:
                _idle_packers.append(idle)
        done = [(packed, found)]
        del packed, found, idle  # they may be as large as the value, and are packed again if it contains large bytes
        return self._encode(value, done)

    def _encode(self, value: object, done: list[tuple[bytes, Found]] | None = None) -> Payload:
        """Return the packed value. If `encode` has packed it already, it is taken out of `done`."""
        boxed = [value]
        try:
            if self._searches_left:
                has_large = contains_large(boxed)
                self._searches_left = SEARCHES if has_large else self._searches_left - 1
                self._packs_at_once = not self._searches_left and self._enc_hook is None
                packed, found = _pack(boxed, self._enc_hook, has_large=has_large)
                return self._payload(value, packed, found)
            packed, found = done.pop() if done else _pack(boxed, self._enc_hook)
            if len(packed) < OUT_OF_BAND_FROM or not contains_large(boxed):
                return self._payload(value, packed, found)
        except ERRORS as error:
            if self._searches_left or isinstance(error, EntityWriteError):
                raise self._refusal(value, error) from _culprit.cause_of(error)
        # Packed first, and either large bytes were found, or msgpack refused the value: perhaps bytes of 4 GiB.
        packed, found = b"", _NOTHING
        self._packs_at_once = False
        self._searches_left = SEARCHES
        return self._encode(value)

    def _payload(self, value: object, packed: bytes, found: Found) -> Payload:
        if found.is_empty:
            return packed[1:] if len(packed) < OUT_OF_BAND_FROM else memoryview(packed)[1:]
        try:
            _check_replaced(value, packed, found, self._enc_hook)
        except BaseException:
            found.clear()  # as in `_pack`
            raise
        body = memoryview(packed)[1:]
        payload = _frame.pack_many(body, found, found.sizes) if found else body
        return ExtendedPayload.of(payload) if found.is_extended else payload

    def _refusal(self, value: object, error: Exception) -> EntityWriteError:
        return _culprit.refusal(value, partial(parts_of, self._enc_hook), error)


def encode(value: object, enc_hook: Callable[[Any], Any] | None = None) -> Payload:
    """Return what the `Encoder` of a new writer returns."""
    return Encoder(enc_hook).encode(value)


_idle_packers: list[tuple[Packer, Found]] = []
"""Idle packers, each with what `_default` notes in. Creating one takes 0.5 us; packing 1 KiB, 2.5 us."""


def _pack(
    boxed: list[object], enc_hook: Callable[[Any], Any] | None, *, has_large: bool = False
) -> tuple[bytes, Found]:
    """Return a value packed inside a list, and what was replaced in it; large bytes are, too, if `has_large`.

    The caller strips the first byte, that of the list. The packer allows one more level of nesting than the unpacker,
    so a value that packs inside a list is certain to unpack.
    """
    if enc_hook is not None:
        packer, found = _new_packer(enc_hook)
    else:
        try:
            packer, found = _idle_packers.pop()  # never shared: other threads and nested calls may be packing
        except IndexError:
            packer, found = _new_packer(None)
    try:
        packed: bytes = packer.pack(replace_large(boxed, found) if has_large else boxed)
    except BaseException:
        found.clear()  # a stored exception keeps this frame alive, and with it the caller's buffers
        raise
    if not found.is_empty:
        return packed, found
    if enc_hook is None and len(packed) <= _PACKER_BUFFER_SIZE:
        _idle_packers.append((packer, found))
    return packed, _NOTHING


def _new_packer(enc_hook: Callable[[Any], Any] | None) -> tuple[Packer, Found]:
    found = Found()
    return Packer(default=partial(_default, found, enc_hook)), found


def _default(found: Found, enc_hook: Callable[[Any], Any] | None, value: object) -> object:
    """Replace a value of a type that msgpack does not support."""
    if _numpy.is_array(value):
        dtype, item_size, order, shape = _numpy.describe(value)
        return reference(found, found.add(*_numpy.buffer_of(value)), dtype, item_size, order, *shape)
    plain = _numpy.to_python_scalar(value)
    if plain is not value:
        return plain
    described = _extensions.fields_of(value)
    if described is not None:
        return _extension(found, described)
    if type(value).__hash__ is not None:
        found.has_possible_keys = True
        found.is_empty = False
    fields = fields_of(value)
    if fields is None and isinstance(value, Mapping):
        fields = dict(value)
    if fields is not None:
        return replace_large(fields, found)
    return _hooked(found, enc_hook, value)


def _hooked(found: Found, enc_hook: Callable[[Any], Any] | None, value: object) -> object:
    """Return what the caller's hook makes of a value."""
    converted = replace_large(from_hook(enc_hook, value), found)
    if converted is None or isinstance(converted, _PACKED_BY_MSGPACK):
        return converted
    if isinstance(converted, int) and _is_64_bits(converted):
        return converted
    return _default(found, enc_hook, converted)


def _is_64_bits(number: int) -> bool:
    return -(1 << 63) <= number < 1 << 64


def _extension(found: Found, fields: Timestamp | tuple[Any, ...], depth: int = 0) -> object:
    """Return the extension of a value that `_extensions` has described."""
    found.is_extended = True
    found.is_empty = False
    if isinstance(fields, Timestamp):
        return fields
    if depth > _MAX_SET_DEPTH:
        raise EntityWriteError(f"it is nested more than {_MAX_SET_DEPTH} sets deep; flatten it")
    found.tags += 1
    packer = Packer(default=partial(_element, found, depth))
    packed: bytes = packer.pack([replace_large(fields, found)])  # in a list, as in `_pack`
    return ExtType(EXTENSION, TAG + packed[1:])


def _element(found: Found, depth: int, value: object) -> object:
    """Replace a part of an extension: an element of a set, of a type that msgpack does not support."""
    plain = _numpy.to_python_scalar(value)
    if plain is not value:
        return plain
    described = _extensions.fields_of(value)
    if described is None:
        raise _culprit.unsupported(value, KEYS)
    return _extension(found, described, depth + 1)


def _check_replaced(value: object, packed: bytes, found: Found, enc_hook: Callable[[Any], Any] | None) -> None:
    """Check that a reader decodes what `_default` has replaced, and nothing else, as it was.

    Raises:
        EntityWriteError: the caller has put an extension with our tag into the value, or a record is the key of a dict.
    """
    # A count at C speed. It differs, too, if a string in the value contains the tag.
    if packed.count(TAG) != found.tags:
        check_untagged(value)
    if found.has_possible_keys:
        body = memoryview(packed)[1:]
        try:
            unpackb(body, strict_map_key=False)
        except TypeError:  # a list as a key: of a tuple, or of a record
            _culprit.check(value, partial(parts_of, enc_hook))
            unpack(body)


def decode(
    payload: memoryview, exposed: list[memoryview] | None = None, *, extended: bool = False, frozen: bool = False
) -> Any:
    """Return the value, with arrays in place.

    Args:
        payload: the encoded value.
        exposed: if given, large bytes are memoryviews in place, which are appended to it. By default they are copied.
        extended: whether its codec number is EXTENDED_ID.
        frozen: return dicts as read-only mappings, lists as tuples, and sets as frozensets.

    Raises:
        EntityReadError: the payload is not a valid msgpack value or frame.
        MissingExtraError: the value contains an array, and NumPy is not installed.
    """
    body, buffers = _frame.unpack(payload) if is_frame(payload) else (payload, [])
    if not buffers and not extended:
        return unpack(body, frozen=frozen)
    resolve = partial(resolve_extension, buffers, exposed=exposed, frozen=frozen)

    def ext_hook(code: int, data: bytes) -> Any:
        if code == EXTENSION and len(data) <= _MAX_REFERENCE_SIZE:
            index = _indices.get(data, _MAX_INDICES)
            if index < len(buffers):
                return _content_of(buffers[index], exposed)
        return resolve(code, data)

    return unpack(body, ext_hook, frozen=frozen, dated=extended)


def array_recipe(payload: memoryview, value: Any) -> Recipe | None:
    """Return how to decode the next version of a frame whose value is an array; None for any other value.

    An array alone has no extensions of ours but the reference to its buffer, so its codec number is ID.
    """
    if not _numpy.is_array(value) or not value.nbytes:
        return None
    body, buffers = _frame.locate(payload)
    index, description = _reference_in(bytes(unpackb(payload[body]).data))
    assert description is not None
    return Recipe(((0, body.stop),), _numpy.array_maker(buffers[index], value, description.order))


def decode_plain(codec: int, payload: Bytes, *, frozen: bool = False) -> Any:
    """Return a value that is not a frame.

    Args:
        codec: ID or EXTENDED_ID.
        payload: the encoded value.
        frozen: see `decode`.

    Raises:
        EntityReadError: the payload is not a valid msgpack value.
    """
    if codec == ID:
        return unpack(payload, frozen=frozen)
    return unpack(payload, partial(resolve_extension, [], frozen=frozen), frozen=frozen, dated=True)


def resolve_extension(
    buffers: list[memoryview],
    code: int,
    data: bytes | memoryview,
    *,
    exposed: list[memoryview] | None = None,
    frozen: bool = False,
    depth: int = 0,
) -> Any:
    """Return the value, buffer or array of an extension; an `ExtType` if it is the caller's own.

    Args:
        buffers: the buffers of the frame.
        code: type of the extension.
        data: data of the extension.
        exposed: see `decode`. The memoryview of an array cannot be released, since the array exports it.
        frozen: return a set as a frozenset.
        depth: number of sets that contain the extension.
    """
    data = bytes(data)
    if code != EXTENSION or not data.startswith(TAG):
        return ExtType(code, data)
    try:
        if _extensions.is_value(data):
            return _value_in(buffers, data, frozen=frozen, depth=depth)
        index, description = _reference_in(data)
        view = buffers[index]
    except EntityReadError:
        raise
    except (*ERRORS, LookupError, ArithmeticError) as error:
        raise EntityReadError(
            f"the published value is damaged: {data[:40]!r} is not a valid extension: {error}; publish the value again"
        ) from error
    if description:
        return _numpy.array_from_buffer(view, *description)
    if len(_indices) < _MAX_INDICES:
        _indices[data] = index
    return _content_of(view, exposed)


def _content_of(view: memoryview, exposed: list[memoryview] | None) -> bytes | memoryview:
    if exposed is None:
        return _blocks.to_bytes(view)
    if len(view):
        exposed.append(view)
    return view


def _value_in(buffers: list[memoryview], data: bytes, *, frozen: bool, depth: int) -> Any:
    """Return the value of an extension that is not a reference. The elements of sets contain tuples, not lists."""
    if depth > _MAX_SET_DEPTH:
        raise ValueError(f"it is nested more than {_MAX_SET_DEPTH} sets deep")
    nested = partial(resolve_extension, buffers, depth=depth + 1)
    value = _extensions.value_of(unpack_fields(data[len(TAG) :], nested))
    return frozenset(value) if frozen and isinstance(value, set) else value


@lru_cache(maxsize=256)  # successive versions usually have arrays of the same description
def _reference_in(data: bytes) -> tuple[int, _numpy.Description | None]:
    """Return the index of a buffer, and its description if it is an array."""
    index, *description = unpackb(data[len(TAG) :])
    if not description:
        return index, None
    dtype, item_size, order, *shape = description
    return index, _numpy.Description(dtype, item_size, order, tuple(shape))


class Extended:
    """The msgpack codec, for values with extensions of the library's own."""

    NAME = NAME
    ID = EXTENDED_ID

    def encode(self, value: Any) -> Payload:
        """Return the packed value."""
        return encode(value)

    def decode(self, payload: memoryview) -> Any:
        """Return the value."""
        return decode(payload, extended=True)
