"""The pickle codec, for any Python object, between processes that trust each other.

Loading a pickle runs code that its writer chose, so a Reader refuses pickles unless it was opened with
`allow_pickle=True`. NumPy arrays, and other objects that support the out-of-band buffers of pickle protocol 5, are read
in place and are read-only.

Format: a frame (see `_frame`) whose body is the pickle, with the out-of-band buffers in order.
https://peps.python.org/pep-0574/
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _frame
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

NAME = "pickle"
ID = 4

_PROTOCOL = 5
# The exceptions of pickling and unpickling themselves. Those of a class's own code propagate unchanged.
_ERRORS = (
    *(pickle.PickleError, TypeError, ValueError, AttributeError, ImportError, BufferError),
    *(LookupError, EOFError, OverflowError, RuntimeError),
)


def encode(value: object) -> Payload:
    """Return the pickle and its out-of-band buffers.

    Raises:
        EntityWriteError: the value cannot be pickled.
    """
    buffers: list[_frame.Buffer] = []

    def buffer_callback(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickle copies it into the body
        buffers.append(_frame.Buffer(view, view.nbytes))
        return False

    try:
        body = pickle.dumps(value, protocol=_PROTOCOL, buffer_callback=buffer_callback)
    except _ERRORS as error:
        raise EntityWriteError(f"cannot publish this value: it cannot be pickled: {error}") from error
    return _frame.pack(body, buffers)


def decode(payload: memoryview) -> Any:
    """Return the object. Runs code that the writer chose.

    Raises:
        EntityReadError: the payload is not a valid pickle, or refers to a module or class that this process cannot
            import.
    """
    body, buffers = _frame.unpack(payload)
    try:
        return pickle.loads(body, buffers=buffers)  # noqa: S301 - only with allow_pickle
    except _ERRORS as error:
        raise EntityReadError(
            f"the published object cannot be unpickled in this process: {error}; "
            "define its class in a module that writer and readers can import"
        ) from error
