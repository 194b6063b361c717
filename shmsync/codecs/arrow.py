"""The arrow codec, for pyarrow tables and record batches: serialized straight into the segment, and read in place.

pandas and polars data frames are converted; a reader gets a pyarrow table, with `to_pandas()`, and for
`polars.from_arrow`.

Format: a frame (see `_frame`) with one buffer, an Arrow IPC stream. Its body is b"table" or b"batch".
https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from shmsync._util.optional import import_optional
from shmsync.codecs import _frame
from shmsync.codecs._culprit import type_name
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
    """Return a table or record batch as an IPC stream, which is serialized when the payload is copied.

    Raises:
        EntityWriteError: the value is not a table, record batch or data frame, or IPC does not support it.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _pyarrow()
    value = _table_of(arrow, value)

    def write_stream(sink: Any) -> None:
        with arrow.ipc.new_stream(sink, value.schema) as stream:
            for batch in value.to_batches() if isinstance(value, arrow.Table) else [value]:
                stream.write(batch)  # one at a time: Python handles signals only between calls

    def write_into(target: memoryview) -> None:
        with arrow.FixedSizeBufferWriter(arrow.py_buffer(target)) as sink:
            write_stream(sink)

    counting_sink = arrow.MockOutputStream()
    try:
        write_stream(counting_sink)
    except (arrow.ArrowException, OSError, ValueError, TypeError) as error:
        raise EntityWriteError(f"cannot publish this table: {error}") from error
    body = _TABLE if isinstance(value, arrow.Table) else _BATCH
    return _frame.pack(body, [_frame.Buffer(write_into, counting_sink.size())])


def _table_of(arrow: Any, value: Any) -> Any:
    """Return a table or record batch; data frames as a table.

    Raises:
        EntityWriteError: the value is none of these, or has a column that Arrow does not support.
    """
    if isinstance(value, (arrow.Table, arrow.RecordBatch)):
        return value
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    try:
        if pandas is not None and isinstance(value, pandas.DataFrame):
            return arrow.Table.from_pandas(value)
        if polars is not None and isinstance(value, polars.DataFrame):
            return value.to_arrow()
    except (arrow.ArrowException, ValueError, TypeError) as error:
        raise EntityWriteError(f"cannot publish this data frame: {error}; convert that column") from error
    raise EntityWriteError(
        f'codec="arrow" requires a pyarrow Table or RecordBatch, or a pandas or polars DataFrame, not '
        f"{type_name(value)}; convert it (pyarrow.table, collect(), to_frame())"
    )


def decode(payload: memoryview) -> Any:
    """Return the table or record batch, in place.

    Raises:
        EntityReadError: the payload is not a valid Arrow table or record batch.
        MissingExtraError: pyarrow is not installed.
    """
    arrow = _pyarrow()
    body, buffers = _frame.unpack(payload)
    if bytes(body) not in {_TABLE, _BATCH} or len(buffers) != 1:
        raise EntityReadError(
            "the published bytes are not a valid Arrow table: "
            f"body {bytes(body[:16])!r} and {len(buffers)} buffers instead of b'table' or b'batch' and 1; "
            "publish the table again"
        )
    try:
        with arrow.ipc.open_stream(arrow.py_buffer(buffers[0])) as stream:
            return stream.read_all() if bytes(body) == _TABLE else stream.read_next_batch()
    except (arrow.ArrowException, OSError, ValueError, StopIteration) as error:
        raise EntityReadError(
            f"the published bytes are not a valid Arrow table: {error}; publish the table again"
        ) from error


def check(payload: memoryview) -> None:
    """Validate the whole table.

    Raises:
        EntityReadError: an offset or a value of the table is invalid.
    """
    table = decode(payload)
    try:
        table.validate(full=True)
    except (_pyarrow().ArrowException, ValueError) as error:
        raise EntityReadError(f"the published Arrow table is damaged: {error}; publish it again") from error
