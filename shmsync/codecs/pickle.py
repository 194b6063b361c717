"""The pickle codec, for any Python object, between processes that trust each other.

Loading a pickle runs whatever code its writer put there, so a Reader takes one only if it was opened with
`allow_pickle=True`. NumPy arrays, and everything else that offers its memory to pickle protocol 5, lie out of band and
are read in place, read-only.

Format: a frame (see `_frame`) whose body is the pickle, and whose buffers are the out-of-band ones in their order.
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
# What pickling and unpickling raise by themselves; what a class's own code raises beyond that stays what it is.
_REFUSALS = (
    *(pickle.PickleError, TypeError, ValueError, AttributeError, ImportError, BufferError),
    *(LookupError, EOFError, OverflowError, RuntimeError),
)


def encode(value: object) -> Payload:
    """Return the pickle and its out-of-band buffers.

    Raises:
        EntityWriteError: it cannot be pickled.
    """
    buffers: list[_frame.Buffer] = []

    def put_beside(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True  # not contiguous: pickle copies it into the body
        buffers.append(_frame.Buffer(view, view.nbytes))
        return False

    try:
        body = pickle.dumps(value, protocol=_PROTOCOL, buffer_callback=put_beside)
    except _REFUSALS as error:
        raise EntityWriteError(f"cannot publish this value: it cannot be pickled: {error}") from error
    return _frame.pack(body, buffers)


def decode(payload: memoryview) -> Any:
    """Return the object. Runs code that the writer chose.

    Raises:
        EntityReadError: the bytes are no pickle, or name something that this process does not have.
    """
    body, buffers = _frame.unpack(payload)
    try:
        return pickle.loads(body, buffers=buffers)  # noqa: S301 - only with allow_pickle
    except _REFUSALS as error:
        raise EntityReadError(f"the published object cannot be unpickled here: {error}") from error
