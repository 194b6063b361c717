"""NumPy arrays as buffers with a description: the only place of the codecs that knows what an array is.

NumPy is not imported to see whether a value is an array: it can only be one if somebody has imported it.

A description is the array's dtype as the .npy format writes it (a string like "<f4", or for a structured dtype the text
of a list of fields), its order ("C" or "F"), and its shape.
"""

from __future__ import annotations

import ast
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync._util.optional import import_optional
from shmsync.codecs._frame import Buffer
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_DIMENSIONS = 64
_DOUBLE = 8


class Description(NamedTuple):
    """What an array is, besides its bytes."""

    dtype: str
    order: str
    shape: tuple[int, ...]


def numpy_in_use() -> Any:
    """Return numpy if this process has imported it, else None."""
    return sys.modules.get("numpy")


@lru_cache(maxsize=1)
def numpy_if_installed() -> Any:
    """Return numpy, imported now if need be, or None."""
    try:
        return import_optional("numpy", "numpy", "")
    except ImportError:
        return None


@lru_cache(maxsize=1)
def numpy_needed() -> Any:
    """Return numpy.

    Raises:
        MissingExtraError: it is not installed.
    """
    return import_optional("numpy", "numpy", "reading an array")


def is_array(value: object) -> bool:
    """Tell whether a value is a NumPy array."""
    numpy = numpy_in_use()
    return numpy is not None and isinstance(value, numpy.ndarray)


def scalar_of(value: object) -> Any:
    """Return the plain value of a NumPy bool, integer, float, string or bytes; anything else as it is."""
    numpy = numpy_in_use()
    if numpy is None or not isinstance(value, numpy.generic) or not is_plain(value.dtype):
        return value
    return value.item()


def is_plain(dtype: Any) -> bool:
    """Tell whether the values of a dtype are Python's bool, int, float, str or bytes, nothing lost."""
    return dtype.kind in "biuSU" or (dtype.kind == "f" and dtype.itemsize <= _DOUBLE)


def describe(array: Any) -> Description:
    """Return the description of an array.

    Raises:
        EntityWriteError: its dtype has no bytes that mean the same in another process.
    """
    numpy = numpy_in_use()
    if isinstance(array, numpy.ma.MaskedArray):
        raise EntityWriteError("cannot publish a masked array: its mask would be lost; publish data and mask")
    text = text_of(array.dtype)
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return Description(text, order, array.shape)


@lru_cache(maxsize=256)
def text_of(dtype: Any) -> str:
    """Return a dtype as text.

    Raises:
        EntityWriteError: its bytes mean nothing in another process.
    """
    if dtype.hasobject:
        raise EntityWriteError(
            f"cannot publish an array of dtype {dtype}: it holds references to objects of this process; "
            "convert it to numbers or fixed-size strings"
        )
    numpy = numpy_in_use()
    described = numpy.lib.format.dtype_to_descr(dtype)
    text = described if isinstance(described, str) else repr(described)
    if dtype_of(text) != dtype:
        raise EntityWriteError(f"cannot publish an array of dtype {dtype}: its type would be lost; use a view of it")
    return text


@lru_cache(maxsize=256)
def dtype_of(text: str) -> Any:
    """Return the dtype that a description names.

    Raises:
        EntityReadError: the text is damaged.
        MissingExtraError: NumPy is not installed.
    """
    numpy = numpy_needed()
    try:
        described = ast.literal_eval(text) if text[:1] in {"[", "("} else text
        dtype = numpy.lib.format.descr_to_dtype(described)
    except (ValueError, TypeError, SyntaxError, IndexError, KeyError, MemoryError, RecursionError) as error:
        raise EntityReadError(f"the published array is damaged: dtype {text[:60]!r}") from error
    if dtype.hasobject:
        raise EntityReadError(f"the published array is damaged: dtype {text[:60]!r} holds references")
    return dtype


def buffer_of(array: Any, *, in_c_order: bool = False) -> Buffer:
    """Return the bytes of an array; they are copied once, when they are laid into the segment.

    Args:
        array: any that `describe` accepts.
        in_c_order: not in Fortran order, even if the array is.
    """
    numpy = numpy_in_use()
    array = numpy.asarray(array)  # a matrix, for one, would stay two-dimensional below
    if array.nbytes == 0:
        return Buffer(b"", 0)
    if not in_c_order and not array.flags.c_contiguous and array.flags.f_contiguous:
        array = array.T
    if array.flags.c_contiguous:
        # By way of bytes: datetimes and some others export no buffer of their own.
        return Buffer(memoryview(array.reshape(-1).view(numpy.uint8)), array.nbytes)

    def copy(target: memoryview) -> None:
        numpy.copyto(numpy.ndarray(array.shape, array.dtype, target), array)

    return Buffer(copy, array.nbytes)


def array_at(view: memoryview, dtype: str, order: str, shape: Sequence[int]) -> Any:
    """Return the array whose bytes are `view`, in place.

    Raises:
        EntityReadError: description and bytes do not fit together.
        MissingExtraError: NumPy is not installed.
    """
    numpy = numpy_needed()
    kind = dtype_of(dtype)
    if order not in ("C", "F") or len(shape) > _MOST_DIMENSIONS:
        raise EntityReadError(f"the published array is damaged: order {order!r}, {len(shape)} dimensions")
    try:
        if len(view):
            # Not ndarray(buffer=view): that refers past the view to what it was made from, which is not read-only.
            return numpy.frombuffer(view, kind).reshape(shape, order=order)
        array = numpy.ndarray(shape, kind, order=order)
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise EntityReadError(f"the published array is damaged: {error}") from error
    if array.nbytes:
        raise EntityReadError(f"the published array is damaged: {array.nbytes} bytes, and none are there")
    array.flags.writeable = False
    return array
