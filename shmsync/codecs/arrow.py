"""The arrow codec, for pyarrow tables and record batches: written once, straight into the segment; read in place.

Format: a frame (see `_frame`) with one buffer, an Arrow IPC stream, and the body b"table" or b"batch".
https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.codecs import _frame
from shmsync.errors import EntityReadError, EntityWriteError

if TYPE_CHECKING:
    from shmsync.codecs._gather import Payload

NAME = "arrow"
ID = 3

_TABLE = b"table"
_BATCH = b"batch"


def _pyarrow() -> Any:
    return import_optional("pyarrow", "arrow", 'codec="arrow"')


def encode(value: Any) -> Payload:
    """Return a table or record batch as an IPC stream, not yet written: that is done when it is laid into the segment.

    Raises:
        EntityWriteError: neither a table nor a record batch, or one that IPC cannot hold.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _pyarrow()
    if not isinstance(value, (arrow.Table, arrow.RecordBatch)):
        raise EntityWriteError(
            f'codec="arrow" takes a pyarrow Table or RecordBatch, not {type(value).__name__}; '
            "convert it (pyarrow.table, Table.from_pandas, polars' to_arrow)"
        )

    def write_to(sink: Any) -> None:
        with arrow.ipc.new_stream(sink, value.schema) as stream:
            stream.write(value)

    def fill(target: memoryview) -> None:
        with arrow.FixedSizeBufferWriter(arrow.py_buffer(target)) as sink:
            write_to(sink)

    counted = arrow.MockOutputStream()
    try:
        write_to(counted)
    except (arrow.ArrowException, OSError, ValueError, TypeError) as error:
        raise EntityWriteError(f"cannot publish this table: {error}") from error
    body = _TABLE if isinstance(value, arrow.Table) else _BATCH
    return _frame.pack(body, [_frame.Buffer(fill, counted.size())])


def decode(payload: memoryview) -> Any:
    """Return the table or record batch, in place.

    Raises:
        EntityReadError: the bytes are no such stream.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _pyarrow()
    body, buffers = _frame.unpack(payload)
    if bytes(body) not in {_TABLE, _BATCH} or len(buffers) != 1:
        raise EntityReadError("the published bytes are no Arrow table")
    try:
        with arrow.ipc.open_stream(arrow.py_buffer(buffers[0])) as stream:
            return stream.read_all() if bytes(body) == _TABLE else stream.read_next_batch()
    except (arrow.ArrowException, OSError, ValueError, StopIteration) as error:
        raise EntityReadError(f"the published bytes are no Arrow table: {error}") from error


def check(payload: memoryview) -> None:
    """Validate the whole table.

    Raises:
        EntityReadError: its offsets or values are not sound.
    """
    found = decode(payload)
    try:
        found.validate(full=True)
    except (_pyarrow().ArrowException, ValueError) as error:
        raise EntityReadError(f"the published Arrow table is damaged: {error}") from error
