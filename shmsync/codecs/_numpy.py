"""NumPy arrays as buffers with a description; the only module of the codecs that handles arrays.

A value can only be an array if the process has already imported NumPy, so testing for one does not import it.

A description consists of the dtype as in the .npy format (a string like "<f4", or for a structured dtype the repr of a
list of fields), the order ("C" or "F"), and the shape.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync._util.optional import import_optional
from shmsync.codecs import _blocks
from shmsync.codecs._frame import Buffer
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_DIMENSIONS = 64
_FLOAT64_SIZE = 8


class Description(NamedTuple):
    """Everything about an array but its content.

    Attributes:
        dtype: as in .npy files; that of a structured array in JSON, in which the tuples of Python are lists.
        item_size: size of an element in bytes.
        order: "C", or "F" for Fortran order.
        shape: the lengths of its axes.
    """

    dtype: str
    item_size: int
    order: str
    shape: tuple[int, ...]


def numpy_if_imported() -> Any:
    """Return numpy if this process has imported it, else None."""
    return sys.modules.get("numpy")


@lru_cache(maxsize=1)
def numpy_if_installed() -> Any:
    """Return numpy, importing it if necessary; None if it is not installed."""
    try:
        return import_optional("numpy", "numpy", "")
    except ImportError:
        return None


@lru_cache(maxsize=1)
def require_numpy() -> Any:
    """Return numpy.

    Raises:
        MissingExtraError: NumPy is not installed.
    """
    return import_optional("numpy", "numpy", "reading an array")


def is_array(value: object) -> bool:
    """Return whether a value is a NumPy array."""
    numpy = numpy_if_imported()
    return numpy is not None and isinstance(value, numpy.ndarray)


def to_python_scalar(value: object) -> Any:
    """Convert a NumPy bool, integer, float, string or bytes to its Python type; return any other value unchanged."""
    numpy = numpy_if_imported()
    if numpy is None or not isinstance(value, numpy.generic) or not has_python_scalars(value.dtype):
        return value
    # Not item(): it strips the NULs at the end of strings and bytes.
    if isinstance(value, str):
        return str.__add__(value, "")
    return bytes.__add__(value, b"") if isinstance(value, bytes) else value.item()


def has_python_scalars(dtype: Any) -> bool:
    """Return whether the items of a dtype convert to Python's bool, int, float, str or bytes without loss."""
    return dtype.kind in "biuSU" or (dtype.kind == "f" and dtype.itemsize <= _FLOAT64_SIZE)


def distinct(array: Any) -> Any:
    """Return the distinct elements of an array, ascending.

    As `numpy.unique`, which imports `numpy.ma` when it is called: a child that has changed its user cannot do that.
    """
    numpy = numpy_if_imported()
    ordered = numpy.sort(array)
    return ordered[numpy.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered


def assign_rows(array: Any, rows: Any, values: Any) -> None:
    """Assign to rows of a C-contiguous array: `array[rows] = values`, in a third of the time for short rows.

    Args:
        array: the array, of any dtype but object.
        rows: the index: an array of integers, or a slice.
        values: the values: an array with one row for each, or what NumPy can broadcast and cast.
    """
    is_alike = is_array(values) and values.dtype == array.dtype and values.flags.c_contiguous
    if is_alike and is_array(rows) and values.shape == rows.shape + array.shape[1:] and array.ndim > 1 and values.size:
        item = f"V{array.strides[0]}"  # one item to copy, instead of one for each element of the row
        array, values = (each.reshape(len(each), -1).view(item)[:, 0] for each in (array, values))
    array[rows] = values


def describe(array: Any) -> Description:
    """Return the description of an array.

    Raises:
        EntityWriteError: another process could not restore the array from its bytes.
    """
    refuse_masked(array)
    text = dtype_to_text(array.dtype)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return Description(text, array.itemsize, order, array.shape)


def refuse_masked(array: Any) -> None:
    """Check that an array is not a masked one.

    Raises:
        EntityWriteError: it is.
    """
    masked = sys.modules.get("numpy.ma")  # NumPy imports it on first use, which a child may not be able to do
    if masked is not None and isinstance(array, masked.MaskedArray):
        raise EntityWriteError("cannot publish a masked array: its mask would be lost; publish its data and its mask")


@lru_cache(maxsize=256)
def dtype_to_text(dtype: Any) -> str:
    """Return the text of a dtype, as in a description.

    Raises:
        EntityWriteError: another process could not restore the dtype or its items.
    """
    if dtype.hasobject:
        raise EntityWriteError(
            f"cannot publish an array of dtype {dtype}: it contains references to Python objects; "
            "convert it to numbers or fixed-size strings"
        )
    described = _describe_dtype(dtype)
    text = described if isinstance(described, str) else _json().dumps(described)
    if text_to_dtype(text) != dtype:
        raise EntityWriteError(
            f"cannot publish an array of dtype {dtype}: its type would be lost; "
            "publish a view of it with a built-in dtype"
        )
    return text


def _describe_dtype(dtype: Any) -> Any:
    lib = numpy_if_imported().lib.format
    try:
        # Metadata, as h5py adds it, does not count when dtypes are compared. NumPy would warn that it is lost.
        return lib.dtype_to_descr(lib.drop_metadata(dtype) if hasattr(lib, "drop_metadata") else dtype)
    except (ValueError, TypeError) as error:
        raise EntityWriteError(
            f"cannot publish an array of dtype {dtype}: {error}; publish its fields as separate arrays"
        ) from error


@lru_cache(maxsize=256)
def text_to_dtype(text: str) -> Any:
    """Return the dtype of a description.

    Raises:
        EntityReadError: the text is not a valid dtype, or its items are Python objects.
        MissingExtraError: NumPy is not installed.
    """
    numpy = require_numpy()
    try:
        described = [_field(each) for each in _json().loads(text)] if text[:1] == "[" else text
        dtype = numpy.lib.format.descr_to_dtype(described)
    except (ValueError, TypeError, SyntaxError, IndexError, KeyError, MemoryError, RecursionError) as error:
        raise _damaged(f"{text[:60]!r} is not a valid dtype") from error
    if dtype.hasobject:
        raise _damaged(f"dtype {text[:60]!r} contains references to Python objects")
    return dtype


def _json() -> Any:
    import json  # noqa: PLC0415 - for structured dtypes only

    return json


def _field(described: Any) -> tuple[Any, ...]:
    """Return a field of a structured dtype, as NumPy takes it: name, or title and name; dtype; and maybe the shape."""
    name, dtype, *shape = described
    fields = [_field(each) for each in dtype] if isinstance(dtype, list) else dtype
    return (tuple(name) if isinstance(name, list) else name, fields, *map(tuple, shape))


def buffer_of(array: Any, *, in_c_order: bool = False) -> Buffer:
    """Return the content of an array, which is copied once, straight into the segment.

    Args:
        array: any array that `describe` accepts.
        in_c_order: write in C order even if the array is in Fortran order.
    """
    numpy = numpy_if_imported()
    array = numpy.asarray(array)  # reshape(-1) below does not flatten a numpy.matrix
    if array.nbytes == 0:
        return Buffer(b"", 0)
    if not in_c_order and not array.flags.c_contiguous and array.flags.f_contiguous:
        array = array.T
    if array.flags.c_contiguous:
        # As uint8: datetimes and some other dtypes do not support the buffer protocol.
        return Buffer(memoryview(array.reshape(-1).view(numpy.uint8)), array.nbytes)

    def copy(target: memoryview) -> None:
        _copy(numpy, numpy.ndarray(array.shape, array.dtype, target), array)

    return Buffer(copy, array.nbytes)


def _copy(numpy: Any, target: Any, array: Any) -> None:
    """Copy an array in blocks of rows; a row that is larger than a block, in blocks of its own rows."""
    if array.nbytes <= _blocks.BLOCK_SIZE or not array.ndim:
        numpy.copyto(target, array)
        return
    row_size = array.nbytes // len(array)
    if row_size > _blocks.BLOCK_SIZE:
        for index in range(len(array)):
            _copy(numpy, target[index, ...], array[index, ...])
        return
    for block in _blocks.blocks(array.nbytes):
        rows = slice(block.start // row_size, block.stop // row_size)  # block by block, all rows are covered
        numpy.copyto(target[rows], array[rows])


def array_from_buffer(view: memoryview, dtype: str, item_size: int, order: str, shape: Sequence[int]) -> Any:
    """Return the array whose content is `view`, in place and read-only. See `Description`.

    Raises:
        EntityReadError: the description is invalid, or does not match the size of `view`.
        MissingExtraError: NumPy is not installed.
    """
    numpy = require_numpy()
    parsed = text_to_dtype(dtype)
    if order not in ("C", "F") or len(shape) > _MAX_DIMENSIONS:
        raise _damaged(f"order {order!r} and {len(shape)} dimensions instead of 'C' or 'F' and up to {_MAX_DIMENSIONS}")
    if parsed.itemsize != item_size:
        raise _damaged(f"its elements have {item_size} bytes, and those of dtype {dtype[:60]!r} {parsed.itemsize}")
    try:
        if len(view):
            # Not ndarray(buffer=view): its base would be the object that the view was made from, which is writable.
            return numpy.frombuffer(view, parsed).reshape(shape, order=order)
        array = numpy.ndarray(shape, parsed, order=order)
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise _damaged(str(error)) from error
    if array.nbytes:
        raise _damaged(f"it needs {array.nbytes} bytes and has none")
    array.flags.writeable = False
    return array


def array_maker(content: slice, array: Any, order: str) -> Callable[[memoryview], Any]:
    """Return a function that makes an array such as this one, in place and read-only, of a payload.

    Args:
        content: the bytes of the array in the payload, at least one.
        array: an array that `array_from_buffer` has made of as many bytes.
        order: its order.
    """
    from_buffer, dtype, shape = require_numpy().frombuffer, array.dtype, array.shape

    def make(payload: memoryview) -> Any:
        return from_buffer(payload[content], dtype).reshape(shape, order=order)

    return make


def _damaged(what: str) -> EntityReadError:
    return EntityReadError(f"the published array is damaged: {what}; publish the value again")
